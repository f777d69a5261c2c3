"""Teachers' scores on a scale that losses can be tuned for."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pyterrier_llmrank.errors import ConfigurationError, InputError


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
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise ConfigurationError(f"percentiles go from 0 to 100, the lower first, got {percentiles}")
    if frame.empty:
        return frame.copy()
    scores = frame["score"].to_numpy(dtype=np.float64)
    if np.isnan(scores).any():
        raise InputError(f"{int(np.isnan(scores).sum())} of {len(frame)} rows have no score to scale; drop them")
    bottom, top = np.percentile(scores, [low, high])
    if not top > bottom:
        raise InputError(f"the scores' percentiles {low:g} and {high:g} are both {top:g}: there is no scale")
    return frame.assign(score=((scores - bottom) / (top - bottom)).clip(0, 1))
