"""``DocCompressor``: documents to several vectors each, by memory tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Doc, Usage
from pyterrier_llmrank.models.hf.batching import in_batches
from pyterrier_llmrank.models.hf.encoders import Encoded, Limits, LocalEncoder, encode
from pyterrier_llmrank.models.hf.reading import right_padded

from .base import DocVectors

if TYPE_CHECKING:
    from pyterrier_llmrank.networks.compressed import Compressor


@dataclass(frozen=True, repr=False)
class DocCompressor(LocalEncoder):
    """The vectors that a trained compressor makes of a document, for a decoder that reads them in its place (RRK).

    Takes the arguments of ``Local`` (``device``, ``dtype`` …; ``max_length``: tokens of a document and its memory
    tokens). ``name`` is the folder ``compressor`` of what ``CompressedRanker.save`` wrote.

    Raises:
        ModelError: On first use, if the folder has no memory tokens.
    """

    kind = "encoder"

    @cached_property
    def network(self) -> Compressor:
        """The compressor, in evaluation mode."""
        from pyterrier_llmrank.networks.compressed import Compressor

        return Compressor.load(Path(self.name), self._loaded.network).eval().requires_grad_(False)

    def load(self) -> None:
        """Loads the network."""
        self.network  # noqa: B018 - a cached property

    def __call__(self, docs: Sequence[Doc]) -> list[DocVectors]:
        """The vectors of each document, (m, width); equal texts are compressed once."""
        if not docs:
            return []
        import torch

        places = {text: place for place, text in enumerate(dict.fromkeys(doc.text for doc in docs))}
        inputs = self.inputs(list(places))
        made: dict[int, NDArray[np.float32]] = {}

        def work(batch: list[int]) -> None:
            ids, mask = right_padded([inputs[item].ids for item in batch], 0, self._loaded.device)
            with torch.inference_mode():
                made.update(zip(batch, self.network(ids, mask).float().cpu().numpy(), strict=True))

        m = len(self.network.memory)
        in_batches([len(one.ids) + m for one in inputs], [m] * len(inputs), self._budget, work)
        charges = dict(enumerate(one.usage for one in inputs))
        rows = [places[doc.text] for doc in docs]
        return [DocVectors(made[row], charges.pop(row, Usage())) for row in rows]

    def inputs(self, texts: Sequence[str]) -> list[Encoded]:
        """What is read of each text, in training too: its tokens, before the memory tokens."""
        room = None if self.context is None else self.context - len(self.network.memory)
        return self.filled(encode(self._loaded, [self.plain(text) for text in texts], None, Limits(room)))
