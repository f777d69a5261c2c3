"""From a result frame to lists of documents, and from scores back to a column. Never changes the frame it is given."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .core import Doc, Scores, descending, silence
from .errors import InputError, LLMRankWarning
from .fields import Field, Vector

RAW_SCORE = "llmrank_score"
"""Column of what the strategy itself said; NaN where it was not asked."""


def candidate_order(frame: pd.DataFrame) -> tuple[NDArray[np.intp], list[int]]:
    """Row places, query by query in order of first appearance, candidates best first; and where each query starts.

    Candidates go by ``rank`` (ascending), else by ``score`` (descending), else by row; missing values go last.

    Raises:
        InputError: A row has no qid, or ranks or scores are no numbers.
    """
    codes, _ = pd.factorize(frame["qid"])
    if (codes < 0).any():
        raise InputError(f"{int((codes < 0).sum())} of {len(frame)} rows have no qid; drop them or fill it in")
    keys = np.zeros(len(frame))
    for column, sign in (("rank", 1.0), ("score", -1.0)):
        if column in frame and frame[column].notna().any():
            try:
                keys = sign * frame[column].to_numpy(dtype="float64", na_value=np.nan)
            except (TypeError, ValueError) as error:
                raise InputError(f"{column!r} holds something else than numbers ({error}); mend or drop it") from error
            break
    order = np.lexsort((keys, codes))  # stable; NaN sorts last
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    return order, starts.tolist()


def documents(frame: pd.DataFrame, text_field: str | None) -> list[Doc]:
    """One ``Doc`` per row; a missing text is empty, and said once, but not where texts are not read (None)."""
    if text_field is None:
        return [Doc(str(docno), "") for docno in frame["docno"].tolist()]
    gone = frame[text_field].isna().tolist()
    if any(gone):
        warnings.warn(
            f"{sum(gone)} of {len(frame)} documents have no {text_field!r}; they are read as empty texts",
            LLMRankWarning,
            stacklevel=5,
        )
    rows = zip(frame["docno"].tolist(), frame[text_field].tolist(), gone, strict=True)
    return [Doc(str(docno), "" if missing else str(text)) for docno, text, missing in rows]


def with_fields(
    docs: Sequence[Doc], frame: pd.DataFrame, order: NDArray[np.intp], starts: Sequence[int], names: Sequence[str]
) -> list[Doc]:
    """The documents with columns of the frame that they came from.

    Args:
        docs: One per row, in candidate order.
        frame: Before its rows were put in that order.
        order: Row places, in candidate order.
        starts: Where each query starts in that order.
        names: Columns. "rank" is the place among a query's candidates, from 0, whatever the column says.

    Raises:
        InputError: A value is no text, no number and no list of numbers.
    """
    columns = []
    for name in names:
        if name == "rank":
            sizes = np.diff([*starts, len(order)])
            columns.append(np.concatenate([np.arange(size, dtype=np.float64) for size in sizes]).tolist())
            continue
        values = frame[name].iloc[order].tolist()
        columns.append([_field(value, name, doc) for value, doc in zip(values, docs, strict=True)])
    rows = zip(*columns, strict=True)
    return [doc._replace(fields=tuple(zip(names, row, strict=True))) for doc, row in zip(docs, rows, strict=True)]


def _field(value: Any, name: str, doc: Doc) -> Field:  # noqa: ANN401 - whatever a frame holds
    """A value of a frame as a document holds it."""
    if isinstance(value, str):
        return value
    if value is None or value is pd.NA:
        return np.nan
    try:
        if np.ndim(value) == 0:
            return float(value)
        vector = np.asarray(value)
        vector = vector if vector.dtype in (np.float32, np.float64) else vector.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name!r} of document {doc.docno} is neither text nor numbers: {value!r:.80}") from error
    if vector.ndim != 1:
        raise InputError(f"{name!r} of document {doc.docno} has the shape {vector.shape}; give a flat list of numbers")
    return Vector(vector)


def query_texts(frame: pd.DataFrame, starts: Sequence[int]) -> list[str]:
    """The first query text of each qid's rows (some rows may miss it).

    Raises:
        InputError: A qid has no query on any row.
    """
    texts, missing = frame["query"].tolist(), frame["query"].isna().tolist()
    queries = []
    for start, end in zip(starts, [*starts[1:], len(frame)], strict=True):
        row = next((row for row in range(start, end) if not missing[row]), None)
        if row is None:
            raise InputError(
                f"query {frame['qid'].iloc[start]!r} has no text in the column 'query' on any of its "
                f"{end - start} rows; join the topics' query column before reranking"
            )
        queries.append(str(texts[row]))
    return queries


def ranked(
    frame: pd.DataFrame,
    lists: Sequence[range],
    answers: Sequence[Scores],
    *,
    num_results: int | None = None,
    only_selected: bool = False,
) -> pd.DataFrame:
    """The rows of a frame in their final order, with scores and ranks.

    Args:
        frame: Rows in candidate order, by query.
        lists: The rows of each query.
        answers: The strategy's scores of each query's first rows; those without a score follow, in order.
        num_results: Rows to keep for a query.
        only_selected: Whether rows with a score of 0 or less go, where any score was given.
    """
    order: list[int] = []
    raws, scores, ranks = [np.empty(0)], [np.empty(0)], [np.empty(0, dtype=np.int64)]
    for rows, answer in zip(lists, answers, strict=True):
        raw = np.concatenate([answer, silence(len(rows) - len(answer))])
        places = descending(range(len(rows)), raw)
        if only_selected and not np.isnan(raw).all():
            places = [place for place in places if raw[place] > 0]
        places = places[:num_results]
        order.extend(rows[place] for place in places)
        raws.append(raw[places])
        scores.append(strictly_decreasing(raw[places]))
        ranks.append(np.arange(len(places)))
    columns = {RAW_SCORE: np.concatenate(raws), "score": np.concatenate(scores), "rank": np.concatenate(ranks)}
    return frame.iloc[order].reset_index(drop=True).assign(**columns)


def strictly_decreasing(scores: Scores) -> Scores:
    """Scores of a finished ranking (best first, NaN last), made finite and distinct in float32.

    Evaluation tools read scores as float32 and break ties by docno; this makes the ranking survive them. Scores that
    are distinct already stay as they are; equals are moved apart by the smallest step; NaN goes on below by steps of 1.
    """
    limit = np.finfo(np.float32).max / 4
    known = np.clip(scores[~np.isnan(scores)], -limit, limit)
    floor = known[-1] if len(known) else 1.0
    unknown = floor - np.arange(1, len(scores) - len(known) + 1)
    final = np.concatenate([known, unknown]).astype(np.float32)
    if not (np.diff(final) < 0).all():
        for place in range(1, len(final)):
            if final[place] >= final[place - 1]:
                final[place] = np.nextafter(final[place - 1], np.float32(-np.inf))
    return final.astype(np.float64)
