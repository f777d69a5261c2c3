"""Cost against quality of every strategy, under a judge that errs: BM25's top 100 of TREC DL 2019.

    python tests/benchmarks/strategies.py [--noise 0.7] [--repeat 3] [--save NAME]

Reads ``../shared/data`` (candidates and judgments). The judge knows the judgment (0 to 3) of each document, but sees it
through fresh Gaussian noise in every question; pairs are asked in both orders. It tells what a strategy needs and no
more: the best of a group, its order, or its scores. So strategies differ only in what they ask and what they make of
the answers; position bias and errors that repeat themselves, which real models have, are not in it. Tokens are those of
our prompts (``PairPrompt``, ``SetPrompt``, ``ListPrompt`` …) by GPT-2's tokenizer, documents cut at 128 tokens.
``--save`` keeps figures and a picture under ``results``.
"""

from __future__ import annotations

import argparse
import gzip
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyterrier as pt
from models import save_results

from pyterrier_llmrank import Answer, Evidence, Rerank, Usage
from pyterrier_llmrank.aggregates import additive, borda, bradley_terry, mean, page_rank, win_rate
from pyterrier_llmrank.designs import (
    all_pairs,
    cycles,
    equi_replicate,
    latin,
    random_pairs,
    shuffled_groups,
    window_pairs,
)
from pyterrier_llmrank.prompts import GroupPrompt, ListPrompt, PairPrompt, SelectPrompt, SetPrompt, YesNo
from pyterrier_llmrank.scorers import BothOrders
from pyterrier_llmrank.seeds import generator
from pyterrier_llmrank.strategies import (
    Bubble,
    Heapsort,
    Insertion,
    Knockout,
    MultiwayTournament,
    OneShot,
    Pointwise,
    Sampled,
    SlidingWindow,
    TopDown,
    Tournament,
)

DATA = Path(__file__).parents[3] / "shared" / "data"
DOC_TOKENS = 128


class System(NamedTuple):
    """One method of the picture."""

    family: str
    name: str
    strategy: object
    prompt: object
    evidence: Evidence


def systems():
    """Every strategy, with the group sizes of its paper."""
    pair, one_of, order = PairPrompt(), SetPrompt(), ListPrompt()
    rows = [
        System("pointwise", "pointwise", Pointwise(), YesNo(), Evidence.SCORE),
        System("pairwise", "heapsort, pairs", Heapsort(2), pair, Evidence.CHOICE),
        System("pairwise", "bubble, pairs (sliding-10)", Bubble(2, passes=10), pair, Evidence.CHOICE),
        System("pairwise", "insertion, pairs", Insertion(2), pair, Evidence.CHOICE),
        System("pairwise", "knockout", Knockout(), pair, Evidence.CHOICE),
        System("pairwise", "all pairs, sum", Sampled(all_pairs, additive), pair, Evidence.CHOICE),
        System("pairwise", "random pairs 8, BT", Sampled(random_pairs(8), bradley_terry), pair, Evidence.CHOICE),
        System("pairwise", "window pairs 8, BT", Sampled(window_pairs(8), bradley_terry), pair, Evidence.CHOICE),
        System("pairwise", "4 cycles, BT (zELO)", Sampled(cycles(4), bradley_terry), pair, Evidence.CHOICE),
        *(System("setwise", f"heapsort, c={c}", Heapsort(c + 1), one_of, Evidence.CHOICE) for c in (3, 9, 19)),
        *(System("setwise", f"bubble, c={c}", Bubble(c + 1), one_of, Evidence.CHOICE) for c in (3, 9, 19)),
        *(System("setwise", f"insertion, c={c}", Insertion(c + 1), one_of, Evidence.CHOICE) for c in (3, 9, 19)),
        System("listwise", "full list", OneShot(), order, Evidence.ORDER),
        System("listwise", "sliding 20/10", SlidingWindow(20, 10), order, Evidence.ORDER),
        System("listwise", "sliding 20/10, 3 passes", SlidingWindow(20, 10, 3), order, Evidence.ORDER),
        System("listwise", "top-down 20", TopDown(20), order, Evidence.ORDER),
        System("listwise", "top-down 20, buffer 20", TopDown(20, buffer=20), order, Evidence.ORDER),
        System("listwise", "ListT5 tree 5, keep 1", MultiwayTournament(5, 1), order, Evidence.CHOICE),
        System("listwise", "ListT5 tree 5, keep 2", MultiwayTournament(5, 2), order, Evidence.ORDER),
        System("listwise", "latin 10, PageRank", Sampled(latin(10), page_rank), order, Evidence.ORDER),
        System(
            "listwise", "JointRank 20x4, PageRank", Sampled(equi_replicate(20, 4), page_rank), order, Evidence.ORDER
        ),
        System("listwise", "JointRank 20x4, BT", Sampled(equi_replicate(20, 4), bradley_terry), order, Evidence.ORDER),
        System("listwise", "JointRank 20x4, win rate", Sampled(equi_replicate(20, 4), win_rate), order, Evidence.ORDER),
        System("listwise", "JointRank 20x8, BT", Sampled(equi_replicate(20, 8), bradley_terry), order, Evidence.ORDER),
        System("listwise", "random groups 20x4, Borda", Sampled(shuffled_groups(20, 4), borda), order, Evidence.ORDER),
        *(
            System("selection", f"TourRank-{r}", Tournament(r), SelectPrompt(keep=0.5), Evidence.ORDER)
            for r in (1, 2, 10)
        ),
        System("groupwise", "GroupRank 2x10", Sampled(shuffled_groups(10, 2), mean), GroupPrompt(), Evidence.SCORE),
    ]
    return rows


