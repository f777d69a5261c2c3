"""What every wrapper shares: a call of any primitive as one value, and the rest of a model or scorer passed through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyterrier_llmrank.core import Answer, Evidence, Prompt, Question, brief
from pyterrier_llmrank.errors import ConfigurationError, ScoringError
from pyterrier_llmrank.models import ChoiceScores, Generation, Sampling, TokenLogprobs, partial
from pyterrier_llmrank.models.base import Primitive
from pyterrier_llmrank.parts import is_model, is_scorer


@dataclass(frozen=True, eq=False)
class Request:
    """One call of a primitive: a list of items that maps to a list of answers of equal length.

    Attributes:
        primitive: Name of the method: ``__call__`` of a scorer, or one of a model's.
        columns: Positional arguments, each with one value per item.
        named: Keyword arguments with one value per item.
        shared: Keyword arguments that are the same for all.

    Raises:
        ConfigurationError: An argument has too few or too many values.
    """

    primitive: str
    columns: tuple[Sequence[Any], ...]
    named: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    shared: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = [len(column) for column in (*self.columns, *self.named.values())]
        if len(set(sizes)) > 1:
            raise ConfigurationError(f"{self.primitive} takes lists of equal length, got lengths {sizes}")

    def __len__(self) -> int:
        """Number of items."""
        return len(self.columns[0])

    def items(self) -> Iterator[tuple[Any, ...]]:
        """What each item is asked with."""
        return zip(*self.columns, *self.named.values(), strict=True)

    def item(self, place: int) -> tuple[Any, ...]:
        """What one of them is asked with."""
        return tuple(column[place] for column in (*self.columns, *self.named.values()))

    def part(self, places: Sequence[int]) -> Request:
        """The same call of some of the items."""
        columns = tuple([column[place] for place in places] for column in self.columns)
        named = {name: [column[place] for place in places] for name, column in self.named.items()}
        return Request(self.primitive, columns, named, self.shared)

    def ask(self, inner: object) -> list[Any]:
        """The answers of a model or scorer, one per item.

        Raises:
            ScoringError: There are more, or fewer.
        """
        answers: list[Any] = getattr(inner, self.primitive)(*self.columns, **self.named, **self.shared)
        if len(answers) != len(self):
            raise ScoringError(f"{inner!r} gave {len(answers)} answers to {len(self)} items of one call")
        return answers


def finished(error: BaseException, request: Request) -> dict[int, Any]:
    """Answers by place that a failed request got before it failed; empty where the exception carries none.

    An exception carries them as an attribute ``finished``: the list that was asked (the very object, so that no other
    call's answers are taken for these), and its answers by place. A model may also raise a ``ModelError`` with a list
    ``partial``, one place per prompt.
    """
    return partial.finished(error, request.primitive, request.columns[0])


def carry(error: BaseException, request: Request, answers: Mapping[int, Any]) -> None:
    """Lets an exception carry the answers that ``request`` got before it failed."""
    partial.carry(error, request.columns[0], answers)


def bare(part: object) -> object:
    """What is within all wrappers."""
    while isinstance(part, Wrapping):
        part = part.inner
    return part


@dataclass(frozen=True, repr=False)
class Wrapping:
    """A model or scorer around another one, which it asks in ``_answers``; everything else it passes through."""

    inner: Any

    __repr__ = brief

    def __post_init__(self) -> None:
        if not (is_scorer(self.inner) or is_model(self.inner)):
            raise ConfigurationError(
                f"{type(self).__name__} wraps a model or a scorer, and {self.inner!r} is neither: pass one such as "
                "HFModel(name) or Prompted(YesNo(), model)"
            )

    def identity(self) -> object:
        """What its answers depend on (see ``fingerprint``): a wrapper changes none."""
        return self.inner

    def _answers(self, request: Request) -> list[Any]:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the inner one has
        """What only some models or scorers have."""
        if name.startswith("_") or name == "inner":  # which a half-built copy lacks
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.inner, name)

    def __getstate__(self) -> dict[str, Any]:
        """Its arguments; what was worked out from them is worked out again."""
        return {name: value for name, value in vars(self).items() if name in self.__dataclass_fields__}

    def load(self) -> None:
        """Loads what the inner one needs, if it needs anything."""
        load = getattr(self.inner, "load", None)
        if load is not None:
            load()

    # a scorer's

    @property
    def gives(self) -> Evidence:
        """What the scorer's scores tell."""
        return self.inner.gives  # type: ignore[no-any-return]

    @property
    def max_docs(self) -> int | None:
        """Documents of the largest group that the scorer takes."""
        return self.inner.max_docs  # type: ignore[no-any-return]

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question."""
        return self._answers(Request("__call__", (questions,))) if questions else []

    # a model's

    @property
    def can(self) -> frozenset[Primitive]:
        """The primitives that the model offers."""
        return self.inner.can  # type: ignore[no-any-return]

    @property
    def context(self) -> int | None:
        """Tokens that a prompt and its answer may hold together; None if unbounded."""
        return self.inner.context  # type: ignore[no-any-return]

    def plain(self, text: str) -> str:
        """``text`` with the model's control tokens broken up."""
        return self.inner.plain(text)  # type: ignore[no-any-return]

    def token_ends(self, texts: Sequence[str]) -> list[list[int]]:
        """Where each token of each text ends, in characters."""
        return self.inner.token_ends(texts)  # type: ignore[no-any-return]

    def lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt, rendered."""
        return self.inner.lengths(prompts)  # type: ignore[no-any-return]

    def choices(self, prompts: Sequence[Prompt], labels: Sequence[Sequence[str]]) -> list[ChoiceScores]:
        """Log-probability of each of a prompt's labels as its next token."""
        return self._answers(Request("choices", (prompts, [tuple(own) for own in labels]))) if prompts else []

    def continuation(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[TokenLogprobs]:
        """Log-probabilities of one text after each prompt."""
        return self._answers(Request("continuation", (prompts, texts))) if prompts else []

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_tokens: int,
        stop: Sequence[str] = (),
        sampling: Sampling | None = None,
        seeds: Sequence[int] | None = None,
        **more: Any,  # noqa: ANN401 - what only some models take
    ) -> list[Generation]:
        """The model's answers: greedily decoded, or sampled; ``more`` is the same for all prompts."""
        shared = {"max_tokens": max_tokens, "stop": tuple(stop), "sampling": sampling, **more}
        named = {} if seeds is None else {"seeds": seeds}
        return self._answers(Request("generate", (prompts,), named, shared)) if prompts else []
