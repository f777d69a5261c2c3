"""``Ensemble``: several scorers on the same questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pyterrier_llmrank.core import Answer, Evidence, Question, Scorer, Scores, Usage, brief, silence
from pyterrier_llmrank.errors import ConfigurationError

from .around import check_scorer, load_all
from .combining import borda

Scale = Literal["minmax", "zscore", "rank"]


def minmax(scores: Scores) -> Scores:
    """Scores from 0 for the lowest to 1 for the highest of a question; 0.5 where all are the same."""
    known = scores[np.isfinite(scores)]
    low, span = (known.min(), np.ptp(known)) if known.size else (0.0, 0.0)
    scaled: Scores = np.clip((scores - low) / span, 0, 1) if span > 0 else np.where(np.isnan(scores), np.nan, 0.5)
    return scaled


def zscore(scores: Scores) -> Scores:
    """Scores in standard deviations from the mean of a question; 0 where all are the same."""
    known = scores[np.isfinite(scores)]
    middle, spread = (known.mean(), known.std()) if known.size else (0.0, 0.0)
    scaled: Scores = (scores - middle) / spread if spread > 0 else np.where(np.isnan(scores), np.nan, 0.0)
    return scaled


def rank(scores: Scores) -> Scores:
    """Scores from 0 for the last to 1 for the first of a question, in even steps; what was left out is last."""
    n = len(scores)
    return borda(n, [tuple(range(n))], [scores]) / max(1, n - 1)


SCALES: dict[Scale | None, Callable[[Scores], Scores]] = {
    "minmax": minmax,
    "zscore": zscore,
    "rank": rank,
    None: lambda scores: scores,
}


@dataclass(frozen=True, repr=False)
class Ensemble:
    """Asks several scorers the same questions, and averages what they say about each document.

    Scores of a question are first brought to one scale. A document without an answer from one scorer has the mean of
    the others; without any it has none. Costs: those of all scorers.

    Args:
        scorers: Two or more.
        weights: One per scorer, none negative; equal by default.
        normalize: "minmax" (0 to 1 within a question), "zscore" (mean 0, deviation 1), "rank" (0 to 1 in even steps),
            or None where all scorers have the same unit. Only with None do scores still compare between groups.

    Raises:
        ConfigurationError: Fewer than two scorers, weights that do not fit them, or another ``normalize``.
    """

    scorers: tuple[Scorer, ...]
    weights: tuple[float, ...] | None = None
    normalize: Scale | None = "minmax"

    __repr__ = brief

    def __post_init__(self) -> None:
        if not isinstance(self.scorers, tuple) or len(self.scorers) < 2:
            raise ConfigurationError(f"Ensemble takes a tuple of two or more scorers, got {self.scorers!r}")
        for scorer in self.scorers:
            check_scorer("Ensemble", scorer)
        if self.normalize not in SCALES:
            raise ConfigurationError(f"normalize must be 'minmax', 'zscore', 'rank' or None, got {self.normalize!r}")
        weights = self._weights
        if len(weights) != len(self.scorers) or min(weights) < 0 or not 0 < sum(weights) < np.inf:
            raise ConfigurationError(
                f"Ensemble needs one weight for each of its {len(self.scorers)} scorers, none negative and not all 0, "
                f"got {self.weights!r}"
            )

    @property
    def gives(self) -> Evidence:
        """The least that any scorer gives; an order at most where scores are scaled within a question."""
        least = min(scorer.gives for scorer in self.scorers)
        return least if self.normalize is None else min(least, Evidence.ORDER)

    @property
    def max_docs(self) -> int | None:
        """Documents of the largest group that all scorers take."""
        return min((scorer.max_docs for scorer in self.scorers if scorer.max_docs is not None), default=None)

    @property
    def _weights(self) -> tuple[float, ...]:
        return (1.0,) * len(self.scorers) if self.weights is None else self.weights

    def load(self) -> None:
        """Loads what the scorers need."""
        load_all(self.scorers)

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question; each scorer is asked all of them together."""
        if not questions:
            return []
        replies = [scorer(questions) for scorer in self.scorers]
        return [self._averaged(own) for own in zip(*replies, strict=True)]

    def _averaged(self, answers: Sequence[Answer]) -> Answer:
        """The weighted mean of the answers to one question."""
        scale = SCALES[self.normalize]
        total, weight = np.zeros(len(answers[0].scores)), np.zeros(len(answers[0].scores))
        for answer, share in zip(answers, self._weights, strict=True):
            scores = scale(answer.scores)
            known = ~np.isnan(scores) & (share > 0)
            total[known] += share * scores[known]
            weight[known] += share
        scores = np.divide(total, weight, out=silence(len(total)), where=weight > 0)
        return Answer(scores, sum((answer.usage for answer in answers), Usage()))
