"""What it costs that documents see one another: a Set-Encoder over 100 documents against its backbone pointwise.

    python tests/benchmarks/set_encoder.py [--shapes minilm,base] [--docs 100] [--device cpu] [--save NAME]

The same random BERT as a ``CrossEncoder``, and with interaction tokens as a ``SetEncoder``; one query, passages of 3 to
200 words. Both go in turns; the ratio is the median of those of each turn (CPU seconds on a CPU).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads would count as CPU time
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import json
import random
import statistics
import tempfile
from pathlib import Path

import torch
from models import clock, save_encoder, save_results, words
from transformers import PreTrainedTokenizerFast

from pyterrier_llmrank import CrossEncoder, Doc, Question, SetEncoder
from pyterrier_llmrank.networks.set_encoder import from_encoder

SHAPES = {"minilm": {"hidden": 384, "layers": 6}, "base": {"hidden": 768, "layers": 12}}


def checkpoints(folder, shape):
    """Paths of a cross-encoder and of a Set-Encoder with the same weights."""
    mono, lists = str(Path(folder) / "mono"), str(Path(folder) / "set")
    save_encoder(mono, **SHAPES[shape])
    PreTrainedTokenizerFast.from_pretrained(mono, cls_token="<cls>", sep_token="<end>").save_pretrained(mono)
    network, tokenizer = from_encoder(mono)
    network.save_pretrained(lists)
    tokenizer.save_pretrained(lists)
    return mono, lists


def question(n, rng):
    """A query and passages, most of 30 to 100 words."""
    texts = [words(int(min(200, max(3, rng.lognormvariate(4.0, 0.6)))), rng) for _ in range(n)]
    return Question(words(8, rng), tuple(Doc(str(i), text) for i, text in enumerate(texts)))


def measure(shape, options):
    """A row of results."""
    with tempfile.TemporaryDirectory() as folder:
        mono, lists = checkpoints(folder, shape)
        told = {"device": options.device, "dtype": options.dtype}
        scorers = {"pointwise": CrossEncoder(mono, **told), "set": SetEncoder(lists, **told)}
        asked = [question(options.docs, random.Random(0))]
        usages = {name: scorer(asked)[0].usage for name, scorer in scorers.items()}  # loads, and tries packed rows
        seconds = {name: [] for name in scorers}
        for _ in range(options.repeat):
            for name, scorer in scorers.items():
                taken = {}
                with clock(taken):
                    scorer(asked)
                seconds[name].append(taken["cpu_s" if options.device == "cpu" else "wall_s"])
    medians = {name: statistics.median(of) for name, of in seconds.items()}
    ratios = [both / alone for both, alone in zip(seconds["set"], seconds["pointwise"], strict=True)]
    row = {"shape": shape, "docs": options.docs, "tokens": usages["set"].prompt_tokens, "dtype": options.dtype}
    row |= {f"{name}_s": round(value, 4) for name, value in medians.items()}
    row |= {"set_over_pointwise": round(statistics.median(ratios), 3), "of_turns": [round(one, 3) for one in ratios]}
    print(json.dumps(row), flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--docs", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--save", metavar="NAME", help="keep the figures under this name")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [measure(shape, options) for shape in options.shapes.split(",")]
    if options.save:
        save_results(options.save, rows)


if __name__ == "__main__":
    main()
