"""Three aggregators of ICTIR 2022 as their code was published, mistakes included, to reproduce its tables.

They read pairs whose answers are the probabilities of the first and of the second document; which is first matters.
Documents without an answer are missing from their results: NaN.

Reference:
    Gienapp et al., 2022 (Sparse Pairwise Re-ranking), github.com/webis-de/ICTIR-22 at 6854279.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pyterrier_llmrank.core import Group, Scores, silence
from pyterrier_llmrank.errors import ConfigurationError

from .comparisons import Indices, Matrix, answered
from .fitting import logistic, maximise, of_wins

MARGIN = 0.05
REGULARIZATION = 0.2


class _Pairs(NamedTuple):
    """Answered pairs: places in ``met``, (pairs,), and the probability that the first document is better."""

    met: Indices
    first: Indices
    second: Indices
    belief: Scores


def _pairs(groups: Sequence[Group], answers: Sequence[Scores]) -> _Pairs:
    """The pairs with an answer.

    Raises:
        ConfigurationError: A group is not a pair.
    """
    told = []
    for group, scores in answered(groups, answers):
        if len(group) != 2:
            raise ConfigurationError(f"legacy=True takes pairs only, got a group of {len(group)}; use legacy=False")
        if not np.isnan(scores).any():
            told.append((*group, float(scores[0])))
    first, second, belief = np.array(told, dtype=np.float64).reshape(-1, 3).T
    met, places = np.unique(np.concatenate([first, second]).astype(np.intp), return_inverse=True)
    # kept as logarithms there; the way back decides cases on a threshold
    belief = np.exp(np.log(np.maximum(belief, np.finfo(np.float64).tiny)))
    return _Pairs(met, places[: len(told)], places[len(told) :], belief)


def _spread(n: int, met: Indices, scores: Scores) -> Scores:
    """The scores of the documents that were met, NaN for the others."""
    spread = silence(n)
    spread[met] = scores
    return spread


def additive_as_shipped(n: int, groups: Sequence[Group], answers: Sequence[Scores]) -> Scores:
    """Adds log p to the first document and 1 - log p to the second: the logarithm was never undone."""
    met, first, second, belief = _pairs(groups, answers)
    logs = np.log(belief)
    scores = np.zeros(len(met))
    np.add.at(scores, first, logs)
    np.add.at(scores, second, 1 - logs)
    return _spread(n, met, scores)


def bradley_terry_as_shipped(n: int, groups: Sequence[Group], answers: Sequence[Scores]) -> Scores:
    """The first document wins unless p <= 0.1, which is a tie: the threshold of 0.5 was overwritten.

    A win takes a lead above the margin of 0.05, and a tie has the likelihood of a win of both. Each document also has
    0.2 wins and losses, without margin, against one of strength 1.
    """
    met, first, second, belief = _pairs(groups, answers)
    m = len(met)
    won = np.zeros((m + 1, m + 1))  # the last one is the document of strength 1
    np.add.at(won, (first, second), 1.0)
    np.add.at(won, (second, first), belief <= MARGIN + MARGIN)
    margins = np.zeros_like(won)
    margins[:m, :m] = MARGIN
    won[:m, m] = won[m, :m] = REGULARIZATION
    strengths = maximise(m + 1, of_wins(won, logistic, margins), prior=0.0)
    return _spread(n, met, strengths[:m] - strengths[m] + 1)


def kwiksort_as_shipped(n: int, groups: Sequence[Group], answers: Sequence[Scores], seed: int) -> Scores:
    """Scores each document by the one at its rank: the permutation was returned without being inverted.

    Pivots are those that numpy's old generator draws with ``seed``.
    """
    met, first, second, belief = _pairs(groups, answers)
    better = np.zeros((len(met), len(met)))
    forward = belief >= 0.5
    better[np.where(forward, first, second), np.where(forward, second, first)] = 1.0
    order = _split(np.arange(len(met)), better, np.random.RandomState(seed))
    return _spread(n, met, len(met) - order.astype(np.float64))


def _split(places: Indices, better: Matrix, random: np.random.RandomState) -> Indices:
    """Those that the pivot does not beat, the pivot, those that it does."""
    if len(places) == 0:
        return places
    pivot = places[random.randint(0, len(places))]
    rest = places[places != pivot]
    before = better[rest, pivot] >= better[pivot, rest]
    return np.concatenate([_split(rest[before], better, random), [pivot], _split(rest[~before], better, random)])
