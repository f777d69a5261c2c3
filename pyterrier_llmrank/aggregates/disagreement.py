"""Kemeny's order, which contradicts the fewest answers: exact for few documents, local search above."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyterrier_llmrank.core import Group, Scores

from .comparisons import Matrix, in_order

EXACT = 12  # documents up to which all orders are considered: about 0.1 seconds
GAIN = 1e-9  # less is numerical noise


def kemeny(n: int, groups: Sequence[Group], answers: Sequence[Scores], *, exact: int = EXACT) -> Scores:
    """The order that contradicts the least of the answers.

    Of equally good orders it is the first in lexicographic order. Above ``exact`` documents it starts with the order by
    margins of victory and moves single documents for as long as that helps, which need not reach the best.

    Args:
        n: Number of documents.
        groups: Indices asked about.
        answers: One array per group, same order; probabilities of pairs count as parts of a win.
        exact: Documents up to which the best order is found by dynamic programming, in ``2 ** exact`` steps.

    Returns:
        Scores, (n,), 1 apart.

    Reference:
        Kemeny, 1959; Young and Levenglick, 1978.
    """
    return in_order(n, groups, answers, lambda won: _least_contradicted(won - won.T, exact))


def _least_contradicted(margins: Matrix, exact: int) -> list[int]:
    """The order whose pairs have the greatest sum of ``margins``, (m, m), earlier over later."""
    return _best_of_all_orders(margins) if len(margins) <= exact else _by_insertion(margins)


def _best_of_all_orders(margins: Matrix) -> list[int]:
    """Exactly: what a set is worth is the best of its documents over the rest, and what the rest is worth."""
    m = len(margins)
    members = (np.arange(2**m)[:, None] >> np.arange(m)) & 1  # (sets, m): sets are numbered in binary
    firsts = members @ margins.T  # (sets, m): what each document is worth ahead of the set
    worth = np.zeros(2**m)
    for held in range(1, 2**m):
        own = np.flatnonzero(members[held])
        worth[held] = (firsts[held, own] + worth[held - (1 << own)]).max()
    order: list[int] = []
    held = 2**m - 1
    while held:
        own = np.flatnonzero(members[held])
        best = firsts[held, own] + worth[held - (1 << own)] >= worth[held] - GAIN
        order.append(int(own[np.argmax(best)]))
        held -= 1 << order[-1]
    return order


def _by_insertion(margins: Matrix) -> list[int]:
    """From the order by sums, takes out each document and puts it in the best place, until none gains by that."""
    order = [int(i) for i in np.argsort(-np.round(margins.sum(axis=1), 9), kind="stable")]
    mended = True
    while mended:
        mended = False
        for document in tuple(order):
            place = order.index(document)
            rest = order[:place] + order[place + 1 :]
            # what it is worth at each place, over the worth at the very end
            worth = np.append(np.cumsum(margins[document, rest][::-1])[::-1], 0.0)
            best = int(np.argmax(worth))
            if worth[best] > worth[place] + GAIN:
                order = [*rest[:best], document, *rest[best:]]
                mended = True
    return order
