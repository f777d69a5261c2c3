"""``SetEncoderStudent``: learns to score the documents of a list in the light of one another."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pyterrier_llmrank.core import Evidence
from pyterrier_llmrank.scorers import SetEncoder
from pyterrier_llmrank.strategies import OneShot
from pyterrier_llmrank.training.named import Loss
from pyterrier_llmrank.training.settings import Training

from .base import TRAINING, Student

if TYPE_CHECKING:
    from pyterrier_llmrank.training.learners import SetEncoderLearner


class SetEncoderStudent(Student):
    """A Set-Encoder that is trained by labels or by another pipeline.

    ``SetEncoderStudent("my-reranker", "bert-base-uncased").distill(bm25 % 100 >> ListwiseLLM(), topics,
    targets="rank")`` is Rank-DistiLLM. Afterwards ``folder`` is a checkpoint that ``SetEncoder(folder)`` loads.

    Args:
        folder: Where the weights go, and are read from; those that are there already are used as they are.
        start: Folder or name of the weights to start from, see ``SetEncoderLearner``.
        loss: A name of ``training.losses``, or a function ``(scores, targets, mask) -> scalar``.
        training: How long, how fast and how carefully.
        measure: What the best weights are chosen by, where there are validation results; higher is better.
        max_query_tokens: Tokens to keep of a query; those of the start, or 32, by default.
        max_doc_tokens: Tokens to keep of a document; those of the start, or 256, by default.
        micro: Lists of a batch that are read at once; all by default.
        checkpointing: Whether states within the network are computed again for the gradient, to save memory.
        depth: Candidates to rerank and to learn from; all by default.
        num_results: Rows to return for a query; all by default.
        text_field: Column of the documents' text.
        verbose: Whether reranking shows a progress bar.

    Raises:
        ConfigurationError: An argument is out of range, or a loss of no known name.
        ModelNotFound: On first use: nothing was trained yet.

    Reference:
        Schlatt et al., 2025 (Set-Encoder); Schlatt et al., 2025 (Rank-DistiLLM).
    """

    gives = Evidence.ORDER

    def __init__(
        self,
        folder: str | os.PathLike[str],
        start: str | os.PathLike[str],
        *,
        loss: str | Loss = "rank_net",
        training: Training = TRAINING,
        measure: Any = "nDCG@10",  # noqa: ANN401 - of ir_measures
        max_query_tokens: int | None = None,
        max_doc_tokens: int | None = None,
        micro: int | None = None,
        checkpointing: bool = False,
        depth: int | None = None,
        num_results: int | None = None,
        text_field: str = "text",
        verbose: bool = False,
    ) -> None:
        self.folder, self.start = (os.path.expanduser(os.fspath(path)) for path in (folder, start))
        self.loss, self.training, self.measure = loss, training, measure
        self.max_query_tokens, self.max_doc_tokens = max_query_tokens, max_doc_tokens
        self.micro, self.checkpointing = micro, checkpointing
        self._enrol(OneShot(), depth=depth, num_results=num_results, text_field=text_field, verbose=verbose)

    def _learner(self) -> SetEncoderLearner:
        """What is trained, anew."""
        from pyterrier_llmrank.training.learners import SetEncoderLearner

        return SetEncoderLearner(
            self.start,
            loss=self.loss,
            micro=self.micro,
            checkpointing=self.checkpointing,
            seed=self.training.seed,
            max_query_tokens=self.max_query_tokens,
            max_doc_tokens=self.max_doc_tokens,
        )

    def _trained(self) -> SetEncoder:
        """What reads the folder."""
        return SetEncoder(self.folder)

    def _code(self) -> str:
        """The same in Python."""
        return "SetEncoder(folder)"
