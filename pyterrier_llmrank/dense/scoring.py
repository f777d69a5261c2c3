"""Rows of results by their scores: query by query in order of first appearance, best first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyterrier_llmrank.frames import candidate_order


def ordered(frame: pd.DataFrame, scores: NDArray[Any], k: int | None = None) -> pd.DataFrame:
    """A new frame with ``score`` (float64) and ``rank`` (from 0); equal scores keep their order.

    Args:
        frame: Results, in any order; those of a query that are equal stand as ``candidate_order`` has them.
        scores: One per row, finite.
        k: Rows to keep of a query; all by default.
    """
    own = frame.drop(columns=["score", "rank"], errors="ignore")
    if not len(frame):
        none = pd.Series(dtype="float64")
        return own.reset_index(drop=True).assign(score=none, rank=none.astype("int64"))
    order, starts = candidate_order(frame)
    sizes = np.diff([*starts, len(order)])
    lists = np.repeat(np.arange(len(starts)), sizes)
    values = np.asarray(scores, dtype=np.float64)[order]
    best = np.lexsort((-values, lists))  # stable
    ranks = np.arange(len(order)) - np.repeat(starts, sizes)
    kept = slice(None) if k is None else ranks < k
    chosen = best[kept]
    return own.iloc[order[chosen]].reset_index(drop=True).assign(score=values[chosen], rank=ranks[kept])