@cache
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(DATA / "tokenizer_gpt2")


@cache
def tokens(text):
    """GPT-2 tokens of a text."""
    return len(tokenizer()(text, verbose=False)["input_ids"])


@cache
def frame_tokens(prompt, n):
    """Tokens of a prompt about ``n`` empty documents and no query, and of the longest answer to it."""
    written = prompt.longest(n) if prompt.asks == "generate" else "A"
    return sum(tokens(message.content) for message in prompt.render("", [""] * n).messages), tokens(written)


@dataclass(frozen=True)
class NoisyJudge:
    """Knows the grade of each document, and sees it through fresh noise in every question.

    Attributes:
        grades: (qid, docno) -> 0 to 3.
        noise: Standard deviation, in grades.
        prompt: Whose tokens are counted.
        gives: What it tells: the best of a group, its order, or its scores.
        seed: Of the noise, with the question.
    """

    grades: dict = field(repr=False, compare=False)
    noise: float
    prompt: object
    gives: Evidence
    seed: int = 0
    max_docs = None

    def __call__(self, questions):
        return [self.answer(question) for question in questions]

    def answer(self, question):
        docnos = [doc.docno for doc in question.docs]
        grades = np.array([self.grades.get((question.qid, docno), 0) for docno in docnos], dtype=float)
        seen = grades + self.noise * generator(self.seed, question.qid, *docnos).standard_normal(len(docnos))
        if self.gives is Evidence.CHOICE:
            seen = (np.arange(len(seen)) == seen.argmax()).astype(float)
        elif self.gives is Evidence.ORDER:
            seen = -np.argsort(np.argsort(-seen, kind="stable")).astype(float)
        alone = self.prompt.max_docs == 1
        fixed, written = frame_tokens(self.prompt, 1 if alone else len(docnos))
        prompts = len(docnos) if alone else 1
        read = prompts * (fixed + tokens(question.query)) + sum(min(DOC_TOKENS, tokens(d.text)) for d in question.docs)
        return Answer(seen, Usage(prompts, prompt_tokens=read, output_tokens=prompts * written))


def collection():
    """BM25's top 100 with texts, and the judgments."""
    folder = DATA / "msmarco_dl19"
    with gzip.open(folder / "candidates.jsonl.gz", "rt", encoding="utf-8") as file:
        frame = pd.DataFrame([json.loads(line) for line in file])
    topics = dict(line.split("\t", 1) for line in (folder / "topics.tsv").read_text(encoding="utf-8").splitlines())
    frame = frame.assign(query=frame["qid"].map(topics))
    return frame[frame["rank"] < frame["rank"].min() + 100], pt.io.read_qrels(str(folder / "qrels.txt"))


def judge(system, grades, noise, seed):
    """The noisy judge for a system; pairs are asked in both orders."""
    scorer = NoisyJudge(grades, noise, system.prompt, system.evidence, seed)
    return BothOrders(scorer) if system.family == "pairwise" else scorer


