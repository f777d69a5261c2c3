"""``Fleet``: several servers of one model, asked as if they were one; what a dead one leaves, the others do."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from pyterrier_llmrank.errors import ModelError, ServerError

from .failures import Unreached
from .routing import homes

logger = logging.getLogger(__name__)

M = TypeVar("M")
T = TypeVar("T")
F = TypeVar("F")

AWAY = 60.0  # seconds until a server that was dead is tried again
THREADS = 2  # a server, so that the next piece is ready when one ends
SMALLEST, LARGEST = 16, 256  # items of a piece


class Fleet(Generic[M]):
    """Shares out items over servers; an idle one takes over what waits for another.

    Args:
        members: What asks each server.
        names: Of the servers.
    """

    def __init__(self, members: Sequence[M], names: Sequence[str]) -> None:
        self.members = members
        self.names = names
        self._lock = threading.Lock()
        self._loads = [0] * len(members)
        self._back = [0.0] * len(members)  # when each may be tried again

    def reached(self, get: Callable[[M], F]) -> list[F]:
        """What ``get`` finds of every server that is there.

        Raises:
            ModelError: None is there, or one of them refuses.
        """
        found, error = [], None
        for place in self._there():
            try:
                found.append(get(self.members[place]))
            except (Unreached, ServerError) as gone:
                error = self.away(place, gone)
        if error and not found:
            raise error
        return found

    def ask(
        self, texts: Sequence[str], call: Callable[[M, list[int]], Sequence[T]], failed: Callable[[T], bool]
    ) -> list[T]:
        """One answer per text, in order.

        Args:
            texts: What is read; what begins alike goes to the same server.
            call: Asks a server about the texts at some places.
            failed: Whether an answer is none, so that another server is worth asking.

        Raises:
            ModelError: No server is left, or one refuses; ``partial`` holds the answers that there are.
        """
        run = Call(self, texts, call, failed)
        error: ModelError | None = None
        there = self._there()
        while there and run.left(there):
            error = run.round(there) or error
            if error is not None and not _dead(error):
                break
            there = [place for place in there if place not in run.dead]
        if error is not None and (len(run.answers) < len(texts) or not _dead(error)):
            error.partial = [run.answers.get(place) for place in range(len(texts))]
            raise error
        return [run.answers[place] for place in range(len(texts))]

    def _there(self) -> list[int]:
        """Servers worth asking: all of them, where none is."""
        now = time.monotonic()
        return [place for place, back in enumerate(self._back) if back <= now] or [*range(len(self.members))]

    def away(self, place: int, error: ModelError) -> ModelError:
        """Notes that a server is dead; raises what is a refusal."""
        if not _dead(error):
            raise error
        self._back[place] = time.monotonic() + AWAY
        logger.warning("%s is left out for %.0f s: %s", self.names[place], AWAY, error)
        return error

    def share(self, texts: Sequence[str], places: Sequence[int]) -> list[int]:
        """The home of each text among the servers at ``places``; it is booked there."""
        with self._lock:
            names, loads = [self.names[place] for place in places], [self._loads[place] for place in places]
            found = [places[home] for home in homes(texts, names, loads)]
            for home in found:
                self._loads[home] += 1
            return found

    def settle(self, home: int, n: int) -> None:
        """Takes ``n`` texts off a server's load."""
        with self._lock:
            self._loads[home] -= n


