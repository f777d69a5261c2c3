"""``CrossEncoderStudent``: learns to read query and document together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyterrier_llmrank.scorers import CrossEncoder
from pyterrier_llmrank.strategies import Pointwise
from pyterrier_llmrank.training.named import Loss
from pyterrier_llmrank.training.settings import Training

from .base import TRAINING, Student

if TYPE_CHECKING:
    from pyterrier_llmrank.training.learners import CrossEncoderLearner


class CrossEncoderStudent(Student):
    """A cross-encoder that is trained by labels or by another pipeline.

    ::

        student = CrossEncoderStudent("my-reranker", "sentence-transformers/all-MiniLM-L6-v2", loss="rank_net")
        student.distill(bm25 % 30 >> PairwiseLLM(), topics)          # or
        (bm25 % 30 >> student).fit(topics, qrels, valid_topics, valid_qrels)
        bm25 >> student

    Afterwards ``folder`` is a checkpoint that ``CrossEncoder(folder)`` loads, with the history of its training and a
    model card.

    Args:
        folder: Where the weights go, and are read from; those that are there already are used as they are.
        start: Folder or name of the weights to start from, see ``CrossEncoderLearner``.
        loss: A name of ``training.losses``, or a function ``(scores, targets, mask) -> scalar``; the default is for
            labels, "rank_net" for what a teacher says, of which it reads the order alone.
        training: How long, how fast and how carefully.
        measure: What the best weights are chosen by, where there are validation results; higher is better.
        max_length: Tokens of query and document at most; the start's own limit by default.
        micro: Lists of a batch that are read at once; all by default.
        checkpointing: Whether states within the network are computed again for the gradient, to save memory.
        reading: More options of ``CrossEncoder``, such as ``{"query_template": "query: {query}"}``.
        depth: Candidates to rerank and to learn from; all by default.
        num_results: Rows to return for a query; all by default.
        text_field: Column of the documents' text.
        verbose: Whether reranking shows a progress bar.

    Raises:
        ConfigurationError: An argument is out of range, or a loss of no known name.
        ModelNotFound: On first use: nothing was trained yet.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        start: str | os.PathLike[str],
        *,
        loss: str | Loss = "softmax_cross_entropy",
        training: Training = TRAINING,
        measure: Any = "nDCG@10",  # noqa: ANN401 - of ir_measures
        max_length: int | None = None,
        micro: int | None = None,
        checkpointing: bool = False,
        reading: Mapping[str, Any] | None = None,
        depth: int | None = None,
        num_results: int | None = None,
        text_field: str = "text",
        verbose: bool = False,
    ) -> None:
        self.folder, self.start = (os.path.expanduser(os.fspath(path)) for path in (folder, start))
        self.loss, self.training, self.measure = loss, training, measure
        self.max_length, self.micro, self.checkpointing = max_length, micro, checkpointing
        self.reading = dict(reading or {})
        self._enrol(Pointwise(), depth=depth, num_results=num_results, text_field=text_field, verbose=verbose)

    def _learner(self) -> CrossEncoderLearner:
        """What is trained, anew."""
        from pyterrier_llmrank.training.learners import CrossEncoderLearner

        return CrossEncoderLearner(
            self.start,
            loss=self.loss,
            micro=self.micro,
            checkpointing=self.checkpointing,
            seed=self.training.seed,
            max_length=self.max_length,
            **self.reading,
        )

    def _trained(self) -> CrossEncoder:
        """What reads the folder."""
        return CrossEncoder(self.folder, max_length=self.max_length, **self.reading)

    def _code(self) -> str:
        """The same in Python."""
        told = {"max_length": self.max_length, **self.reading}
        options = [f", {name}={value!r}" for name, value in told.items() if value is not None]
        return f"CrossEncoder(folder{''.join(options)})"
