"""Copies of one network, each on a device of its own, that share out what is to be run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from .batching import Budget
from .loading import Loaded
from .reach import by_reach, reaching

R = TypeVar("R")
T = TypeVar("T")

PIECES = 4  # a replica's share, at most: small enough that none waits long for another, large enough to fill batches

Work = Callable[[Loaded, Budget, list[int]], Sequence[R]]
"""Runs the items at some places on a replica; one result per place, in their order."""


class Replica(NamedTuple):
    """A network, and what one batch of it may hold."""

    loaded: Loaded
    budget: Budget


def spread(replicas: Sequence[Replica], sequences: Sequence[Sequence[int]], work: Work[R], reserve: int = 0) -> list[R]:
    """What ``work`` makes of each sequence, on whichever replica is free; each runs in a thread of its own.

    Sequences that begin alike stay together, so that what they share is computed once. Where something goes wrong,
    nothing more is begun, and the first error is raised when all have ended what they were at.

    Args:
        replicas: At least one; with only one, everything runs in this thread.
        sequences: Token ids of the items.
        work: Runs some of them.
        reserve: Tokens that each may grow by.
    """
    lengths = [len(sequence) + reserve for sequence in sequences]
    if len(replicas) == 1:
        return _run(replicas[0], work, [*range(len(sequences))], lengths)
    turn = iter(_pieces(sequences, len(replicas), replicas[0].budget.tokens))
    lock, results = threading.Lock(), dict[int, R]()

    def take() -> list[int] | None:
        with lock:
            return next(turn, None)

    def run(replica: Replica) -> None:
        try:
            while piece := take():
                results.update(zip(piece, _run(replica, work, piece, lengths), strict=True))
        except BaseException:
            while take():
                pass
            raise

    with ThreadPoolExecutor(len(replicas), "llmrank-replica") as pool:
        running = [pool.submit(run, replica) for replica in replicas]
        try:
            for one in running:
                one.result()
        finally:  # also when this thread is interrupted
            while take():
                pass
    return [results[place] for place in range(len(sequences))]


def pick(rows: Sequence[T], places: Sequence[int]) -> list[T]:
    """The rows at some places."""
    return [rows[place] for place in places]


def _run(replica: Replica, work: Work[R], places: list[int], lengths: Sequence[int]) -> list[R]:
    """What one replica makes of some items, alone on its network."""
    found: dict[int, R] = {}
    with replica.loaded.held():
        for beyond, some in by_reach(replica.loaded, places, lengths).items():
            with reaching(replica.loaded, beyond=beyond):
                found.update(zip(some, work(*replica, some), strict=True))
    return [found[place] for place in places]


def _pieces(sequences: Sequence[Sequence[int]], n: int, batch: int) -> list[list[int]]:
    """Places in pieces of about equally many tokens: at least ``n`` of them, and more where they fill batches.

    Args:
        sequences: What is to be run.
        n: Replicas.
        batch: Tokens that fill a batch.
    """
    order = sorted(range(len(sequences)), key=lambda place: [*sequences[place]])  # what begins alike is side by side
    total = sum(map(len, sequences))
    count = max(n, min(n * PIECES, total // (2 * batch)))
    pieces: list[list[int]] = [[] for _ in range(count)]
    before = 0
    for place in order:
        pieces[min(count - 1, before * count // max(1, total))].append(place)
        before += len(sequences[place])
    return [piece for piece in pieces if piece]
