"""Strengths of documents that make the answers most likely: Bradley-Terry, zELO, Thurstone, Plackett-Luce.

All are one regularised likelihood with another link. Strengths are finite whatever the answers, also of a document that
never lost; one that was never compared is of average strength, 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pyterrier_llmrank.core import Group, Scores, descending
from pyterrier_llmrank.errors import ConfigurationError

from .comparisons import Matrix, answered, shares_of, wins
from .fitting import Likelihood, Local, logistic, maximise, of_wins, probit
from .shipped import bradley_terry_as_shipped


def bradley_terry(
    n: int, groups: Sequence[Group], answers: Sequence[Scores], *, prior: float = 0.1, legacy: bool = False
) -> Scores:
    """Strengths whose differences are the log-odds of winning.

    Args:
        n: Number of documents.
        groups: Indices asked about.
        answers: One array per group, same order; probabilities of pairs count as parts of a win.
        prior: Precision (1 / variance) of the normal distribution around 0 that strengths come from; 0 lets the
            answers alone decide, as far as they do.
        legacy: Whether to return what the code of ICTIR 2022 does, for its published tables; see ``shipped``.

    Returns:
        Strengths, (n,), natural log-odds; their mean is 0.

    Raises:
        ConfigurationError: ``prior`` is negative.

    Reference:
        Bradley and Terry, 1952.
    """
    if legacy:
        return bradley_terry_as_shipped(n, groups, answers)
    return maximise(n, of_wins(wins(n, groups, answers), logistic), prior)


def elo(n: int, groups: Sequence[Group], answers: Sequence[Scores], *, ties: float = 0.1) -> Scores:
    """Bradley-Terry strengths as zELO fits them, with a few ties added to every pair that was compared.

    The ties take the place of zELO's stopping rule, which is all that keeps its strengths finite where a document never
    lost: one certain comparison is worth a lead of ``log(1 + 2 / ties)``, about 3, however many documents there are.

    Args:
        n: Number of documents.
        groups: Indices asked about, e.g. a few random cycles through all documents.
        answers: One array per group, same order; probabilities of pairs, such as the mean vote of several models.
        ties: Added to each pair that was compared; 0 for zELO's own likelihood.

    Returns:
        Strengths, (n,), natural log-odds; their mean is 0.

    Raises:
        ConfigurationError: ``ties`` is negative.

    Reference:
        Pipitone et al., 2025 (zELO).
    """
    if not ties >= 0:
        raise ConfigurationError(f"elo adds at least 0 ties to a pair, got ties={ties}; 0.1 is usual")
    won = wins(n, groups, answers)
    return maximise(n, of_wins(won + ties / 2 * (won + won.T > 0), logistic), prior=0.0)


def thurstone(n: int, groups: Sequence[Group], answers: Sequence[Scores], *, prior: float = 0.1) -> Scores:
    """Strengths whose differences are the normal quantiles of winning: ``bradley_terry`` with a probit link.

    Args:
        n: Number of documents.
        groups: Indices asked about.
        answers: One array per group, same order; probabilities of pairs count as parts of a win.
        prior: Precision of the normal distribution around 0 that strengths come from.

    Returns:
        Strengths, (n,), in standard deviations of a difference; their mean is 0.

    Raises:
        ConfigurationError: ``prior`` is negative.

    Reference:
        Thurstone, 1927 (case V); Pipitone et al., 2025 (zELO).
    """
    return maximise(n, of_wins(wins(n, groups, answers), probit), prior)


def plackett_luce(n: int, groups: Sequence[Group], answers: Sequence[Scores], *, prior: float = 0.1) -> Scores:
    """Strengths by which the best of a group is chosen, then the best of what is left, and so on.

    For pairs this is ``bradley_terry``; a ranked group of m documents counts as m - 1 choices rather than m (m - 1) / 2
    comparisons. Equals are as many even choices; documents without a score were never chosen.

    Args:
        n: Number of documents.
        groups: Indices asked about.
        answers: One array per group, same order; probabilities of pairs count as parts of a choice.
        prior: Precision of the normal distribution around 0 that strengths come from.

    Returns:
        Strengths, (n,), natural log-odds; their mean is 0.

    Raises:
        ConfigurationError: ``prior`` is negative.

    Reference:
        Luce, 1959; Plackett, 1975; Hunter, 2004.
    """
    choices = [choice for group, scores in answered(groups, answers) for choice in _choices(group, scores)]
    return maximise(n, _of_choices(n, choices), prior)


class _Choice(NamedTuple):
    """One or several equal choices out of ``offered``; ``taken`` adds up to ``times``."""

    offered: list[int]
    taken: dict[int, float]
    times: int


def _choices(group: Group, scores: Scores) -> Iterator[_Choice]:
    """The choices that order one group."""
    probabilities = shares_of(scores)
    if probabilities is not None:
        yield _Choice(list(group), dict(zip(group, probabilities, strict=True)), 1)
        return
    values = dict(zip(group, scores, strict=True))
    left = descending(group, scores)
    while len(left) > 1 and not np.isnan(values[left[0]]):
        equals = [i for i in left if values[i] == values[left[0]]]
        times = min(len(equals), len(left) - 1)  # the last of all is no choice
        yield _Choice(left, dict.fromkeys(equals, times / len(equals)), times)
        left = left[len(equals) :]


def _of_choices(n: int, choices: Sequence[_Choice]) -> Likelihood:
    """The likelihood of choices: strength of the taken, less the logarithm of the summed odds of the offered."""
    offered = np.zeros((len(choices), n), dtype=bool)
    taken = np.zeros(n)
    times = np.array([choice.times for choice in choices], dtype=np.float64)
    for row, choice in enumerate(choices):
        offered[row, choice.offered] = True
        for i, weight in choice.taken.items():
            taken[i] += weight

    def likelihood(strengths: Scores) -> Local:
        """Of all choices."""
        odds = np.where(offered, strengths, -np.inf)
        top = odds.max(axis=1, initial=-np.inf, keepdims=True)
        odds = np.exp(odds - top)  # (choices, n)
        total = odds.sum(axis=1, keepdims=True)
        expected: Matrix = odds / total
        often = times @ expected
        value = taken @ strengths - times @ (top + np.log(total))[:, 0]
        return Local(float(value), taken - often, np.diag(often) - expected.T @ (times[:, None] * expected))

    return likelihood
