"""Seconds a query of PRP- and setwise-heapsort, against llm-rankers with the same weights, prompts and documents.

    python tests/benchmarks/heapsort.py [--queries 43] [--docs 100] [--top-k 10] [--threads 2] [--save NAME]

llm-rankers (0.0.2, its own code: ``pip install llm-rankers tiktoken``) asks one comparison after the other and writes a
token for each answer; here all queries and all nodes of a level are asked together, the labels' logits are read from
one pass, what prompts begin with is computed once, and no set of documents is asked about twice. As many queries as
DL19 has, of 100 passages of 3 to 200 words, sorted as far as the best 10; pairs in both orders, and sets of 4. A random
Llama (``--hidden``, ``--layers``), in float32 on the CPU. Both read the same prompts, token by token; which document
wins is then told by grades, since a random network's answers would mostly be ties. Asserts that both end with the same
best documents. The smaller a network, the more the overhead of single calls counts, and the larger the ratio.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads would count as CPU time
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import json
import random
import tempfile
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO

import numpy as np
import pandas as pd
import torch
from models import VOCABULARY, clock, save_results, save_tokenizer, words
from windows import save_spelling

from pyterrier_llmrank import Answer, BothOrders, Evidence, Heapsort, HFModel, LLMRankWarning, Prompted, Rerank
from pyterrier_llmrank.presets.pairwise import PRP
from pyterrier_llmrank.presets.sets import SETWISE
from pyterrier_llmrank.prompts import OneMessage, PairPrompt, SetPrompt
from pyterrier_llmrank.prompts.passages import VERBATIM

BEGUN = " Passage:"  # how llm-rankers begins the answer of a Llama
CHILDREN = 3
TEMPLATE = "{% for turn in messages %}{{ turn.content }}{% endfor %}{% if add_generation_prompt %} w7{% endif %}"
KINDS = ("pairs", "sets")


@dataclass(frozen=True)
class Graded:
    """A scorer that asks another one, and then lets the best document win."""

    scorer: object
    grades: dict[str, float] = field(compare=False)
    max_docs = None
    gives = Evidence.CHOICE

    def load(self):
        self.scorer.load()

    def __call__(self, questions):
        answers = self.scorer(questions)
        graded = [np.array([self.grades[doc.text] for doc in question.docs]) for question in questions]
        return [Answer((own == own.max()) * 1.0, told.usage) for own, told in zip(graded, answers, strict=True)]


def save_llama(folder, hidden, layers):
    """Writes a random Llama and its tokenizer."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    save_tokenizer(folder, VOCABULARY)
    save_spelling(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        intermediate_size=3 * hidden,
        vocab_size=VOCABULARY,
        pad_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def first_stage(queries, docs):
    """Queries with their documents, best first."""
    rng = random.Random(0)
    rows = []
    for number in range(queries):
        query = words(8, rng)
        for place in range(docs):
            text = words(int(min(200, max(3, rng.lognormvariate(4.0, 0.4)))), rng)
            rows.append((f"q{number}", query, f"{number}-{place}", text, -float(place), place))
    return pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "score", "rank"])


def graded(kind, grades):
    """A ranker of llm-rankers that asks its network, and then lets the best document win."""
    from llmrankers.pairwise import PairwiseLlmRanker
    from llmrankers.setwise import SetwiseLlmRanker

    class Pairs(PairwiseLlmRanker):
        def compare(self, query, docs):
            super().compare(query, docs)
            first, second = (grades[text] for text in docs)
            return ["Passage A", "Passage B"] if first > second else ["Passage B", "Passage A"]

    class Sets(SetwiseLlmRanker):
        def compare(self, query, docs):
            super().compare(query, docs)
            return self.CHARACTERS[int(np.argmax([grades[doc.text] for doc in docs]))]

    return {"pairs": Pairs, "sets": Sets}[kind]


def of_llm_rankers(kind, folder, frame, grades, top_k):
    """What gives docnos of each query, best first, and the number of prompts."""
    from llmrankers.rankers import SearchResult

    options = {"method": "heapsort", "k": top_k} | ({"num_child": CHILDREN} if kind == "sets" else {})
    ranker = graded(kind, grades)(folder, None, "cpu", **options)

    def rank():
        found, asked = {}, 0
        for qid, group in frame.groupby("qid", sort=False):
            docs = [SearchResult(one.docno, one.score, one.text) for one in group.itertuples()]
            with redirect_stdout(StringIO()):  # it prints every answer that is no letter
                found[qid] = [one.docid for one in ranker.rerank(group["query"].iloc[0], docs)][:top_k]
            asked += ranker.total_compare * (2 if kind == "pairs" else 1)
        return found, asked

    return rank


def of_ours(kind, folder, frame, grades, top_k):
    """The same of the library."""
    model = HFModel(folder, device="cpu", dtype="float32")
    if kind == "pairs":
        prompt = PairPrompt("choices", PRP, (" A", " B"), answer=BEGUN, passage=VERBATIM, question=VERBATIM)
        scorer, strategy = BothOrders(Prompted(prompt, model)), Heapsort(2)
    else:
        layout = OneMessage(
            SETWISE.template, document=SETWISE.document, identifier=" {label}", answer=BEGUN, passage=VERBATIM
        )
        scorer, strategy = Prompted(SetPrompt(layout=layout), model), Heapsort(CHILDREN + 1)
    reranker = Rerank(strategy, Graded(scorer, grades), top_k=top_k)
    reranker(frame[frame["qid"] == frame["qid"].iloc[0]].head(6))  # loads, and checks that packed rows are exact

    def rank():
        result = reranker(frame)
        asked = sum(entry.usage.calls for entry in reranker.ledger.values())
        ranked = result.sort_values("rank").groupby("qid")["docno"]
        return {qid: [*docnos][:top_k] for qid, docnos in ranked}, asked

    return rank


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=43)
    parser.add_argument("--docs", type=int, default=100)
    parser.add_argument("--top-k", type=int, default=10)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save", metavar="NAME", help="keep the figures under this name")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=LLMRankWarning)
    torch.set_num_threads(options.threads)
    frame, rows = first_stage(options.queries, options.docs), []
    rng = random.Random(1)
    grades = {text: rng.random() for text in frame["text"]}
    with tempfile.TemporaryDirectory() as folder:
        save_llama(folder, options.hidden, options.layers)
        for kind in KINDS:
            row, found = {"kind": kind, "queries": options.queries, "documents": options.docs}, []
            for name, make in (("llm_rankers", of_llm_rankers), ("ours", of_ours)):
                rank, seconds = make(kind, folder, frame, grades, options.top_k), {}
                with clock(seconds):
                    best, asked = rank()
                found.append(best)
                row |= {f"{name}_{key}_a_query": value / options.queries for key, value in seconds.items()}
                row[f"{name}_prompts"] = asked
            assert found[0] == found[1]
            for key in ("wall_s", "cpu_s"):
                row[f"x_{key}"] = row[f"llm_rankers_{key}_a_query"] / row[f"ours_{key}_a_query"]
            rows.append(row)
            print(json.dumps(row), flush=True)
    if options.save:
        save_results(options.save, rows)


if __name__ == "__main__":
    main()
