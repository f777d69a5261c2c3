"""Negatives that are none: a judge reads them again."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import pandas as pd

from pyterrier_llmrank.core import Evidence, Question, Scorer, Scores, spelled
from pyterrier_llmrank.errors import ConfigurationError, LLMRankWarning
from pyterrier_llmrank.frames import documents


def without_false_negatives(
    frame: pd.DataFrame,
    judge: Scorer,
    *,
    above: float | None = None,
    margin: float = 0.0,
    then: Literal["drop", "relabel"] = "drop",
    text_field: str = "text",
) -> pd.DataFrame:
    """The frame without negatives that a judge finds as relevant as the relevant documents.

    Args:
        frame: Columns qid, query, docno, ``text_field`` and label; above 0 is relevant.
        judge: Scores documents one by one; NaN leaves a document as it is.
        above: A negative that scores higher is none. By default the bound is the highest score among the query's
            relevant documents, and ``margin`` more.
        margin: In the unit of the judge's scores; below 0 for a stricter bound.
        then: "drop" leaves such documents out; "relabel" gives them the highest label of their query, which made the
            better training data in RLHN's experiments.
        text_field: The documents' column.

    Returns:
        Rows in their order. How many changed is not said; that a judgment could not be read is, with the count.

    Raises:
        ConfigurationError: The judge's scores do not hold between documents asked about alone.

    Reference:
        Thakur et al., 2025 (RLHN); Solatorio, 2024 (GISTEmbed), for the bound.
    """
    if judge.gives < Evidence.SCORE:
        raise ConfigurationError(
            f"a judge scores documents one by one (SCORE), but {spelled(judge)} gives {judge.gives.name}; use a "
            "cross-encoder or a pointwise prompt"
        )
    relevant = (frame["label"] > 0).to_numpy()
    asked = ~relevant if above is not None else np.ones(len(frame), dtype=bool)
    scores = _judged(frame, judge, asked, text_field)
    bounds = above if above is not None else _bounds(frame, relevant, scores) + margin
    false = ~relevant & (scores > bounds)
    if then == "drop":
        return frame[~false].reset_index(drop=True)
    best = frame.groupby("qid", sort=False)["label"].transform("max")
    return frame.assign(label=frame["label"].where(~false, best)).reset_index(drop=True)


def _judged(frame: pd.DataFrame, judge: Scorer, asked: np.ndarray, text_field: str) -> Scores:
    """A score for each row that is asked about; NaN for others, and where no answer was to be read."""
    rows = frame[asked]
    docs = documents(rows, text_field)
    questions = [
        Question(str(query), (doc,), str(qid)) for qid, query, doc in zip(rows["qid"], rows["query"], docs, strict=True)
    ]
    scores = np.full(len(frame), np.nan)
    scores[asked] = [answer.scores[0] for answer in (judge(questions) if questions else [])]
    lost = int(np.isnan(scores[asked]).sum())
    if lost:
        warnings.warn(
            f"the judge gave no score to {lost} of {len(rows)} documents, which stay as they are",
            LLMRankWarning,
            stacklevel=3,
        )
    return scores


def _bounds(frame: pd.DataFrame, relevant: np.ndarray, scores: Scores) -> Scores:
    """The highest score of each row's query among relevant documents; NaN, which nothing exceeds, without any."""
    best = pd.Series(np.where(relevant, scores, np.nan), index=frame.index).groupby(frame["qid"]).transform("max")
    return best.to_numpy()
