"""The most likely strengths of documents, by Newton's method; every likelihood here is concave."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from pyterrier_llmrank.core import Scores
from pyterrier_llmrank.errors import ConfigurationError

from .comparisons import Matrix, settled

LEAST_PRIOR = 1e-6  # keeps the maximum finite and unique; far below what any answer says
STEPS = 1000  # Newton needs about 10; hundreds only where nothing but LEAST_PRIOR holds strengths back


class Local(NamedTuple):
    """A log-likelihood at one point.

    Attributes:
        value: Natural logarithm.
        gradient: (n,).
        curvature: Negated second derivatives, (n, n), positive semidefinite.
    """

    value: float
    gradient: Scores
    curvature: Matrix


Likelihood: TypeAlias = Callable[[Scores], Local]
"""From strengths to the log-likelihood there."""

Link: TypeAlias = Callable[[Matrix], tuple[Matrix, Matrix, Matrix]]
"""From leads in strength to the log-probability of winning, its slope, and its negated curvature."""


def logistic(lead: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Winning as in Bradley-Terry: ``1 / (1 + exp(-lead))``."""
    losing = np.exp(-np.logaddexp(0, lead))
    return -np.logaddexp(0, -lead), losing, losing * (1 - losing)


def probit(lead: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Winning as in Thurstone: the normal distribution function of the lead; scipy computes it."""
    from scipy.special import log_ndtr

    winning: Matrix = log_ndtr(lead)
    slope = np.exp(-(lead**2) / 2 - np.log(2 * np.pi) / 2 - winning)
    return winning, slope, np.maximum(slope * (slope + lead), 0.0)


def of_wins(won: Matrix, link: Link, threshold: Matrix | float = 0.0) -> Likelihood:
    """The likelihood of wins, (n, n) as in ``wins``, that take a lead above ``threshold``."""

    def likelihood(strengths: Scores) -> Local:
        """Of every win, by the lead of its winner."""
        winning, slope, bend = link(strengths[:, None] - strengths - threshold)
        pull, bend = won * slope, won * bend
        bend = bend + bend.T
        return Local(
            float((won * winning).sum()),
            pull.sum(axis=1) - pull.sum(axis=0),
            np.diag(bend.sum(axis=1)) - bend,
        )

    return likelihood


def maximise(n: int, likelihood: Likelihood, prior: float) -> Scores:
    """The strengths, (n,), at which likelihood and prior together are highest.

    Args:
        n: Number of documents.
        likelihood: Concave.
        prior: Precision (1 / variance) of a normal distribution around 0 that each strength is drawn from.

    Raises:
        ConfigurationError: ``prior`` is negative or not a number.
    """
    if not prior >= 0:
        raise ConfigurationError(f"a prior is the precision of strengths, at least 0, got {prior}; 0.1 is usual")
    prior = max(prior, LEAST_PRIOR)

    def posterior(strengths: Scores) -> Local:
        """The likelihood with the prior."""
        value, gradient, curvature = likelihood(strengths)
        value -= prior / 2 * float(strengths @ strengths)
        return Local(value, gradient - prior * strengths, curvature + prior * np.eye(n))

    strengths = np.zeros(n)
    here = posterior(strengths)
    for _ in range(STEPS):
        step = np.linalg.solve(here.curvature, here.gradient)
        there = posterior(strengths + step)
        while there.value < here.value and np.abs(step).max(initial=0.0) > 1e-10:
            step = step / 2
            there = posterior(strengths + step)
        strengths, here = strengths + step, there
        if np.abs(step).max(initial=0.0) < 1e-10:
            break
    strengths = strengths - strengths.mean() if n else strengths  # 0 but for noise, which a weak prior lets through
    return settled(strengths, digits=9, unit=1.0)