def measure(system, frame, qrels, grades, *, noise, seed):
    """nDCG@10 and the mean costs of a query."""
    reranker = Rerank(system.strategy, judge(system, grades, noise, seed), top_k=10)
    ndcg = pt.Evaluate(reranker(frame), qrels, metrics=[pt.measures.nDCG @ 10])["nDCG@10"]
    ledger = reranker.ledger.frame()
    costs = {name: float(ledger[name].mean()) for name in ("calls", "rounds", "prompt_tokens", "output_tokens")}
    return {"nDCG@10": float(ndcg), **costs}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--noise", type=float, default=0.7, help="standard deviation, in grades")
    parser.add_argument("--repeat", type=int, default=3, help="runs with other noise")
    parser.add_argument("--save", metavar="NAME", help="keep figures and picture under this name")
    options = parser.parse_args()
    frame, qrels = collection()
    grades = {(qid, docno): label for qid, docno, label in qrels[["qid", "docno", "label"]].itertuples(index=False)}
    base = pt.Evaluate(frame, qrels, metrics=[pt.measures.nDCG @ 10])["nDCG@10"]
    print(f"BM25 {base:.4f}; noise {options.noise}, {options.repeat} runs; per query:")
    rows = []
    for system in systems():
        runs = [measure(system, frame, qrels, grades, noise=options.noise, seed=seed) for seed in range(options.repeat)]
        row = {"family": system.family, "name": system.name, "strategy": repr(system.strategy)}
        row |= {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
        row["spread"] = float(np.ptp([run["nDCG@10"] for run in runs]))
        rows.append(row)
        print(
            f"{system.family:10} {system.name:27} nDCG@10 {row['nDCG@10']:.4f} (±{row['spread'] / 2:.4f})  "
            f"calls {row['calls']:7.1f}  rounds {row['rounds']:6.1f}  tokens {row['prompt_tokens']:9.0f}",
            flush=True,
        )
    if options.save:
        save_results(options.save, {"bm25": float(base), "noise": options.noise, "runs": options.repeat, "rows": rows})
        draw(options.save, rows, float(base), options.noise)


def draw(name, rows, base, noise):
    """Quality against prompt tokens and against rounds, one marker a family; labels: the best for their tokens."""
    import matplotlib.pyplot as plt

    table = pd.DataFrame(rows)
    figure, axes = plt.subplots(1, 2, figsize=(14, 5.6), sharey=True, layout="constrained")
    shapes = dict(zip(dict.fromkeys(table["family"]), "os^DPv", strict=False))
    best = pareto(table, "prompt_tokens")[::-1]  # the best ones get the best places
    for axis, (cost, label) in zip(axes, COSTS.items(), strict=True):
        for family, marker in shapes.items():
            own = table[table["family"] == family]
            axis.plot(own[cost], own["nDCG@10"], marker, label=family, markersize=7, alpha=0.85)
        front = pareto(table, cost)
        axis.plot(front[cost], front["nDCG@10"], "-", color="lightgray", linewidth=5, zorder=0)
        axis.axhline(base, color="black", linestyle="--", linewidth=1)
        axis.text(0.02, base, "BM25", transform=axis.get_yaxis_transform(), va="bottom", fontsize=9)
        axis.set(xscale="log", xlabel=label)
        axis.margins(x=0.12, y=0.12)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(f"nDCG@10, TREC DL 2019, judge with noise {noise}")
    figure.legend(*axes[0].get_legend_handles_labels(), title="family", loc="outside right upper", frameon=False)
    figure.canvas.draw()  # labels are placed by where points have come to lie
    for axis, cost in zip(axes, COSTS, strict=True):
        place_labels(axis, best["name"], best[[cost, "nDCG@10"]].to_numpy(), table[[cost, "nDCG@10"]].to_numpy())
    path = Path(__file__).parent / "results" / f"{name}.png"
    figure.savefig(path, dpi=130)
    print(f"drawn in {path}")


def place_labels(axis, names, points, all_points):
    """Writes a name by each point, joined to it by a line, where it covers no other name and no point."""
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    renderer, taken = axis.figure.canvas.get_renderer(), []
    frame = axis.get_window_extent(renderer)
    marks = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in axis.transData.transform(all_points)]
    for name, point in zip(names, points, strict=True):
        for x, y in sorted(OFFSETS, key=lambda offset: np.hypot(*offset)):
            side = "left" if x > 0 else "right"
            line = {"arrowstyle": "-", "color": "gray", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
            options = {"ha": side, "va": "center", "fontsize": 8, "textcoords": "offset points", "arrowprops": line}
            text = axis.annotate(name, point, (x, y), **options)
            text.update_positions(renderer)
            box = Text.get_window_extent(text, renderer).padded(2)  # that of an Annotation has its line in it
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in [*marks, *taken]):
                taken.append(box)
                break
            text.remove()


OFFSETS = [(x, y) for x in (8, 20, 40, 60, -8, -20, -40, -60) for y in range(-130, 60, 6)]  # points from the mark
COSTS = {"prompt_tokens": "prompt tokens a query (cost)", "rounds": "rounds a query (latency)"}


def pareto(table, cost):
    """Systems that no other beats at the same cost or less, by cost."""
    best, front = -1.0, []
    for row in table.sort_values([cost, "nDCG@10"], ascending=[True, False]).to_dict("records"):
        if row["nDCG@10"] > best:
            best = row["nDCG@10"]
            front.append(row)
    return pd.DataFrame(front)


if __name__ == "__main__":
    main()
