"""Scores that first sum up how a document did against each opponent, then over opponents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyterrier_llmrank.core import Group, Scores

from .comparisons import mean_shares, settled, wins


def win_rate(n: int, groups: Sequence[Group], answers: Sequence[Scores]) -> Scores:
    """Mean belief that a document is better than an opponent, 0 to 1; every opponent counts the same (JointRank).

    A document that was never compared gets 0.5.
    """
    shares = mean_shares(n, groups, answers)
    met = ~np.isnan(shares)
    opponents = met.sum(axis=1)
    total = np.where(met, shares, 0.0).sum(axis=1)
    return settled(np.divide(total, opponents, out=np.full(n, 0.5), where=opponents > 0))


def copeland(n: int, groups: Sequence[Group], answers: Sequence[Scores]) -> Scores:
    """Opponents that a document beat more often than not, less those that beat it; 0 if never compared.

    Reference:
        Copeland, 1951.
    """
    won = wins(n, groups, answers)
    total: Scores = np.sign(won - won.T).sum(axis=1)
    return total


def minimum(n: int, groups: Sequence[Group], answers: Sequence[Scores]) -> Scores:
    """How a document did against its strongest opponent (duoBERT's MIN): belief, 0 to 1; 0.5 if never compared.

    With certain answers only the document that beat all others stands out.

    Reference:
        Nogueira et al., 2019 (duoBERT).
    """
    shares = np.nan_to_num(mean_shares(n, groups, answers), nan=np.inf)
    return _or_even(shares.min(axis=1, initial=np.inf))


def maximum(n: int, groups: Sequence[Group], answers: Sequence[Scores]) -> Scores:
    """How a document did against its weakest opponent (duoBERT's MAX): belief, 0 to 1; 0.5 if never compared.

    With certain answers only the document that lost to all others stands out.

    Reference:
        Nogueira et al., 2019 (duoBERT).
    """
    shares = np.nan_to_num(mean_shares(n, groups, answers), nan=-np.inf)
    return _or_even(shares.max(axis=1, initial=-np.inf))


def _or_even(shares: Scores) -> Scores:
    """An even share where there was no opponent."""
    return settled(np.where(np.isinf(shares), 0.5, shares))
