"""Prompts that ask which of two documents is the better one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Evidence, Prompt, Scores, silence
from pyterrier_llmrank.errors import ConfigurationError

from .base import Parsed, check_template
from .parsing import answer_text
from .turn import OneTurn

PAIR = """\
Query: {query}

Passage A: {first}

Passage B: {second}

Which of the two passages is more relevant to the query? Answer with {a} or {b} only."""

_SPOKEN = 2_000  # characters at either end of an answer that are searched for a verdict
_NAME = r"(?i:passage|document|doc|text|option)"
_WAYS = (  # of saying which, the surest first
    rf"\A\W*(?:{_NAME}\W*)?LABEL\W*\Z",
    rf"\A\W*(?:{_NAME}\W*)?LABEL[*\"'\])]*[ \t]*[.:\n-]",
    r"\bLABEL[*\"'\])]* is (?:\w+ )?(?:the )?(?:more|better|most|best)\b",
    rf"(?i:\b(?:is|answer|choice|choose|pick|prefer)\b)\W{{0,6}}(?:{_NAME}\W{{0,3}})?LABEL\b(?! \w)",
    rf"\b{_NAME}\W{{0,3}}LABEL\b",
    r"[\[(*\"'`]LABEL[\])*\"'`]",
)


@dataclass(frozen=True, repr=False)
class PairPrompt(OneTurn):
    """Shows two documents and asks which of them is more relevant.

    With ``decode="choices"`` the scores are how the model's belief is shared out between the two, from its
    probabilities of the two labels: they sum to 1, and no text is generated. With "generate" the model writes its
    answer: 1 for the document it names and 0 for the other; an answer that names neither, or both, is not read.
    Models favour a place: ``BothOrders`` asks both ways round. Takes the arguments of ``OneTurn``, and:

    Args:
        decode: "choices" or "generate".
        template: Text with ``{query}``, ``{first}`` and ``{second}``; ``{a}`` and ``{b}`` are the labels.
        labels: The answers that mean the first and the second document, as they follow ``answer``.

    Raises:
        ConfigurationError: ``decode`` is neither, the labels are not two different words, or ``template`` lacks a field
            or has other fields.

    Reference:
        Qin et al., 2024 (PRP), section 3.1: generation and scoring mode; Pradeep et al., 2021 (duoT5), for labels that
        say whether the first document wins.
    """

    decode: Literal["choices", "generate"] = "choices"
    template: str = PAIR
    labels: tuple[str, str] = ("A", "B")

    def __post_init__(self) -> None:
        if self.decode not in ("choices", "generate"):
            raise ConfigurationError(f"decode must be 'choices' or 'generate', got {self.decode!r}")
        check_template(self.template, ["query", "first", "second"], ["a", "b"])
        names = [name.strip() for name in self.labels]
        if len(names) != 2 or not all(names) or names[0] == names[1]:
            raise ConfigurationError(f"labels must be two different words, got {self.labels!r}")

    @property
    def asks(self) -> Literal["choices", "generate"]:
        """For the probabilities of two labels, or for a written one."""
        return self.decode

    @property
    def gives(self) -> Evidence:
        """Which of the two."""
        return Evidence.CHOICE

    @property
    def max_docs(self) -> int | None:
        """Two."""
        return 2

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """Both documents; what is missing is shown empty."""
        first, second = (self.passage(text) for text in (*texts, "")[:2])
        a, b = (name.strip() for name in self.labels)
        return self.turn(self.template.format(query=self.question(query), first=first, second=second, a=a, b=b))

    def options(self, n: int) -> tuple[str, ...]:
        """The two labels."""
        return tuple(self.labels[:n])

    def read(self, logprobs: NDArray[np.float64], n: int) -> Scores:
        """Shares of the two documents, 0 to 1; NaN where neither label has any probability."""
        with np.errstate(invalid="ignore"):
            shares: Scores = np.exp(logprobs - np.logaddexp.reduce(logprobs))
        return shares

    def longest(self, n: int) -> str:
        """The longer label, and a name before it."""
        return f"Passage {max(self.labels, key=len)}"

    def parse(self, answer: str, n: int) -> Parsed:
        """1 for the document that the answer names, and 0 for the other."""
        names = tuple(name.strip() for name in self.labels)
        spoken = answer_text(answer) or ""
        place = _verdict(spoken, names)
        if place is None:
            return Parsed(silence(n), "empty")
        clean = re.fullmatch(rf"\W*(?:{_NAME}\W*)?{re.escape(names[place])}\W*", spoken[:_SPOKEN])
        return Parsed(np.array([1.0, 0.0] if place == 0 else [0.0, 1.0])[:n], "ok" if clean else "repaired")


def _verdict(answer: str, names: tuple[str, ...]) -> int | None:
    """The place of the one label that an answer decides for, in the first of the ways to say so that it uses.

    A bare "A" within a sentence is an article, and counts for nothing.
    """
    answer = answer if len(answer) <= 2 * _SPOKEN else f"{answer[:_SPOKEN]}\n{answer[-_SPOKEN:]}"
    label = "(" + "|".join(map(re.escape, names)) + ")"
    for pattern in _WAYS:
        found = set(re.findall(pattern.replace("LABEL", label), answer))
        if found:
            return names.index(found.pop()) if len(found) == 1 else None
    return None
