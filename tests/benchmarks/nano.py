"""What llmrank-nano does on collections that it was not trained on: nDCG@10, order flips, malformed lists.

    python tests/benchmarks/nano.py [--model llmrank-nano] [--depth 20] [--queries 20] [--collections mini,med]
        [--doc-tokens 80] [--save nano]

BM25's first ``depth`` documents of each query are reranked; of a collection with more topics, ``queries`` are taken at
even steps. Each system is compared with BM25's order of the same documents by a paired t-test over queries.
"Flips" is the share of pairs (all pairs of BM25's first 5) whose two orders name different documents. "Malformed" is
the share of written orders that are not complete and clean.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import sys
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from ir_measures import nDCG
from models import save_results
from scipy.stats import ttest_rel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shared_data import qrels, retrieved, rows

from pyterrier_llmrank import HFModel, ListwiseLLM, PairPrompt, PairwiseLLM, PointwiseLLM, Prompted, SetwiseLLM
from pyterrier_llmrank.core import Doc, Question
from pyterrier_llmrank.mini import MiniCollection, first_stage

TOP = 10
COLLECTIONS = ("noveleval", "med", "cranfield", "msmarco_dl19", "mini")
FILES = {"noveleval": "candidates.jsonl.gz"}


def candidates(name, depth, most):
    """BM25's first documents of each query, with texts, and the judgments."""
    if name == "mini":
        dataset = MiniCollection()
        frame, labels = first_stage(dataset, engine="bm25s")(dataset.get_topics()), dataset.get_qrels()
    else:
        texts = {row["docno"]: row["text"] for row in rows("data", name, FILES.get(name, "docs.jsonl.gz"))}
        frame, labels = retrieved(name, "bm25").copy(), qrels(name)
        frame["text"] = frame["docno"].map(texts)
    qids = sorted(frame["qid"].unique())
    step = max(1, len(qids) // most)
    kept = set(qids[::step][:most])
    frame = frame[frame["qid"].isin(kept)]
    frame = frame.sort_values(["qid", "rank"]).groupby("qid").head(depth).reset_index(drop=True)
    return frame, labels[labels["qid"].isin(kept)]


def systems(model, depth, doc_tokens):
    """The four methods, and the three ways to read an order."""
    told = {"max_doc_tokens": doc_tokens}
    return {
        "pointwise": PointwiseLLM(model, **told),
        "pairwise heapsort": PairwiseLLM(model, top_k=TOP, **told),
        "setwise heapsort": SetwiseLLM(model, top_k=TOP, **told),
        "listwise letters": ListwiseLLM(model, window=min(depth, 20), decode="first", **told),
        "listwise numbers": ListwiseLLM(model, window=min(depth, 20), **told),
        "listwise numbers, constrained": ListwiseLLM(model, window=min(depth, 20), decode="constrained", **told),
    }


def per_query(frame, labels):
    """nDCG@10 by query."""
    found = (nDCG @ TOP).iter_calc(
        labels.rename(columns={"qid": "query_id", "docno": "doc_id", "label": "relevance"}),
        frame.rename(columns={"qid": "query_id", "docno": "doc_id"})[["query_id", "doc_id", "score"]],
    )
    return pd.Series({one.query_id: one.value for one in found}).sort_index()


def flips(model, frame, doc_tokens):
    """Share of the pairs of BM25's first five of which the two orders name different documents."""
    scorer = Prompted(PairPrompt(), model, doc_tokens)
    questions = []
    for qid, group in frame.groupby("qid"):
        docs = [Doc(row.docno, row.text) for row in group.head(5).itertuples()]
        for pair in combinations(docs, 2):
            questions += [Question(group["query"].iloc[0], order, qid) for order in (pair, pair[::-1])]
    first = np.array([answer.scores[0] > answer.scores[1] for answer in scorer(questions)])
    return float((first[::2] == first[1::2]).mean()), len(questions) // 2


def malformed(reranker):
    """Share of a listwise reranker's written orders that could not be read whole."""
    usage = reranker.ledger.total.usage
    return (usage.failures + usage.repaired) / max(usage.calls, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llmrank-nano")
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--doc-tokens", type=int, default=80)
    parser.add_argument("--collections", default=",".join(COLLECTIONS))
    parser.add_argument("--save")
    options = parser.parse_args()
    model, results = HFModel(options.model, device="cpu"), {}
    for name in options.collections.split(","):
        frame, labels = candidates(name, options.depth, options.queries)
        base = per_query(frame, labels)
        print(f"\n{name}: {len(base)} queries, BM25 {base.mean():.4f}", flush=True)
        told = {"queries": len(base), "BM25": round(float(base.mean()), 4)}
        for title, reranker in systems(model, options.depth, options.doc_tokens).items():
            start = time.process_time()
            own = per_query(reranker(frame), labels).reindex(base.index)
            p = float(ttest_rel(own, base).pvalue)
            row = {"nDCG@10": round(float(own.mean()), 4), "p": round(p, 4)}
            row["cpu_seconds_per_query"] = round((time.process_time() - start) / len(base), 3)
            if "numbers" in title:
                row["malformed"] = round(malformed(reranker), 4)
            told[title] = row
            print(f"  {title:30} {own.mean():.4f} ({own.mean() - base.mean():+.4f}, p={p:.4f}) {row}", flush=True)
        share, pairs = flips(model, frame, options.doc_tokens)
        told["order flips"] = {"share": round(share, 4), "pairs": pairs}
        print(f"  order flips {share:.3f} of {pairs} pairs", flush=True)
        results[name] = told
    if options.save:
        save_results(options.save, {"options": vars(options), "collections": results})


if __name__ == "__main__":
    main()
