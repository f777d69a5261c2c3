"""How several documents are shown: all in one message, or each in a turn of a dialogue.

A layout knows nothing of what is asked; the same one can ask for an order, a choice, scores or a selection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Literal, Protocol

from pyterrier_llmrank.core import Message, Prompt, brief
from pyterrier_llmrank.errors import ConfigurationError

from .base import check_template
from .parsing import Labels
from .passages import ONE_LINE, Preparation

DIGITS = 9  # labels 1 to 9 differ in their first token; 10 begins like 1


class Layout(Protocol):
    """Shows a query and some documents."""

    @property
    def identifier(self) -> str:
        """How a document is named in an answer: text with ``{label}``."""
        ...

    @property
    def passage(self) -> Preparation:
        """What is done to a document's text."""
        ...

    def check(self, told: Sequence[str]) -> None:
        """Whether its texts have their fields, and none but those and ``told``; raises ConfigurationError else."""
        ...

    def render(self, query: str, texts: Sequence[str], labels: Sequence[str], told: Mapping[str, object]) -> Prompt:
        """The prompt about these documents; ``told`` is what the question says beside them."""
        ...


@dataclass(frozen=True, repr=False)
class OneMessage:
    """Shows all documents in one message.

    Args:
        template: Text with ``{query}`` and ``{passages}``; ``{n}`` is their number, ``{labels}`` lists their
            identifiers. What is asked may tell more, such as an ``{example}`` of an answer.
        system: The system message; none by default.
        document: How a document is shown: text with ``{label}`` and ``{text}``; with ``{title}`` too, the first line of
            a text of several lines is its title.
        between: What stands between two documents.
        identifier: How a document is named in an answer: text with ``{label}``.
        answer: How the model's answer begins.
        raw: Whether the text is read as it is, without the model's chat template.
        passage: What is done to a document's text.
        question: What is done to the query.
    """

    template: str
    system: str = ""
    document: str = "[{label}] {text}"
    between: str = "\n\n"
    identifier: str = "[{label}]"
    answer: str = ""
    raw: bool = False
    passage: Preparation = ONE_LINE
    question: Preparation = ONE_LINE

    __repr__ = brief

    def check(self, told: Sequence[str]) -> None:
        """Whether its texts have their fields, and none but those and ``told``.

        Raises:
            ConfigurationError: They have not.
        """
        check_template(self.template, ["query", "passages"], ["n", "labels", *told])
        check_template(self.document, ["label", "text"], ["title"])
        check_template(self.identifier, ["label"])

    def render(self, query: str, texts: Sequence[str], labels: Sequence[str], told: Mapping[str, object]) -> Prompt:
        """The message."""
        shown = _shown(self, texts, labels)
        user = self.template.format(passages=self.between.join(shown), **_told(self, query, labels, told))
        system = (Message("system", self.system),) if self.system else ()
        return Prompt((*system, Message("user", user)), answer=self.answer, raw=self.raw)


@dataclass(frozen=True, repr=False)
class Dialogue:
    """Shows each document in a turn of its own, which the model is made to acknowledge (RankGPT).

    Args:
        opening: The first user turn: text with ``{query}``, ``{n}``, ``{labels}`` and what the question tells.
        closing: The last one, which asks; text with the same fields.
        reply: The model's answer to the opening; no such turn by default.
        received: Its answer to a document: text with ``{label}``; no such turn by default.
        system: The system message; none by default.
        document: How a document is shown: text with ``{label}`` and ``{text}``; with ``{title}`` too, the first line of
            a text of several lines is its title.
        identifier: How a document is named in an answer: text with ``{label}``.
        answer: How the model's answer begins.
        passage: What is done to a document's text.
        question: What is done to the query.

    Reference:
        Sun et al., 2023 (RankGPT), appendix A.
    """

    opening: str
    closing: str
    reply: str = ""
    received: str = ""
    system: str = ""
    document: str = "[{label}] {text}"
    identifier: str = "[{label}]"
    answer: str = ""
    passage: Preparation = ONE_LINE
    question: Preparation = ONE_LINE

    __repr__ = brief

    def check(self, told: Sequence[str]) -> None:
        """Whether its texts have their fields, and none but those and ``told``.

        Raises:
            ConfigurationError: They have not.
        """
        check_template(self.closing, [], ["query", "n", "labels", *told])
        check_template(self.opening, [] if "{query}" in self.closing else ["query"], ["query", "n", "labels", *told])
        check_template(self.document, ["label", "text"], ["title"])
        check_template(self.received, [], ["label"])
        check_template(self.identifier, ["label"])

    def render(self, query: str, texts: Sequence[str], labels: Sequence[str], told: Mapping[str, object]) -> Prompt:
        """The dialogue up to the question."""
        told = _told(self, query, labels, told)
        turns = [Message("system", self.system), Message("user", self.opening.format(**told))]
        turns.append(Message("assistant", self.reply))
        for label, shown in zip(labels, _shown(self, texts, labels), strict=True):
            turns += [Message("user", shown), Message("assistant", self.received.format(label=label))]
        turns.append(Message("user", self.closing.format(**told)))
        return Prompt(tuple(turn for turn in turns if turn.role == "user" or turn.content), answer=self.answer)


def label_names(labels: Labels, n: int) -> list[str]:
    """The labels of ``n`` documents: numbers from 1, or letters from A.

    Raises:
        ConfigurationError: There are more documents than letters.
    """
    if labels == "numbers":
        return [str(number) for number in range(1, n + 1)]
    if n > len(ascii_uppercase):
        raise ConfigurationError(
            f"there are {len(ascii_uppercase)} letters for {n} documents; show fewer at once, or use labels='numbers'"
        )
    return list(ascii_uppercase[:n])


def most_labels(labels: Labels, asks: Literal["choices", "generate"]) -> int | None:
    """How many documents the labels tell apart; None for any number."""
    if labels == "letters":
        return len(ascii_uppercase)
    return DIGITS if asks == "choices" else None


def check_labels(labels: object) -> None:
    """Whether these are labels.

    Raises:
        ConfigurationError: They are not.
    """
    if labels not in ("numbers", "letters"):
        raise ConfigurationError(f"labels must be 'numbers' or 'letters', got {labels!r}")


def _shown(layout: OneMessage | Dialogue, texts: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Each document with its label."""
    titled = "{title}" in layout.document
    shown = []
    for label, text in zip(labels, texts, strict=True):
        title, _, body = text.partition("\n") if titled and "\n" in text else ("", "", text)
        shown.append(layout.document.format(label=label, title=layout.passage(title), text=layout.passage(body)))
    return shown


def _told(
    layout: OneMessage | Dialogue, query: str, labels: Sequence[str], told: Mapping[str, object]
) -> dict[str, object]:
    """What templates are filled in with."""
    names = ", ".join(layout.identifier.format(label=label) for label in labels)
    return {**told, "n": len(labels), "query": layout.question(query), "labels": names}
