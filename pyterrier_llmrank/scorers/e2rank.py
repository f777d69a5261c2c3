"""``E2Rank``: vectors of documents, compared with that of a query and its first documents read together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Answer, Evidence, Question, Usage
from pyterrier_llmrank.models.hf.encoders import Encoded, by_pooling, run_encoder
from pyterrier_llmrank.models.hf.rendering import LocalReader
from pyterrier_llmrank.models.hf.replicas import pick
from pyterrier_llmrank.models.hf.weightless import weightless
from pyterrier_llmrank.prompts.embedded import PseudoQuery
from pyterrier_llmrank.prompts.truncation import fit
from pyterrier_llmrank.vectors import CandidateEncoder, Candidates, remembered, with_width

from .limits import check_limits

END = "<|endoftext|>"  # closes a document; the prompt is pooled at its own last token (Alibaba-NLP/E2Rank, src/eval.py)


@dataclass(frozen=True, repr=False)
class E2Rank(LocalReader):
    """Scores documents by the cosine of their vector and a pseudo-query's: the query with its first documents.

    One reading of an embedding model orders a list of any length: documents beyond the first ones are never shown, and
    change nothing but their own places. Their vectors are made once, by the same model. Scores are cosines, -1 to 1,
    and hold within one group: another group is another pseudo-query. Documents are cut to fit. Takes the arguments of
    ``Local`` (``device``, ``dtype`` …), and:

    Args:
        prompt: How query and documents are read.
        shown: Documents in the pseudo-query.
        vectors: Makes the vectors of documents, or looks them up: a ``CandidateEncoder``, or ``Stored`` ones. By
            default the model itself, and the last documents are remembered.

    Raises:
        ConfigurationError: ``shown`` is below 1; on first use, if the vectors are not of the model's width, one each.

    Reference:
        Liu et al., 2025, E2Rank: Your Text Embedding can Also be an Effective and Efficient Listwise Reranker; the
        prompt of its evaluation code (src/eval.py), from which its model card and training data differ.
    """

    prompt: PseudoQuery = field(default=PseudoQuery(), kw_only=True)
    shown: int = field(default=20, kw_only=True)
    vectors: Candidates | None = field(default=None, kw_only=True)

    kind = "encoder"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_limits(self, "shown", unit="document")

    @property
    def gives(self) -> Evidence:
        """The order of the group."""
        return Evidence.ORDER

    @property
    def max_docs(self) -> int | None:
        """Any number: only the first ones are shown."""
        return None

    @property
    def encoder(self) -> CandidateEncoder:
        """What the model makes of a document: the state of the token that closes it."""
        return CandidateEncoder(
            self.name,
            revision=self.revision,
            device=self.device,
            dtype=self.dtype,
            batch_tokens=self.batch_tokens,
            max_length=self.max_length,
            trust_remote_code=self.trust_remote_code,
            adapter=self.adapter,
            pooling="last",
            suffix=END,
            max_words=self.prompt.max_words,
        )

    @cached_property
    def _candidates(self) -> Candidates:
        return remembered(self.encoder if self.vectors is None else self.vectors)

    def load(self) -> None:
        """Loads the model, and what gives the vectors."""
        super().load()
        self._candidates.load()

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question; a document that several of them share is charged to the first."""
        if not questions:
            return []
        docs = list(dict.fromkeys(doc for one in questions for doc in one.docs))
        if not docs:
            return [Answer(np.empty(0), Usage()) for _ in questions]
        inputs = self._inputs(questions)
        states = self._states(inputs)
        found = self._candidates(docs)
        vectors = _unit(with_width(found, states.shape[1], f"E2Rank({self.name!r})", m=1)[:, 0])
        places = {doc: place for place, doc in enumerate(docs)}
        charges = dict(zip(docs, (one.usage for one in found), strict=True))
        answers = []
        for one, read, query in zip(questions, inputs, _unit(states), strict=True):
            # products, then sums: a product of matrices would round equal rows apart, by their place
            scores = (vectors[[places[doc] for doc in one.docs]] * query).sum(axis=1)
            answers.append(Answer(scores, sum((charges.pop(doc, Usage()) for doc in one.docs), read.usage)))
        return answers

    def planned(self, questions: Sequence[Question]) -> list[Usage]:
        """What questions would cost, by the tokenizer alone; without documents' vectors, which are made once."""
        return [one.usage for one in weightless(self)._inputs(questions)]

    def _states(self, inputs: Sequence[Encoded]) -> NDArray[np.float64]:
        """The state of each input's last token, (inputs, hidden)."""
        rows = self._spread(
            [one.ids for one in inputs],
            lambda on, budget, some: [*run_encoder(on, pick(inputs, some), budget, *by_pooling("last"))],
        )
        return np.stack(rows)

    def _inputs(self, questions: Sequence[Question]) -> list[Encoded]:
        """The pseudo-query of each question."""
        shown = [[self.plain(doc.text) for doc in one.docs[: self.shown]] for one in questions]
        items = [(self.plain(one.query), texts) for one, texts in zip(questions, shown, strict=True)]
        fitted = fit(self.prompt, items, self, reserve=[0] * len(items))
        ids = self.tokens([prompt for prompt, _ in fitted])
        return [Encoded(row, [], lost) for row, (_, lost) in zip(ids, fitted, strict=True)]


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rows scaled to length 1, (rows, width)."""
    rows = vectors.astype(np.float64)
    scaled: NDArray[np.float64] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled
