"""Curricula: easy documents count from the start, hard ones more and more."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pyterrier_llmrank.core import Scores
from pyterrier_llmrank.frames import candidate_order


def ease_by_rank(frame: pd.DataFrame) -> Scores:
    """How easy each row is for a first stage, by reciprocal rank: near 1 where it ranks as the label says.

    Args:
        frame: Columns qid, docno and label, with the first stage's rank or score.

    Returns:
        ``1 / (1 + rank)`` for a relevant document and one less that for another, (rows,).

    Reference:
        MacAvaney et al., 2020 (training curricula).
    """
    order, starts = candidate_order(frame)
    places = np.empty(len(frame))
    for start, end in zip(starts, [*starts[1:], len(frame)], strict=False):
        places[order[start:end]] = np.arange(end - start)
    return _easy(1 / (1 + places), frame)


def ease_by_score(frame: pd.DataFrame) -> Scores:
    """As ``ease_by_rank``, by the first stage's score, scaled to 0 … 1 within each query; 1/2 where all are equal."""
    scores = frame["score"].astype(np.float64)
    low, high = (scores.groupby(frame["qid"]).transform(end) for end in ("min", "max"))
    spread = (high - low).to_numpy()
    scaled = np.divide((scores - low).to_numpy(), spread, out=np.full(len(frame), 0.5), where=spread > 0)
    return _easy(scaled, frame)


def annealed(ease: ArrayLike, step: int, until: int) -> Scores:
    """Weights that begin at the ease of each document and are all 1 from step ``until`` on, linearly between."""
    easy = np.asarray(ease, dtype=np.float64)
    return np.ones_like(easy) if step >= until else easy + step / until * (1 - easy)


def _easy(high: Scores, frame: pd.DataFrame) -> Scores:
    """How high a relevant document stands, how low another."""
    return np.where(frame["label"].to_numpy() > 0, high, 1 - high)
