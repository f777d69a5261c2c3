"""``PERank``: an order of documents that a decoder reads as vectors, a token or few each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyterrier_llmrank.core import Answer, Doc, Evidence, Question, Usage, from_order
from pyterrier_llmrank.errors import ModelError
from pyterrier_llmrank.models.hf.batching import Budget
from pyterrier_llmrank.models.hf.emitting import Order, emit
from pyterrier_llmrank.models.hf.heads import Kind
from pyterrier_llmrank.models.hf.loading import Loaded
from pyterrier_llmrank.models.hf.rendering import LocalReader
from pyterrier_llmrank.models.hf.replicas import pick
from pyterrier_llmrank.models.hf.weightless import weightless
from pyterrier_llmrank.models.hf.writing import pad_token
from pyterrier_llmrank.prompts.embedded import PLACEHOLDER, EmbeddedPrompt
from pyterrier_llmrank.prompts.truncation import Fitted, fit
from pyterrier_llmrank.vectors import CandidateEncoder, Candidates, DocVectors, remembered, with_width

if TYPE_CHECKING:
    from torch import Tensor

DOC_TOKENS = 512  # what the authors' code reads of a document at inference (src/ranker.py); 128 in training
POOLINGS = {"mean": "mean", "cls": "cls", "last_token": "last"}  # theirs: ours


class Emitted(NamedTuple):
    """The order of a question's documents, and what it cost."""

    order: Order
    usage: Usage


