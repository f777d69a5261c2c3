"""Fills files of vectors in processes of their own, for a test that kills them.

    python filling.py

Reads folders from standard input. For each it starts a process, tells its id, and tells its exit status once it is
dead. The process writes to the folder: ``asked`` and ``kept``, a line for each document as it is encoded and as its
vectors are in the file.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.vectors import DocVectors, Stored

DOCS, CHUNK = 120, 4
CORPUS = [Doc(f"d{place}", f"text {place}") for place in range(DOCS)]


def note(path, docs):
    """Adds a line for each document, in one write: it is in the file, whatever happens next."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, "".join(f"{doc.docno}\n" for doc in docs).encode())
    os.close(file)


def vectors(doc):
    """Two vectors that no other document has."""
    return np.arange(2 * 64, dtype=np.float32).reshape(2, 64) + int(doc.docno[1:])


@dataclass(frozen=True)
class Slow:
    """Encodes at leisure."""

    folder: str

    def identity(self):
        return "slow"

    def load(self):
        pass

    def __call__(self, docs):
        note(f"{self.folder}/asked", docs)
        time.sleep(0.002 * len(docs))
        return [DocVectors(vectors(doc)) for doc in docs]


def run(folder):
    """Fills a file, and notes what is in it."""
    source = Stored(Slow(str(folder)), folder / "vectors.sqlite")
    for start in range(0, DOCS, CHUNK):
        some = CORPUS[start : start + CHUNK]
        source.fill(some, CHUNK)
        note(folder / "kept", some)


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()  # what was imported is there already
        if not child:
            run(Path(line.strip()))
            os._exit(0)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)
