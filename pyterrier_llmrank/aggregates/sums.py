"""Sums and means over the groups that a document was in."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum

import numpy as np

from pyterrier_llmrank.core import Evidence, Group, Scores

from .comparisons import Comparisons, answered, compared, settled, stacked
from .shipped import additive_as_shipped


def additive(n: int, groups: Sequence[Group], answers: Sequence[Scores], *, legacy: bool = False) -> Scores:
    """Sum of each document's scores over the groups that it was in (duoT5's SYM-SUM; PRP-Allpair).

    Answers are shares: they say how the belief in being best is split over the group, as with the two
    probabilities of a pair. A group without any answer counts as an even split, a document left out of an answer as
    having no share in it. Where documents were in unequal numbers of groups, each counts as if it had been in the
    average number, with even shares in those it missed; so silence never moves anybody.

    With every pair asked in both orders this is duoT5's symmetric sum, with every pair asked once RankLLM's, and with
    1 or 0.5 (contradiction) each for the two orders of a pair together, PRP's.

    Args:
        n: Number of documents.
        groups: Indices asked about.
        answers: One array per group, same order.
        legacy: Whether to add up what the code of ICTIR 2022 does, for its published tables; see ``shipped``.

    Returns:
        Scores, (n,); the expected number of wins where every pair was asked.

    Reference:
        Pradeep et al., 2021 (duoT5), section 3.3; Qin et al., 2024 (PRP), section 3.3.
    """
    if legacy:
        return additive_as_shipped(n, groups, answers)
    total = np.full(n, len(groups) / max(1, n))  # what even splits alone would add up to, on average
    for members, scores in stacked(groups, answers):
        np.add.at(total, members, np.nan_to_num(scores, nan=0.0) - 1 / members.shape[1])
    return settled(total)


def shown_first(n: int, groups: Sequence[Group], answers: Sequence[Scores]) -> Scores:
    """Sum of each document's shares in the groups that showed it first (duoT5's SUM).

    For pairs asked in both orders; what the model believes of a document that was shown second does not count. Counted
    from an even split, so that a group without an answer, or one that was not asked, moves nobody.

    Reference:
        Pradeep et al., 2021 (duoT5), section 3.3.
    """
    total = np.zeros(n)
    for members, scores in stacked(groups, answers):
        np.add.at(total, members[:, 0], np.nan_to_num(scores[:, 0], nan=0.0) - 1 / members.shape[1])
    return settled(total, unit=1.0)


def binary(n: int, groups: Sequence[Group], answers: Sequence[Scores]) -> Scores:
    """How many comparisons each document won, ties as half (duoBERT's BINARY).

    How sure the scorer was does not count. Unequal numbers of comparisons are evened out as in ``borda``.

    Reference:
        Nogueira et al., 2019 (duoBERT).
    """
    told = compared(groups, answers)
    return _points(n, told._replace(share=(np.sign(told.share - 0.5) + 1) / 2))


def borda(n: int, groups: Sequence[Group], answers: Sequence[Scores]) -> Scores:
    """Borda points: m - 1 for the best of m documents, one less for each after it, added up over groups.

    Equals share their points; pairs give their probabilities. Where documents were in unequal numbers of comparisons,
    each counts as if it had been in the average number, with even results in those it missed; so a document that was
    never compared gets the average.

    Reference:
        Borda, 1781.
    """
    return _points(n, compared(groups, answers))


def _points(n: int, told: Comparisons) -> Scores:
    """Shares added up, as if each document had been in the average number of comparisons."""
    first, second, share = told
    total = np.full(n, len(first) / max(1, n))
    np.add.at(total, first, share - 0.5)
    np.add.at(total, second, 0.5 - share)
    return settled(total)


def mean(n: int, groups: Sequence[Group], answers: Sequence[Scores]) -> Scores:
    """Mean of each document's scores over the groups that it was in, for scores that hold between groups (GroupRank).

    A missing score is left out rather than counted as the lowest. A document without any gets the mean of the others'
    means, and so comes out among them.

    Reference:
        Sun et al., 2025 (GroupRank).
    """
    found: list[list[float]] = [[] for _ in range(n)]
    for group, scores in answered(groups, answers):
        for i, score in zip(group, scores, strict=True):
            if not np.isnan(score):
                found[i].append(float(score))
    # fsum does not depend on the order of the groups, so equals stay equal
    means = np.array([fsum(own) / len(own) if own else np.nan for own in found])
    known = means[~np.isnan(means)]
    return np.where(np.isnan(means), fsum(known) / max(1, len(known)), means)


mean.needs = Evidence.SCORE  # type: ignore[attr-defined]
