"""Lists of documents with targets, from any PyTerrier frame: a teacher's results *are* the training data."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyterrier_llmrank.core import Doc, Scores
from pyterrier_llmrank.errors import InputError, LLMRankWarning
from pyterrier_llmrank.frames import candidate_order, documents, query_texts
from pyterrier_llmrank.seeds import generator


@dataclass(frozen=True, slots=True)
class TrainingList:
    """One query, some of its documents, and what a model should say about each.

    Attributes:
        qid: Of the query.
        query: Its text.
        docs: Documents, in the order of the frame they are from.
        targets: One a document, higher is better.
    """

    qid: str
    query: str
    docs: tuple[Doc, ...]
    targets: tuple[float, ...]


def training_lists(
    frame: pd.DataFrame,
    *,
    targets: str = "score",
    qrels: pd.DataFrame | None = None,
    unjudged: float | None = 0.0,
    k: int | None = None,
    text_field: str = "text",
) -> list[TrainingList]:
    """The lists of a frame, one a query, documents best first.

    Args:
        frame: Columns qid, query, docno and ``text_field``, and what the targets are from.
        targets: "score", "label", any other column of numbers (``llmrank_score`` is what a strategy itself said), or
            "rank" for an order without distances: 0, -1, -2, …
        qrels: Columns qid, docno and label, which become the frame's label.
        unjudged: The label of documents without one; None leaves them out.
        k: Documents of a list that are kept; None for all.
        text_field: The documents' column.

    Returns:
        In the order of the queries' first rows. A document that a query has twice is kept once, where it stands
        higher, and this is said with the count.

    Raises:
        InputError: A column is missing, a row has no qid or number, or a query no text.
    """
    column = {"rank": "docno"}.get(targets, targets)
    if qrels is not None:
        _require(frame, ["qid", "docno"], targets)
        frame = _labelled(frame, judgments(qrels))
    _require(frame, ["qid", "query", "docno", text_field, column], targets)
    order, _ = candidate_order(frame)
    frame = _once(frame.iloc[order])
    if column == "label":
        frame = frame.dropna(subset=["label"]) if unjudged is None else frame.fillna({"label": unjudged})
    if frame.empty:
        return []
    starts = np.flatnonzero(np.diff(pd.factorize(frame["qid"])[0], prepend=-1)).tolist()
    docs, queries = documents(frame, text_field), query_texts(frame, starts)
    values = _numbers(frame, column) if targets != "rank" else None
    lists = []
    for query, start, end in zip(queries, starts, [*starts[1:], len(frame)], strict=True):
        end = end if k is None else min(end, start + k)
        wanted = values[start:end] if values is not None else 0.0 - np.arange(end - start)
        qid = str(frame["qid"].iloc[start])
        lists.append(TrainingList(qid, query, tuple(docs[start:end]), tuple(wanted.tolist())))
    return lists


def judgments(qrels: pd.DataFrame) -> pd.DataFrame:
    """The columns qid, docno and label: qids and docnos as texts, labels as numbers; rows without a label are left out.

    Raises:
        InputError: A column is missing, or a label is no number.
    """
    if missing := {"qid", "docno", "label"} - {*qrels.columns}:
        raise InputError(f"judgments need the columns qid, docno and label; missing: {', '.join(sorted(missing))}")
    known = qrels.loc[qrels["label"].notna(), ["qid", "docno", "label"]].astype({"qid": str, "docno": str})
    labels = pd.to_numeric(known["label"], errors="coerce")
    if (lost := labels.isna()).any():
        row = known[lost].iloc[0]
        raise InputError(
            f"labels must be numbers, higher is better; {int(lost.sum())} of {len(known)} are none, the first is "
            f"{row['label']!r} of document {row['docno']!r} of query {row['qid']!r}"
        )
    return known.assign(label=labels)


def informative(lists: Iterable[TrainingList]) -> list[TrainingList]:
    """Those with at least two different targets; no other list says what is better than what."""
    return [one for one in lists if len(set(one.targets)) > 1]


def shuffled_lists(lists: Iterable[TrainingList], seed: int = 0) -> list[TrainingList]:
    """The lists with their documents in an order drawn for each query: a teacher's own are best first.

    Whoever shows documents in a list's order needs it: the answer would always be the order that is shown.
    """
    shuffled = []
    for one in lists:
        order = generator(seed, one.qid).permutation(len(one.docs)).tolist()
        docs, targets = (tuple(told[place] for place in order) for told in (one.docs, one.targets))
        shuffled.append(replace(one, docs=docs, targets=targets))
    return shuffled


def padded(lists: Sequence[TrainingList]) -> tuple[Scores, NDArray[np.bool_]]:
    """Targets and mask of lists as the losses take them, (lists, docs of the longest); padding is 0 and False."""
    width = max((len(one.docs) for one in lists), default=0)
    targets, mask = np.zeros((len(lists), width)), np.zeros((len(lists), width), dtype=bool)
    for row, one in enumerate(lists):
        targets[row, : len(one.docs)] = one.targets
        mask[row, : len(one.docs)] = True
    return targets, mask


def document_numbers(lists: Sequence[TrainingList]) -> NDArray[np.int64]:
    """A number for each document, (lists, docs of the longest), the same for the same docno; -1 at padding.

    For losses that must know a document again in another list: ``in_batch``, ``below_teacher_ratio``, ``cadet``.
    """
    numbers = np.full(padded(lists)[1].shape, -1, dtype=np.int64)
    known: dict[str, int] = {}
    for row, one in enumerate(lists):
        numbers[row, : len(one.docs)] = [known.setdefault(doc.docno, len(known)) for doc in one.docs]
    return numbers


def _require(frame: pd.DataFrame, columns: Sequence[str], targets: str) -> None:
    """Refuses a frame without the columns.

    Raises:
        InputError: Some are missing.
    """
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        remedy = "pass qrels" if missing == ["label"] else "join them, as pt.text.get_text does texts"
        raise InputError(
            f"training lists with targets={targets!r} need the columns {missing}, but there are {list(frame.columns)}; "
            f"{remedy}"
        )


def _labelled(frame: pd.DataFrame, qrels: pd.DataFrame) -> pd.DataFrame:
    """The frame with the judgments' labels in place of its own; NaN where there is none."""
    frame = frame.drop(columns="label", errors="ignore").astype({"qid": str, "docno": str})
    return frame.merge(qrels.drop_duplicates(["qid", "docno"], keep="last"), on=["qid", "docno"], how="left")


def _once(frame: pd.DataFrame) -> pd.DataFrame:
    """The first row of each document of a query."""
    again = frame.duplicated(["qid", "docno"])
    if again.any():
        warnings.warn(
            f"{int(again.sum())} of {len(frame)} rows show a document that their query has already; the higher "
            "row is kept",
            LLMRankWarning,
            stacklevel=3,
        )
    return frame[~again]


def _numbers(frame: pd.DataFrame, column: str) -> Scores:
    """A column of targets.

    Raises:
        InputError: One is missing or no number.
    """
    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64)
    lost = np.flatnonzero(np.isnan(values))
    if len(lost):
        row = frame.iloc[lost[0]]
        raise InputError(
            f"{len(lost)} of {len(frame)} rows have no {column!r} to learn from, the first is document "
            f"{row['docno']!r} of query {row['qid']!r}; drop them, or use targets='rank'"
        )
    return values
