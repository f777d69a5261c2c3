"""MiniLM specialised to a collection without any label: what it finds before and after, by several losses.

    python tests/benchmarks/specialising.py [--collection cranfield] [--folder FOLDER] [--runs kl,cadet] [--save NAME]

Queries are taken out of the documents (first sentences, keywords, sentences); the teacher is the fusion of BM25 and
MiniLM itself (scores of each from 0 to 1 over its top 100, added). The document that a query is from would be first
for any ranker, so that losses that learn from the teacher alone are not shown it: the order of the others teaches. A
tenth of the queries is not trained on, and chooses the weights if ``--evaluate-every`` is above 0. The collection's own
queries and judgments measure the end, and nothing else.

Vectors and checkpoints are kept in the folder, and a call that was stopped goes on.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import gzip
import json
import sys
import tempfile
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from models import clock, save_results
from scipy.stats import ttest_rel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from shared_data import SHARED, qrels, topics

from pyterrier_llmrank.demo.minilm import minilm
from pyterrier_llmrank.mini import BM25
from pyterrier_llmrank.training.data import training_lists
from pyterrier_llmrank.training.fitting import ndcg
from pyterrier_llmrank.training.learners import BiEncoderLearner
from pyterrier_llmrank.training.loop import train
from pyterrier_llmrank.training.queries import offline_queries
from pyterrier_llmrank.training.settings import Training

DEPTH = 100  # of BM25 and of MiniLM, that are fused
LIST = 30  # the teacher's best documents in a list that is learnt from
OTHERS = 30  # and others, drawn, without which nothing would say that they are worse
TEACHER_TEMPERATURE = 0.07  # with which its distribution is nearest to that of MiniLM's cosines over 0.05

RUNS = {
    "kl": {"loss": "kl_divergence", "temperature": 0.05, "teacher_temperature": TEACHER_TEMPERATURE},
    "pearson": {"loss": "pearson"},  # no temperature: only how scores lie to each other
    "info_nce": {"loss": "info_nce", "temperature": 0.05},
    "cadet": {"loss": "cadet", "temperature": 0.05, "teacher_temperature": TEACHER_TEMPERATURE},
}


class Collection:
    """Documents, what MiniLM and BM25 make of them, and how well a matrix of scores ranks them."""

    def __init__(self, name, folder):
        with gzip.open(SHARED / "data" / name / "docs.jsonl.gz", "rt", encoding="utf-8") as file:
            self.docs = [json.loads(line) for line in file]
        self.name, self.folder = name, folder
        self.docnos = np.array([doc["docno"] for doc in self.docs])
        self.texts = [doc["text"] for doc in self.docs]
        self.places = {text: place for place, text in enumerate(self.texts)}
        self.topics, self.qrels = topics(name), qrels(name)
        self.bm25 = BM25(self.docs, num_results=DEPTH)

    @cached_property
    def vectors(self):
        """MiniLM's, of all documents."""
        path = self.folder / "vectors.npy"
        if not path.exists():
            np.save(path, minilm().encode(self.texts)[0].astype(np.float32))
        return np.load(path)

    def of(self, texts):
        """The vectors of documents by their texts."""
        return self.vectors[[self.places[text] for text in texts]]

    def lexical(self, queries):
        """BM25 of all documents, (queries, docs); 0 beyond its first 100."""
        found = self.bm25(queries[["qid", "query"]])
        scores = np.zeros((len(queries), len(self.docs)))
        rows = {qid: row for row, qid in enumerate(queries["qid"])}
        columns = {docno: column for column, docno in enumerate(self.docnos)}
        scores[found["qid"].map(rows), found["docno"].map(columns)] = found["score"]
        return scores

    def dense(self, queries):
        """MiniLM's cosines with all documents."""
        return minilm().encode(queries["query"].tolist())[0] @ self.vectors.T

    def fused(self, queries):
        """What the teacher says."""
        return unit(self.lexical(queries)) + unit(self.dense(queries))

    def teacher(self, queries, scores):
        """The same as results: the best of each query and others, scaled to 0 … 1; those below 0 are left out."""
        order = np.argsort(-scores, axis=1, kind="stable")
        draw = np.random.default_rng(len(self.docs))
        others = LIST + np.array([draw.permutation(len(self.docs) - LIST)[:OTHERS] for _ in order])
        places = np.concatenate([order[:, :LIST], np.take_along_axis(order, others, axis=1)], axis=1)
        frame = queries.loc[queries.index.repeat(LIST + OTHERS), ["qid", "query"]].reset_index(drop=True)
        frame["docno"] = self.docnos[places.ravel()]
        frame["text"] = [self.texts[place] for place in places.ravel()]
        frame = frame.assign(score=np.take_along_axis(scores, places, axis=1).ravel() / 2)
        return frame[frame["score"] >= 0]

    def measured(self, scores):
        """nDCG@10 of each of the collection's queries."""
        from ir_measures import calc, nDCG

        best = np.argsort(-scores, axis=1, kind="stable")[:, :100]
        run = pd.DataFrame(
            {
                "query_id": self.topics["qid"].repeat(best.shape[1]).to_numpy(),
                "doc_id": self.docnos[best.ravel()],
                "score": np.tile(-np.arange(best.shape[1], dtype=float), len(best)),
            }
        )
        judged = self.qrels.rename(columns={"qid": "query_id", "docno": "doc_id", "label": "relevance"})
        found = {one.query_id: one.value for one in calc([nDCG @ 10], judged, run).per_query}
        return np.array([found.get(qid, 0.0) for qid in self.topics["qid"]])


