"""Vectors of queries and documents: from an encoder, from any function of texts, or from columns of the frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Question, Usage, brief
from pyterrier_llmrank.errors import ConfigurationError, InputError

from .columns import vectors

Floats: TypeAlias = NDArray[np.float64]

Encoder: TypeAlias = Any
"""A ``BiEncoder``, a function from texts to vectors (texts, width), or ``VectorColumns()``."""


class Embedded(NamedTuple):
    """The vectors of one question.

    Attributes:
        query: (width,).
        docs: (docs, width).
        usage: What they cost; a text that several questions share is charged to the first of them.
    """

    query: Floats
    docs: Floats
    usage: Usage


@dataclass(frozen=True, repr=False)
class VectorColumns:
    """Vectors that are in the frame already, as pyterrier_dr puts them there.

    Args:
        query: Column of the query's vector, on every row.
        doc: Column of the document's vector.
    """

    query: str = "query_vec"
    doc: str = "doc_vec"

    __repr__ = brief

    @property
    def reads(self) -> tuple[str, ...]:
        """Both columns."""
        return (self.query, self.doc)

    def embedded(self, question: Question) -> Embedded:
        """The vectors of a question's documents, and of its query as its first document has it.

        Raises:
            InputError: One is missing, not finite, or of another width.
        """
        docs = vectors(question, (self.doc,))
        query = vectors(question._replace(docs=question.docs[:1]), (self.query,))
        return Embedded(query.reshape(-1), docs, Usage(calls=0))


def check_encoder(owner: str, encoder: object) -> None:
    """Whether it makes vectors.

    Raises:
        ConfigurationError: It does not.
    """
    if not callable(encoder) and not isinstance(encoder, VectorColumns):
        raise ConfigurationError(
            f"{owner} takes vectors from BiEncoder(name), a function of texts, or VectorColumns(), got {encoder!r}"
        )


def columns_of(encoder: Encoder) -> tuple[str, ...]:
    """What is read of a document to have its vector."""
    return encoder.reads if isinstance(encoder, VectorColumns) else ("text",)


def embedded(encoder: Encoder, questions: Sequence[Question]) -> list[Embedded]:
    """The vectors of each question; each distinct text is encoded once.

    Raises:
        InputError: Query and documents have different widths, or vectors are missing.
    """
    if isinstance(encoder, VectorColumns):
        found = [encoder.embedded(question) for question in questions]
    else:
        found = _encoded(encoder, questions)
    for question, one in zip(questions, found, strict=True):
        if len(one.docs) and one.docs.shape[1] != len(one.query):
            raise InputError(
                f"the vector of query {question.qid!r} has {len(one.query)} numbers, and those of its documents have "
                f"{one.docs.shape[1]}; make both with the same encoder"
            )
    return found


def _encoded(encoder: Encoder, questions: Sequence[Question]) -> list[Embedded]:
    """By a network or a function."""
    queries = _places(one.query for one in questions)
    docs = _places(doc.text for one in questions for doc in one.docs)
    query_vectors, query_costs = _vectors(encoder, list(queries), "query_prefix")
    doc_vectors, doc_costs = _vectors(encoder, list(docs), "doc_prefix")
    charges = [dict(enumerate(query_costs)), dict(enumerate(doc_costs))]
    found = []
    for one in questions:
        rows = [docs[doc.text] for doc in one.docs]
        own = [charges[0].pop(queries[one.query], None), *(charges[1].pop(row, None) for row in rows)]
        cost = sum((each for each in own if each is not None), Usage())
        found.append(Embedded(query_vectors[queries[one.query]], doc_vectors[rows], cost))
    return found


def _vectors(encoder: Encoder, texts: list[str], prefix: str) -> tuple[Floats, list[Usage]]:
    """Vectors of distinct texts, and what each cost."""
    if not texts:
        return np.empty((0, 0)), []
    if (encode := getattr(encoder, "encode", None)) is not None:
        made, inputs = encode(texts, getattr(encoder, prefix, ""))
        return made, [one.usage for one in inputs]
    made = np.asarray(encoder(texts), dtype=np.float64)
    if made.ndim != 2 or len(made) != len(texts):
        raise InputError(f"{encoder!r} gave vectors of the shape {made.shape} for {len(texts)} texts")
    return made, [Usage(calls=1)] * len(texts)


def _places(texts: Iterable[str]) -> dict[str, int]:
    """Distinct texts, with their places."""
    return {text: place for place, text in enumerate(dict.fromkeys(texts))}


def cosines(first: Floats, second: Floats) -> Floats:
    """Cosines of every two, (n, m); 0 with a vector of length 0."""
    one, other = (each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-12) for each in (first, second))
    # a product of matrices would round equal rows apart, by their place
    products: Floats = np.einsum("iw,jw->ij", one, other)
    return products
