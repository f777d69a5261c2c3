"""What a prompt must be able to do: show documents, say what it asks the model for, and read the answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Evidence, Prompt, Scores


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
    """Reads scores from the probabilities of labels as the next token."""

    def options(self, n: int) -> tuple[str, ...]:
        """The labels that the model chooses from, for ``n`` documents."""
        ...

    def read(self, logprobs: NDArray[np.float64], n: int) -> Scores:
        """Scores of ``n`` documents from the log-probabilities of the labels."""
        ...


class TextTemplate(Template, Protocol):
    """Reads scores from a written answer."""

    def longest(self, n: int) -> str:
        """The longest answer of a model that does as it is told, for ``n`` documents."""
        ...

    def parse(self, answer: str, n: int) -> Scores:
        """Scores of ``n`` documents; all NaN where the answer cannot be read."""
        ...


def one_line(text: str) -> str:
    """``text`` with every run of white space as one space."""
    return " ".join(text.split())


def without_markers(text: str) -> str:
    """``text`` with ``[12]`` written as ``(12)``, so that a citation is not taken for an identifier."""
    return re.sub(r"\[(\d+|[A-Z])\]", r"(\1)", text)
