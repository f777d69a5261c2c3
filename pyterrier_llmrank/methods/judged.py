"""Results with judgments, as the methods that have a ``fit`` learn from them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyterrier_llmrank.columns import check_columns, docs_read
from pyterrier_llmrank.core import Question
from pyterrier_llmrank.errors import InputError
from pyterrier_llmrank.frames import candidate_order, query_texts
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.training.data import judgments


def judged_lists(
    frame: pd.DataFrame, qrels: pd.DataFrame, reranker: Rerank
) -> list[tuple[Question, NDArray[np.float64]]]:
    """The lists of a frame as ``reranker`` sees them, each with the labels of its documents; 0 without a judgment.

    Raises:
        InputValidationError: The frame lacks a column.
        InputError: The judgments do, or a label is no number.
    """
    check_columns(frame, reranker.scorer, reranker.text_field, reranker)
    judged = judgments(qrels)
    if not len(frame):
        return []
    order, starts = candidate_order(frame)
    docs = docs_read(frame, order, starts, reranker.scorer, reranker.text_field)
    rows = frame.iloc[order]
    queries, qids = query_texts(rows, starts), rows["qid"].astype(str).tolist()
    names = zip(judged["qid"], judged["docno"], strict=True)
    known = dict(zip(names, judged["label"].astype(float), strict=True))
    lists = []
    for start, end, query in zip(starts, [*starts[1:], len(docs)], queries, strict=True):
        shown = tuple(docs[start:end][: reranker.depth])
        labels = [known.get((qids[start], doc.docno), 0.0) for doc in shown]
        lists.append((Question(query, shown, qids[start]), np.array(labels)))
    return lists


def check_relevant(labels: Iterable[NDArray[np.float64]]) -> None:
    """Whether anything could be told by lists with these labels.

    Raises:
        InputError: No document is relevant.
    """
    if not any((one > 0).any() for one in labels):
        raise InputError(
            "no document of the validation results is relevant; check that qids and docnos of results and judgments "
            "are the same, or leave the validation data out"
        )