class Call(Generic[M, T]):
    """One call of a fleet, in as many rounds as servers die or fail to answer.

    Attributes:
        answers: By place.
        dead: Servers that died meanwhile.
    """

    def __init__(
        self,
        fleet: Fleet[M],
        texts: Sequence[str],
        call: Callable[[M, list[int]], Sequence[T]],
        failed: Callable[[T], bool],
    ) -> None:
        self.answers: dict[int, T] = {}
        self.dead: set[int] = set()
        self._fleet, self._texts, self._call, self._failed = fleet, texts, call, failed
        self._tried: dict[int, set[int]] = {}  # servers that gave no answer, by place
        self._waiting: dict[int, deque[int]] = {}  # places, by their home
        self._errors: list[ModelError] = []
        self._size = SMALLEST
        self._lock = threading.Lock()

    def left(self, there: Sequence[int]) -> bool:
        """Whether something is left to ask; it waits at its home then."""
        by_servers: dict[tuple[int, ...], list[int]] = {}
        for place in range(len(self._texts)):
            tried = self._tried.get(place, ())
            servers = tuple(server for server in there if server not in tried)
            if servers and (tried or place not in self.answers):
                by_servers.setdefault(servers, []).append(place)
        self._waiting = {}
        for servers, places in by_servers.items():
            places.sort(key=self._texts.__getitem__)  # what begins alike is asked together
            homes = self._fleet.share([self._texts[place] for place in places], servers)
            for place, home in zip(places, homes, strict=True):
                self._waiting.setdefault(home, deque()).append(place)
        return bool(self._waiting)

    def round(self, there: Sequence[int]) -> ModelError | None:
        """Asks about all that waits; the error that ended it, or that ended the work of a server."""
        n = sum(map(len, self._waiting.values()))
        self._size = min(LARGEST, max(SMALLEST, n // (8 * len(there))))
        self._errors = []
        try:
            if n <= SMALLEST and len(self._waiting) == 1:
                self._work(*self._waiting)
            else:
                servers = [*there] * THREADS if n > SMALLEST else [*self._waiting]
                with ThreadPoolExecutor(len(servers), "llmrank-fleet") as pool:
                    for done in [pool.submit(self._work, server) for server in servers]:
                        done.result()
        finally:
            for home, queue in self._waiting.items():
                self._fleet.settle(home, len(queue))  # what was left when something went wrong
        return next((error for error in self._errors if not _dead(error)), next(iter(self._errors), None))

    def _work(self, server: int) -> None:
        """Asks a server as long as something waits that it can answer."""
        while taken := self._take(server):
            home, piece = taken
            try:
                self._keep(server, piece, self._call(self._fleet.members[server], piece))
            except ModelError as error:
                self._lose(server, piece, error)
            finally:
                self._fleet.settle(home, len(piece))

    def _take(self, server: int) -> tuple[int, list[int]] | None:
        """A piece of its own queue, or else from the end of the longest one; where it was waiting, and its places."""
        with self._lock:
            if server in self.dead or not all(map(_dead, self._errors)):
                return None
            own = self._waiting.get(server)
            home = server if own else max(self._waiting, key=lambda one: len(self._waiting[one]))
            queue = self._waiting[home]
            pull = queue.popleft if own else queue.pop
            piece = [pull() for _ in range(min(self._size, len(queue)))]
            vain = [place for place in piece if server in self._tried.get(place, ())]  # it gave them no answer before
            queue.extend(vain)
            piece = [place for place in piece if place not in vain]
            return (home, piece) if piece else None

    def _keep(self, server: int, piece: Sequence[int], answers: Sequence[T]) -> None:
        """Notes answers; one that is none is tried elsewhere."""
        with self._lock:
            for place, answer in zip(piece, answers, strict=True):
                self.answers[place] = answer
                if self._failed(answer):
                    self._tried.setdefault(place, set()).add(server)
                else:
                    self._tried.pop(place, None)

    def _lose(self, server: int, piece: Sequence[int], error: ModelError) -> None:
        """Keeps what a server answered before it died."""
        if len(error.partial) == len(piece):
            told = [(place, one) for place, one in zip(piece, error.partial, strict=True) if one is not None]
            self._keep(server, [place for place, _ in told], [one for _, one in told])  # type: ignore[misc]
        with self._lock:
            self.dead.add(server)
            self._errors.append(error)
        if _dead(error):
            self._fleet.away(server, error)


def _dead(error: ModelError) -> bool:
    """Whether an error is about a server that does not answer, so that another may."""
    return isinstance(error, Unreached | ServerError) and error.retryable
