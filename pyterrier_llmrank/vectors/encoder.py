"""``CandidateEncoder``: documents to vectors, by a pooled encoder network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pyterrier_llmrank.core import Doc, Usage
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.models.hf.encoders import Encoded, Limits, LocalEncoder, Pooling, by_pooling, encode
from pyterrier_llmrank.models.hf.weightless import weightless

from .base import DocVectors


@dataclass(frozen=True, repr=False)
class CandidateEncoder(LocalEncoder):
    """One vector per document, pooled from the states of an encoder (or of a decoder that was trained as one).

    Takes the arguments of ``Local`` (``device``, ``dtype``, ``batch_tokens``; ``max_length``: tokens of a document at
    most, special ones included …), and:

    Args:
        pooling: Vector of a text: "mean" of its tokens, "cls" (the first) or "last", as the checkpoint was trained.
        normalize: Whether vectors are scaled to length 1.
        prefix: What the checkpoint expects before a document, such as ``"passage: "``.
        suffix: What it expects after one, such as ``"<|endoftext|>"``; read as control tokens, and never cut off.
        max_words: Words to keep of a document, separated by single spaces; by default texts are read as they are.

    Raises:
        ConfigurationError: ``pooling`` is none of the three, or ``max_words`` is below 1.
    """

    pooling: Pooling = field(default="mean", kw_only=True)
    normalize: bool = field(default=True, kw_only=True)
    prefix: str = field(default="", kw_only=True)
    suffix: str = field(default="", kw_only=True)
    max_words: int | None = field(default=None, kw_only=True)

    kind = "encoder"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooling not in ("mean", "cls", "last"):
            raise ConfigurationError(f"pooling must be 'mean', 'cls' or 'last', got {self.pooling!r}")
        if self.max_words is not None and self.max_words < 1:
            raise ConfigurationError(f"max_words must be at least 1 or None (all), got {self.max_words}")

    def __call__(self, docs: Sequence[Doc]) -> list[DocVectors]:
        """The vector of each document, (1, width); equal texts are encoded once."""
        if not docs:
            return []
        places = {text: place for place, text in enumerate(dict.fromkeys(doc.text for doc in docs))}
        inputs = self._inputs(list(places))
        states = self._run(inputs, *by_pooling(self.pooling))
        if self.normalize:
            states = states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-12)
        vectors = states.astype(np.float32)[:, None]  # (texts, 1, width)
        charges = dict(enumerate(one.usage for one in inputs))
        rows = [places[doc.text] for doc in docs]
        return [DocVectors(vectors[row], charges.pop(row, Usage())) for row in rows]

    def planned(self, docs: Sequence[Doc]) -> list[Usage]:
        """What documents would cost, by the tokenizer alone: no weights are loaded."""
        return [one.usage for one in weightless(self)._inputs([doc.text for doc in docs])]

    def _inputs(self, texts: Sequence[str]) -> list[Encoded]:
        """What is read of each text."""
        if self.max_words is not None:
            texts = [" ".join(text.split()[: self.max_words]) for text in texts]
        tokenizer = self._loaded.tokenizer
        end = tokenizer(self.suffix, add_special_tokens=False)["input_ids"] if self.suffix else []
        limits = Limits(self.context)
        shown = [self.prefix + self.plain(text) for text in texts]
        return self.filled(encode(self._loaded, shown, None, limits, end))
