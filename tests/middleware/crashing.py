"""Cached runs in processes of their own, for a test that kills them.

    python crashing.py

Reads folders from standard input. For each it starts a process, tells its id, and tells its exit status once it is
dead. The process writes to the folder: ``asked`` and ``delivered``, a line for each question as it is asked of the
scorer and as its answer comes out of the cache; ``rows``, the result, once there is one.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pyterrier_llmrank import Rerank
from pyterrier_llmrank.core import Answer, Evidence, Usage
from pyterrier_llmrank.middleware import Cached
from pyterrier_llmrank.strategies import Heapsort

QUERIES, DOCS, CHUNK = 24, 30, 4


def note(path, questions):
    """Adds a line for each question, in one write: it is in the file, whatever happens next."""
    text = "".join(f"{one.qid} {' '.join(doc.docno for doc in one.docs)}\n" for one in questions)
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


def candidates():
    rows = [
        {"qid": f"q{q}", "query": f"query {q}", "docno": f"d{q}-{i}", "text": str((i * 37 + q * 11) % 101), "rank": i}
        for q in range(QUERIES)
        for i in range(DOCS)
    ]
    return pd.DataFrame(rows)


def run(folder):
    """Reranks several queries at once, so that there is something to lose at any moment."""
    scorer = Noting(Cached(Slow(str(folder)), folder / "answers.sqlite", chunk=CHUNK), str(folder))
    rows = Rerank(Heapsort(4), scorer, top_k=10)(candidates())
    rows.to_json(folder / "unfinished", orient="records")
    os.replace(folder / "unfinished", folder / "rows")


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()  # what was imported is there already
        if not child:
            run(Path(line.strip()))
            os._exit(0)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)
