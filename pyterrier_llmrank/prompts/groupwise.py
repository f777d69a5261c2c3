"""Prompts that ask for a score of every document of a group."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pyterrier_llmrank.core import Evidence, Prompt, brief
from pyterrier_llmrank.errors import ConfigurationError

from .answers import parse_scores
from .base import Parsed
from .layouts import Layout, OneMessage, label_names
from .passages import Preparation

SHOWN = """\
Below are {n} passages, each with a number in square brackets.

Query: {query}

{passages}

Query: {query}

"""

SCORES = OneMessage(
    SHOWN
    + """\
How well does each of the {n} passages answer the query, from 0 (not at all) to {highest} (it says all that is asked \
for)? Compare the passages with one another, and use the whole scale. Answer with one JSON object alone, which gives \
every passage a whole number, such as {example}."""
)

REASONED_SCORES = OneMessage(
    SHOWN
    + """\
Think first, between <think> and </think>: what does the query ask for, and which of it does each passage give, \
compared with the others? Then score each of the {n} passages from 0 (not at all) to {highest} (it says all that is \
asked for). Write one JSON object between <answer> and </answer>, which gives every passage a whole number, such as \
<answer>{example}</answer>."""
)


@dataclass(frozen=True, repr=False)
class GroupPrompt:
    """Shows a group of documents and asks for a score of each, written as a JSON object.

    The scores hold between groups, so they can be averaged where a document was in several. A document without a
    readable score has none (NaN), and an answer without any is a failure; neither counts as 0.

    Args:
        highest: The best score; the worst is 0. Scores beyond become the end of the scale.
        layout: How the documents are shown, and asked about. ``REASONED_SCORES`` lets the model think first: give
            ``Prompted`` the ``max_tokens`` that this takes.

    Raises:
        ConfigurationError: ``highest`` is below 1, or the layout lacks a field or has others.

    Reference:
        Sun et al., 2025 (GroupRank).
    """

    highest: int = 10
    layout: Layout = SCORES

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.highest < 1:
            raise ConfigurationError(f"highest must be at least 1, got {self.highest}; scores go from 0")
        self.layout.check(["example", "highest"])

    @property
    def asks(self) -> Literal["choices", "generate"]:
        """For written scores."""
        return "generate"

    @property
    def gives(self) -> Evidence:
        """Scores on one scale."""
        return Evidence.SCORE

    @property
    def max_docs(self) -> int | None:
        """Any number."""
        return None

    @property
    def passage(self) -> Preparation:
        """What is done to a document's text."""
        return self.layout.passage

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """The group and the question."""
        labels = label_names("numbers", len(texts))
        told = {
            "example": self._written(min(len(texts), 3), [self.highest // 2, 0, self.highest]),
            "highest": self.highest,
        }
        return self.layout.render(query, texts, labels, told)

    def longest(self, n: int) -> str:
        """A score for each document."""
        return self._written(n, [self.highest] * n)

    def _written(self, n: int, scores: Sequence[int]) -> str:
        """A JSON object with the first scores."""
        names = [self.layout.identifier.format(label=label) for label in label_names("numbers", n)]
        return json.dumps(dict(zip(names, scores, strict=False)))

    def parse(self, answer: str, n: int) -> Parsed:
        """The scores, 0 to ``highest``; NaN where none can be read."""
        return parse_scores(answer, n, highest=self.highest)
