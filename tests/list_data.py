"""Lists of documents with features whose relevance can be learnt, as frames."""

from __future__ import annotations

import numpy as np
import pandas as pd


def lists(queries=24, width=4, seed=0, column="features", first=0):
    """Results and qrels: the two documents of a query with the highest last feature are relevant, one more than the
    other. Features have scales of their own, and the first is the same for all."""
    draw = np.random.default_rng(seed)
    rows, judged = [], []
    for query in range(first, first + queries):
        n = int(draw.integers(3, 8))
        values = draw.normal(size=(n, width)) * np.geomspace(0.01, 100.0, width) + np.arange(width) * 50
        values[:, 0] = 7.0
        grades = np.zeros(n, dtype=int)
        grades[np.argsort(-values[:, -1])[:2]] = (2, 1)
        for place in range(n):
            rows.append((f"q{query}", "a query", f"d{place}", place, -float(place), values[place]))
            judged.append((f"q{query}", f"d{place}", int(grades[place])))
    names = ["qid", "query", "docno", "rank", "score", column]
    return pd.DataFrame(rows, columns=names), pd.DataFrame(judged, columns=["qid", "docno", "label"])


def ideal(result, qrels):
    """The part of the queries whose two relevant documents are first, in order."""
    labels = result.merge(qrels, on=["qid", "docno"]).sort_values(["qid", "rank"])
    best = labels.groupby("qid")["label"].apply(lambda own: own.tolist()[:2] == [2, 1])
    return float(best.mean())