@dataclass(frozen=True, repr=False)
class PERank(LocalReader):
    """Orders documents by a decoder that reads one vector of each, and answers with vectors (PE-Rank).

    The vectors are those of a retriever, through the checkpoint's projector. A window of n documents costs a prompt of
    about 8 tokens a document, and n - 1 steps: among the documents that were not named yet the next one is chosen, and
    the last is no choice. Of documents with equal vectors, the first goes first. The context is never exceeded: texts
    (which only some prompts have) are cut to fit. Takes the arguments of ``Local`` (``device``, ``dtype`` …; the
    released weights are bfloat16), and:

    Args:
        prompt: What is read around the vectors.
        vectors: Makes the vectors of documents, or looks them up: a ``CandidateEncoder``, or ``Stored`` ones. By
            default the encoder that the checkpoint names, 512 tokens of a document. A bare encoder remembers its last
            documents, so that overlapping windows encode nothing twice.

    Raises:
        ModelError: On first use: the checkpoint has no projector, or its tokenizer no placeholder.
        ConfigurationError: On first use: the vectors are not of the width or number that is read.

    Reference:
        Liu et al., 2024, Leveraging Passage Embeddings for Efficient Listwise Reranking with Large Language Models.
    """

    prompt: EmbeddedPrompt = field(default=EmbeddedPrompt(), kw_only=True)
    vectors: Candidates | None = field(default=None, kw_only=True)

    kind = "language"

    @property
    def gives(self) -> Evidence:
        """The order of the window."""
        return Evidence.ORDER

    @property
    def max_docs(self) -> int | None:
        """As many as fit into the context."""
        return None

    @property
    def _of(self) -> Kind:
        """A language model, of an architecture that transformers is told of here."""
        _register()
        return "language"

    @cached_property
    def _candidates(self) -> Candidates:
        return remembered(self.encoder if self.vectors is None else self.vectors)

    @property
    def encoder(self) -> CandidateEncoder:
        """The encoder that the checkpoint names: in its folder, beside it, or on the hub."""
        config = self._loaded.network.config
        near = [Path(self.name) / config.encoder_name, Path(self.name).parent / config.encoder_name]
        folders = [str(path) for path in near if Path(self.name).is_dir() and path.is_dir()]
        return CandidateEncoder(
            folders[0] if folders else config.encoder_name,
            pooling=POOLINGS.get(config.encoder_pooling, config.encoder_pooling),
            device=self.device,
            dtype=self.dtype,
            batch_tokens=self.batch_tokens,
            max_length=DOC_TOKENS,
            trust_remote_code=self.trust_remote_code,
        )

    def load(self) -> None:
        """Loads the decoder, and what gives the vectors."""
        network: Any = self._loaded.network
        if not hasattr(network, "projected"):
            raise ModelError(
                f"{self.name} is a {type(network).__name__}, which reads no vectors; give a checkpoint that was "
                "trained for PE-Rank (model_type embed_mistral), such as 'liuqi6777/pe-rank-mistral-jina'"
            )
        network.check_projector()
        self._candidates.load()

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question: 0, -1, -2, … in the order of the documents."""
        if not questions:
            return []
        asked = [place for place, one in enumerate(questions) if len(one.docs) > 1]
        answers = [Answer(from_order(range(len(one.docs))), Usage()) for one in questions]
        for place, (order, usage) in zip(asked, self.emitted([questions[place] for place in asked]), strict=True):
            answers[place] = Answer(from_order(order.items), usage)
        return answers

    def emitted(self, questions: Sequence[Question]) -> list[Emitted]:
        """The order of each question's documents, with the logits of every step; a single document is asked about too.

        A document that several questions share is charged to the first of them.

        Raises:
            PromptTooLong: The documents' vectors alone do not fit.
        """
        if not questions:
            return []
        self.load()
        fitted = self._fitted(questions)
        sequences = self._sequences(questions, fitted)
        docs = list(dict.fromkeys(doc for one in questions for doc in one.docs))
        found = self._candidates(docs)
        items = self._items(questions, docs, found)
        charges = dict(zip(docs, (one.usage for one in found), strict=True))

        def run(on: Loaded, budget: Budget, some: list[int]) -> list[Order]:
            own = [items[place].to(on.device) for place in some]
            return emit(on, pick(sequences, some), own, budget, pad_token(on))

        orders = self._spread(sequences, run)
        made = []
        for one, (_, lost), ids, order in zip(questions, fitted, sequences, orders, strict=True):
            steps = (len(one.docs) - 1) * self.prompt.m
            own = Usage(calls=1, prompt_tokens=len(ids), output_tokens=steps, truncated_tokens=lost)
            made.append(Emitted(order, sum((charges.pop(doc, Usage()) for doc in one.docs), own)))
        return made

    def planned(self, questions: Sequence[Question]) -> list[Usage]:
        """What questions would cost, by the tokenizer alone; without documents' vectors, which are made once."""
        _register()
        own = weightless(self)
        usages = []
        for one, (prompt, lost) in zip(questions, own._fitted(questions), strict=True):
            steps = (len(one.docs) - 1) * self.prompt.m
            cost = Usage(1, own.lengths([prompt])[0], output_tokens=steps, truncated_tokens=lost)
            usages.append(cost if steps > 0 else Usage())
        return usages

    def _fitted(self, questions: Sequence[Question]) -> list[Fitted]:
        """The prompt of each question."""
        shown = [[self.plain(doc.text) if self.prompt.texts else "" for doc in one.docs] for one in questions]
        items = [(self.plain(one.query), texts) for one, texts in zip(questions, shown, strict=True)]
        reserve = [max(0, len(one.docs) - 1) * self.prompt.m for one in questions]
        return fit(self.prompt, items, self, reserve=reserve)

    def _sequences(self, questions: Sequence[Question], fitted: Sequence[Fitted]) -> list[list[int]]:
        """Token ids, with one past the vocabulary for every vector.

        Raises:
            ModelError: The tokenizer does not read placeholders as tokens of their own.
        """
        tokenizer: Any = self._loaded.tokenizer
        placeholder = tokenizer.convert_tokens_to_ids(PLACEHOLDER)
        sequences = []
        for one, ids in zip(questions, self.tokens([prompt for prompt, _ in fitted]), strict=True):
            if ids.count(placeholder) != len(one.docs) * self.prompt.m:
                raise ModelError(
                    f"the tokenizer of {self.name} does not read {PLACEHOLDER} as a token of its own; give a "
                    "checkpoint that was trained for PE-Rank, such as 'liuqi6777/pe-rank-mistral-jina'"
                )
            items = iter(range(self._loaded.known_ids, self._loaded.known_ids + len(ids)))
            sequences.append([next(items) if token == placeholder else token for token in ids])
        return sequences

    def _items(self, questions: Sequence[Question], docs: Sequence[Doc], found: Sequence[DocVectors]) -> list[Tensor]:
        """Embeddings of the documents of each question, (documents, m, hidden)."""
        import torch

        network: Any = self._loaded.network
        stacked = with_width(found, network.config.embedding_size, f"PERank({self.name!r})", self.prompt.m)
        # equal vectors are projected once: a product of matrices may round equal rows apart, by their place
        distinct, which = np.unique(stacked.reshape(len(docs), -1), axis=0, return_inverse=True)
        places = dict(zip(docs, which.reshape(-1).tolist(), strict=True))
        with torch.inference_mode():
            embeddings = network.projected(torch.from_numpy(distinct.reshape(-1, *stacked.shape[1:])))
        return [embeddings[[places[doc] for doc in one.docs]] for one in questions]


def _register() -> None:
    """Makes PE-Rank's architecture known to transformers."""
    from pyterrier_llmrank.networks import pe_rank  # noqa: F401 - by being imported
