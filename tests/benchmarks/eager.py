"""Wall time of the eager driver against lockstep, before a server whose answers take long, and not equally long.

    python tests/benchmarks/eager.py [--median 0.05] [--spread 0.8] [--save NAME]

43 queries, 100 candidates each, and a server that works on 64 requests at once. How long a request takes is drawn from
a lognormal distribution (``median`` seconds; ``spread`` is the standard deviation of the logarithm: 0.8 means that one
request in ten takes 2.8 times the median) by the request alone, so that both drivers wait for the same answers.
``bound`` is the longest query by itself, which no driver can beat. Prints one JSON line per strategy.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from models import save_results

from pyterrier_llmrank import Answer, Evidence, Heapsort, Pointwise, Rerank, SlidingWindow, TopDown, Usage
from pyterrier_llmrank.seeds import generator

QUERIES, DOCS, AT_ONCE = 43, 100, 64
SERVER = ThreadPoolExecutor(AT_ONCE)


@dataclass
class SlowServer:
    """Answers by relevance (a document's text), after a while."""

    median: float
    spread: float
    waited: Counter = field(default_factory=Counter)
    gives = Evidence.SCORE
    max_docs = None
    eager = True

    def __call__(self, questions):
        return list(SERVER.map(self.answer, questions))

    def answer(self, question):
        draw = generator(0, question.qid, *(doc.docno for doc in question.docs))
        seconds = self.median * math.exp(self.spread * draw.standard_normal())
        self.waited[question.qid] += seconds
        time.sleep(seconds)
        return Answer(np.array([float(doc.text) for doc in question.docs]), Usage(1))


def candidates():
    """A first stage's result in random order of relevance."""
    random = np.random.default_rng(0)
    rows = [
        {"qid": str(q), "query": f"query {q}", "docno": f"{q}-{i}", "text": str(value), "score": 50.0 - i, "rank": i}
        for q in range(QUERIES)
        for i, value in enumerate(random.permutation(DOCS))
    ]
    return pd.DataFrame(rows)


def measure(strategy, frame, options):
    """Wall seconds of both drivers, and of the longest query by itself."""
    walls, results = {}, {}
    for driver, eager in (("lockstep", False), ("eager", None)):
        server = SlowServer(options.median, options.spread)
        reranker = Rerank(strategy, server, top_k=10, eager=eager)
        began = time.perf_counter()
        results[driver] = reranker(frame)
        walls[driver] = time.perf_counter() - began
    pd.testing.assert_frame_equal(results["lockstep"], results["eager"])
    rounds = reranker.ledger.frame()["rounds"]
    bound = max(server.waited.values()) if (reranker.ledger.frame()["calls"] == rounds).all() else None
    return {
        "strategy": repr(strategy),
        "rounds": round(float(rounds.mean()), 1),
        "calls": round(float(reranker.ledger.frame()["calls"].mean()), 1),
        "lockstep_s": round(walls["lockstep"], 3),
        "eager_s": round(walls["eager"], 3),
        "bound_s": bound and round(bound, 3),
        "ratio": round(walls["lockstep"] / walls["eager"], 2),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--median", type=float, default=0.05, help="seconds of a request")
    parser.add_argument("--spread", type=float, default=0.8, help="standard deviation of their logarithm")
    parser.add_argument("--save", metavar="NAME", help="keep the figures under this name")
    options = parser.parse_args()
    frame, rows = candidates(), []
    for strategy in (Pointwise(), SlidingWindow(20, 10), TopDown(20, 10), Heapsort(4)):
        rows.append(measure(strategy, frame, options))
        print(json.dumps(rows[-1]), flush=True)
    if options.save:
        save_results(options.save, {"median_s": options.median, "spread": options.spread, "rows": rows})


if __name__ == "__main__":
    main()