def unit(scores):
    """From 0 to 1 over the best 100 of each query, and 0 for all others."""
    best = -np.sort(-scores, axis=1)[:, :DEPTH]
    low, high = best[:, -1:], best[:, :1]
    return np.clip((scores - low) / np.maximum(high - low, 1e-9), 0, None)


def lists_of(collection, per_doc, seed):
    """Lists with and without the document that a query is from, to learn from; lists to choose by; these documents."""
    queries = offline_queries(collection.docs, kinds=("title", "sentence"), per_doc=per_doc, seed=seed)
    source = dict(zip(queries["qid"], queries["docno"], strict=True))
    columns = queries["docno"].map({docno: place for place, docno in enumerate(collection.docnos)}).to_numpy()
    rows, scores = np.arange(len(queries)), collection.fused(queries)
    found = (scores > scores[rows, columns][:, None]).sum(axis=1) < 20
    draw = np.random.default_rng(seed)
    held_out = {docno for docno in collection.docnos if draw.random() < 0.1}  # with all of its queries
    learnt = found & ~queries["docno"].isin(held_out).to_numpy()
    whole = training_lists(collection.teacher(queries[learnt], scores[learnt]))
    scores[rows, columns] = -1
    taught = training_lists(collection.teacher(queries[found], scores[found]))
    counts = {"queries": len(queries), "found": int(found.sum())}
    return (
        {"whole": whole, "others": [one for one in taught if source[one.qid] not in held_out]},
        [one for one in taught if source[one.qid] in held_out][:200],
        source,
        counts,
    )


def labelled(lists, source):
    """The same lists with nothing but the document that the query is from as relevant: what InfoNCE learns from."""
    return [
        one.__class__(one.qid, one.query, one.docs, tuple(float(doc.docno == source[one.qid]) for doc in one.docs))
        for one in lists
    ]


