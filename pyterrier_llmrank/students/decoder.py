"""``DecoderStudent``: a language model that learns to answer ranking prompts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from pyterrier_llmrank.core import Scorer, Strategy
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.models import HFModel
from pyterrier_llmrank.prompts import PairPrompt, SetPrompt, YesNo
from pyterrier_llmrank.prompts.base import Template
from pyterrier_llmrank.scorers import BothOrders, Prompted
from pyterrier_llmrank.strategies import Heapsort, Pointwise, SlidingWindow
from pyterrier_llmrank.training.named import Loss, loss_of
from pyterrier_llmrank.training.settings import Training

from .base import TRAINING, Student

if TYPE_CHECKING:
    from pyterrier_llmrank.training.learners import DecoderLearner, Lora


class DecoderStudent(Student):
    """A language model that is trained by labels or by another pipeline to answer a ranking prompt.

    ::

        student = DecoderStudent("my-judge", "Qwen/Qwen3-0.6B", lora=Lora())            # Instruction Distillation
        student.distill(bm25 % 8 >> PairwiseLLM(strategy="allpair", top_k=None), topics, targets="rank")
        first = DecoderStudent("my-first", "Qwen/Qwen3-0.6B", ListPrompt("letters"), learns="both")     # FIRST
        bm25 >> student

    Afterwards ``folder`` is a checkpoint for ``PointwiseLLM(folder)``, ``ListwiseLLM(folder, …)`` and their like.

    Args:
        folder: Where the weights go, and are read from; those that are there already are used as they are.
        start: Folder or name of the weights to start from.
        prompt: What is asked; ``YesNo()`` by default.
        loss: Of the labels' scores: a name of ``training.losses``, or a function ``(scores, targets, mask) -> scalar``.
        learns: "labels", "text" for a written order, "both" for FIRST; by default what the prompt asks for.
        strategy: Which groups are asked about; by default ``Pointwise()``, ``Heapsort(2)`` of pairs in both orders,
            ``Heapsort(4)`` of sets, or ``SlidingWindow()``.
        lora: Low-rank adapters that are trained, such as ``training.learners.Lora()``; all weights by default.
        training: How long, how fast and how carefully.
        measure: What the best weights are chosen by, where there are validation results; higher is better.
        shuffled: How often a list is shown in random order, 0 to 1; otherwise in that of the results, which of a
            teacher's are the answer itself. Always by default.
        docs: Documents of a list that are shown at once, fewest and most, drawn anew each time; by default as many
            as ``strategy`` shows: 2 for pairs, 4 for sets and 20 for lists, where it is not told.
        max_doc_tokens: Tokens to keep of a document; all by default.
        micro: Lists of a batch that are read at once; all by default.
        depth: Candidates to rerank and to learn from; all by default.
        num_results: Rows to return for a query; all by default.
        text_field: Column of the documents' text.
        verbose: Whether reranking shows a progress bar.

    Raises:
        ConfigurationError: An argument is out of range, a loss of no known name, or ``lora`` that is not merged.
        ModelNotFound: On first use: nothing was trained yet.

    Reference:
        See ``training.learners.DecoderLearner``.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        start: str | os.PathLike[str],
        prompt: Template | None = None,
        *,
        loss: str | Loss = "rank_net",
        learns: Literal["labels", "text", "both"] | None = None,
        strategy: Strategy | None = None,
        lora: Lora | None = None,
        training: Training = TRAINING,
        measure: Any = "nDCG@10",  # noqa: ANN401 - of ir_measures
        shuffled: float = 1.0,
        docs: tuple[int, int] | None = None,
        max_doc_tokens: int | None = None,
        micro: int | None = None,
        depth: int | None = None,
        num_results: int | None = None,
        text_field: str = "text",
        verbose: bool = False,
    ) -> None:
        if lora is not None and not lora.merged:
            raise ConfigurationError(
                f"a student saves a checkpoint that stands alone, and {lora!r} an adapter that needs its base; leave "
                "out merged=False, or train a DecoderLearner"
            )
        self.folder, self.start = (os.path.expanduser(os.fspath(path)) for path in (folder, start))
        self.prompt: Template = prompt or YesNo()
        self.loss, self.learns, self.lora = loss, learns, lora
        self.training, self.measure = training, measure
        strategy = strategy or _usual(self.prompt)
        self.shuffled, self.docs = shuffled, docs or _shown(self.prompt, strategy)
        self.max_doc_tokens, self.micro = max_doc_tokens, micro
        self.gives = self.prompt.gives
        told = {"depth": depth, "num_results": num_results, "text_field": text_field, "verbose": verbose}
        self._enrol(strategy, **told)  # type: ignore[arg-type]

    def _learner(self) -> DecoderLearner:
        """What is trained, anew."""
        from pyterrier_llmrank.training.learners import DecoderLearner, Lesson

        question = Lesson(
            self.prompt,
            loss_of(self.loss),
            learns=self.learns,
            docs=self.docs,
            shuffled=self.shuffled,
            max_doc_tokens=self.max_doc_tokens,
        )
        return DecoderLearner(self.start, question, lora=self.lora, micro=self.micro, seed=self.training.seed)

    def _trained(self) -> Scorer:
        """What reads the folder."""
        return self._asked(Prompted(self.prompt, HFModel(self.folder), self.max_doc_tokens))

    def _asked(self, scorer: Scorer) -> Scorer:
        """Pairs in both orders."""
        return BothOrders(scorer) if isinstance(self.prompt, PairPrompt) else scorer

    def _code(self) -> str:
        """The same in Python."""
        limit = "" if self.max_doc_tokens is None else f", {self.max_doc_tokens}"
        code = f"Prompted({self.prompt!r}, HFModel(folder){limit})"
        return f"BothOrders({code})" if isinstance(self.prompt, PairPrompt) else code


def _usual(prompt: Template) -> Strategy:
    """The strategy for what a prompt shows."""
    if prompt.max_docs == 1:
        return Pointwise()
    if isinstance(prompt, PairPrompt | SetPrompt):
        return Heapsort(2 if isinstance(prompt, PairPrompt) else 4)
    return SlidingWindow()


def _shown(prompt: Template, strategy: Strategy) -> tuple[int, int] | None:
    """How many documents are shown at once, by a strategy or by the usual one; None where they are single ones."""
    if prompt.max_docs == 1:
        return None
    sizes = (getattr(one, name, None) for one in (strategy, _usual(prompt)) for name in ("window", "group_size"))
    most = next(size for size in sizes if size)
    most = most if prompt.max_docs is None else min(most, prompt.max_docs)
    return most, most
