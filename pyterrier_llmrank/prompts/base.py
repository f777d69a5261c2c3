"""What a prompt must be able to do: show documents, say what it asks the model for, and read the answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import Formatter
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Evidence, Message, Prompt, Scores
from pyterrier_llmrank.errors import ConfigurationError

Status = Literal["ok", "repaired", "empty"]


class Parsed(NamedTuple):
    """What was read of a written answer.

    Attributes:
        scores: One per document; NaN for those without an answer.
        status: "ok" for a complete and clean answer; "repaired" where something was missing, repeated or out of
            range; "empty" where nothing could be read (then all scores are NaN).
    """

    scores: Scores
    status: Status


class Template(Protocol):
    """Shows one query and some documents to a language model."""

    @property
    def gives(self) -> Evidence:
        """What its scores tell about the documents shown."""
        ...

    @property
    def max_docs(self) -> int | None:
        """Most documents it can show; None for any number. With 1, each document has a prompt of its own."""
        ...

    @property
    def asks(self) -> Literal["choices", "generate"]:
        """Which of the two it is: "choices" for a ``ChoiceTemplate``, "generate" for a ``TextTemplate``."""
        ...

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """The prompt; documents may have been shortened before."""
        ...


class ChoiceTemplate(Template, Protocol):
    """Reads scores from the probabilities of labels as the next token.

    A template that has an attribute ``unit`` with the value "logit" is given the labels' logits as the network computed
    them instead, without normalisation.
    """

    def options(self, n: int) -> tuple[str, ...]:
        """The labels that the model chooses from, for ``n`` documents."""
        ...

    def read(self, logprobs: NDArray[np.float64], n: int) -> Scores:
        """Scores of ``n`` documents from the log-probabilities of the labels."""
        ...


class TextTemplate(Template, Protocol):
    """Reads scores from a written answer.

    A template that has a method ``constraint(n)`` may return (items, between, length): the answer then names so many of
    the items, each once, with that text between two, and nothing else.
    """

    def longest(self, n: int) -> str:
        """The longest answer of a model that does as it is told, for ``n`` documents."""
        ...

    def parse(self, answer: str, n: int) -> Parsed:
        """Scores of ``n`` documents, and how well the answer could be read; never raises, whatever the text."""
        ...


def check_template(template: str, needed: Sequence[str], allowed: Sequence[str] = ()) -> None:
    """Whether a template has its fields, and no others.

    Raises:
        ConfigurationError: It lacks one, has one that is unknown, or a stray brace.
    """
    try:
        found = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise ConfigurationError(
            f"the template {template!r} has a stray brace ({error}); double it to spell it"
        ) from error
    if lacking := [name for name in needed if name not in found]:
        raise ConfigurationError(f"the template {template!r} lacks {_fields(lacking)}; write it where it belongs")
    if unknown := sorted(found - {*needed, *allowed}):
        raise ConfigurationError(
            f"the template {template!r} has {_fields(unknown)}, but only {_fields([*needed, *allowed])} are filled in; "
            "double a brace to spell it"
        )


def _fields(names: Sequence[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)


def chat(user: str, *, system: str = "", answer: str = "") -> Prompt:
    """A prompt of one user turn, after a system turn if there is a text for it."""
    turns = (Message("system", system),) if system else ()
    return Prompt((*turns, Message("user", user)), answer=answer)


def one_line(text: str) -> str:
    """``text`` with every run of white space as one space."""
    return " ".join(text.split())


def without_markers(text: str) -> str:
    """``text`` with ``[12]`` written as ``(12)``, so that a citation is not taken for an identifier."""
    return re.sub(r"\[(\d+|[A-Z])\]", r"(\1)", text)
