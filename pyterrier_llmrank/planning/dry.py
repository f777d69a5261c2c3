"""Scorers that ask nobody: they render every prompt and count its tokens, and no model runs, or is even loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Answer, Evidence, Prompt, Question, Scorer, Usage
from pyterrier_llmrank.middleware.wrapping import Wrapping
from pyterrier_llmrank.models import ChoiceScores, Generation, HFModel, Permutation, Sampling, TokenLogprobs
from pyterrier_llmrank.models.base import Primitive
from pyterrier_llmrank.models.hf.weightless import beside
from pyterrier_llmrank.parts import is_model, is_scorer
from pyterrier_llmrank.scorers import Ensemble, QueryLikelihood
from pyterrier_llmrank.scorers.around import Around
from pyterrier_llmrank.scorers.showing import Showing

from .rulers import Ruler, ruler_of

ASKS_ONLY = (Around, Ensemble, Showing, QueryLikelihood)  # change nothing, so that they can run with stand-ins
WORD = " the"  # a token of nearly every vocabulary, and of the estimate


@dataclass
class Tally:
    """What stand-ins note beside the usage of their answers.

    Attributes:
        counted: How tokens were counted: "tokenizer", "estimate", or "unknown".
        output: Most tokens that could have been written.
    """

    counted: set[str] = field(default_factory=set)
    output: int = 0


def dry(scorer: Scorer, tally: Tally, answer_tokens: int | None = None) -> Scorer:
    """A scorer with the costs of ``scorer``, and without its answers; nothing is run, loaded or written.

    Wrappers such as ``Cached`` are taken off: what they would save is not known. A scorer that asks others or a model
    in ways of its own is not run either, but may say what questions cost with a method ``planned(questions)`` that
    returns one ``Usage`` each; else a question is a call, whose tokens are unknown.

    Args:
        scorer: What will be asked.
        tally: Where stand-ins leave notes.
        answer_tokens: Tokens that a written answer is expected to have; as many as it may have by default.
    """
    part: Any = scorer
    while isinstance(part, Wrapping):
        part = part.inner
    if not isinstance(part, ASKS_ONLY):
        return Leaf(part, tally)
    return replace(part, **_stand_ins(part, tally, answer_tokens))  # type: ignore[type-var, return-value]


def _stand_ins(part: Any, tally: Tally, answer_tokens: int | None) -> dict[str, Any]:  # noqa: ANN401 - a dataclass
    """Stand-ins for the scorers and models in the fields of a scorer."""

    def of(value: object) -> object:
        if isinstance(value, tuple):
            return tuple(map(of, value))
        while isinstance(value, Wrapping):
            value = value.inner
        if is_model(value):
            return DryModel(value, tally, answer_tokens)
        return dry(value, tally, answer_tokens) if is_scorer(value) else value  # type: ignore[arg-type]

    values = {one.name: getattr(part, one.name) for one in fields(part) if one.init}
    return {name: made for name, value in values.items() if (made := of(value)) is not value}


@dataclass(frozen=True)
class Leaf:
    """Stands in for a scorer that answers by itself."""

    scorer: Any
    tally: Tally = field(repr=False, compare=False)

    @property
    def gives(self) -> Evidence:
        """What the scorer gives."""
        return self.scorer.gives  # type: ignore[no-any-return]

    @property
    def max_docs(self) -> int | None:
        """Documents of the largest group that the scorer takes."""
        return getattr(self.scorer, "max_docs", None)

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """What each question would cost, with no answer in it."""
        planned = getattr(self.scorer, "planned", None)
        usages = [Usage(calls=1)] * len(questions) if planned is None else planned(questions)
        self.tally.counted.add("unknown" if planned is None else "tokenizer")
        return [Answer(np.zeros(len(q.docs)), usage) for q, usage in zip(questions, usages, strict=True)]


@dataclass(frozen=True)
class DryModel:
    """Stands in for a model: finds every label equally probable, and writes as long as it is expected to."""

    model: Any
    tally: Tally = field(repr=False, compare=False)
    answer_tokens: int | None = None

    @property
    def can(self) -> frozenset[Primitive]:
        """Everything: what the model cannot do was said when the scorer was made."""
        return frozenset({"choices", "continuation", "generate", "constrained", "attention"})

    @cached_property
    def _ruler(self) -> Ruler:
        return ruler_of(self.model)

    @property
    def context(self) -> int | None:
        """As the model's."""
        return self._ruler.context

    def load(self) -> None:
        """Loads nothing."""

    def plain(self, text: str) -> str:
        """As the model does it."""
        return self._ruler.plain(text)

    def token_ends(self, texts: Sequence[str]) -> list[list[int]]:
        """As the model does it."""
        return self._ruler.token_ends(texts)

    def lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """As the model does it."""
        return self._ruler.lengths(prompts)

    def _usages(self, prompts: Sequence[Prompt], output: int = 0) -> list[Usage]:
        self.tally.counted.add(getattr(self._ruler, "counted", "tokenizer"))
        return [Usage(1, length, output_tokens=output) for length in self.lengths(prompts)]

    def choices(self, prompts: Sequence[Prompt], labels: Sequence[Sequence[str]]) -> list[ChoiceScores]:
        """Equal shares.

        Raises:
            SeveralTokens: A label is more than one token, and has to be asked for in another way.
        """
        more = beside(self._ruler, prompts, labels) if isinstance(self._ruler, HFModel) else [0] * len(prompts)
        return [
            ChoiceScores(
                np.full(len(own), -np.log(len(own))),
                np.zeros(len(own), dtype=bool),
                replace(usage, prompt_tokens=usage.prompt_tokens + tokens),
                0.0,
            )
            for own, usage, tokens in zip(labels, self._usages(prompts), more, strict=True)
        ]

    def continuation(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[TokenLogprobs]:
        """Certainty about every token."""
        ends = self.token_ends(texts)
        return [
            TokenLogprobs(np.zeros(len(tokens)), replace(usage, prompt_tokens=usage.prompt_tokens + len(tokens)))
            for tokens, usage in zip(ends, self._usages(prompts), strict=True)
        ]

    def states(self, prompts: Sequence[Prompt]) -> list[tuple[NDArray[np.float64], Usage]]:
        """Hidden states that tell nothing apart."""
        return [(np.zeros(1), usage) for usage in self._usages(prompts)]

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_tokens: int,
        stop: Sequence[str] = (),
        sampling: Sampling | None = None,
        seeds: Sequence[int] | None = None,
        constraint: Permutation | None = None,
        **more: object,
    ) -> list[Generation]:
        """A word over and over: as many tokens as an answer is expected to have, but no more than it may.

        A server that holds answers to a permutation reads a prompt once a choice.
        """
        length = max_tokens if self.answer_tokens is None else min(max_tokens, self.answer_tokens)
        self.tally.output += max_tokens * len(prompts)
        usages = self._usages(prompts, length)
        if constraint is not None and getattr(self.model, "probed", False):
            times = min(constraint.length or len(constraint.items), len(constraint.items) - 1)
            usages = [replace(one, calls=times, prompt_tokens=times * one.prompt_tokens) for one in usages]
        return [Generation(WORD * length, "stop", usage) for usage in usages]
