"""What scorers share that show documents to a language model in a prompt."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pyterrier_llmrank.core import Answer, Evidence, Prompt, Question, Scores, Usage, brief, silence
from pyterrier_llmrank.errors import ConfigurationError, LLMRankWarning, Unsupported
from pyterrier_llmrank.models import Model, Sampling
from pyterrier_llmrank.models.base import Primitive
from pyterrier_llmrank.models.partial import carrying, finished, spans, whole
from pyterrier_llmrank.prompts.base import ChoiceTemplate, Status, Template
from pyterrier_llmrank.prompts.demonstrations import plainly
from pyterrier_llmrank.prompts.truncation import fit
from pyterrier_llmrank.seeds import derived

from .labels import Labelled, read_labels
from .limits import check_limits

SLACK = 8  # tokens that an answer may take beyond what was expected
EDGE = 2  # tokens that a label may take more after a prompt than alone
LITTLE = 1e-3  # of the probability on all labels together: the model answers something else

TELLING = "a model that tells them: HFModel(name), or a server such as vLLM or llama-server"
MEANT: Mapping[str, str] = {
    "choices": " (log-probabilities of the next token)",
    "continuation": " (log-probabilities of a text)",
}
REMEDIES: Mapping[Primitive, str] = {
    "choices": f"a prompt whose answer is written, such as ScorePrompt() or ListPrompt(), or {TELLING}",
    "continuation": "a model that tells them: HFModel(name), or a server such as vLLM",
    "constrained": "decode='generate'",
    "generate": "a prompt that asks for the probabilities of labels, such as YesNo()",
}


class Item(NamedTuple):
    """What one prompt shows.

    Attributes:
        query: Plain text.
        texts: Of the documents, plain.
        names: The qid and the docnos.
    """

    query: str
    texts: tuple[str, ...]
    names: tuple[str, ...]


class Reply(NamedTuple):
    """What came of one prompt."""

    scores: Scores
    usage: Usage


@dataclass(frozen=True, repr=False)
class Showing:
    """A scorer that renders questions with a template, for a model to answer; what it reads, ``_replies`` says."""

    prompt: Template
    model: Model
    max_doc_tokens: int | None = None
    _said: list[str] = field(init=False, repr=False, compare=False, default_factory=list)  # warnings are said once

    __repr__ = brief

    def __post_init__(self) -> None:
        if getattr(self.prompt, "asks", None) is None:
            raise ConfigurationError(f"{self.prompt!r} is not a prompt: pass one such as YesNo() or ListPrompt()")
        probed = is_probed(self.model)
        if not probed and getattr(self.model, "can", None) is None:
            raise ConfigurationError(f"{self.model!r} is not a model: pass one such as HFModel('Qwen/Qwen3-0.6B')")
        check_limits(self, "max_doc_tokens")
        if not probed:
            self._check_primitives()

    @property
    def gives(self) -> Evidence:
        """What the prompt's scores tell."""
        return self.prompt.gives

    @property
    def max_docs(self) -> int | None:
        """Documents of one prompt; any number where each has a prompt of its own."""
        return None if self.prompt.max_docs == 1 else self.prompt.max_docs

    @property
    def selects(self) -> bool:
        """Whether the prompt selects documents: above 0, and 0 for those rejected."""
        return bool(getattr(self.prompt, "selects", False))

    def load(self) -> None:
        """Loads the model; of a server it is known then whether it offers what the prompt asks for.

        Raises:
            Unsupported: It does not.
        """
        self.model.load()
        self._check_primitives()

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question; all prompts of all questions go to the model together.

        An exception carries the answers to questions whose prompts were all answered before it, as ``finished``.
        """
        if not questions:
            return []
        alone = self.prompt.max_docs == 1
        items: list[Item] = []
        for question in questions:
            groups = [(doc,) for doc in question.docs] if alone else [question.docs]
            query = self.model.plain(question.query)
            for docs in groups:
                texts = tuple(self.model.plain(doc.text) for doc in docs)
                items.append(Item(query, texts, (question.qid, *(doc.docno for doc in docs))))
        own = spans(len(question.docs) if alone else 1 for question in questions)

        def early(error: Exception) -> dict[int, Answer]:
            told = whole(finished(error, "", items), own)
            return {at: _answer(replies) for at, replies in told.items() if replies}

        with carrying(questions, early):
            replies = self._replies(plainly(self.prompt, self.model.plain), items)
        return [_answer([replies[place] for place in part]) for part in own]

    def _check_primitives(self) -> None:
        for primitive in self._primitives():
            if primitive not in self.model.can:
                remedy, meant = REMEDIES[primitive], MEANT.get(primitive, "")
                if primitive == "choices" and getattr(self.prompt, "decode", None) is not None:
                    remedy = f"decode='generate', or {TELLING}"
                raise Unsupported(
                    f"{self.prompt!r} asks for {primitive!r}{meant}, which {self.model!r} does not offer; use {remedy}"
                )

    def _primitives(self) -> tuple[Primitive, ...]:
        """What the model must offer."""
        return (self.prompt.asks,)

    def _replies(self, template: Template, items: Sequence[Item]) -> list[Reply]:
        """What comes of each item, shown with ``template``."""
        raise NotImplementedError

    def _fitted(
        self, template: Template, items: Sequence[Item], reserve: Sequence[int]
    ) -> tuple[list[Prompt], list[int]]:
        """Prompts that leave room for the answer, and the document tokens each of them lost."""
        shown = [(item.query, item.texts) for item in items]
        fitted = fit(template, shown, self.model, reserve=reserve, max_doc_tokens=self.max_doc_tokens)
        return [one.prompt for one in fitted], [one.lost for one in fitted]

    def _rooms_of_labels(self, template: ChoiceTemplate, items: Sequence[Item]) -> list[int]:
        """Tokens to leave behind each prompt for the longest of its labels, which may be read as a whole text."""
        options = [template.options(len(item.texts)) for item in items]
        long = [*{name: None for names in options for name in names if len(name.encode()) > SLACK}]
        ends = self.model.token_ends(long) if long else []
        lengths = {name: len(tokens) + EDGE for name, tokens in zip(long, ends, strict=True)}
        return [max([SLACK, *(lengths[name] for name in names if name in lengths)]) for names in options]

    def _labelled(self, template: ChoiceTemplate, prompts: Sequence[Prompt], items: Sequence[Item]) -> list[Labelled]:
        """The labels after each prompt, in the template's unit."""
        labels = [template.options(len(item.texts)) for item in items]
        logits = getattr(template, "unit", None) == "logit"
        read = read_labels(self.model, prompts, labels, logits=logits)
        if not logits:  # which say nothing of the rest of the vocabulary
            self._check_mass(read)
        return read

    def _check_mass(self, read: Sequence[Labelled]) -> None:
        """Warns where the model would rather say something else than any of the labels."""
        mass = float(np.mean([one.mass for one in read])) if read else 1.0
        if mass < LITTLE and not self._said:
            self._said.append("mass")
            warnings.warn(
                f"{self.model!r} puts only {mass:.1e} of its probability on the answers of "
                f"{type(self.prompt).__name__}: scores may mean little; is this an instruction-tuned model, with its "
                "own chat template?",
                LLMRankWarning,
                stacklevel=2,
            )


def _answer(replies: Sequence[Reply]) -> Answer:
    """About one question, from what came of its prompts."""
    usage = sum((reply.usage for reply in replies), Usage())
    return Answer(np.concatenate([reply.scores for reply in replies]), usage)


def is_probed(model: object) -> bool:
    """Whether what a model can do is not known before its server was asked; also of one that is wrapped."""
    inner = getattr(model, "inner", None)
    return bool(getattr(model, "probed", False)) or (inner is not None and is_probed(inner))


def drawing(sampling: Sampling | None, seed: int, items: Sequence[Item]) -> dict[str, Any]:
    """Arguments of ``generate``: none to answer greedily, else a seed of each item's own."""
    if sampling is None:
        return {}
    return {"sampling": sampling, "seeds": [derived(seed, *item.names) for item in items]}


def replied(scores: Scores, status: Status, usage: Usage, lost: int) -> Reply:
    """Scores with their cost; all NaN is a failure."""
    failed = bool(np.isnan(scores).all())
    repaired = not failed and status == "repaired"
    told = Usage(failures=failed and not usage.failures, repaired=repaired, truncated_tokens=lost)
    return Reply(silence(len(scores)) if failed else scores, usage + told)
