"""Cached runs in processes of their own, for a test that kills them.

    python crashing.py

Reads lines from standard input: what is cached, a folder, and the server's URL where there is one. For each it starts a
process, tells its id, and tells its exit status once it is dead. The process writes to the folder: ``asked`` and
``delivered``, a line for each question as it is asked of the scorer and as its answer comes out of the cache (of a
local model, a line for each call); ``rows``, the result, once there is one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp  # noqa: F401 - so that it is there when a process starts
import numpy as np
import openai  # noqa: F401
import pandas as pd
from fake_models import HashModel

from pyterrier_llmrank import PairwiseLLM, Rerank
from pyterrier_llmrank.core import Answer, Evidence, Usage
from pyterrier_llmrank.middleware import Cached, keeping
from pyterrier_llmrank.models import OpenAIModel
from pyterrier_llmrank.prompts import YesNo
from pyterrier_llmrank.scorers import Prompted
from pyterrier_llmrank.strategies import Heapsort, Pointwise

QUERIES, DOCS, CHUNK = 24, 30, 4


def note(path, questions):
    """Adds a line for each question."""
    write(path, "".join(f"{one.qid} {' '.join(doc.docno for doc in one.docs)}\n" for one in questions))


def write(path, text):
    """Adds a text in one write: it is in the file, whatever happens next."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, text.encode())
    os.close(file)


@dataclass(frozen=True)
class Slow:
    """Reads relevance from the texts, at leisure."""

    folder: str
    gives = Evidence.ORDER
    max_docs = 4

    def identity(self):
        return "slow"

    def __call__(self, questions):
        note(f"{self.folder}/asked", questions)
        time.sleep(0.003 * len(questions))
        return [Answer(np.array([float(doc.text) for doc in one.docs]), Usage(1)) for one in questions]


@dataclass(frozen=True)
class Noting:
    """Notes which answers were delivered."""

    scorer: object
    folder: str
    gives = Evidence.ORDER
    max_docs = 4

    def __call__(self, questions):
        answers = self.scorer(questions)
        note(f"{self.folder}/delivered", questions)
        return answers


@dataclass
class SlowModel(HashModel):
    """Runs here, at leisure."""

    folder: str = ""

    def identity(self):
        return "slow"

    def choices(self, prompts, labels):
        write(f"{self.folder}/asked", json.dumps([one.messages[-1].content for one in prompts]) + "\n")
        time.sleep(0.002 * len(prompts))
        return super().choices(prompts, labels)


def candidates(queries=QUERIES, docs=DOCS):
    rows = [
        {"qid": f"q{q}", "query": f"query {q}", "docno": f"d{q}-{i}", "text": str((i * 37 + q * 11) % 101), "rank": i}
        for q in range(queries)
        for i in range(docs)
    ]
    return pd.DataFrame(rows)


def of_scorer(folder):
    """Reranks several queries at once, so that there is something to lose at any moment."""
    scorer = Noting(Cached(Slow(str(folder)), folder / "answers.sqlite", chunk=CHUNK), str(folder))
    return Rerank(Heapsort(4), scorer, top_k=10)(candidates())


def of_server(folder, url):
    """Asks about all pairs of a query in one call."""
    model = Cached(OpenAIModel("tiny", url, concurrency=8), folder / "answers.sqlite")
    return PairwiseLLM(model, strategy="allpair", decode="generate")(candidates(1, 20))


def of_model(folder):
    """Asks about all documents of all queries in one call."""
    keeping.SECONDS, keeping.LEAST = 0.1, 4
    model = Cached(SlowModel(folder=str(folder)), folder / "answers.sqlite")
    return Rerank(Pointwise(), Prompted(YesNo(), model))(candidates())


RUNS = {"scorer": of_scorer, "server": of_server, "model": of_model}


def run(kind, folder, *more):
    """Writes the result of a run, whole or not at all."""
    rows = RUNS[kind](folder, *more)
    rows.to_json(folder / "unfinished", orient="records")
    os.replace(folder / "unfinished", folder / "rows")


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()  # what was imported is there already
        if not child:
            kind, where, *more = line.split()
            run(kind, Path(where), *more)
            os._exit(0)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)
