"""Builds an index of 40 documents, four at a time and slowly; run by ``test_crash`` with the index's folder."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from pyterrier_llmrank.dense.building import build


def encode(texts):
    print(texts[0], flush=True)
    time.sleep(0.05)
    return np.array([[float(text), 1.0] for text in texts], dtype=np.float32)


if __name__ == "__main__":
    corpus = ({"docno": f"d{i}", "text": str(i)} for i in range(40))
    build(Path(sys.argv[1]), corpus, encode, encoder="e", text_field="text", chunk=4)
