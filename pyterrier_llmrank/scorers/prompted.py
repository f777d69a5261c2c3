"""``Prompted``: a prompt read by a language model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, cast

import numpy as np

from pyterrier_llmrank.core import Answer, Evidence, Prompt, Question, Scores, Usage, brief, silence
from pyterrier_llmrank.errors import ConfigurationError, LLMRankWarning, SeveralTokens, Unsupported
from pyterrier_llmrank.models import Model
from pyterrier_llmrank.prompts.base import ChoiceTemplate, Status, Template, TextTemplate
from pyterrier_llmrank.prompts.truncation import fit

SLACK = 8  # tokens that a written answer may take beyond the longest one expected
LITTLE = 1e-3  # of the probability on all labels together: the model answers something else


class Item(NamedTuple):
    """What one prompt shows."""

    query: str
    texts: tuple[str, ...]


class Reply(NamedTuple):
    """What came of one prompt."""

    scores: Scores
    usage: Usage


@dataclass(frozen=True, repr=False)
class Prompted:
    """Shows documents to a language model in a prompt, and reads scores from its answer.

    Documents and queries are plain text to the model, whatever control tokens they spell. Documents that exceed the
    context are shortened evenly, and what was cut is counted. An answer that cannot be read is NaN for all its
    documents, and counted as a failure.

    Args:
        prompt: What to ask, e.g. ``YesNo()`` or ``ListPrompt()``.
        model: Who answers, e.g. ``HFModel(name)``.
        max_doc_tokens: Tokens to keep of any document; all that fit by default.

    Raises:
        ConfigurationError: ``prompt`` is not a prompt, ``model`` not a model.
        Unsupported: The model does not offer what the prompt asks for.
    """

    prompt: Template
    model: Model
    max_doc_tokens: int | None = None
    _said: list[str] = field(init=False, repr=False, compare=False, default_factory=list)  # warnings are said once

    __repr__ = brief

    def __post_init__(self) -> None:
        if getattr(self.prompt, "asks", None) is None:
            raise ConfigurationError(f"{self.prompt!r} is not a prompt: pass one such as YesNo() or ListPrompt()")
        if getattr(self.model, "can", None) is None:
            raise ConfigurationError(f"{self.model!r} is not a model: pass one such as HFModel('Qwen/Qwen3-0.6B')")
        if self.max_doc_tokens is not None and self.max_doc_tokens < 1:
            raise ConfigurationError(f"max_doc_tokens must be at least 1, got {self.max_doc_tokens}")
        if self.prompt.asks not in self.model.can:
            raise Unsupported(f"{self.prompt!r} asks for {self.prompt.asks!r}, which {self.model!r} does not offer")

    @property
    def gives(self) -> Evidence:
        """What the prompt's scores tell."""
        return self.prompt.gives

    @property
    def max_docs(self) -> int | None:
        """Documents of one prompt; any number where each has a prompt of its own."""
        return None if self.prompt.max_docs == 1 else self.prompt.max_docs

    def load(self) -> None:
        """Loads the model."""
        self.model.load()

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question; all prompts of all questions go to the model together."""
        if not questions:
            return []
        alone = self.prompt.max_docs == 1
        items: list[Item] = []
        for question in questions:
            query = self.model.plain(question.query)
            texts = tuple(self.model.plain(doc.text) for doc in question.docs)
            items += [Item(query, (text,)) for text in texts] if alone else [Item(query, texts)]
        replies = iter(self._chosen(items) if self.prompt.asks == "choices" else self._written(items))
        answers = []
        for question in questions:
            own = [next(replies) for _ in (question.docs if alone else (question,))]
            usage = sum((reply.usage for reply in own), Usage())
            answers.append(Answer(np.concatenate([reply.scores for reply in own]), usage))
        return answers

    def _fitted(self, items: Sequence[Item], reserve: Sequence[int]) -> tuple[list[Prompt], list[int]]:
        """Prompts that leave room for the answer, and the document tokens each of them lost."""
        fitted = fit(self.prompt, items, self.model, reserve=reserve, max_doc_tokens=self.max_doc_tokens)
        return [one.prompt for one in fitted], [one.lost for one in fitted]

    def _chosen(self, items: Sequence[Item]) -> list[Reply]:
        """Scores from the probabilities of labels."""
        template = cast(ChoiceTemplate, self.prompt)
        prompts, lost = self._fitted(items, [SLACK] * len(items))
        labels = [template.options(len(item.texts)) for item in items]
        logprobs, usages = _label_logprobs(self.model, prompts, labels)
        self._check_mass(logprobs)
        replies = []
        for item, values, usage, gone in zip(items, logprobs, usages, lost, strict=True):
            scores = template.read(values, len(item.texts))
            replies.append(_reply(scores, "ok", usage, gone))
        return replies

    def _written(self, items: Sequence[Item]) -> list[Reply]:
        """Scores from written answers; answers of equal length are generated together."""
        template = cast(TextTemplate, self.prompt)
        longest = {n: template.longest(n) for n in {len(item.texts) for item in items}}
        ends = self.model.token_ends(list(longest.values()))
        room = {n: len(tokens) + SLACK for n, tokens in zip(longest, ends, strict=True)}
        prompts, lost = self._fitted(items, [room[len(item.texts)] for item in items])
        replies: dict[int, Reply] = {}
        for n, max_tokens in room.items():
            places = [place for place, item in enumerate(items) if len(item.texts) == n]
            written = self.model.generate([prompts[place] for place in places], max_tokens=max_tokens)
            for place, generation in zip(places, written, strict=True):
                replies[place] = _reply(*template.parse(generation.text, n), generation.usage, lost[place])
        return [replies[place] for place in range(len(items))]

    def _check_mass(self, logprobs: Sequence[Scores]) -> None:
        """Warns where the model would rather say something else than any of the labels."""
        mass = float(np.mean([np.exp(values).sum() for values in logprobs])) if logprobs else 1.0
        if mass < LITTLE and not self._said:
            self._said.append("mass")
            warnings.warn(
                f"{self.model!r} puts only {mass:.1e} of its probability on the answers of "
                f"{type(self.prompt).__name__}: scores may mean little; is this an instruction-tuned model, with its "
                "own chat template?",
                LLMRankWarning,
                stacklevel=2,
            )


def _label_logprobs(
    model: Model, prompts: Sequence[Prompt], labels: Sequence[tuple[str, ...]]
) -> tuple[list[Scores], list[Usage]]:
    """Log-probabilities of labels as next tokens; as whole continuations where they are not single tokens.

    Prompts with other labels go apart, so that it depends on none of them how a prompt is read.
    """
    read: dict[int, tuple[Scores, Usage]] = {}
    for names in dict.fromkeys(labels):
        places = [place for place, own in enumerate(labels) if own == names]
        own = [prompts[place] for place in places]
        try:
            scored = [(one.logprobs, one.usage) for one in model.choices(own, [names] * len(own))]
        except SeveralTokens:
            if "continuation" not in model.can:
                raise
            scored = _spelled_out(model, own, names)
        read.update(zip(places, scored, strict=True))
    return [read[place][0] for place in range(len(prompts))], [read[place][1] for place in range(len(prompts))]


def _spelled_out(model: Model, prompts: Sequence[Prompt], names: Sequence[str]) -> list[tuple[Scores, Usage]]:
    """Log-probabilities of labels as whole texts.

    The beginning of the answer counts as a part of each, as a label that merges with it could not be compared else.
    """
    bare = [replace(prompt, answer="") for prompt in prompts for _ in names]
    read = iter(model.continuation(bare, [prompt.answer + name for prompt in prompts for name in names]))
    scored = []
    for _ in prompts:
        own = [next(read) for _ in names]
        sums = np.array([one.logprobs.sum() for one in own])
        scored.append((sums, sum((one.usage for one in own), Usage())))
    return scored


def _reply(scores: Scores, status: Status, usage: Usage, lost: int) -> Reply:
    """Scores with their cost; all NaN is a failure."""
    failed = bool(np.isnan(scores).all())
    told = Usage(failures=failed, repaired=not failed and status == "repaired", truncated_tokens=lost)
    usage = usage + told
    return Reply(silence(len(scores)) if failed else scores, usage)
