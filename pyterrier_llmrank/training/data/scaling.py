"""Teachers' scores on a scale that losses can be tuned for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyterrier_llmrank.errors import ConfigurationError, InputError

from .lists import TrainingList


def scaled_scores(frame: pd.DataFrame, *, percentiles: tuple[float, float] = (1.0, 99.0)) -> pd.DataFrame:
    """The frame with scores from 0 to 1: 0 at one percentile of all scores and 1 at another, clipped beyond.

    Of all queries together, so that a query without a good document has no high score; for several corpora or kinds of
    queries, scale the results of each.

    Args:
        frame: A teacher's results, with a column score.
        percentiles: From 0 to 100.

    Raises:
        ConfigurationError: The percentiles are none, or not in order.
        InputError: A score is missing, or all are equal, so that there is no scale.

    Reference:
        Tamber et al., 2025 (CADET).
    """
    scores = frame["score"].to_numpy(dtype=np.float64)
    bottom, top = _scale(scores, percentiles)
    return frame.assign(score=((scores - bottom) / (top - bottom)).clip(0, 1))


def scaled_lists(
    lists: Sequence[TrainingList], *, percentiles: tuple[float, float] = (1.0, 99.0)
) -> list[TrainingList]:
    """Lists whose targets are what ``scaled_scores`` makes of their documents' scores; raises the same."""
    bottom, top = _scale(np.array([target for one in lists for target in one.targets]), percentiles)
    span = top - bottom
    return [replace(one, targets=tuple(((np.array(one.targets) - bottom) / span).clip(0, 1).tolist())) for one in lists]


def _scale(scores: NDArray[np.float64], percentiles: tuple[float, float]) -> tuple[float, float]:
    """What becomes 0, and what becomes 1; of no scores, 0 and 1.

    Raises:
        ConfigurationError: The percentiles are none, or not in order.
        InputError: A score is missing, or all are equal.
    """
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise ConfigurationError(f"percentiles go from 0 to 100, the lower first, got {percentiles}")
    if not len(scores):
        return 0.0, 1.0
    if np.isnan(scores).any():
        raise InputError(f"{int(np.isnan(scores).sum())} of {len(scores)} rows have no score to scale; drop them")
    bottom, top = np.percentile(scores, [low, high])
    if not top > bottom:
        raise InputError(f"the scores' percentiles {low:g} and {high:g} are both {top:g}: there is no scale")
    return float(bottom), float(top)
