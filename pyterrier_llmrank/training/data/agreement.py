"""Filters that keep what rankings agree on: a teacher with itself, or a ranking with the judgments."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from pyterrier_llmrank.core import Scores
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.frames import candidate_order


def agreeing(frames: Sequence[pd.DataFrame], *, at_least: float = 0.7) -> pd.DataFrame:
    """One ranking a query, the mean of a teacher's repeated ones, where those agree.

    A teacher that was asked several times, say about shuffled candidates, contradicts itself where it does not know.

    Args:
        frames: Results of the same queries and candidates, two or more, each with columns qid and docno.
        at_least: Mean Kendall's tau of every two rankings of a query, -1 to 1.

    Returns:
        The first frame's rows of the queries that agree, best first by mean rank: ``score`` is that rank negated,
        ``rank`` counts from 0. Documents that a frame lacks are left out.

    Raises:
        ConfigurationError: There are fewer than two frames.
    """
    if len(frames) < 2:
        raise ConfigurationError(f"agreement takes at least two rankings of a query, got {len(frames)} frames")
    ranked = frames[0]
    columns = [f"_place{number}" for number in range(len(frames))]
    for column, frame in zip(columns, frames, strict=True):
        ranked = ranked.merge(_places(frame, column), on=["qid", "docno"], how="inner")
    agreed = [rows for _, rows in ranked.groupby("qid", sort=False) if _tau(rows[columns].to_numpy()) >= at_least]
    kept = pd.concat(agreed) if agreed else ranked.iloc[:0]
    kept = kept.assign(score=-kept[columns].mean(axis=1)).drop(columns=columns)
    order, _ = candidate_order(kept.drop(columns="rank", errors="ignore"))
    kept = kept.iloc[order].reset_index(drop=True)
    return kept.assign(rank=kept.groupby("qid", sort=False).cumcount())


def positives_within(run: pd.DataFrame, qrels: pd.DataFrame, *, k: int = 50) -> pd.DataFrame:
    """The judgments without relevant documents that a ranking does not have among its first k.

    A document that a good retriever does not find at all for its query is often no answer to it.

    Args:
        run: Columns qid and docno.
        qrels: Columns qid, docno and label; rows that are not above 0 stay.
        k: 50 in KaLM-Embedding; CADET asks a retriever for 20, and its teacher for 1.

    Returns:
        Rows of ``qrels``, in their order.

    Reference:
        Hu et al., 2025 (KaLM-Embedding); Tamber et al., 2025 (CADET).
    """
    places = _places(run, "_place")
    found = qrels.reset_index(drop=True).astype({"qid": str}).merge(places, on=["qid", "docno"], how="left")["_place"]
    stays = (found < k).to_numpy() | (qrels["label"] <= 0).to_numpy()
    return qrels[stays].reset_index(drop=True)


def _places(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Each document's place in its query, from 0."""
    order, _ = candidate_order(frame)
    rows = frame.iloc[order][["qid", "docno"]].astype({"qid": str}).drop_duplicates()
    return rows.assign(**{column: rows.groupby("qid", sort=False).cumcount()})


def _tau(places: Scores) -> float:
    """Mean Kendall's tau of every two columns; -1 where there are not two documents to compare."""
    if len(places) < 2:
        return -1.0
    signs = [np.sign(column[:, None] - column)[np.triu_indices(len(column), 1)] for column in places.T]
    return float(np.mean([np.mean(one * other) for one, other in combinations(signs, 2)]))
