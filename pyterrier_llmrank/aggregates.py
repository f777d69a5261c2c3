"""Aggregates: from the answers about many groups to one score per document."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .core import Group, Scores


def additive(n: int, groups: Sequence[Group], answers: Sequence[Scores]) -> Scores:
    """Sum of each document's scores over the groups that it was in (duoT5's SUM; PRP-Allpair).

    Answers are shares: they say how the belief in being best is split over the group, as with the two
    probabilities of a pair. A group without any answer counts as an even split, a document left out of an answer as
    having no share in it. Where documents were in unequal numbers of groups, each counts as if it had been in the
    average number, with even shares in those it missed; so silence never moves anybody.

    Args:
        n: Number of documents.
        groups: Indices asked about.
        answers: One array per group, same order.

    Returns:
        Scores, (n,); the expected number of wins where every pair was asked.

    Reference:
        Pradeep et al., 2021 (duoT5), section 3.3; Qin et al., 2024 (PRP), section 3.3.
    """
    total = np.full(n, len(groups) / max(1, n))  # what even splits alone would add up to, on average
    for group, scores in zip(groups, answers, strict=True):
        if not np.isnan(scores).all():
            total[list(group)] += np.nan_to_num(scores, nan=0.0) - 1 / len(group)
    return total
