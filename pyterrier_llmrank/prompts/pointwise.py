"""Prompts about one document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Evidence, Message, Prompt, Scores, brief

from .base import chat, check_template, one_line

YES_NO = """\
Query: {query}

Passage: {text}

Does the passage answer the query, or hold the information that the query asks for? Answer with {yes} or {no} only."""

QUERY = """\
Passage: {text}

Write the search query that this passage answers."""


@dataclass(frozen=True, repr=False)
class YesNo:
    """Asks whether a document is relevant; the score is the log-odds of ``yes`` against ``no``.

    Natural-log odds, over all real numbers: 0 where the model cannot tell. They order documents like the probability
    of ``yes`` does, and do not saturate.

    Args:
        template: Text with ``{query}``, ``{text}``, ``{yes}`` and ``{no}``; what stands before ``{text}`` is the same
            for all documents of a query, and is best long.
        yes: The answer that means relevant, as the prompt spells it.
        no: The other.
        system: A system message; none by default.

    Raises:
        ConfigurationError: ``template`` lacks ``{query}`` or ``{text}``, or has other fields.

    Reference:
        Liang et al., 2022 (HELM), and Nogueira et al., 2020, for two answer tokens in place of generation.
    """

    template: str = YES_NO
    yes: str = "Yes"
    no: str = "No"
    system: str = ""

    __repr__ = brief

    def __post_init__(self) -> None:
        check_template(self.template, ["query", "text"], ["yes", "no"])

    @property
    def gives(self) -> Evidence:
        """Log-odds that hold between documents."""
        return Evidence.SCORE

    @property
    def max_docs(self) -> int | None:
        """One document a prompt."""
        return 1

    @property
    def asks(self) -> Literal["choices", "generate"]:
        """For the probabilities of two answers."""
        return "choices"

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """The question about one document."""
        user = self.template.format(query=one_line(query), text=one_line(texts[0]), yes=self.yes, no=self.no)
        return chat(user, system=self.system)

    def options(self, n: int) -> tuple[str, ...]:
        """Yes and no."""
        return (self.yes, self.no)

    def read(self, logprobs: NDArray[np.float64], n: int) -> Scores:
        """Log P(yes) - log P(no)."""
        return np.array([logprobs[0] - logprobs[1]])


@dataclass(frozen=True, repr=False)
class QueryPrompt:
    """Shows one document and lets the query follow, for query likelihood.

    Args:
        template: Text with ``{text}``.
        raw: Whether to leave out the chat template, for base models and checkpoints trained without one.

    Raises:
        ConfigurationError: ``template`` lacks ``{text}``, or has other fields.

    Reference:
        Sachan et al., 2022 (UPR).
    """

    template: str = QUERY
    raw: bool = False

    __repr__ = brief

    def __post_init__(self) -> None:
        check_template(self.template, ["text"])

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """The document; ``query`` is not part of the prompt, the model is asked how likely it is."""
        return Prompt((Message("user", self.template.format(text=one_line(texts[0]))),), raw=self.raw)
