"""Aggregates: from the answers about many groups to one score per document."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .core import Group, Scores


def additive(n: int, groups: Sequence[Group], answers: Sequence[Scores]) -> Scores:
    """Sum of each document's scores over the groups that it was in (duoT5's SUM; PRP-Allpair).

    Answers are shares: they say how the belief in being best is split over the group, as with the two
    probabilities of a pair. A document that got no answer counts as the mean of its group's others, and a group
    without any answer as an even split, so that silence never moves anybody.

    Args:
        n: Number of documents.
        groups: Indices asked about.
        answers: One array per group, same order.

    Returns:
        Scores, (n,); the expected number of wins where every pair was asked.

    Reference:
        Pradeep et al., 2021 (duoT5), section 3.3; Qin et al., 2024 (PRP), section 3.3.
    """
    total = np.zeros(n)
    for group, scores in zip(groups, answers, strict=True):
        missing = np.isnan(scores)
        if missing.any():
            neutral = 1 / len(group) if missing.all() else float(scores[~missing].mean())
            scores = np.where(missing, neutral, scores)
        total[list(group)] += scores
    return total
