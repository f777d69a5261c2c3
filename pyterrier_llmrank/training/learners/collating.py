"""From lists to the distinct texts that are encoded, and from their vectors back to lists."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from pyterrier_llmrank.errors import InputError
from pyterrier_llmrank.training.data import TrainingList

from .vectors import Guide, Vectors

DocumentVectors: TypeAlias = Callable[[Sequence[str]], NDArray[Any]]
"""From texts to vectors, (texts, width)."""


class Lists(NamedTuple):
    """The lists of one worker, by places among its distinct texts: what the other workers are told.

    Attributes:
        queries: Distinct queries.
        documents: What tells each distinct document from others, anywhere.
        own: The place of each list's query.
        rows: The places of each list's documents.
        targets: Of them.
        width: Of vectors.
    """

    queries: int
    documents: list[bytes]
    own: list[int]
    rows: list[list[int]]
    targets: list[tuple[float, ...]]
    width: int


class Texts(NamedTuple):
    """Distinct queries and documents, in the order of their first lists."""

    queries: list[str]
    documents: list[str]


def distinct(lists: Sequence[TrainingList], width: int) -> tuple[Texts, Lists]:
    """The texts of lists, each once, and where they belong.

    Raises:
        InputError: A list has no document, or a target is NaN or infinite.
    """
    queries: dict[str, int] = {}
    documents: dict[str, int] = {}
    own, rows, targets = [], [], []
    for one in lists:
        if not one.docs:
            raise InputError(f"the list of query {one.qid!r} has no document to learn from; leave it out")
        if not all(math.isfinite(value) for value in one.targets):
            raise InputError(
                f"the list of query {one.qid!r} has targets that are NaN or infinite; leave those documents out"
            )
        own.append(queries.setdefault(one.query, len(queries)))
        rows.append([documents.setdefault(doc.text, len(documents)) for doc in one.docs])
        targets.append(one.targets)
    keys = [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in documents]
    return Texts([*queries], [*documents]), Lists(len(queries), keys, own, rows, targets, width)


def collated(
    parts: Sequence[Lists], queries: Tensor, documents: Tensor, guide: tuple[Tensor, Tensor] | None = None
) -> Vectors:
    """The vectors of all workers' lists.

    Args:
        parts: Of every worker, in order.
        queries: Of their distinct queries, in order, (queries, width).
        documents: Of their distinct documents, (documents, width).
        guide: Likewise, as a guide sees them.
    """
    longest = max(len(rows) for part in parts for rows in part.rows)
    shape = sum(len(part.rows) for part in parts), longest
    places, ids = np.zeros(shape, dtype=np.int64), np.full(shape, -1)
    targets, mask = np.zeros(shape), np.zeros(shape, dtype=bool)
    asked: list[int] = []
    known: dict[bytes, int] = {}
    first_query = first_document = row = 0
    for part in parts:
        numbers = np.array([known.setdefault(key, len(known)) for key in part.documents], dtype=np.int64)
        for query, rows, wanted in zip(part.own, part.rows, part.targets, strict=True):
            here = slice(len(rows))
            places[row, here], ids[row, here] = np.array(rows) + first_document, numbers[rows]
            targets[row, here], mask[row, here] = wanted, True
            asked.append(query + first_query)
            row += 1
        first_query, first_document = first_query + part.queries, first_document + len(part.documents)
    device = queries.device
    which, where = torch.tensor(asked, device=device), torch.from_numpy(places).to(device)
    return Vectors(
        queries[which],
        documents[where],
        torch.from_numpy(targets).to(queries),
        torch.from_numpy(mask).to(device),
        torch.from_numpy(ids).to(device),
        None if guide is None else (guide[0][which], guide[1][where]),
    )


def guided(guide: Guide, texts: Texts, device: torch.device) -> tuple[Tensor, Tensor]:
    """Queries and documents as a guide sees them, scaled to length 1.

    Raises:
        InputError: It gives something else than a vector a text.
    """
    found = []
    for some, prefix in zip(texts, ("query_prefix", "doc_prefix"), strict=True):
        if hasattr(guide, "encode"):
            made = guide.encode(some, getattr(guide, prefix, ""))[0]
        else:
            made = guide(some)
        found.append(normalize(_checked(made, guide, some), dim=1).to(device))
    return found[0], found[1]


def fixed(vectors: DocumentVectors, texts: list[str], device: torch.device) -> Tensor:
    """The vectors of documents that are not trained, (texts, width).

    Raises:
        InputError: There are others than one a text.
    """
    return _checked(vectors(texts), vectors, texts).to(device)


def _checked(made: NDArray[Any], source: object, texts: list[str]) -> Tensor:
    """Vectors as a tensor, float32.

    Raises:
        InputError: There are others than one a text.
    """
    values = np.asarray(made, dtype=np.float32)
    if values.ndim != 2 or len(values) != len(texts):
        raise InputError(f"{source!r} gave vectors of the shape {values.shape} for {len(texts)} texts")
    return torch.from_numpy(values)
