"""``BiEncoder``: query and document as vectors, compared by their inner product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Answer, Question, Usage
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.models.hf.encoders import Encoded, Limits, LocalEncoder, Pooling, by_pooling, encode
from pyterrier_llmrank.models.hf.weightless import weightless

from .alone import Alone, regrouped
from .embedding import embedded


@dataclass(frozen=True, repr=False)
class BiEncoder(Alone, LocalEncoder):
    """Scores documents by the inner product of their vector with the query's.

    Each text is encoded once per round, however often it occurs. With ``normalize`` the score is the cosine, -1 to 1.
    Takes the arguments of ``Local`` (``device``, ``dtype``, ``batch_tokens``, ``max_length`` …), and:

    Args:
        pooling: Vector of a text: "mean" of its tokens, "cls" (the first) or "last", as the checkpoint was trained.
        normalize: Whether vectors are scaled to length 1.
        query_prefix: What the checkpoint expects before a query, such as ``"query: "``.
        doc_prefix: What it expects before a document, such as ``"passage: "``.

    Raises:
        ConfigurationError: ``pooling`` is none of the three.

    Reference:
        Reimers and Gurevych, 2019 (Sentence-BERT).
    """

    pooling: Pooling = field(default="mean", kw_only=True)
    normalize: bool = field(default=True, kw_only=True)
    query_prefix: str = field(default="", kw_only=True)
    doc_prefix: str = field(default="", kw_only=True)

    kind = "encoder"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooling not in ("mean", "cls", "last"):
            raise ConfigurationError(f"pooling must be 'mean', 'cls' or 'last', got {self.pooling!r}")

    def encode(self, texts: Sequence[str], prefix: str = "") -> tuple[NDArray[np.float64], list[Encoded]]:
        """Vectors, (texts, width), and the inputs that they were made from."""
        shown = [prefix + self.plain(text) for text in texts]
        inputs = self.filled(encode(self._loaded, shown, None, Limits(self.context)))
        vectors = self._run(inputs, *by_pooling(self.pooling))
        if self.normalize and len(vectors):
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors, inputs

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question; all texts of all questions are batched together.

        A document that several questions share is charged to the first of them.
        """
        if not questions:
            return []
        # a product of matrices would round equal rows apart, by their place
        return [Answer((one.docs * one.query).sum(axis=1), one.usage) for one in embedded(self, questions)]

    def planned(self, questions: Sequence[Question]) -> list[Usage]:
        """What questions would cost, by the tokenizer alone; without their queries, each of which is read once a run.

        No weights are loaded.
        """
        own = weightless(self)
        texts = [self.doc_prefix + own.plain(doc.text) for one in questions for doc in one.docs]
        inputs = encode(own._loaded, texts, None, Limits(own.context))
        return [answer.usage for answer in regrouped(questions, ((0.0, one.usage) for one in inputs))]
