"""PageRank over the graph in which losers link to winners."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyterrier_llmrank.core import Group, Scores
from pyterrier_llmrank.errors import ConfigurationError

from .comparisons import Matrix, compared, settled

STEPS = 10_000


def page_rank(
    n: int, groups: Sequence[Group], answers: Sequence[Scores], *, damping: float = 0.85, tolerance: float = 1e-6
) -> Scores:
    """How often a walker is at each document who goes from losers to winners (JointRank; ICTIR 2022).

    Each comparison is a link from its loser to its winner, as strong as the belief in the winner (1 where answers are
    orders); a tie links both ways, half as strong. From a document that never lost the walker jumps anywhere.
    Documents that were never compared are no part of the graph and get the median of the others. Where documents are in
    unequal numbers of groups, those in many are visited more often, even if all their comparisons are ties.

    Args:
        n: Number of documents.
        groups: Indices asked about.
        answers: One array per group, same order.
        damping: Probability that the walker follows a link rather than jumps, at least 0 and below 1.
        tolerance: Euclidean change of the visits, as a vector of length 1, at which they are settled. The default is
            that of the library evalica, and so of JointRank.

    Returns:
        Probabilities, (n,); they add up to 1 over the documents that were compared.

    Raises:
        ConfigurationError: ``damping`` is out of range.

    Reference:
        Page et al., 1999; Dedov, 2025 (JointRank); Gienapp et al., 2022.
    """
    if not 0 <= damping < 1:
        raise ConfigurationError(f"page_rank needs a damping of at least 0 and below 1, got {damping}; 0.85 is usual")
    first, second, share = compared(groups, answers)
    links = np.zeros((n, n))  # from the loser (row) to the winner (column)
    np.add.at(links, (second, first), np.where(share >= 0.5, share, 0.0))
    np.add.at(links, (first, second), np.where(share <= 0.5, 1 - share, 0.0))
    met = np.flatnonzero(links.any(axis=0) | links.any(axis=1))
    if len(met) == 0:
        return np.zeros(n)
    visits = _visits(links[np.ix_(met, met)], damping, tolerance)
    scores = np.full(n, np.median(visits))
    scores[met] = visits
    return settled(scores)


def _visits(links: Matrix, damping: float, tolerance: float) -> Scores:
    """Where the walker is in the long run, by power iteration from everywhere alike."""
    m = len(links)
    out = links.sum(axis=1, keepdims=True)
    steps = np.divide(links, out, out=np.full((m, m), 1 / m), where=out > 0)
    visits: Scores = np.full(m, 1 / m)
    unit: Scores = np.full(m, m**-0.5)
    for _ in range(STEPS):
        visits = damping * (visits @ steps) + (1 - damping) / m
        before, unit = unit, visits / np.linalg.norm(visits)
        if np.linalg.norm(unit - before) < tolerance:
            break
    visits = unit / unit.sum()
    return visits
