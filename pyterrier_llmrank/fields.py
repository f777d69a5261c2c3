"""What a document holds beside its text: values of further columns."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray


class Vector:
    """Numbers of one document or query that never change; equal to another with the same numbers in the same type.

    Args:
        values: Finite or not, (width,); not copied, and only ever read.
    """

    __slots__ = ("values",)

    values: NDArray[np.floating[Any]]

    def __init__(self, values: NDArray[np.floating[Any]]) -> None:
        self.values = values.view()
        self.values.flags.writeable = False

    def __eq__(self, other: object) -> bool:
        """Same type, same numbers."""
        return isinstance(other, Vector) and self._content == other._content

    def __hash__(self) -> int:
        """Of the numbers."""
        return hash(self._content)

    def __repr__(self) -> str:
        """Its size, and a digest of its numbers that no other vector has."""
        digest = blake2b(self.values.tobytes(), digest_size=16).hexdigest()
        return f"<Vector: {self.values.dtype}, {len(self.values)}, {digest}>"

    @property
    def _content(self) -> tuple[str, bytes]:
        return str(self.values.dtype), self.values.tobytes()


Field: TypeAlias = str | float | Vector
"""What a column of a frame holds of one document; NaN where it holds nothing."""
