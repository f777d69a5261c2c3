"""The heaviest path through all documents: exact for few of them, local search above."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyterrier_llmrank.core import Group, Scores

from .comparisons import Matrix, in_order

EXACT = 12  # documents up to which all paths are considered: about 0.1 seconds
GAIN = 1e-9  # less is numerical noise
STARTS = 32  # paths that always go on with the heaviest arc, of which the heaviest is mended


def tsp(n: int, groups: Sequence[Group], answers: Sequence[Scores], *, exact: int = EXACT) -> Scores:
    """The order whose neighbours are surest: the heaviest path, an arc weighing the belief in its start (TSPRank).

    The belief in a document over another is the mean of their comparisons, even where there were none. Only neighbours
    count: a path may pay with one contradiction for many certain steps, so answers should be nearly consistent.

    Args:
        n: Number of documents.
        groups: Indices asked about.
        answers: One array per group, same order.
        exact: Documents up to which the heaviest path is found exactly; see ``heaviest_path``.

    Returns:
        Scores, (n,), 1 apart.

    Reference:
        Li et al., 2025 (TSPRank).
    """

    def path(won: Matrix) -> list[int]:
        """Through the mean shares."""
        met = won + won.T
        return heaviest_path(np.divide(won, met, out=np.full_like(won, 0.5), where=met > 0), exact)

    return in_order(n, groups, answers, path)


def heaviest_path(weights: Matrix, exact: int = EXACT) -> list[int]:
    """The order of all m documents whose arcs, each from one to the next, weigh most together.

    Up to ``exact`` documents by dynamic programming over sets, in ``2 ** m * m`` steps, and of equals the first in
    lexicographic order. Above, two orders are mended for as long as that helps, by moving up to three neighbours
    elsewhere and by reversing a part: the one by weight out less weight in, and one that always goes on with the
    heaviest arc. A mend takes ``m ** 2`` steps: 0.1 seconds in all for 100 documents, tens of seconds for 1000.

    No aggregate itself: it reads weights. The aggregate that reads answers, for ``Sampled``, is ``tsp``.

    Args:
        weights: Of the arc from each document (row) to each other one (column), (m, m); any sign, higher is better.
        exact: Documents up to which the result is certain, at least 3.

    Reference:
        Held and Karp, 1962; Li et al., 2025 (TSPRank), which leaves the same search to an integer solver.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if len(weights) <= max(exact, 3):
        return _best_of_all_paths(weights)
    balance = weights.sum(axis=1) - weights.sum(axis=0)
    order = [int(i) for i in np.argsort(-np.round(balance, 9), kind="stable")]
    onward = max((_onward(weights, start) for start in order[:STARTS]), key=lambda path: _weight(weights, path))
    first, second = _mended(weights, order), _mended(weights, onward)
    return second if _weight(weights, second) > _weight(weights, first) + GAIN else first


def _weight(weights: Matrix, path: Sequence[int]) -> float:
    """Of all arcs of a path."""
    return float(weights[path[:-1], path[1:]].sum())


def _best_of_all_paths(weights: Matrix) -> list[int]:
    """Held and Karp: a path through a set is an arc from its first document and a path through the rest."""
    m = len(weights)
    members = (np.arange(2**m)[:, None] >> np.arange(m)) & 1
    worth = np.full((2**m, m), -np.inf)  # [set, first]: the heaviest path through the set that begins there
    for held in range(1, 2**m):
        for first in np.flatnonzero(members[held]):
            left = held - (1 << first)
            worth[held, first] = (weights[first] + worth[left]).max() if left else 0.0
    order: list[int] = []
    held, reach = 2**m - 1, worth[-1]
    while held:
        order.append(int(np.argmax(reach >= reach.max() - GAIN)))
        held -= 1 << order[-1]
        reach = weights[order[-1]] + worth[held]
    return order


def _onward(weights: Matrix, start: int) -> list[int]:
    """From ``start``, always along the heaviest arc to a document not yet visited."""
    left = np.zeros(len(weights))
    path = [start]
    while len(path) < len(weights):
        left[path[-1]] = -np.inf
        path.append(int(np.argmax(weights[path[-1]] + left)))
    return path


def _mended(weights: Matrix, path: list[int]) -> list[int]:
    """The path after every move that makes it heavier, the best one first, and then every reversal."""
    m = len(path)
    padded = np.pad(weights, (0, 1))  # document m is before the first and after the last; arcs to and from it are free
    while True:
        ring = [m, *path, m]
        arcs = padded[np.ix_(ring, ring)]
        gain, change = max((_move(arcs, length) for length in (1, 2, 3)), key=lambda found: found[0])
        if gain <= GAIN:
            gain, change = _reversal(arcs)
        if gain <= GAIN:
            return path
        path = [ring[place] for place in change]


def _reversal(arcs: Matrix) -> tuple[float, list[int]]:
    """The gain of the best reversal of a part, and the places 1 to m in their new order."""
    m = len(arcs) - 2
    there = np.concatenate([[0.0], np.cumsum(np.diag(arcs, 1))])  # weight from place 0 up to each place
    back = np.concatenate([[0.0], np.cumsum(np.diag(arcs, -1))])
    i, j = np.triu_indices(m, 1)
    i, j = i + 1, j + 1
    new = arcs[i - 1, j] + back[j] - back[i] + arcs[i, j + 1]
    gains = new - (there[j + 1] - there[i - 1])
    best = int(np.argmax(gains))
    start, end = int(i[best]), int(j[best])
    return float(gains[best]), [*range(1, start), *range(end, start - 1, -1), *range(end + 1, m + 1)]


def _move(arcs: Matrix, length: int) -> tuple[float, list[int]]:
    """The gain of the best move of ``length`` neighbours, and the places 1 to m in their new order."""
    m = len(arcs) - 2
    i = np.arange(1, m + 2 - length)[:, None]  # where the part starts; (parts, 1)
    j = i + length - 1
    after = np.arange(m + 1)  # the place that the part is to follow
    freed = arcs[i - 1, i] + arcs[j, j + 1] - arcs[i - 1, j + 1]
    gains = arcs[after, i] + arcs[j, after + 1] - arcs[after, after + 1] - freed
    gains[(after >= i - 1) & (after <= j)] = -np.inf  # where it is
    part, target = (int(place) for place in np.unravel_index(np.argmax(gains), gains.shape))
    moved = range(part + 1, part + 1 + length)
    rest = [place for place in range(1, m + 1) if place not in moved]
    at = target if target < moved.start else target - length
    return float(gains[part, target]), [*rest[:at], *moved, *rest[at:]]
