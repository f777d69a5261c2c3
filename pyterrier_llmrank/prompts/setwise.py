"""Prompts that ask which document of a set is the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Evidence, Prompt, Scores, brief
from pyterrier_llmrank.errors import ConfigurationError

from .answers import parse_choice
from .base import Parsed
from .layouts import Layout, OneMessage, check_labels, label_names, most_labels
from .parsing import Labels
from .passages import Preparation

SHOWN = """\
Query: {query}

{passages}

Which of the {n} passages above answers the query best? """

LABEL_ALONE = OneMessage(
    SHOWN + "Answer with its label alone, such as {example}.", document="[{label}] {text}", identifier="{label}"
)

REASONED_CHOICE = OneMessage(
    SHOWN
    + """\
Think first, between <think> and </think>: what does the query ask for, and which of it does each passage give? Then \
write the label of the one best passage between <answer> and </answer>, such as <answer>{example}</answer>.""",
)


@dataclass(frozen=True, repr=False)
class SetPrompt:
    """Shows a set of documents and asks for the best one.

    With ``decode="choices"`` the scores are how the model's belief is shared out among the documents, from its
    probabilities of the labels: they sum to 1, and no text is generated. With "generate" the model writes its answer:
    1 for the document it names and 0 for the others; an answer that names none or several is not read.

    Args:
        labels: "letters" from A (at most 26 documents), or "numbers" from 1 (at most 9 with "choices").
        decode: "choices" or "generate".
        layout: How the documents are shown, and asked about. ``REASONED_CHOICE`` lets the model think first: give
            ``Prompted`` the ``max_tokens`` that this takes.

    Raises:
        ConfigurationError: ``labels`` or ``decode`` is none of its choices, or the layout lacks a field or has others.

    Reference:
        Zhuang et al., 2024 (Setwise), section 3.2; Zhuang et al., 2025 (Rank-R1), for reasoning.
    """

    labels: Labels = "letters"
    decode: Literal["choices", "generate"] = "choices"
    layout: Layout = LABEL_ALONE

    __repr__ = brief

    def __post_init__(self) -> None:
        check_labels(self.labels)
        if self.decode not in ("choices", "generate"):
            raise ConfigurationError(f"decode must be 'choices' or 'generate', got {self.decode!r}")
        self.layout.check(["example"])

    @property
    def asks(self) -> Literal["choices", "generate"]:
        """For the probabilities of the labels, or for a written one."""
        return self.decode

    @property
    def gives(self) -> Evidence:
        """The best document."""
        return Evidence.CHOICE

    @property
    def max_docs(self) -> int | None:
        """As many as there are labels to tell them apart."""
        return most_labels(self.labels, self.decode)

    @property
    def passage(self) -> Preparation:
        """What is done to a document's text."""
        return self.layout.passage

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """The set and the question."""
        labels = label_names(self.labels, len(texts))
        return self.layout.render(query, texts, labels, {"example": self.longest(len(texts))})

    def options(self, n: int) -> tuple[str, ...]:
        """The labels, as they follow the beginning of the answer."""
        return tuple(label_names(self.labels, n))

    def read(self, logprobs: NDArray[np.float64], n: int) -> Scores:
        """Shares of the documents, 0 to 1; NaN where no label has any probability."""
        with np.errstate(invalid="ignore"):
            shares: Scores = np.exp(logprobs - np.logaddexp.reduce(logprobs, initial=-np.inf))
        return shares

    def longest(self, n: int) -> str:
        """The last identifier."""
        return self.layout.identifier.format(label=label_names(self.labels, n)[-1] if n else "")

    def parse(self, answer: str, n: int) -> Parsed:
        """1 for the document that the answer names, and 0 for the others."""
        return parse_choice(answer, n, labels=self.labels)
