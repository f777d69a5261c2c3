"""The vocabulary that every room shares: groups, scores, questions, answers, usage.

A *strategy* asks about small groups of one query's documents and combines the answers; a *scorer* answers.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import MISSING, dataclass, fields
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .fields import Field

T = TypeVar("T")

Group: TypeAlias = tuple[int, ...]
"""Distinct indices into one query's list; 0 is the document that came first on input."""

Scores: TypeAlias = NDArray[np.float64]
"""One float per document, higher is better; NaN means no answer."""

Flow: TypeAlias = Generator[list[Group], list[Scores], T]
"""Yields rounds of independent groups, is sent one ``Scores`` per group, returns a result."""


class Evidence(IntEnum):
    """What the scores of one group tell. A strategy *needs* some, a scorer *gives* some."""

    CHOICE = 1
    """Which document of the group is best (or how the belief in each is shared out)."""
    ORDER = 2
    """The order of the whole group."""
    SCORE = 3
    """Values that can be compared between groups of the same query."""

    def __repr__(self) -> str:
        """As it is written in code."""
        return f"Evidence.{self.name}"


class Doc(NamedTuple):
    """One candidate document.

    Attributes:
        docno: Its name.
        text: Its text; empty where the scorer does not read it.
        fields: Further columns that the scorer reads (see ``parts.reads``), by name.
    """

    docno: str
    text: str
    fields: tuple[tuple[str, Field], ...] = ()


class Question(NamedTuple):
    """One query and the group of its documents that a scorer is asked about."""

    query: str
    docs: tuple[Doc, ...]
    qid: str = ""


class Message(NamedTuple):
    """One chat turn: a role ("system", "user" or "assistant") and its text."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a language model reads. Rendered and tokenised whole, by the model, with the model's own chat template.

    Attributes:
        messages: Chat turns.
        answer: How the model's answer begins; it goes on from there.
        raw: Whether the texts are put together as they are, without a chat template, even where there is one.
    """

    messages: tuple[Message, ...]
    answer: str = ""
    raw: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """What answers cost. Adds up.

    Attributes:
        calls: Prompts (or encoder inputs) that were run.
        prompt_tokens: Tokens read, without padding.
        cached_tokens: Those of ``prompt_tokens`` that were not computed again.
        output_tokens: Tokens generated.
        failures: Answers that could not be read; their documents keep their order.
        repaired: Answers that were read in spite of something missing, repeated or out of range.
        truncated_tokens: Document tokens that did not fit and were cut.
        cached_calls: Calls that were not made, as their answers were known from before.
    """

    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    failures: int = 0
    repaired: int = 0
    truncated_tokens: int = 0
    cached_calls: int = 0

    def __add__(self, other: Usage) -> Usage:
        """Sum, field by field."""
        return Usage(*(getattr(self, name) + getattr(other, name) for name in USAGE_FIELDS))


USAGE_FIELDS: tuple[str, ...] = tuple(field.name for field in fields(Usage))


class Answer(NamedTuple):
    """A scorer's reply to one question: one score per document, and its cost."""

    scores: Scores
    usage: Usage = Usage(calls=1)


class Cost(NamedTuple):
    """Groups and rounds that a strategy asks for one query.

    Attributes:
        calls: Groups asked, in all.
        rounds: Longest chain of questions that cannot run in parallel.
        exact: Whether these are the numbers, or only bounds that depend on the answers.
    """

    calls: int
    rounds: int
    exact: bool = True


@runtime_checkable
class Strategy(Protocol):
    """Chooses groups of documents and combines their scores. Sees only ``n`` and ``k``."""

    @property
    def needs(self) -> Evidence:
        """The least evidence that makes the method sound."""
        ...

    @property
    def group_size(self) -> int | None:
        """Documents of its largest group; None for the whole list."""
        ...

    def __call__(self, n: int, k: int) -> Flow[Scores]:
        """Orders ``n`` documents, of which only the first ``k`` will be read.

        The rest may stay in input order. Returns one score per document.
        """
        ...

    def cost(self, n: int, k: int) -> Cost:
        """Calls and rounds for ``n`` documents with ``k`` to settle."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """Answers questions about groups of documents."""

    @property
    def gives(self) -> Evidence:
        """What its scores tell about a group."""
        ...

    @property
    def max_docs(self) -> int | None:
        """Documents of the largest group it takes; None for any."""
        ...

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question, in order; who else is in the call never changes a score."""
        ...


def descending(items: Sequence[T], scores: Scores) -> list[T]:
    """Items from highest to lowest score: ties keep their order, NaN goes last, in order."""
    return [items[i] for i in np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")]


def from_order(order: Sequence[int], n: int | None = None) -> Scores:
    """Scores 0, -1, -2, … that put documents in ``order``: distinct indices, of all documents or of some of ``n``.

    Those that ``order`` leaves out get NaN, and so stay behind it.
    """
    scores = silence(len(order) if n is None else n)
    scores[list(order)] = 0.0 - np.arange(len(order))
    return scores


def spelled(part: object) -> str:
    """How a part is written in code: a function by its name, a value by its repr."""
    if isinstance(part, partial):
        told = [*map(spelled, part.args), *(f"{name}={spelled(value)}" for name, value in part.keywords.items())]
        return f"partial({', '.join([spelled(part.func), *told])})"
    name = getattr(part, "__qualname__", None)
    return name if isinstance(name, str) else repr(part)


def brief(value: Any) -> str:  # noqa: ANN401 - any dataclass
    """The repr of a dataclass without the fields that have their default value: the call that rebuilds it."""
    parts = []
    for field in sorted(fields(value), key=lambda field: bool(field.kw_only)):  # as calls are written
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if not (field.init and field.repr) or (default is not MISSING and getattr(value, field.name) == default):
            continue
        text = spelled(getattr(value, field.name))
        parts.append(text if default is MISSING and not field.kw_only else f"{field.name}={text}")
    return f"{type(value).__name__}({', '.join(parts)})"


def silence(n: int) -> Scores:
    """The scores of a group of ``n`` that got no answer: all NaN."""
    return np.full(n, np.nan)
