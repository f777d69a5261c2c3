"""Orders built document by document, or by splitting around pivots."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyterrier_llmrank.core import Group, Scores
from pyterrier_llmrank.seeds import generator

from .comparisons import Matrix, in_order
from .shipped import kwiksort_as_shipped


def greedy(n: int, groups: Sequence[Group], answers: Sequence[Scores]) -> Scores:
    """Takes, again and again, the document that wins most over what is left, less what it loses.

    Returns:
        Scores, (n,), 1 apart; the order agrees with at least half as much belief as the best one.

    Reference:
        Cohen et al., 1999 (Learning to order things); Gienapp et al., 2022.
    """
    return in_order(n, groups, answers, _by_potential)


def _by_potential(won: Matrix) -> list[int]:
    """Places by wins less losses among those not yet taken; of equals, the first on input."""
    margins = won - won.T
    potential = margins.sum(axis=1)
    order: list[int] = []
    for _ in range(len(won)):
        best = int(np.argmax(np.round(potential, 9)))  # noise must not decide between equals
        order.append(best)
        potential -= margins[:, best]
        potential[best] = -np.inf
    return order


def kwiksort(
    n: int, groups: Sequence[Group], answers: Sequence[Scores], *, seed: int = 0, legacy: bool = False
) -> Scores:
    """Quicksort by the majority of the answers, around random pivots.

    A document that is even with the pivot, or was never compared with it, goes to the side where it was on input.

    Args:
        n: Number of documents.
        groups: Indices asked about.
        answers: One array per group, same order.
        seed: Of the pivots; without contradictions among all pairs it changes nothing.
        legacy: Whether to return what the code of ICTIR 2022 does, for its published tables; see ``shipped``.

    Returns:
        Scores, (n,), 1 apart.

    Reference:
        Ailon et al., 2008; Gienapp et al., 2022.
    """
    if legacy:
        return kwiksort_as_shipped(n, groups, answers, seed)
    random = generator(seed, "kwiksort")

    def split(places: list[int], margins: Matrix) -> list[int]:
        """Those before a pivot, the pivot, those after."""
        if len(places) < 2:
            return places
        pivot = places[random.integers(len(places))]
        before: list[int] = []
        after: list[int] = []
        for place in places:
            if place != pivot:
                better = margins[place, pivot] or pivot - place
                (before if better > 0 else after).append(place)
        return [*split(before, margins), pivot, *split(after, margins)]

    return in_order(n, groups, answers, lambda won: split(list(range(len(won))), won - won.T))
