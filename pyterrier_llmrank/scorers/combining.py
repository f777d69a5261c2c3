"""How several answers about the same documents become one: rules of one signature, that of every aggregate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Evidence, Group, Scores, silence
from pyterrier_llmrank.errors import ConfigurationError

Aggregate: TypeAlias = Callable[[int, Sequence[Group], Sequence[Scores]], Scores]
"""From the answers about groups of ``n`` documents to one score per document."""

Rule: TypeAlias = Literal["agree", "mean", "borda", "votes"]


def mean(n: int, groups: Sequence[Group], answers: Sequence[Scores]) -> Scores:
    """Each document's mean score over the answers that have one for it; NaN where none has."""
    total, count = np.zeros(n), np.zeros(n)
    for group, scores in zip(groups, answers, strict=True):
        known = ~np.isnan(scores)
        places = np.array(group, dtype=int)[known]
        total[places] += scores[known]
        count[places] += 1
    return np.divide(total, count, out=silence(n), where=count > 0)


def borda(n: int, groups: Sequence[Group], answers: Sequence[Scores]) -> Scores:
    """Mean number of documents that each is above, a tie counting half.

    What an answer leaves out is last in it, together; an answer that could not be read does not count.
    """
    read = _read(groups, answers)
    return mean(n, [group for group, _ in read], [_points(above(scores)) for _, scores in read])


def votes(n: int, groups: Sequence[Group], answers: Sequence[Scores]) -> Scores:
    """The share of the answers that put each document first, 0 to 1; those that an answer has tied there share it."""
    read = _read(groups, answers)
    firsts = [(scores == np.nanmax(scores)).astype(np.float64) for _, scores in read]
    return mean(n, [group for group, _ in read], [first / first.sum() for first in firsts])


def agree(n: int, groups: Sequence[Group], answers: Sequence[Scores]) -> Scores:
    """Each document's share of the pairs in which all answers have it above the other; no such pair is split evenly.

    Of two documents the winner gets 1 and the loser 0, or both get 0.5 where the answers contradict each other, tie
    or cannot be read. All shares add up to 1. NaN where no answer could be read at all.

    Args:
        n: Number of documents, all of which are in every group.
        groups: The orders in which they were shown.
        answers: One array per group, same order.

    Reference:
        Qin et al., 2024 (PRP), section 3.1, for two documents.
    """
    if not _read(groups, answers):
        return silence(n)
    agreed = np.ones((n, n), dtype=bool)
    for group, scores in zip(groups, answers, strict=True):
        agreed &= above(scores[np.argsort(group)])
    return _points(agreed) / max(1.0, n * (n - 1) / 2)


RULES: dict[Rule, Aggregate] = {"agree": agree, "mean": mean, "borda": borda, "votes": votes}
USUAL: dict[Evidence, Rule] = {Evidence.CHOICE: "votes", Evidence.ORDER: "borda", Evidence.SCORE: "mean"}


def above(scores: Scores) -> NDArray[np.bool_]:
    """Whether the first of two documents has the higher score, (n, n); any score is higher than none."""
    known = ~np.isnan(scores)
    higher: NDArray[np.bool_] = (scores[:, None] > scores) | (known[:, None] & ~known)
    return higher


def check_rule(owner: str, combine: object) -> None:
    """Whether ``combine`` is a rule, by name or as a function.

    Raises:
        ConfigurationError: It is neither.
    """
    if not callable(combine) and not (isinstance(combine, str) and combine in RULES):
        raise ConfigurationError(
            f"{owner} combines answers by {', '.join(map(repr, RULES))} or an aggregate such as additive, "
            f"got {combine!r}"
        )


def as_aggregate(combine: Rule | Aggregate) -> Aggregate:
    """The function of a rule."""
    return combine if callable(combine) else RULES[combine]


def evidence(combine: Rule | Aggregate, given: Evidence) -> Evidence:
    """What combined answers tell: scores stay comparable only where they are averaged, a vote tells the best."""
    if combine == "mean":
        return given
    return Evidence.CHOICE if combine == "votes" else min(given, Evidence.ORDER)


def _read(groups: Sequence[Group], answers: Sequence[Scores]) -> list[tuple[Group, Scores]]:
    """Those of the answers that say anything."""
    return [
        (group, scores) for group, scores in zip(groups, answers, strict=True) if len(scores) and not _silent(scores)
    ]


def _silent(scores: Scores) -> bool:
    return bool(np.isnan(scores).all())


def _points(won: NDArray[np.bool_]) -> Scores:
    """How many others each document is above, a tie counting half, (n,)."""
    points: Scores = (len(won) - 1 + won.sum(axis=1) - won.sum(axis=0)) / 2
    return points
