"""Seconds of one listwise window, by how its order is read; and what samples of one prompt cost that is read once.

    python tests/benchmarks/windows.py [--docs 20] [--words 100] [--tokens 100] [--threads 1] [--repeat 1] [--save NAME]

A window of 20 passages on a random decoder of 12 layers: the order read from the first token (FIRST), held to a
permutation (of all documents, and of the half that a sliding window carries on), and written freely, to so many tokens
(random weights hardly ever end an answer). Ratios are of CPU seconds in one run, each variant the best of ``--repeat``
runs, taken in turns, without the trial of ways to read that a network passes once. Then eight answers to one prompt on
a smaller decoder, drawn together, against one at a time, where nothing can be shared.
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

import numpy as np
import torch
from models import clock, save_decoder, save_results, words
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pyterrier_llmrank import Doc, HFModel, LLMRankWarning, Prompted, Question
from pyterrier_llmrank.core import Message, Prompt
from pyterrier_llmrank.models import Sampling
from pyterrier_llmrank.prompts import ListPrompt

SAMPLES, SHARED, NEW = 8, 1_500, 16  # answers to one prompt, its tokens, tokens of an answer


def save_spelling(folder):
    """Lets the tokenizer tell identifiers apart: brackets, digits and signs are tokens of their own."""
    from tokenizers import Regex, pre_tokenizers

    tokenizer = AutoTokenizer.from_pretrained(folder)
    inner = tokenizer.backend_tokenizer
    spaces, parts = pre_tokenizers.Split(" ", "removed"), Regex(r"w\d+|\d|[^\w\s]")  # words of texts stay whole
    inner.pre_tokenizer = pre_tokenizers.Sequence([spaces, pre_tokenizers.Split(parts, "isolated")])
    state = json.loads(inner.to_str())
    vocabulary = state["model"]["vocab"]
    signs = [*"[]>,.:?()", *map(str, range(10)), *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    for sign, old in zip(signs, list(vocabulary)[-len(signs) :], strict=True):
        vocabulary[sign] = vocabulary.pop(old)
    inner = type(inner).from_str(json.dumps(state))
    told = {name: getattr(tokenizer, name) for name in ("pad_token", "eos_token", "unk_token", "model_max_length")}
    PreTrainedTokenizerFast(tokenizer_object=inner, **told).save_pretrained(folder)


def saved(folder, **shape):
    """A random decoder on the CPU."""
    save_decoder(folder, **shape)
    save_spelling(folder)
    return HFModel(folder, device="cpu", dtype="float32")


def window(docs, length, seed=0):
    """One query and its documents."""
    rng = random.Random(seed)
    return Question(words(8, rng), tuple(Doc(str(i), words(length, rng)) for i in range(docs)), "q")


def timed(variants, repeat):
    """CPU seconds of each variant, and what it gave."""
    best, given = dict.fromkeys(variants, np.inf), {}
    for _ in range(repeat):
        for name, variant in variants.items():
            seconds = {}
            with clock(seconds):
                given[name] = variant()
            best[name] = min(best[name], seconds["cpu_s"])
    return best, given


def of_windows(model, options):
    """A row per way to read an order."""
    question = window(options.docs, options.words)
    half = options.docs // 2
    scorers = {
        "first": Prompted(ListPrompt("letters"), model),
        "constrained": Prompted(ListPrompt(decode="constrained"), model),
        f"constrained, the first {half}": Prompted(ListPrompt(decode="constrained", top_k=half), model),
        "generated": Prompted(ListPrompt(), model, max_tokens=options.tokens),
    }
    seconds, answers = timed({name: lambda s=s: s([question])[0] for name, s in scorers.items()}, options.repeat)
    rows = []
    for name, answer in answers.items():
        usage = answer.usage
        rows.append({"variant": name, "cpu_s": seconds[name], "x_generated": seconds["generated"] / seconds[name]})
        rows[-1] |= {"prompt_tokens": usage.prompt_tokens, "output_tokens": usage.output_tokens}
        rows[-1] |= {"ordered": int(np.isfinite(answer.scores).sum())}
    return rows


def of_samples(model):
    """A row per way to draw several answers to one prompt."""
    prompt = Prompt((Message("user", words(SHARED, random.Random(1))),), raw=True)
    seeds, told = range(SAMPLES), {"max_tokens": NEW, "sampling": Sampling()}
    variants = {
        "together": lambda: model.generate([prompt] * SAMPLES, seeds=seeds, **told),
        "one at a time": lambda: [model.generate([prompt], seeds=[seed], **told)[0] for seed in seeds],
    }
    seconds, given = timed(variants, 1)
    texts = [[one.text for one in own] for own in given.values()]
    cached = sum(one.usage.cached_tokens for one in given["together"])
    base = seconds["one at a time"]
    return [
        {"variant": f"{SAMPLES} samples {name}", "cpu_s": own, "x_one_at_a_time": base / own}
        | {"cached_tokens": cached if name == "together" else 0, "equal": texts[0] == texts[1]}
        for name, own in seconds.items()
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=int, default=20)
    parser.add_argument("--words", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--save", metavar="NAME", help="keep the figures under this name")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=LLMRankWarning)  # random weights put no mass on identifiers
    torch.set_num_threads(options.threads)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model = saved(f"{folder}/window")
        for prompt in (ListPrompt("letters"), ListPrompt(decode="constrained")):
            Prompted(prompt, model)([window(10, 60)])  # warm up, with the trial that a network passes once
        rows += of_windows(model, options)
        rows += of_samples(saved(f"{folder}/samples", hidden=256, layers=4, heads=4, kv_heads=2))
    print(json.dumps(rows))
    if options.save:
        save_results(options.save, rows)


if __name__ == "__main__":
    main()
