"""Time and memory of in-context ranking against its authors' computation, with the same weights and the same prompt.

    python tests/benchmarks/in_context.py [--docs 20,50] [--threads 2] [--repeat 2] [--save NAME]

A random decoder of 12 layers and 64,000 words. (a) Two whole passes of eager attention, for the query and for "N/A",
that return the weights of all pairs of tokens, and logits. (b) The released way: fused attention, keys and values of
all layers kept from one pass for the other, logits at every position, weights of the query's rows computed once more.
Then ours: all heads, and those of the middle layers. Each runs in a process of its own; memory is the peak beyond what
the loaded model takes. (a) is left out above ``--eager`` documents: it would take tens of GB at 50. Ratios are of CPU
seconds, the best of ``--repeat`` runs. Also checks that scores agree.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads would count as CPU time
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import logging
import multiprocessing
import random
import tempfile
from pathlib import Path

import numpy as np
import torch
from models import clock, save_decoder, save_results, words, workload

from pyterrier_llmrank import Attention, Doc, HFModel, InContextPrompt, Question
from pyterrier_llmrank.models.hf.asked import ask
from pyterrier_llmrank.scorers.attention import without_outliers


def question(docs, seed=0):
    """A query of 15 words and passages of about 115, as in ``workload``."""
    rng = random.Random(seed)
    [(_, texts)] = workload(1, docs, query=15, suffix=0, seed=seed)
    return Question(words(15, rng), tuple(Doc(str(place), text) for place, text in enumerate(texts)))


def scorer_of(folder, heads="all"):
    return Attention(HFModel(folder, device="cpu", dtype="float32"), heads, prompt=InContextPrompt(dialect="plain"))


def both(scorer, asked):
    """Prompts of the query and of "N/A", as tokens."""
    scorer.load()
    [(shown, _)] = scorer._shown(scorer.model, [asked])
    return [ask(scorer.model._text, one, one.rows, one.spans) for one in (shown, scorer.prompt.recast(shown, "N/A"))]


def calibrated(signals, spans):
    """Scores in the order of the documents, which were shown the other way round."""
    delta = (signals[0] - signals[1]).double().numpy()
    return np.array([without_outliers(delta[start:end]).sum() for start, end in spans])[::-1]


def eager(scorer, asked):
    """(a)."""
    prompts = both(scorer, asked)
    network = scorer.model._loaded.network
    network.set_attn_implementation("eager")

    def run():
        signals = []
        for one in prompts:
            found = network(input_ids=torch.tensor([one.ids]), use_cache=False, output_attentions=True).attentions
            rows = slice(*one.rows)
            signals.append(sum(layer[0, :, rows].mean(1).sum(0) for layer in found)[: one.rows[0]])
        return calibrated(signals, prompts[0].spans)

    return run


def released(scorer, asked):
    """(b)."""
    from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    prompts = both(scorer, asked)
    network = scorer.model._loaded.network
    kept = []

    def attend(module, query, key, value, mask, scaling=None, **options):
        kept.append((query[:, :, -rows:].clone(), key, scaling))
        return sdpa_attention_forward(module, query, key, value, mask, scaling=scaling, **options)

    AttentionInterface.register("noting", attend)
    AttentionMaskInterface.register("noting", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    network.set_attn_implementation("noting")
    rows = 0

    def signal(n):
        total = 0
        for query, key, scaling in kept:
            keys = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
            scores = query @ keys.transpose(2, 3) * scaling
            unseen = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(scores.shape[-1] - scores.shape[-2] + 1)
            total = total + scores.masked_fill(unseen, float("-inf")).softmax(-1)[0].mean(1).sum(0)[:n]
        kept.clear()
        return total

    def run():
        nonlocal rows
        cache, signals = DynamicCache(config=network.config), []
        for place, one in enumerate(prompts):
            start = one.rows[0]
            rows = len(one.ids) - start
            network(input_ids=torch.tensor([one.ids[start * place :]]), past_key_values=cache, use_cache=True)
            signals.append(signal(start))
            cache.crop(-rows)
        return calibrated(signals, prompts[0].spans)

    return run


def ours(heads):
    def made(scorer, asked):
        from dataclasses import replace

        own = replace(scorer, heads=heads)
        return lambda: own([asked])[0].scores

    return made


VARIANTS = {
    "a: two eager passes": eager,
    "b: as released": released,
    "c: pyterrier_llmrank, all heads": ours("all"),
    "d: pyterrier_llmrank, middle layers": ours("middle"),
}


def memory(field):
    """Resident bytes now (VmRSS) or at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure(name, folder, docs, threads, repeat, out):
    """One variant, in a process of its own."""
    logging.disable()
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    scorer = scorer_of(folder)
    scorer.load()
    VARIANTS[name](scorer, question(2))()  # loads what is loaded on first use
    run = VARIANTS[name](scorer, question(docs))
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, seconds, walls = memory("VmRSS"), [], []
    for _ in range(repeat):
        taken = {}
        with clock(taken):
            scores = run()
        seconds.append(taken["cpu_s"])
        walls.append(taken["wall_s"])
    tokens = len(both(scorer, question(docs))[0].ids)
    out.put((scores, min(seconds), min(walls), memory("VmHWM") - before, tokens))


def told(row):
    return " ".join(
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}" for key, value in row.items()
    )


def compare(folder, docs, options):
    """A row for each variant, with ratios to those before it."""
    processes = multiprocessing.get_context("spawn")
    found, rows = {}, []
    for name in VARIANTS:
        if name.startswith("a") and docs > options.eager:
            continue
        out = processes.Queue()
        process = processes.Process(target=measure, args=(name, folder, docs, options.threads, options.repeat, out))
        process.start()
        scores, cpu, wall, peak, tokens = out.get()
        process.join()
        row = {"docs": docs, "tokens": tokens, "variant": name, "cpu_s": cpu, "wall_s": wall, "extra_mb": peak / 2**20}
        for other, (_, seconds, bytes_) in found.items():
            row |= {f"x_{other[0]}": seconds / cpu, f"memory_of_{other[0]}": peak / bytes_}
        found[name] = scores, cpu, peak
        rows.append(row)
        print(told(row), flush=True)
    whole = [scores for name, (scores, *_) in found.items() if "middle" not in name]
    for scores in whole[1:]:
        np.testing.assert_allclose(scores, whole[0], atol=1e-4)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", default="20,50")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--eager", type=int, default=20, help="documents up to which (a) is run")
    parser.add_argument("--save", metavar="NAME", help="keep the figures under this name")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        save_decoder(folder, vocabulary=64_000)
        rows = [row for docs in map(int, options.docs.split(",")) for row in compare(folder, docs, options)]
    if options.save:
        save_results(options.save, rows)


if __name__ == "__main__":
    main()
