"""The file that vectors are kept in: one value per encoder and document."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.middleware.store import Store, shared

HEAD = struct.Struct("<II16s")  # vectors, numbers in each, digest of the text; the numbers follow


class VectorFile(Store[bytes]):
    """Vectors by a digest of encoder and docno (see ``Store``: written by several processes, whole after a kill)."""

    application = 0x6C6C7678
    format = 1


def vector_file(path: str) -> VectorFile:
    """The vectors in a file, by its absolute path; one for all of a process that ask for it."""
    return shared(VectorFile, path)


def packed(vectors: NDArray[np.float32], of_text: bytes) -> bytes:
    """The vectors of a document, (m, width), with the digest of the text that they were made of, as bytes."""
    return HEAD.pack(*vectors.shape, of_text) + vectors.astype("<f4").tobytes()


def unpacked(value: bytes) -> tuple[NDArray[np.float32], bytes]:
    """What ``packed`` was given."""
    m, width, of_text = HEAD.unpack_from(value)
    numbers = np.frombuffer(value, "<f4", offset=HEAD.size)
    return numbers.reshape(m, width).astype(np.float32, copy=False), of_text
