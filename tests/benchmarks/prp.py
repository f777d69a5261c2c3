"""PRP over all pairs of 20 documents: tokens that are computed, and CPU seconds against one prompt at a time.

    python tests/benchmarks/prp.py [--docs 20] [--layers 6] [--threads 2] [--save NAME]

Both orders of each pair are one prompt each, and documents have about 60 words. Prompts of a first document begin
alike, so that instruction, query and that document are computed once. The loop runs one prompt at a time and computes
logits at every position. Both read the same tokens of the same random weights; asserts that they score alike.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads would count as CPU time
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import json
import random
import tempfile
from itertools import permutations

import numpy as np
import torch
from models import clock, save_decoder, save_results, words

from pyterrier_llmrank import HFModel
from pyterrier_llmrank.core import Message, Prompt

LABELS = (" w100", " w101")  # one token each


def prompts_of(docs):
    """Every ordered pair of documents of a query, as a text."""
    rng = random.Random(0)
    head, query, tail = words(40, rng), words(8, rng), words(20, rng)
    texts = [words(int(min(150, max(20, rng.gauss(60, 25)))), rng) for _ in range(docs)]
    between = words(4, rng)
    return [f"{head} {query} {one} {between} {other} {tail}" for one, other in permutations(texts, 2)]


def one_at_a_time(folder, texts):
    """The labels' log-odds, by a loop over prompts."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    first, second = tokenizer.convert_tokens_to_ids([label.strip() for label in LABELS])
    scores = []
    with torch.inference_mode():
        for text in texts:
            last = network(tokenizer(text, return_tensors="pt").input_ids).logits[0, -1].float()
            scores.append((last[first] - last[second]).item())
    return np.array(scores)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=int, default=20)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save", metavar="NAME", help="keep the figures under this name")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    texts = prompts_of(options.docs)
    loop, own = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        save_decoder(folder, layers=options.layers)
        model = HFModel(folder, device="cpu", dtype="float32")
        prompts = [Prompt((Message("user", text),), raw=True) for text in texts]
        model.choices(prompts[:8], [LABELS] * 8)  # loads, and checks that packed rows are exact
        with clock(own):
            answers = model.choices(prompts, [LABELS] * len(prompts))
        with clock(loop):
            theirs = one_at_a_time(folder, texts)
    ours = np.array([answer.logprobs[0] - answer.logprobs[1] for answer in answers])
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    tokens = sum(answer.usage.prompt_tokens for answer in answers)
    cached = sum(answer.usage.cached_tokens for answer in answers)
    result = {
        "documents": options.docs,
        "prompts": len(texts),
        "tokens": tokens,
        "computed": (tokens - cached) / tokens,
        "loop_cpu_s": loop["cpu_s"],
        "cpu_s": own["cpu_s"],
        "x_loop": loop["cpu_s"] / own["cpu_s"],
    }
    print(json.dumps(result))
    if options.save:
        save_results(options.save, result)


if __name__ == "__main__":
    main()
