"""Answers a second from a cache, and seconds that it adds to a new answer; around a scorer and around a model.

    python tests/benchmarks/cache.py [--answers 20000] [--runs 5] [--save NAME]

Passages of 60 words; one at a time as in pointwise scoring, two as in PRP, or windows of 20. The inner scorer costs
nothing, so that what is measured is the cache. Hits are counted with the cache closed and opened again before, and in
lists of one (a sort of one query) or of 1,000 questions. Where others use the machine, CPU time tells more. Targets:
50,000 hits a second; 0.2 ms a miss.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from models import save_results

from pyterrier_llmrank.core import Answer, Doc, Evidence, Message, Prompt, Question, Usage
from pyterrier_llmrank.middleware import Cached
from pyterrier_llmrank.middleware.store import store
from pyterrier_llmrank.models import ChoiceScores

WORDS = 60
SCORES = np.random.default_rng(0).normal(size=20)


@dataclass(frozen=True)
class Free:
    """A scorer and a model whose answers cost nothing."""

    gives = Evidence.SCORE
    max_docs = None
    can = frozenset({"choices"})

    def __call__(self, questions):
        return [Answer(SCORES[: len(question.docs)], Usage(1, 100)) for question in questions]

    def choices(self, prompts, labels):
        return [ChoiceScores(np.array([-0.1, -2.3]), np.zeros(2, dtype=bool), Usage(1, 100)) for _ in prompts]


def questions(n, docs, rng):
    """About groups of different documents."""
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(5_000)]
    pool = [Doc(f"d{i}", " ".join(rng.choices(words, k=WORDS))) for i in range(max(1000, 2 * docs))]
    return [Question(f"what is {i}", tuple(rng.sample(pool, docs)), f"q{i}") for i in range(n)]


def asker(kind, asked):
    """What asks for some of the questions, and how."""
    if kind == "model":
        prompts = [Prompt((Message("user", f"{one.query}\n{one.docs[0].text}\nRelevant?"),)) for one in asked]
        return lambda cached, part: cached.choices(prompts[part], [("Yes", "No")] * len(prompts[part]))
    return lambda cached, part: cached(asked[part])


def seconds(ask, cached, n, size):
    """To ask everything in calls of ``size`` questions: of wall time, and of CPU time; (2,)."""
    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(0, n, size):
        ask(cached, slice(start, start + size))
    return np.array([time.perf_counter() - wall, time.process_time() - cpu])


def measured(kind, docs, n, size, folder, runs):
    """Best of several runs: misses into a new file, then hits from it."""
    ask = asker(kind, questions(n, docs, random.Random(0)))
    bare = np.min([seconds(ask, Free(), n, size) for _ in range(runs)], axis=0)
    misses, hits = [], []
    for run in range(runs):
        path = str(Path(folder) / f"{kind}-{docs}-{size}-{run}")
        misses.append(seconds(ask, Cached(Free(), path), n, size) - bare)
        store(path).close()
        store(path)._connect()
        hits.append(seconds(ask, Cached(Free(), path), n, size))
    hit, miss = np.min(hits, axis=0), np.min(misses, axis=0)
    return {
        "around": kind,
        "documents": docs,
        "questions_a_call": size,
        "hits_per_s": round(n / hit[0]),
        "hits_per_cpu_s": round(n / hit[1]),
        "miss_ms": round(1000 * miss[0] / n, 4),
        "miss_cpu_ms": round(1000 * miss[1] / n, 4),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--save", metavar="NAME", help="keep the figures under this name")
    options = parser.parse_args()
    cases = [("scorer", 1, 1000), ("scorer", 1, 1), ("scorer", 2, 1000), ("scorer", 20, 1000), ("model", 1, 1000)]
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            measured(kind, docs, options.answers // (1 if size > 1 and docs < 20 else 10), size, folder, options.runs)
            for kind, docs, size in cases
        ]
    print(json.dumps(rows))
    if options.save:
        save_results(options.save, rows)


if __name__ == "__main__":
    main()
