"""Peak memory of scoring 128 prompts of 512 tokens with a vocabulary of 152k, over that of the weights.

    python tests/benchmarks/memory.py [--prompts 128] [--tokens 512] [--save NAME]

Each case runs in a process of its own, in float32 on a CPU, with two layers of Qwen3-0.6B's width: what grows with
prompts and vocabulary is the same as in the whole network. Counted is the highest resident size while scoring, over
that when the network was loaded and had answered one prompt. A tensor of (prompts, tokens, vocabulary) takes 37 GiB.
Target: 1 GiB.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time

VOCABULARY = 151_936
CASES = ("choices", "continuation", "constrained")
GIB = 2**30


def resident():
    """Bytes of this process in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Peak:
    """The highest resident size while it is open, looked at every millisecond."""

    def __enter__(self):
        self.bytes, self._ended = resident(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self):
        while not self._ended.is_set():
            self.bytes = max(self.bytes, resident())
            time.sleep(0.001)

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()


def measure(case, folder, prompts, tokens):
    """Runs one case in this process."""
    from models import words

    from pyterrier_llmrank import HFModel
    from pyterrier_llmrank.core import Message, Prompt
    from pyterrier_llmrank.models import Permutation

    model = HFModel(folder, device="cpu", dtype="float32")
    rng = random.Random(0)
    asked = [Prompt((Message("user", words(tokens, rng)),), raw=True) for _ in range(prompts)]
    labels = (" yes", " no")

    def run(some):
        if case == "choices":
            return model.choices(some, [labels] * len(some))
        if case == "continuation":  # a query's likelihood: as many rows of logits as it has tokens
            return model.continuation(some, [" w1 w2 w3 w4 w5 w6 w7 w8"] * len(some))
        return model.generate(some, max_tokens=8, constraint=Permutation((" w1", " w2", " w3"), between=" w4"))

    run(asked[:1])
    before = resident()
    weights = sum(weight.numel() * weight.element_size() for weight in model._loaded.network.parameters())
    started = time.perf_counter()
    with Peak() as peak:
        run(asked)
    return {
        "case": case,
        "prompts": prompts,
        "tokens": tokens,
        "vocabulary": VOCABULARY,
        "weights_gib": round(weights / GIB, 3),
        "before_gib": round(before / GIB, 3),
        "over_gib": round((peak.bytes - before) / GIB, 3),
        "peak_gib": round(peak.bytes / GIB, 3),
        "wall_s": round(time.perf_counter() - started, 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--case", choices=CASES, help="only this one, in this process")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--save", metavar="NAME", help="keep the figures under this name")
    options = parser.parse_args()
    if options.folder:
        print(json.dumps(measure(options.case, options.folder, options.prompts, options.tokens)))
        return
    from models import save_decoder, save_results

    with tempfile.TemporaryDirectory() as folder:
        save_decoder(folder, hidden=1024, layers=2, heads=16, kv_heads=8, vocabulary=VOCABULARY)
        rows = []
        for case in (options.case,) if options.case else CASES:
            told = [
                "--case",
                case,
                "--folder",
                folder,
                "--prompts",
                str(options.prompts),
                "--tokens",
                str(options.tokens),
            ]
            done = subprocess.run([sys.executable, __file__, *told], check=True, stdout=subprocess.PIPE, text=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(json.dumps(rows[-1]), flush=True)
    if options.save:
        save_results(options.save, rows)


if __name__ == "__main__":
    main()
