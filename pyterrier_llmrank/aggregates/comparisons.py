"""What the aggregates have in common: answers about groups of any size, read as comparisons of two documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Group, Scores, from_order
from pyterrier_llmrank.errors import ConfigurationError

Matrix: TypeAlias = NDArray[np.float64]
"""One float per ordered pair of documents, (n, n)."""

Indices: TypeAlias = NDArray[np.intp]

ROUNDED = 1e-3  # how far the two probabilities of a pair may be from 1 together, as recorded ones are rounded


class Comparisons(NamedTuple):
    """Pairs of documents and who is the better one.

    Attributes:
        first: Indices, (comparisons,).
        second: Indices of their opponents, (comparisons,).
        share: Belief that ``first`` is better, (comparisons,): 1 won, 0 lost, 0.5 a tie.
    """

    first: Indices
    second: Indices
    share: Scores


def answered(groups: Sequence[Group], answers: Sequence[Scores]) -> Iterator[tuple[Group, Scores]]:
    """Each group with its answer; those without any score are left out.

    Raises:
        ValueError: There are not as many answers as groups.
        ConfigurationError: An answer has not as many scores as its group has documents.
    """
    for group, answer in zip(groups, answers, strict=True):
        scores = np.asarray(answer, dtype=np.float64)
        if scores.shape != (len(group),):
            raise ConfigurationError(
                f"the group {group} has {len(group)} documents, but its answer {scores.size} scores: "
                f"{scores.tolist()}; give one for each, NaN where there is none"
            )
        if not np.isnan(scores).all():
            yield group, scores


def shares_of(scores: Scores) -> tuple[float, float] | None:
    """The probabilities of the two documents of a pair; None where ``scores`` are something else."""
    if len(scores) != 2:
        return None
    a, b = float(scores[0]), float(scores[1])
    if not (a >= 0 and b >= 0 and abs(a + b - 1) <= ROUNDED):  # False for NaN too
        return None
    return a / (a + b), b / (a + b)


def stacked(groups: Sequence[Group], answers: Sequence[Scores]) -> list[tuple[Indices, Scores]]:
    """The same by size of the groups: members and scores, both (groups, size); as few arrays as there are sizes."""
    of_size: dict[int, list[tuple[Group, Scores]]] = {}
    for group, scores in answered(groups, answers):
        of_size.setdefault(len(group), []).append((group, scores))
    return [
        (np.array([group for group, _ in own], dtype=np.intp), np.stack([scores for _, scores in own]))
        for own in of_size.values()
    ]


def compared(groups: Sequence[Group], answers: Sequence[Scores]) -> Comparisons:
    """Every comparison that the answers contain.

    A group of m documents gives all its m (m - 1) / 2 pairs, won by the higher score; equal scores are a tie. Two
    scores that are probabilities (they add up to 1) are taken as such. A document without a score loses to those that
    have one, two such documents say nothing of each other, and a group without any score says nothing at all.
    """
    nothing = Comparisons(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0))
    found = [nothing, *(_within(members, scores) for members, scores in stacked(groups, answers))]
    return Comparisons(*map(np.concatenate, zip(*found, strict=True)))


def _within(members: Indices, scores: Scores) -> Comparisons:
    """The comparisons within groups of one size, (groups, size) each."""
    above, below = np.triu_indices(members.shape[1], 1)
    known = ~np.isnan(scores)
    told = known[:, above] | known[:, below]  # (groups, pairs)
    values = np.where(known, scores, -np.inf)
    share = (values[:, above] > values[:, below]) + 0.5 * (values[:, above] == values[:, below])
    if members.shape[1] == 2:
        total = scores.sum(axis=1)
        probabilities = (scores >= 0).all(axis=1) & (np.abs(total - 1) <= ROUNDED)  # False for NaN too
        share[probabilities, 0] = scores[probabilities, 0] / total[probabilities]
    return Comparisons(members[:, above][told], members[:, below][told], share[told])


def wins(n: int, groups: Sequence[Group], answers: Sequence[Scores]) -> Matrix:
    """How often each document (row) was better than each other one (column), ties as half; (n, n).

    Entry and mirrored entry add up to the number of comparisons of the two.
    """
    first, second, share = compared(groups, answers)
    won: Matrix = np.zeros((n, n))
    np.add.at(won, (first, second), share)
    np.add.at(won, (second, first), 1 - share)
    np.round(won, 12, out=won)  # summed in another order they are to be equal, or equals would move
    return won


def mean_shares(n: int, groups: Sequence[Group], answers: Sequence[Scores]) -> Matrix:
    """The mean belief that one document (row) is better than another (column); NaN where never compared; (n, n)."""
    won = wins(n, groups, answers)
    met = won + won.T
    shares: Matrix = np.full((n, n), np.nan)
    np.divide(won, met, out=shares, where=met > 0)
    return shares


def settled(scores: Scores, digits: int = 12, unit: float = 0.0) -> Scores:
    """Scores without numerical noise, so that equals keep their order.

    ``digits`` significant ones of the largest are left, or of ``unit``, the size that such scores have where they say
    anything: where everything cancels out, noise is all there is.
    """
    largest = float(np.abs(scores).max(initial=unit))
    if not 1e-100 < largest < 1e100:
        return scores
    return np.round(scores, digits - 1 - int(np.floor(np.log10(largest))))


def in_order(
    n: int, groups: Sequence[Group], answers: Sequence[Scores], order_of: Callable[[Matrix], Sequence[int]]
) -> Scores:
    """Scores 0, -1, -2, … from a method that only gives an order.

    ``order_of`` gets the wins among the documents that were compared at all; the others stay at their places.
    """
    won = wins(n, groups, answers)
    met = np.flatnonzero((won + won.T).any(axis=1))
    order = np.arange(n)
    order[met] = met[list(order_of(won[np.ix_(met, met)]))]
    return from_order(order.tolist())
