"""Seconds of the library's own work on a usual reranking: 43 queries, 100 candidates each, a scorer that costs nothing.

    python tests/benchmarks/overhead.py [--runs 10] [--save NAME]

TREC DL 2019's shape: windows of 20 with stride 10, 9 rounds of 43 questions. Target: under 0.15 s.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
from models import save_results

from pyterrier_llmrank import Answer, Evidence, Rerank, SlidingWindow, Usage

QUERIES, DOCS = 43, 100


@dataclass(frozen=True)
class Free:
    """Turns every window around."""

    gives = Evidence.ORDER
    max_docs = None

    def __call__(self, questions):
        return [Answer(np.arange(len(question.docs), dtype=float), Usage(1)) for question in questions]


def candidates():
    """A first stage's result."""
    rows = [
        {"qid": str(q), "query": f"query {q}", "docno": f"{q}-{i}", "text": "text " * 60, "score": 50.0 - i, "rank": i}
        for q in range(QUERIES)
        for i in range(DOCS)
    ]
    return pd.DataFrame(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--save", metavar="NAME", help="keep the figures under this name")
    options = parser.parse_args()
    frame, reranker = candidates(), Rerank(SlidingWindow(20, 10), Free())
    reranker(frame)  # warm up
    assert (reranker.ledger.frame()[["calls", "rounds"]] == 9).all(axis=None)
    seconds = []
    for _ in range(options.runs):
        began = time.perf_counter()
        reranker(frame)
        seconds.append(time.perf_counter() - began)
    row = {"queries": QUERIES, "docs": DOCS, "best_s": min(seconds), "median_s": statistics.median(seconds)}
    print(f"{QUERIES} x {DOCS}: best {row['best_s']:.4f} s, median {row['median_s']:.4f} s of {options.runs} runs")
    if options.save:
        save_results(options.save, [row])


if __name__ == "__main__":
    main()
