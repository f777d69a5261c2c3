"""What scorers ask for that read documents as vectors: m vectors of each, from wherever they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Doc, Usage
from pyterrier_llmrank.errors import ConfigurationError


class DocVectors(NamedTuple):
    """The vectors of one document.

    Attributes:
        vectors: (m, width), float32; m is 1 for what pools a text into one vector.
        usage: What it cost to have them.
    """

    vectors: NDArray[np.float32]
    usage: Usage = Usage()


class Candidates(Protocol):
    """Makes vectors of documents, or looks them up."""

    def load(self) -> None:
        """Gets ready to answer; idempotent."""
        ...

    def __call__(self, docs: Sequence[Doc]) -> list[DocVectors]:
        """The vectors of each document, in order; who else is in the call never changes them."""
        ...


def with_width(found: Sequence[DocVectors], width: int, whom: str, m: int | None = None) -> NDArray[np.float32]:
    """All vectors, (documents, m, width).

    Args:
        found: The vectors of each document.
        width: What the reader of the vectors takes.
        whom: Who that is.
        m: Vectors of each document that it takes; any number by default, the same for all.

    Raises:
        ConfigurationError: They have another width, or another or varying number.
    """
    shapes = sorted({one.vectors.shape for one in found})
    wanted = (shapes[0][0] if m is None else m, width)
    if shapes != [wanted]:
        told = ", ".join(f"{number} of {size} numbers" for number, size in shapes)
        most = "the same number of vectors" if m is None else f"{m} vector{'s' * (m > 1)}"
        raise ConfigurationError(
            f"{whom} reads {most} of {width} numbers per document, but got {told}; "
            "give the encoder that it was trained with, and a store of its vectors"
        )
    return np.stack([one.vectors for one in found])