def agreement(collection, learner, lists):
    """How well the student ranks the whole collection, by what the teacher said of the held-out queries."""
    vectors = learner.encode_queries([one.query for one in lists])
    documents = collection.vectors if learner.document_vectors else learner.encode_documents(collection.texts)
    found = []
    for one, scores in zip(lists, vectors @ documents.T, strict=True):
        scores[np.flatnonzero(collection.docnos == one.qid.split(":")[0])] = -np.inf  # where the query is from
        labels = np.zeros(len(scores))
        labels[[collection.places[doc.text] for doc in one.docs[:10]]] = one.targets[:10]
        found.append(ndcg(scores, labels, 10))
    return float(np.mean(found))


def trained(collection, name, data, options):
    """The learner after training, and what it cost."""
    learning, choosing, source, _ = data
    sides = {"document_vectors": collection.of} if options.sides == "query" else {}
    limits = {"query_tokens": 64, "doc_tokens": options.doc_tokens}
    learner = BiEncoderLearner(minilm().name, **RUNS[name], **sides, **limits)
    training = Training(
        steps=options.steps,
        epochs=options.epochs,
        batch_size=options.batch,
        learning_rate=options.rate,
        evaluate_every=options.evaluate_every or None,
        checkpoint_every=60,
        warmup=0.2,
        seed=options.seed,
    )
    cost = {}
    told = f"{name}-{options.sides}-{options.rate}-{options.epochs}-{options.steps}-{options.seed}"
    with clock(cost):
        done = train(
            learner,
            labelled(learning["whole"], source)
            if name == "info_nce"
            else learning["whole" if name == "cadet" else "others"],
            collection.folder / told,
            training,
            measure=partial(agreement, collection, learner, choosing) if options.evaluate_every != 0 else None,
        )
    return learner, {"steps": done.steps, "best_step": done.best, "cpu_s": round(cost["cpu_s"], 1)}, done.history


def row(collection, name, scores, before, **told):
    """A line of the table."""
    values = collection.measured(scores)
    result = {"system": name, "ndcg@10": round(float(values.mean()), 4)}
    if before is not None:
        result |= {
            "gain": round(float((values - before).mean()), 4),
            "p": float(f"{ttest_rel(values, before).pvalue:.3g}"),
            "better": int((values > before).sum()),
            "worse": int((values < before).sum()),
        }
    result |= told
    print(json.dumps(result), flush=True)
    return result, values


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collection", default="cranfield")
    parser.add_argument("--folder", default=tempfile.gettempdir() + "/specialising")
    parser.add_argument("--runs", default=",".join(RUNS))
    parser.add_argument("--sides", choices=("query", "both"), default="query", help="what is trained")
    parser.add_argument("--per-doc", type=int, default=1)
    parser.add_argument("--doc-tokens", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-5)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--evaluate-every", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save", metavar="NAME", help="keep the figures under this name")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder = Path(options.folder) / options.collection
    folder.mkdir(parents=True, exist_ok=True)
    collection = Collection(options.collection, folder)

    asked = collection.topics
    rows = [row(collection, "BM25", collection.lexical(asked), None)[0]]
    first, before = row(collection, "MiniLM", collection.dense(asked), None)
    rows += [first, row(collection, "teacher: BM25 + MiniLM", collection.fused(asked), before)[0]]
    data = lists_of(collection, options.per_doc, options.seed)
    print(json.dumps({**data[3], "learnt from": len(data[0]["others"]), "held out": len(data[1])}), flush=True)
    for name in options.runs.split(","):
        learner, cost, history = trained(collection, name, data, options)
        documents = collection.vectors if learner.document_vectors else learner.encode_documents(collection.texts)
        scores = learner.encode_queries(asked["query"].tolist()) @ documents.T
        measures = [round(one["measure"], 4) for one in history if "measure" in one]
        cost["held_out"] = measures or round(agreement(collection, learner, data[1]), 4)
        rows.append(row(collection, f"MiniLM, {name}", scores, before, **cost)[0])
    if options.save:
        told = {key: value for key, value in vars(options).items() if key not in ("folder", "save", "runs")}
        save_results(options.save, {"settings": told | data[3], "rows": rows})


if __name__ == "__main__":
    main()
