"""MiniLM encodes a collection: ``DenseEncoder`` against sentence-transformers on equal weights, in turns.

    python tests/benchmarks/encoding.py [--docs 11429] [--chunk 2048] [--threads 1] [--batch 32] [--save NAME]

Vaswani's documents, of which ``--docs`` are drawn with a fixed seed. Both get the same chunks, sort them by length, and
take turns in going first; ``ratio`` is sentence-transformers' CPU time by ours (target: at least 1). Peak memory is
that of a process of its own for each, over what it holds before it encodes. Needs ../shared/data and the weights of
``pyterrier_llmrank.demo``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads would count as CPU time
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from models import clock, save_results

from pyterrier_llmrank.demo.minilm import minilm

DOCS = Path(__file__).resolve().parents[3] / "shared" / "data" / "vaswani" / "docs.jsonl.gz"
WARM = ["a text to begin with"] * 40  # what is decided once is decided before


def collection(n):
    """Texts of ``n`` documents, in a random order that is the same every time."""
    with gzip.open(DOCS, "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    random.Random(0).shuffle(texts)
    return texts[:n]


def ours(batch):
    from pyterrier_llmrank.dense import DenseEncoder

    return DenseEncoder(minilm().name, device="cpu").encode_docs


def theirs(batch):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(minilm().name, device="cpu")
    return lambda texts: model.encode_document(texts, batch_size=batch, show_progress_bar=False)


WHO = {"ours": ours, "theirs": theirs}


def memory_of(name):
    """Memory of this process, MiB: ``VmRSS`` now, ``VmHWM`` at its highest since it was forgotten (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(name)


def alone(who, options):
    """Peak memory of one of the two over what it held before, MiB, in this process."""
    encode = WHO[who](options.batch)
    encode(WARM)
    texts = collection(options.docs)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the highest so far, that of loading
    before = memory_of("VmRSS")
    for start in range(0, options.docs, options.chunk):
        encode(texts[start : start + options.chunk])
    print(json.dumps({"before_mib": before, "over_mib": memory_of("VmHWM") - before}))


def measured(options):
    """Seconds of both, and how far apart their vectors are."""
    texts = collection(options.docs)
    encoders = {who: make(options.batch) for who, make in WHO.items()}
    for encode in encoders.values():
        encode(WARM)
    seconds = {who: {"cpu_s": 0.0, "wall_s": 0.0} for who in WHO}
    apart = 0.0
    for turn, start in enumerate(range(0, len(texts), options.chunk)):
        chunk, made = texts[start : start + options.chunk], {}
        for who in list(WHO)[:: 1 if turn % 2 else -1]:
            spent = {}
            with clock(spent):
                made[who] = encoders[who](chunk)
            for name, value in spent.items():
                seconds[who][name] += value
        apart = max(apart, float(np.abs(made["ours"] - made["theirs"]).max()))
    assert apart < 1e-5, apart
    return seconds, apart


def memory(who):
    """What a process of its own says."""
    told = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--alone", who], capture_output=True, check=True)
    return json.loads(told.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=int, default=11_429)
    parser.add_argument("--chunk", type=int, default=2_048)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32, help="texts in a batch of sentence-transformers")
    parser.add_argument("--save", metavar="NAME", help="keep the figures under this name")
    parser.add_argument("--alone", choices=[*WHO], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.alone:
        alone(options.alone, options)
        return
    seconds, apart = measured(options)
    row = {"docs": options.docs, "chunk": options.chunk, "batch": options.batch, "largest_difference": apart}
    for who in WHO:
        row |= {f"{who}_{name}": value for name, value in seconds[who].items()}
        row |= {f"{who}_docs_per_cpu_s": options.docs / seconds[who]["cpu_s"]}
        row |= {f"{who}_{name}": value for name, value in memory(who).items()}
    row["ratio"] = row["theirs_cpu_s"] / row["ours_cpu_s"]
    print(json.dumps(row))
    if options.save:
        save_results(options.save, [row])


if __name__ == "__main__":
    main()
