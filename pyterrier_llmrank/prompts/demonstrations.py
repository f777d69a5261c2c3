"""Solved examples before the question, for any prompt: fixed ones, or chosen by the query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, TypeVar, cast

from pyterrier_llmrank.core import Evidence, Message, Prompt, brief
from pyterrier_llmrank.errors import ConfigurationError

from .base import ChoiceTemplate, Template, TextTemplate
from .truncation import Renderer

R = TypeVar("R")


@dataclass(frozen=True)
class Demonstration:
    """One solved example.

    Attributes:
        query: The query.
        texts: The documents shown with it, in that order.
        answer: What the model should write, after what the prompt has its answer begin with; the query itself for query
            likelihood.

    Raises:
        ConfigurationError: There is no document, or no answer.
    """

    query: str
    texts: tuple[str, ...]
    answer: str

    def __post_init__(self) -> None:
        if isinstance(self.texts, str) or not self.texts:
            raise ConfigurationError(f"a demonstration needs a tuple of one text or more, got {self.texts!r}")
        if not self.answer.strip():
            raise ConfigurationError(f"the demonstration about {self.query!r} has no answer; write what is right")


Chooser: TypeAlias = Callable[[str], tuple[Demonstration, ...]]
"""Demonstrations for a query, in the order in which they are shown."""


@dataclass(frozen=True, repr=False)
class Demonstrated:
    """Any prompt, with solved examples before the question.

    Each is shown as the prompt itself shows a question, and is followed by its answer as the model's own turn; the
    system turn comes once. Raw prompts are put one after the other, with a blank line between. Whatever else the prompt
    can do, this one can do.

    Args:
        prompt: What is asked, such as ``PairPrompt()``, ``YesNo()`` or ``QueryPrompt()``.
        demonstrations: A tuple of them, or a function from a query to such a tuple, such as ``Similar(examples)``.

    Raises:
        ConfigurationError: There is none, or one does not fit: more documents than the prompt can show, or an answer
            that the prompt cannot read. Those that a function chooses are checked when they are shown.
    """

    prompt: Renderer
    demonstrations: tuple[Demonstration, ...] | Chooser
    _turns: dict[str, list[Message]] = field(init=False, repr=False, compare=False, default_factory=dict)  # by query

    __repr__ = brief

    def __post_init__(self) -> None:
        if callable(self.demonstrations):
            return
        if not isinstance(self.demonstrations, tuple) or not self.demonstrations:
            raise ConfigurationError(
                f"demonstrations must be a tuple of one or more, or a function of the query, got "
                f"{self.demonstrations!r}; without any, use {self.prompt!r} itself"
            )
        self._check(self.demonstrations)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the prompt has
        """What is asked of the prompt beyond the protocols, such as ``unit``."""
        return getattr(object.__getattribute__(self, "prompt"), name)

    @property
    def bare(self) -> Renderer:
        """The prompt without demonstrations."""
        return self.prompt

    @property
    def gives(self) -> Evidence:
        """What the prompt gives."""
        return cast(Template, self.prompt).gives

    @property
    def max_docs(self) -> int | None:
        """Documents that the prompt can show."""
        return cast(Template, self.prompt).max_docs

    @property
    def asks(self) -> Literal["choices", "generate"]:
        """What the prompt asks for."""
        return cast(Template, self.prompt).asks

    def shown(self, query: str) -> tuple[Demonstration, ...]:
        """The demonstrations for a query."""
        if not callable(self.demonstrations):
            return self.demonstrations
        chosen = tuple(self.demonstrations(query))
        self._check(chosen)
        return chosen

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """The demonstrations, then the question."""
        if query not in self._turns:
            self._turns[query] = [turn for one in self.shown(query) for turn in self._solved(one)]
        asked = self.prompt.render(query, texts)
        system = [turn for turn in asked.messages if turn.role == "system"]
        question = [turn for turn in asked.messages if turn.role != "system"]
        return replace(asked, messages=(*system, *self._turns[query], *question))

    def _solved(self, one: Demonstration) -> list[Message]:
        """The turns of a demonstration, its answer the last; a single one for a raw prompt."""
        prompt = self.prompt.render(one.query, one.texts)
        turns = [turn for turn in prompt.messages if turn.role != "system"]
        answer = f"{prompt.answer}{one.answer}"
        if prompt.raw:
            return [Message("user", "\n\n".join(turn.content for turn in turns) + answer)]
        return [*turns, Message("assistant", answer)]

    def _check(self, demonstrations: Sequence[Demonstration]) -> None:
        """Whether the prompt can show them, and read their answers."""
        largest = getattr(self.prompt, "max_docs", 1)  # prompts for query likelihood do not say, and show one
        for one in demonstrations:
            n = len(one.texts)
            if largest is not None and n > largest:
                raise ConfigurationError(
                    f"the demonstration about {one.query!r} has {n} texts, but {self.prompt!r} shows at most {largest}"
                )
            if not _readable(self.prompt, one.answer, n):
                raise ConfigurationError(
                    f"the demonstration about {one.query!r} has the answer {one.answer!r}, which {self.prompt!r} "
                    "cannot read; write it as the prompt asks for it"
                )


def _readable(prompt: Renderer, answer: str, n: int) -> bool:
    """Whether an answer is one that the prompt asks for."""
    asks = getattr(prompt, "asks", None)
    if asks == "choices":
        options = cast(ChoiceTemplate, prompt).options(n)
        return any(option.strip() in answer for option in options)
    return asks != "generate" or cast(TextTemplate, prompt).parse(answer, n).status != "empty"


@dataclass(frozen=True)
class _Plainly:
    """Demonstrations whose queries and texts are plain text; answers are as the user wrote them."""

    chosen: Chooser
    plain: Callable[[str], str]

    def __call__(self, query: str) -> tuple[Demonstration, ...]:
        return tuple(
            replace(one, query=self.plain(one.query), texts=tuple(map(self.plain, one.texts)))
            for one in self.chosen(query)
        )


def plainly(template: R, plain: Callable[[str], str]) -> R:
    """The template with the queries and texts of its demonstrations, if it has any, made plain."""
    if not isinstance(template, Demonstrated):
        return template
    return replace(template, demonstrations=_Plainly(template.shown, plain))
