"""``RRK``: documents scored by a decoder that reads a query and a few vectors of each, made beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Answer, Question, Usage
from pyterrier_llmrank.errors import PromptTooLong
from pyterrier_llmrank.models.hf.batching import Budget, in_batches
from pyterrier_llmrank.models.hf.loading import Checkpoint, Loaded
from pyterrier_llmrank.models.hf.rendering import LocalReader
from pyterrier_llmrank.vectors import Candidates, DocCompressor, remembered, with_width

from .alone import Alone
from .limits import check_limits

if TYPE_CHECKING:
    from pyterrier_llmrank.networks.compressed import VectorReader


@dataclass(frozen=True, repr=False)
class RRK(Alone, LocalReader):
    """Scores each document by itself, from the m vectors that a compressor made of it (RRK).

    A query of t tokens with n documents costs t + nm positions of the decoder, however long the documents are: the
    query is read once. Where vectors are looked up, the compressor is loaded only for what is missing. ``name`` is a
    folder that ``networks.compressed.CompressedRanker.save`` wrote, after training with any loss; there are no
    published weights. Takes the arguments of ``Local`` (``device``, ``dtype``, ``batch_tokens`` …; ``adapter``: one of
    the decoder), and:

    Args:
        vectors: Makes the vectors of documents, or looks them up. By default the folder's own compressor, and the last
            documents are remembered.
        max_query_tokens: Tokens to keep of a query; all by default.

    Raises:
        ModelNotFound: There is no such folder.
        ConfigurationError: ``max_query_tokens`` is below 1; on first use, if the vectors are not of the width or number
            that is read.
        ModelError: On first use, if the folder lacks a part.

    Reference:
        Déjean and Clinchant, 2025, Reranking with Compressed Document Representation, arXiv:2505.15394.
    """

    vectors: Candidates | None = field(default=None, kw_only=True)
    max_query_tokens: int | None = field(default=None, kw_only=True)

    kind = "encoder"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_limits(self, "max_query_tokens")

    def _checkpoint(self) -> Checkpoint:
        """The decoder; the folder's other parts go around it."""
        return replace(super()._checkpoint(), name=str(Path(self.name) / "decoder"), revision=None)

    @property
    def encoder(self) -> DocCompressor:
        """The folder's compressor."""
        return DocCompressor(
            str(Path(self.name) / "compressor"),
            device=self.device,
            dtype=self.dtype,
            batch_tokens=self.batch_tokens,
            trust_remote_code=self.trust_remote_code,
        )

    @cached_property
    def _candidates(self) -> Candidates:
        return remembered(self.encoder if self.vectors is None else self.vectors)

    @cached_property
    def _readers(self) -> dict[Loaded, VectorReader]:
        """The decoder with its score on every device, in evaluation mode."""
        from pyterrier_llmrank.networks.compressed import VectorReader

        folder = Path(self._checkpoint().name)
        decoders = [replica.loaded for replica in self._replicas]
        return {on: VectorReader.load(folder, on.network).eval().requires_grad_(False) for on in decoders}

    @property
    def network(self) -> VectorReader:
        """The decoder with its score, in evaluation mode; of several devices, on the first."""
        return self._readers[self._loaded]

    def load(self) -> None:
        """Loads the decoder, and what gives the vectors."""
        self._readers  # noqa: B018 - a cached property
        self._candidates.load()

    def identity(self) -> object:
        """What scores depend on: the decoder, how much of a query it reads, and what makes the vectors."""
        decoder = Checkpoint(self._checkpoint().name, adapter=self.adapter)
        return ("RRK", decoder, self.dtype, self.max_length, self.max_query_tokens, self._candidates)

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question; a document that several of them share is charged to the first."""
        if not questions:
            return []
        self.load()
        docs = list(dict.fromkeys(doc for one in questions for doc in one.docs))
        found = self._candidates(docs)
        width = self.network.decoder.config.hidden_size
        stacked = with_width(found, width, f"RRK({self.name!r})") if docs else np.empty((0, 0, 0), np.float32)
        places = {doc: place for place, doc in enumerate(docs)}
        charges = dict(zip(docs, (one.usage for one in found), strict=True))
        read = self._queries(questions, stacked.shape[1])
        own = [stacked[[places[doc] for doc in one.docs]] for one in questions]
        work = [
            [*ids, *[0] * (vectors.shape[0] * vectors.shape[1])] for ids, vectors in zip(read, own, strict=True)
        ]  # positions
        scores = self._spread(
            work, lambda on, budget, some: [self._scores(on, budget, read[place], own[place]) for place in some]
        )
        answers = []
        for one, positions, found_scores in zip(questions, work, scores, strict=True):
            spent = Usage(calls=1, prompt_tokens=len(positions)) if one.docs else Usage()
            answers.append(Answer(found_scores, sum((charges.pop(doc, Usage()) for doc in one.docs), spent)))
        return answers

    def queries(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each query, in training too."""
        return self._text.encode([self.plain(text) for text in texts], special=True)

    def _queries(self, questions: Sequence[Question], m: int) -> list[list[int]]:
        """What is read of each query; of an empty one without special tokens, the end token.

        Raises:
            PromptTooLong: A query leaves no room for the vectors of a document.
        """
        read = []
        for ids in self.queries([one.query for one in questions]):
            kept = ids[: self.max_query_tokens] or [self._loaded.tokenizer.eos_token_id or 0]
            if self.context is not None and len(kept) + m > self.context:
                raise PromptTooLong(
                    f"a query of {len(kept)} tokens leaves no room for {m} vectors within {self.context} tokens; "
                    "shorten the query, or say max_query_tokens"
                )
            read.append(kept)
        return read

    def _scores(self, on: Loaded, budget: Budget, ids: list[int], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores of the documents of one query, from their vectors, (documents, m, hidden)."""
        import torch

        scores = np.empty(len(vectors))
        query = torch.tensor(ids, device=on.device)
        own = torch.from_numpy(vectors).to(on.device)

        def work(batch: list[int]) -> None:
            with torch.inference_mode():
                scores[batch] = self._readers[on].of_query(query, own[batch]).double().cpu().numpy()

        in_batches([len(ids) + vectors.shape[1]] * len(vectors), [1] * len(vectors), budget, work)
        return scores
