"""How many queries that a collection's documents ask themselves survive CADET's filters.

    python tests/benchmarks/query_filters.py [--collection med] [--depth 100] [--documents 1033] [--engine bm25s]

BM25 retrieves, and MiniLM's order of what it finds confirms. One row a kind of query: how many
were written, and how many each filter leaves, one after the other.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import time

import numpy as np
import pandas as pd
import pyterrier as pt
import torch
from shared_data import rows

from pyterrier_llmrank.demo.minilm import minilm
from pyterrier_llmrank.mini.first_stage import first_stage
from pyterrier_llmrank.training.queries import offline_queries, sifted_by_teacher


class Collection:
    """Documents as ``first_stage`` reads them."""

    def __init__(self, docs):
        self.docs = docs

    def get_corpus_iter(self, *, verbose=False):
        return iter(self.docs)

    def text_loader(self, fields="text", *, verbose=False):
        texts = {doc["docno"]: doc["text"] for doc in self.docs}
        return pt.apply.generic(lambda frame: frame.assign(text=frame["docno"].map(texts)))


class Teacher:
    """MiniLM's cosines, each text encoded once."""

    def __init__(self, docs):
        self.encoder = minilm()
        self.vectors, _ = self.encoder.encode([doc["text"] for doc in docs])
        self.places = {doc["docno"]: place for place, doc in enumerate(docs)}

    def __call__(self, run):
        queries = run["query"].unique().tolist()
        encoded = dict(zip(queries, self.encoder.encode(queries)[0], strict=True)) if queries else {}
        pairs = zip(run["query"], run["docno"], strict=True)
        scores = [float(np.dot(encoded[query], self.vectors[self.places[docno]])) for query, docno in pairs]
        return run.drop(columns="rank").assign(score=scores)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--collection", default="med")
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--documents", type=int, default=None)
    parser.add_argument("--engine", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    docs = [{"docno": row["docno"], "text": row["text"]} for row in rows("data", options.collection, "docs.jsonl.gz")]
    start = time.perf_counter()
    queries = offline_queries(docs[: options.documents], per_doc=2)
    written = time.perf_counter() - start
    retriever = first_stage(Collection(docs), num_results=options.depth, engine=options.engine)
    teacher = Teacher(docs)
    table = {}
    for kind, own in queries.groupby("kind", sort=False):
        taught = sifted_by_teacher(own, retriever, teacher)
        left, row = len(own), {"written": len(own)}
        for reason, gone in taught.dropped.items():
            left -= gone
            row[reason] = left
        table[kind] = row
        assert left == len(taught.queries)
    frame = pd.DataFrame(table).T
    print(f"{options.collection}: {len(queries)} queries of {queries['docno'].nunique()} documents in {written:.1f} s")
    print(pd.concat([frame, frame.sum().to_frame("all").T]).to_string())
    print(f"{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
