"""Documents per second of pointwise yes/no scoring, against two ways of doing the same with the same weights.

    python tests/benchmarks/pointwise.py [--queries 4] [--docs 100] [--threads 2] [--device cpu] [--bf16]
        [--prefix 0] [--save NAME]

(a) one prompt at a time, full logits; (b) sentence-transformers' CrossEncoder.predict (left padding, logits of the
last position), its batch size set to the same tokens per batch. Ratios are of CPU seconds in one run, each variant
the best of ``--repeat`` runs, taken in turns. Also asserts that all of them give the same scores. With ``--prefix 400``
all prompts begin with as many tokens more, as solved examples would, and (b) is the library's own way in plain batches,
where nothing that prompts share is computed once.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads would count as CPU time
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import random
import tempfile
import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from models import clock, save_decoder, save_results, words, workload

from pyterrier_llmrank import Doc, Evidence, HFModel, LLMRankWarning, Prompted, Question
from pyterrier_llmrank.core import Message, Prompt


@dataclass(frozen=True)
class Raw:
    """Query and passage as they are; the same tokens for every variant."""

    gives = Evidence.SCORE
    max_docs = 1
    asks = "choices"

    def render(self, query, texts):
        return Prompt((Message("user", f"{query} {texts[0]}"),), raw=True)

    def options(self, n):
        return (" yes", " no")

    def read(self, logprobs, n):
        return logprobs[:1] - logprobs[1:]


def one_at_a_time(folder, dtype, device):
    """(a): a loop over prompts, logits at every position."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])

    @torch.inference_mode()
    def score(pairs):
        scores = []
        for query, text in pairs:
            ids = tokenizer(f"{query} {text}", return_tensors="pt").input_ids.to(device)
            last = network(ids).logits[0, -1].float()
            scores.append((last[yes] - last[no]).item())
        return np.array(scores)

    return score


def cross_encoder(folder, dtype, device, batch_size):
    """(b): sentence-transformers, which reads the same two tokens of the same weights."""
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(folder, device=device, model_kwargs={"dtype": dtype})
    return lambda pairs: model.predict(pairs, batch_size=batch_size, activation_fn=torch.nn.Identity())


def ours(folder, dtype, device, batch_tokens, *, packed=True):
    """The library, through the scorer that pipelines use; or in plain batches, which share nothing."""
    model = HFModel(folder, dtype=str(dtype).removeprefix("torch."), device=device, batch_tokens=batch_tokens)
    scorer = Prompted(Raw(), model)
    scorer.load()

    def score(pairs):
        by_query = {}
        for query, text in pairs:
            by_query.setdefault(query, []).append(Doc("", text))
        if not packed:
            model._loaded.packs.update({(False, "ends"): False, (False, None): False})
        answers = scorer([Question(query, tuple(docs)) for query, docs in by_query.items()])
        if not packed:
            model._loaded.packs.clear()
        return np.concatenate([answer.scores for answer in answers])

    return score


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=4)
    parser.add_argument("--docs", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="also in bfloat16")
    parser.add_argument("--prefix", type=int, default=0, help="tokens that all prompts begin with")
    parser.add_argument("--batch-tokens", type=int, default=None)
    parser.add_argument("--save", metavar="NAME", help="keep the figures under this name")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=LLMRankWarning)  # random weights put no mass on yes and no
    torch.set_num_threads(options.threads)
    start = f"{words(options.prefix, random.Random(1))} " if options.prefix else ""
    pairs = [(start + q, text) for q, texts in workload(options.queries, options.docs) for text in texts]
    tokens = sum(len(f"{q} {text}".split()) for q, text in pairs)
    budget = options.batch_tokens or (2_048 if options.device == "cpu" else 16_384)
    batch_size = max(1, budget * len(pairs) // tokens)
    print(f"{len(pairs)} prompts of {tokens / len(pairs):.0f} tokens; {budget} a batch (batch size {batch_size})")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        save_decoder(folder)
        for dtype in [torch.float32, torch.bfloat16][: 1 + options.bf16]:
            own = partial(ours, folder, dtype, options.device, options.batch_tokens)
            if options.prefix:
                second = {"b: plain batches": own(packed=False)}
            else:
                second = {"b: sentence-transformers": cross_encoder(folder, dtype, options.device, batch_size)}
            first = {"a: one at a time": one_at_a_time(folder, dtype, options.device)}
            variants = {**first, **second, "pyterrier_llmrank": own()}
            results += measure(variants, pairs, dtype, options)
    if options.save:
        save_results(options.save, results)


def measure(variants, pairs, dtype, options):
    """A row per variant, with ratios to (a) and (b)."""
    rows = {name: {"variant": name, "dtype": str(dtype).removeprefix("torch."), "cpu_s": np.inf} for name in variants}
    scores = {}
    for score in variants.values():
        score(pairs[:8])  # warm up
    for _ in range(options.repeat):
        for name, score in variants.items():
            seconds = {}
            with clock(seconds):
                scores[name] = score(pairs)
                if options.device.startswith("cuda"):
                    torch.cuda.synchronize()
            if seconds["cpu_s"] < rows[name]["cpu_s"]:
                rows[name] |= seconds
    first, second, mine = scores.values()
    if dtype is torch.float32:
        np.testing.assert_allclose(mine, first, atol=1e-4)
        np.testing.assert_allclose(second, first, atol=1e-4)
    base_a, base_b, _ = rows.values()
    key = "cpu_s" if options.device == "cpu" else "wall_s"
    for row in rows.values():
        row |= {"docs_per_s": len(pairs) / row["wall_s"], "x_a": base_a[key] / row[key], "x_b": base_b[key] / row[key]}
        print(
            f"{row['dtype']:9} {row['variant']:26} {row['docs_per_s']:7.2f} docs/s  wall {row['wall_s']:6.1f} s  "
            f"CPU {row['cpu_s']:6.1f} s  x a {row['x_a']:.2f}  x b {row['x_b']:.2f}"
        )
    return list(rows.values())


if __name__ == "__main__":
    main()
