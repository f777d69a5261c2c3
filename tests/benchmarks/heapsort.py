"""Seconds a query of PRP- and setwise-heapsort, against llm-rankers with the same weights, prompts and documents.

    python tests/benchmarks/heapsort.py [--queries 43] [--docs 100] [--top-k 10] [--threads 2] [--save NAME]

llm-rankers (0.0.2, its own code: ``pip install llm-rankers tiktoken``) asks one comparison after the other and writes a
token for each answer; here all queries and all nodes of a level are asked together, the labels' logits are read from
one pass, what prompts begin with is computed once, and no set of documents is asked about twice. As many queries as
DL19 has, of 100 passages of 3 to 200 words, sorted as far as the best 10; pairs in both orders, and sets of 4. A random
Llama (``--hidden``, ``--layers``) whose head answers nothing but the letters asked for, in float32 on the CPU. Its
prompts are the same, token by token; "alike" is the share of queries with the same best documents in the same order
(of pairs that are a tie, the one that came first on input goes up here, and the parent there). The smaller a network,
the more the overhead of single calls counts, and the larger the ratio.
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

import pandas as pd
import torch
from models import VOCABULARY, clock, save_results, save_tokenizer, words
from windows import save_spelling

from pyterrier_llmrank import BothOrders, Heapsort, HFModel, LLMRankWarning, Prompted, Rerank
from pyterrier_llmrank.presets.pairwise import PRP
from pyterrier_llmrank.presets.sets import SETWISE
from pyterrier_llmrank.prompts import OneMessage, PairPrompt, SetPrompt
from pyterrier_llmrank.prompts.passages import VERBATIM

BEGUN = " Passage:"  # how llm-rankers begins the answer of a Llama
CHILDREN = 3
TEMPLATE = "{% for turn in messages %}{{ turn.content }}{% endfor %}{% if add_generation_prompt %} w7{% endif %}"
LETTERS = {"pairs": "AB", "sets": "ABCD"}


def save_llama(folder, letters, hidden, layers):
    """Writes a random Llama whose likeliest next token is one of some letters, whatever it reads."""
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
        initializer_range=0.1,
        pad_token_id=0,
        eos_token_id=1,
    )
    network = LlamaForCausalLM(config)
    ids_of_letters = tokenizer.convert_tokens_to_ids(list(letters))
    with torch.no_grad():
        ids = torch.randint(6, VOCABULARY - 100, (64, 40))
        ids[:, -5:] = ids[0, -5:]  # prompts end alike
        usual = network.model(ids).last_hidden_state[:, -1].mean(0)
        head = torch.zeros_like(network.lm_head.weight)
        head[ids_of_letters] = torch.randn(len(letters), hidden) + 20 * usual / usual.norm()
        network.lm_head.weight.copy_(head)
    network.save_pretrained(folder)


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


def of_llm_rankers(kind, folder, frame, top_k):
    """Docnos of each query, best first, and the comparisons made."""
    from llmrankers.pairwise import PairwiseLlmRanker
    from llmrankers.rankers import SearchResult
    from llmrankers.setwise import SetwiseLlmRanker

    if kind == "pairs":
        ranker = PairwiseLlmRanker(folder, None, "cpu", method="heapsort", k=top_k)
    else:
        ranker = SetwiseLlmRanker(folder, None, "cpu", num_child=CHILDREN, k=top_k, method="heapsort")

    def rank():
        found, asked = {}, 0
        for qid, group in frame.groupby("qid", sort=False):
            docs = [SearchResult(one.docno, one.score, one.text) for one in group.itertuples()]
            found[qid] = [one.docid for one in ranker.rerank(group["query"].iloc[0], docs)][:top_k]
            asked += ranker.total_compare * (2 if kind == "pairs" else 1)
        return found, asked

    return rank


def of_ours(kind, folder, frame, top_k):
    """The same of the library."""
    model = HFModel(folder, device="cpu", dtype="float32")
    if kind == "pairs":
        prompt = PairPrompt("choices", PRP, (" A", " B"), answer=BEGUN, passage=VERBATIM, question=VERBATIM)
        reranker = Rerank(Heapsort(2), BothOrders(Prompted(prompt, model)), top_k=top_k)
    else:
        layout = OneMessage(
            SETWISE.template, document=SETWISE.document, identifier=" {label}", answer=BEGUN, passage=VERBATIM
        )
        reranker = Rerank(Heapsort(CHILDREN + 1), Prompted(SetPrompt(layout=layout), model), top_k=top_k)
    model.load()

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
    for kind, letters in LETTERS.items():
        with tempfile.TemporaryDirectory() as folder:
            save_llama(folder, letters, options.hidden, options.layers)
            row = {"kind": kind, "queries": options.queries, "documents": options.docs}
            for name, make in (("llm_rankers", of_llm_rankers), ("ours", of_ours)):
                rank, seconds = make(kind, folder, frame, options.top_k), {}
                with clock(seconds):
                    found, asked = rank()
                row |= {f"{name}_{key}_a_query": value / options.queries for key, value in seconds.items()}
                row |= {f"{name}_prompts": asked, name: found}
            theirs, ours = row.pop("llm_rankers"), row.pop("ours")
            row["alike"] = sum(theirs[qid] == ours[qid] for qid in ours) / len(ours)
            for key in ("wall_s", "cpu_s"):
                row[f"x_{key}"] = row[f"llm_rankers_{key}_a_query"] / row[f"ours_{key}_a_query"]
            rows.append(row)
            print(json.dumps(row), flush=True)
    if options.save:
        save_results(options.save, rows)


if __name__ == "__main__":
    main()
