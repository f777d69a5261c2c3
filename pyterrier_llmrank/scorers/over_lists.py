"""Scorers that are small networks over what others made of a list: feature vectors, scores, embeddings."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Answer, Evidence, Question, Scores, Usage, brief, from_order
from pyterrier_llmrank.errors import ConfigurationError, InputError

from .columns import vectors
from .embedding import Encoder, VectorColumns, check_encoder, columns_of, embedded


class Inputs(NamedTuple):
    """What a network reads of a list.

    Attributes:
        rows: (rows, width): one for each document, perhaps after one for the query.
        usage: What they cost.
    """

    rows: NDArray[np.float64]
    usage: Usage


@dataclass(frozen=True, repr=False)
class OverLists:
    """What they share: a folder with a trained network, which is given a whole list at once.

    A score depends on the other documents of its question, and on no other question.
    """

    folder: str

    kind: ClassVar[str]
    before: ClassVar[int] = 0  # rows before those of the documents

    __repr__ = brief

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", os.path.expanduser(os.fspath(self.folder)))

    @property
    def gives(self) -> Evidence:
        """An order of the list: scores depend on who else is in it."""
        return Evidence.ORDER

    @property
    def max_docs(self) -> int | None:
        """Any number."""
        return None

    def identity(self) -> object:
        """The network by its content, wherever it is, and what it is given."""
        from pyterrier_llmrank.networks.saving import digest

        others = [getattr(self, one.name) for one in fields(self) if one.name != "folder"]
        return type(self).__name__, digest(self.folder), others

    def load(self) -> None:
        """Reads the network.

        Raises:
            ModelNotFound: It was not trained yet.
            ModelError: The folder holds another one.
        """
        self._network()

    def inputs(self, questions: Sequence[Question]) -> list[Inputs]:
        """What the network reads of each list.

        Raises:
            InputError: A value is missing or not finite, or documents differ in how many they have.
        """
        raise NotImplementedError

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question, each list by itself: nothing is padded."""
        if not questions:
            return []
        return [
            Answer(self._scores(question, one.rows) if question.docs else np.empty(0), one.usage)
            for question, one in zip(questions, self.inputs(questions), strict=True)
        ]

    def read(self, output: NDArray[np.float64]) -> Scores:
        """Scores from what the network says of one list."""
        return output

    def width(self, inputs: int) -> int:
        """Numbers of a row, for a network with so many inputs."""
        return inputs

    def _network(self) -> Any:  # noqa: ANN401 - a torch module
        from pyterrier_llmrank.networks.saving import opened

        return opened(self.folder, self.kind)

    def _scores(self, question: Question, rows: NDArray[np.float64]) -> Scores:
        import torch

        network = self._network()
        wanted = self.width(network.config["inputs"])
        if rows.shape[1] != wanted:
            raise InputError(
                f"the network in {self.folder} was trained on {wanted} numbers a document, and the documents of query "
                f"{question.qid!r} have {rows.shape[1]}"
            )
        with torch.inference_mode():
            output = network(torch.from_numpy(rows)[None], torch.ones(1, len(question.docs), dtype=torch.bool))
        # sums of a matrix product may round apart in their last digit, by place
        return self.read(np.round(output[0].numpy(), 10))


@dataclass(frozen=True, repr=False)
class OverFields(OverLists):
    """Those that read numbers from columns of the frame."""

    fields: tuple[str, ...] = ("features",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.fields, tuple) or not self.fields or "text" in self.fields:
            raise ConfigurationError(
                f"fields are a tuple of one or more columns of numbers, such as ('features',), got {self.fields!r}"
            )

    @property
    def reads(self) -> tuple[str, ...]:
        """Its columns."""
        return self.fields

    def inputs(self, questions: Sequence[Question]) -> list[Inputs]:
        """The columns' numbers side by side."""
        return [Inputs(vectors(question, self.reads), Usage(calls=1)) for question in questions]

    def width(self, inputs: int) -> int:
        """Numbers of a row: the features, and what is read beside them."""
        return inputs + len(self.reads) - len(self.fields)


@dataclass(frozen=True, repr=False)
class ContextAware(OverFields):
    """Scores documents by self-attention over the feature vectors of their list.

    ``>> (a ** b ** c) >>`` makes such vectors from the scores of several rerankers. ``ContextRanker`` trains it.

    Args:
        folder: Where the trained network is (see ``networks.saving``).
        fields: Columns whose numbers, side by side, are a document's features.
        ranks: Whether it was trained with the first stage's ranks as positions.

    Raises:
        ConfigurationError: ``fields`` names no column.

    Reference:
        Pobrotyn et al., 2020 (allRank).
    """

    ranks: bool = field(default=False, kw_only=True)

    kind = "ContextNetwork"

    @property
    def reads(self) -> tuple[str, ...]:
        """Its columns, and the rank for positions."""
        return (*self.fields, "rank") if self.ranks else self.fields


@dataclass(frozen=True, repr=False)
class BestPath(OverFields):
    """Orders documents along the heaviest path through their list; an arc weighs how well one follows another.

    Weights are bilinear in the documents' vectors, by one matrix along the order in which they are shown and by another
    against it. Scores are 0, -1, -2, … ``TSPRanker`` trains it.

    Args:
        folder: Where the trained network is.
        fields: Columns whose numbers, side by side, are a document's vector, such as ``("doc_vec",)``.
        path: From weights, (docs, docs), to the order of the heaviest path: ``aggregates.heaviest_path``.

    Raises:
        ConfigurationError: ``fields`` names no column, or ``path`` is no function.

    Reference:
        Li et al., 2025 (TSPRank).
    """

    path: Callable[[NDArray[np.float64]], Sequence[int]] = field(kw_only=True)

    kind = "PairNetwork"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.path):
            raise ConfigurationError(f"BestPath needs path=heaviest_path, from aggregates, got {self.path!r}")

    def read(self, output: NDArray[np.float64]) -> Scores:
        """Places along the heaviest path."""
        return from_order(self.path(output))


@dataclass(frozen=True, repr=False)
class ListEncoder(OverLists):
    """Scores passages by a transformer over the vectors of query and passages, which an encoder makes one by one.

    In place of reading query and passage together, passages are compared with one another. Scores are 0 to 1.
    ``ListConRanker`` trains it; ``networks.released.list_con_ranker`` converts the released checkpoint.

    Args:
        folder: Where the trained network is.
        encoder: Makes the vectors: ``BiEncoder(name, normalize=False)``, any function from texts to vectors, or
            ``VectorColumns()`` for those in the frame.

    Raises:
        ConfigurationError: ``encoder`` makes no vectors.

    Reference:
        Liu et al., 2025 (ListConRanker).
    """

    encoder: Encoder = field(default_factory=VectorColumns)

    kind = "ListConNetwork"
    before = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_encoder("ListEncoder", self.encoder)

    @property
    def reads(self) -> tuple[str, ...]:
        """What its vectors are made from."""
        return columns_of(self.encoder)

    def inputs(self, questions: Sequence[Question]) -> list[Inputs]:
        """The query's vector, then those of the passages."""
        return [
            Inputs(np.concatenate([one.query[None], one.docs]) if len(one.docs) else np.empty((0, 0)), one.usage)
            for one in embedded(self.encoder, questions)
        ]
