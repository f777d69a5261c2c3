"""Results with judgments, as the methods that have a ``fit`` learn from them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyterrier_llmrank.columns import check_columns, docs_read
from pyterrier_llmrank.core import Question
from pyterrier_llmrank.errors import InputError
from pyterrier_llmrank.frames import candidate_order, query_texts
from pyterrier_llmrank.rerank import Rerank


def judged_lists(
    frame: pd.DataFrame, qrels: pd.DataFrame, reranker: Rerank
) -> list[tuple[Question, NDArray[np.float64]]]:
    """The lists of a frame as ``reranker`` sees them, each with the labels of its documents; 0 without a judgment.

    Raises:
        InputValidationError: The frame lacks a column.
        InputError: The judgments do.
    """
    check_columns(frame, reranker.scorer, reranker.text_field, reranker)
    if missing := {"qid", "docno", "label"} - {*qrels.columns}:
        raise InputError(f"judgments need the columns qid, docno and label; missing: {', '.join(sorted(missing))}")
    if not len(frame):
        return []
    order, starts = candidate_order(frame)
    docs = docs_read(frame, order, starts, reranker.scorer, reranker.text_field)
    rows = frame.iloc[order]
    queries, qids = query_texts(rows, starts), rows["qid"].astype(str).tolist()
    names = zip(qrels["qid"].astype(str), qrels["docno"].astype(str), strict=True)
    known = dict(zip(names, qrels["label"].astype(float), strict=True))
    lists = []
    for start, end, query in zip(starts, [*starts[1:], len(docs)], queries, strict=True):
        shown = tuple(docs[start:end][: reranker.depth])
        labels = [known.get((qids[start], doc.docno), 0.0) for doc in shown]
        lists.append((Question(query, shown, qids[start]), np.array(labels)))
    return lists
