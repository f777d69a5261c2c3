"""Makes llmrank-nano: data, tokenizer, first weights, training.

    python tests/benchmarks/nano_making --shared ../shared --work /tmp/nano [STAGE ...]

Stages, in this order, each of which is left out where its file is there already: ``texts``, ``vectors`` (by MiniLM),
``candidates``, ``tokenizer``, ``weights``, ``train``, ``pack``. Vectors and training go on where they were
stopped, and use a GPU where there is one; on a CPU core training takes more than an hour. Reads medquad_pairs, xquad_en
and arguana_text alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import candidates
import starting
import texts
import tokens
import training

STAGES = {
    "texts": (texts.write, "texts.json"),
    "vectors": (candidates.encode, "passages.npy"),
    "candidates": (candidates.write, "lists.json"),
    "tokenizer": (tokens.write, "first/tokenizer.json"),
    "weights": (starting.write, "first/model.safetensors"),
    "train": (training.run, "trained/model.safetensors"),
    "pack": (training.pack, "weights/model.safetensors"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", choices=[[], *STAGES], default=[])
    parser.add_argument("--shared", type=Path, required=True, help="the folder that holds data/")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--rate", type=float, default=7e-4)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    for name in options.stages or STAGES:
        stage, made = STAGES[name]
        if options.stages or not (options.work / made).exists():
            print(f"stage {name}", flush=True)
            stage(options)


if __name__ == "__main__":
    main()
