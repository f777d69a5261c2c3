"""What scorers read of documents' fields: numbers and vectors, refused with the document's name where they are not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Doc, Question
from pyterrier_llmrank.errors import InputError
from pyterrier_llmrank.fields import Vector


def vectors(question: Question, names: Sequence[str]) -> NDArray[np.float64]:
    """Fields of each document side by side, (docs, width); a number is one wide.

    Raises:
        InputError: A document lacks a field, one is text or not finite, or not all have the same width.
    """
    rows = [_row(question, doc, names) for doc in question.docs]
    for doc, row in zip(question.docs, rows, strict=True):
        if len(row) != len(rows[0]):
            first = question.docs[0]
            raise InputError(
                f"{' and '.join(map(repr, names))} of query {question.qid!r} have {len(rows[0])} numbers for document "
                f"{first.docno} and {len(row)} for document {doc.docno}; all documents need the same ones"
            )
    return np.stack(rows) if rows else np.empty((0, 0))


def _row(question: Question, doc: Doc, names: Sequence[str]) -> NDArray[np.float64]:
    """Fields of one document side by side."""
    held = dict(doc.fields)
    parts = []
    for name in names:
        value = held.get(name)
        if value is None or isinstance(value, str):
            found = "nothing" if value is None else f"the text {value!r:.40}"
            raise InputError(f"document {doc.docno} of query {question.qid!r} has {found} in {name!r}; give numbers")
        part = np.atleast_1d(value.values if isinstance(value, Vector) else value).astype(np.float64)
        if not np.isfinite(part).all():
            raise InputError(
                f"{name!r} of document {doc.docno} of query {question.qid!r} is not finite ({part}); fill it in, or "
                "drop the document"
            )
        parts.append(part)
    return np.concatenate(parts)
