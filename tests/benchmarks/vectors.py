"""PE-Rank over one query's passages with vectors encoded for every window, remembered between windows, or looked up.

    python tests/benchmarks/vectors.py [--docs 60] [--window 20] [--stride 10] [--threads 2] [--repeat 2]
        [--save NAME]

A random decoder of 85 M parameters without its embeddings, an encoder of MiniLM's shape (11 M), passages of 115 words.
The first variant does what the official code does: it encodes each window's passages. All three give the same order.
CPU seconds are the least of ``--repeat`` runs, taken in turns. The checkpoint's own
proportions are 7 B to 0.1 B, so that shares there are others; the encodings saved are the same.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads would count as CPU time
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
import transformers
from models import clock, save_encoder, save_results, save_tokenizer, workload

from pyterrier_llmrank import CandidateEncoder, Doc, Rerank, SlidingWindow, Stored
from pyterrier_llmrank.networks.pe_rank import EmbedMistralConfig, projector
from pyterrier_llmrank.prompts.embedded import PLACEHOLDER
from pyterrier_llmrank.scorers import PERank
from pyterrier_llmrank.vectors import Remembered

VOCABULARY, ENCODER = 32_000, 384


@dataclass(frozen=True)
class Forgetful(Remembered):
    """Encodes whatever is asked, every time."""

    def __call__(self, docs):
        return self.encoder(docs)


def save_pe_rank(folder, *, hidden=768, layers=12):
    """Writes a random PE-Rank checkpoint of a small Mistral's shape."""
    torch.manual_seed(0)
    config = EmbedMistralConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 192,
        intermediate_size=3 * hidden,
        vocab_size=VOCABULARY + 1,
        max_position_embeddings=32_768,
        sliding_window=None,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        embedding_size=ENCODER,
        projector_type="mlp2x_gelu",
        encoder_name="encoder",
        encoder_pooling="mean",
    )
    network = transformers.AutoModelForCausalLM.from_config(config)
    network.model.projector = projector(config)
    network.save_pretrained(folder)
    save_tokenizer(folder, VOCABULARY)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": [PLACEHOLDER]})
    tokenizer.save_pretrained(folder)


def measure(folder, options):
    """A row per variant."""
    [(query, texts)] = workload(1, options.docs, instruction=0)
    frame = pd.DataFrame({"qid": "q", "query": query, "docno": [f"d{i}" for i in range(len(texts))], "text": texts})
    frame["rank"] = range(len(texts))
    encoder = CandidateEncoder(str(folder / "encoder"), max_length=512, device="cpu", dtype="float32")
    stored = Stored(encoder, folder / "vectors.sqlite")
    stored.fill(Doc(row.docno, row.text) for row in frame.itertuples())
    variants = {
        "encoded for every window": lambda: Forgetful(encoder),
        "remembered between windows": lambda: Remembered(encoder),
        "looked up": lambda: stored,
    }
    best, orders = {}, set()
    for name in [*variants] * options.repeat:
        scorer = PERank(str(folder / "pe_rank"), vectors=variants[name](), device="cpu", dtype="float32")
        scorer.load()
        strategy, seconds = SlidingWindow(options.window, options.stride), {}
        rerank = Rerank(strategy, scorer)
        with clock(seconds):
            out = rerank(frame)
        orders.add(tuple(out.sort_values("rank")["docno"]))
        usage, windows = rerank.ledger["q"].usage, strategy.cost(len(frame), len(frame)).calls
        row = {"variant": name, **seconds, "windows": windows, "encoded": usage.calls - windows}
        row["prompt_tokens"] = usage.prompt_tokens
        best[name] = min(best.get(name, row), row, key=lambda one: one["cpu_s"])
    assert len(orders) == 1
    first = best["encoded for every window"]["cpu_s"]
    return [{**row, "x": first / row["cpu_s"]} for row in best.values()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=int, default=60)
    parser.add_argument("--window", type=int, default=20)
    parser.add_argument("--stride", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--save", metavar="NAME", help="keep the figures under this name")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_pe_rank(folder / "pe_rank")
        save_encoder(folder / "encoder", hidden=ENCODER, layers=6)
        rows = measure(folder, options)
    print(json.dumps(rows))
    if options.save:
        save_results(options.save, rows)


if __name__ == "__main__":
    main()
