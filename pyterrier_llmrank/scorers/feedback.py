"""``NeighbourFeedback``: relevance feedback by likeness to the documents that a user found relevant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pyterrier_llmrank.core import Answer, Evidence, Question, Scores, brief, silence
from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.fields import Vector

from .embedding import Encoder, Floats, VectorColumns, check_encoder, columns_of, cosines, embedded


@dataclass(frozen=True, repr=False)
class NeighbourFeedback:
    """Scores documents by their likeness to the query and to the nearest documents that are known to be relevant.

    The score is ``cos(document, query)`` plus ``weight`` times the mean of the document's ``neighbours`` highest
    cosines with relevant documents. Nothing is trained. Without a relevant document it is the cosine with the query.

    Args:
        encoder: Makes the vectors: ``BiEncoder(name)``, any function from texts to vectors, or ``VectorColumns()`` for
            those in the frame.
        feedback: Column with what is known of each document: above 0 for relevant, anything else for not; NaN for
            documents that nobody judged. A number k takes the k documents that are shown first for relevant
            (pseudo-relevance feedback).
        neighbours: Relevant documents that count for each document; all by default.
        weight: Of these, beside the query.
        judged_first: Whether documents that were judged relevant go before all others, and those judged not relevant
            after; for a user who saw them already, drop them after ranking.

    Raises:
        ConfigurationError: An argument is out of range, or ``encoder`` makes no vectors.

    Reference:
        Baumgärtner et al., 2022, for re-ranking by cosines with the query and relevant documents; the weight and the
        number of neighbours are arguments here.
    """

    encoder: Encoder = field(default_factory=VectorColumns)
    feedback: str | int = "label"
    neighbours: int | None = None
    weight: float = 1.0
    judged_first: bool = False

    __repr__ = brief

    def __post_init__(self) -> None:
        check_encoder("NeighbourFeedback", self.encoder)
        if not isinstance(self.feedback, str) and self.feedback < 1:
            raise ConfigurationError(
                f"feedback is a column of labels, or the number of documents taken for relevant, got {self.feedback!r}"
            )
        if (self.neighbours is not None and self.neighbours < 1) or self.weight < 0:
            raise ConfigurationError(
                f"neighbours must be at least 1 or None (all), and weight not negative, got {self.neighbours} and "
                f"{self.weight}"
            )

    @property
    def gives(self) -> Evidence:
        """An order of the list: which documents are relevant is known of the list that is shown."""
        return Evidence.ORDER

    @property
    def max_docs(self) -> int | None:
        """Any number."""
        return None

    @property
    def reads(self) -> tuple[str, ...]:
        """What the vectors are made from, and the labels."""
        columns = columns_of(self.encoder)
        return (*columns, self.feedback) if isinstance(self.feedback, str) else columns

    def load(self) -> None:
        """Loads the encoder, if it needs anything."""
        load = getattr(self.encoder, "load", None)
        if load is not None:
            load()

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question; all texts are encoded together."""
        if not questions:
            return []
        return [
            Answer(self._scores(one.query, one.docs, self._labels(question)), one.usage)
            for question, one in zip(questions, embedded(self.encoder, questions), strict=True)
        ]

    def _labels(self, question: Question) -> Scores:
        """What is known of each document; NaN for nothing."""
        n = len(question.docs)
        if not isinstance(self.feedback, str):
            return np.where(np.arange(n) < self.feedback, 1.0, np.nan)
        labels = silence(n)
        for place, doc in enumerate(question.docs):
            value = dict(doc.fields).get(self.feedback)
            if isinstance(value, str | Vector):
                raise InputError(
                    f"{self.feedback!r} of document {doc.docno} of query {question.qid!r} is no label: {value!r:.40}"
                )
            labels[place] = np.nan if value is None else value
        return labels

    def _scores(self, query: Floats, docs: Floats, labels: Scores) -> Scores:
        if not len(docs):
            return np.empty(0)
        scores: Scores = cosines(docs, query[None])[:, 0]
        relevant = np.flatnonzero(labels > 0)
        if len(relevant):
            near = -np.sort(-cosines(docs, docs[relevant]), axis=1)[:, : self.neighbours]
            scores = scores + self.weight * near.mean(axis=1)
        if self.judged_first:
            reach = 2 * (1 + self.weight) + 1  # more than any two scores are apart
            scores = scores + reach * ((labels > 0).astype(float) - (labels <= 0))
        return scores
