"""What rankers over other rankers' outputs gain on Cranfield, cross-validated, and what they cost.

    python tests/benchmarks/over_lists.py [--depth 30] [--save NAME]

225 queries, BM25's first documents as recorded in ``shared/data``, all-MiniLM-L6-v2's cosines beside BM25's scores.
Trained on three fifths of the queries, stopped on one, measured on one, in turn. Feedback takes the first documents of
the list for relevant, and is not trained.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from models import save_results
from shared_data import qrels, retrieved, rows

from pyterrier_llmrank import ContextRanker, NeighbourFeedback, OneShot, Rerank, TSPRanker
from pyterrier_llmrank.demo.minilm import minilm
from pyterrier_llmrank.training.fitting import Fitting, ndcg

FOLDS = 5
FITTING = Fitting(epochs=60, batch_size=16, learning_rate=3e-3, patience=8)


def candidates(depth):
    """BM25's first documents with both rankers' scores as features, and both sides' vectors."""
    run = retrieved("cranfield", "bm25").sort_values(["qid", "rank"], kind="stable")
    run = run.groupby("qid", sort=False).head(depth).reset_index(drop=True)
    texts = {row["docno"]: row["text"] for row in rows("data", "cranfield", "docs.jsonl.gz")}
    encoder = minilm()
    places = {docno: place for place, docno in enumerate(dict.fromkeys(run["docno"]))}
    docs, _ = encoder.encode([texts.get(docno, "") for docno in places])
    topics = {query: place for place, query in enumerate(dict.fromkeys(run["query"]))}
    queries, _ = encoder.encode(list(topics))
    doc, query = docs[run["docno"].map(places)], queries[run["query"].map(topics)]
    cosine = (doc * query).sum(axis=1)
    features = np.stack([run["score"].to_numpy(), cosine], axis=1)
    run["rank"] = run.groupby("qid").cumcount()
    return run.assign(features=list(features), cosine=cosine, doc_vec=list(doc), query_vec=list(query))


def measured(frame, labels, column="score"):
    """nDCG@10 of each query, over its judged documents among the candidates."""
    found = {}
    for qid, own in frame.groupby("qid"):
        known = np.array([labels.get((qid, docno), 0.0) for docno in own["docno"]])
        found[qid] = ndcg(own[column].to_numpy(dtype=float), known, 10)
    return found


def crossed(make, frame, judged, labels):
    """nDCG@10 of each query by a network that did not see it; seconds of training and of reranking."""
    qids = frame["qid"].unique()
    fold = dict(zip(qids, np.random.default_rng(0).permutation(len(qids)) % FOLDS, strict=True))
    own = frame["qid"].map(fold)
    found, seconds = {}, np.zeros(2)
    for test in range(FOLDS):
        valid = (test + 1) % FOLDS
        with tempfile.TemporaryDirectory() as folder:
            reranker = make(folder)
            began = time.process_time()
            reranker.fit(frame[~own.isin([test, valid])], judged, frame[own == valid], judged)
            middle = time.process_time()
            found |= measured(reranker(frame[own == test]), labels)
            seconds += [middle - began, time.process_time() - middle]
    return found, seconds / [FOLDS, len(qids)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=30)
    parser.add_argument("--save", metavar="NAME", help="keep the figures under this name")
    options = parser.parse_args()
    frame, judged = candidates(options.depth), qrels("cranfield")
    labels = {
        (qid, docno): float(label) for qid, docno, label in judged[["qid", "docno", "label"]].itertuples(index=False)
    }
    trained = {
        "linear": lambda folder: ContextRanker(folder, layers=0, width=16, fitting=FITTING),
        "ContextRanker": lambda folder: ContextRanker(folder, width=32, layers=2, hidden=64, fitting=FITTING),
        "TSPRanker": lambda folder: TSPRanker(folder, width=16, layers=1, hidden=32, depth=20, fitting=FITTING),
    }
    table = {"BM25": measured(frame, labels), "MiniLM": measured(frame, labels, "cosine")}
    feedback = Rerank(OneShot(), NeighbourFeedback(feedback=3))
    table["NeighbourFeedback, MiniLM, first 3"] = measured(feedback(frame), labels)
    costs = {}
    for name, make in trained.items():
        table[name], (fit_s, query_s) = crossed(make, frame, judged, labels)
        costs[name] = {"fit_cpu_s": round(float(fit_s), 2), "query_cpu_ms": round(1000 * float(query_s), 3)}
    result = {"depth": options.depth, "queries": len(table["BM25"]), "costs": costs}
    result["nDCG@10"] = {name: round(float(np.mean([*found.values()])), 4) for name, found in table.items()}
    base = table["linear"]
    result["better, worse than linear"] = {
        name: [sum(found[qid] > base[qid] for qid in base), sum(found[qid] < base[qid] for qid in base)]
        for name, found in table.items()
    }
    print(json.dumps(result))
    if options.save:
        save_results(options.save, result)


if __name__ == "__main__":
    main()
