"""Prompts that ask for the order of a window of documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Evidence, Prompt, Scores, brief, from_order
from pyterrier_llmrank.errors import ConfigurationError

from .answers import parse_ranking
from .base import Parsed
from .layouts import Layout, OneMessage, check_labels, label_names, most_labels
from .parsing import Labels, parse_permutation
from .passages import Preparation

SYSTEM = "You are a search assistant that orders passages by how well they answer a query."

BETWEEN = " > "

SHOWN = """\
Below are {n} passages, each with an identifier in square brackets. Order them by how well they answer the search \
query, the best first.

Query: {query}

{passages}

Query: {query}

"""

TASK = (
    SHOWN
    + """\
Order all {n} passages above, the best first, by their identifiers. Answer with the order alone, in the form \
{example}, and without any explanation."""
)

REASONED = (
    SHOWN
    + """\
Think first, between <think> and </think>: what does the query ask for, and which of it does each passage give? Then \
order all {n} passages, the best first, by their identifiers. Write the order between <answer> and </answer>, in the \
form <answer>{example}</answer>; put = in place of > between passages that are equally good."""
)


@dataclass(frozen=True, repr=False)
class ListPrompt:
    """Shows a window of documents with identifiers and asks for their order.

    With ``decode="generate"`` the model writes the order out (RankGPT); what it leaves out keeps its order, at the
    end, and so do documents that it calls equal ("[2] > [1] = [3]"). With ``decode="first"`` the order is read from
    the probabilities of the identifiers as the first one of the answer (FIRST; listwise by likelihood): one forward
    pass a window, and nothing is generated. With ``decode="constrained"`` the model writes, but can name nothing except
    identifiers that it did not use yet: every answer is complete, and as long as it has to be.

    Args:
        labels: Identifiers: "numbers" from 1, or "letters" from A (at most 26 documents).
        decode: "generate", "first" or "constrained"; by default "first" for letters and "generate" for numbers, of
            which only 1 to 9 differ in their first token.
        top_k: With ``decode="constrained"``, how many of a window's best are named; all by default. The rest keeps its
            order.
        legacy: Whether written answers are read exactly as rank_llm 0.25.7 does, every number in them included.
        system: The system message.
        template: Text with ``{n}``, ``{query}``, ``{passages}``, ``{example}`` and ``{labels}``. ``REASONED`` lets the
            model think first: give ``Prompted`` the ``max_tokens`` that this takes.
        layout: How the documents are shown, in place of ``system`` and ``template``: in other words, each in a turn of
            its own, otherwise prepared.

    Raises:
        ConfigurationError: ``labels`` or ``decode`` is none of its choices, ``top_k`` is below 1 or means nothing,
            ``template`` lacks ``{query}`` or ``{passages}`` or has other fields, or both a template and a layout are
            given.

    Reference:
        Sun et al., 2023 (RankGPT), section 3.2; Pradeep et al., 2023 (RankVicuna) for a single turn; Reddy et al.,
        2024 (FIRST), section 3.2; Chen et al., 2024, for FIRST on models that were not trained for it; Zhuang et al.,
        2024 (Setwise), section 3.3, for likelihoods; Yang et al., 2025 (Rank-K), for ties.
    """

    labels: Labels = "numbers"
    decode: Literal["generate", "first", "constrained"] | None = None
    legacy: bool = False
    system: str = SYSTEM
    template: str = TASK
    layout: Layout | None = None
    top_k: int | None = None

    __repr__ = brief

    def __post_init__(self) -> None:
        check_labels(self.labels)
        if self.decode not in (None, "generate", "first", "constrained"):
            raise ConfigurationError(f"decode must be 'generate', 'first' or 'constrained', got {self.decode!r}")
        if self.top_k is not None and (self.decode != "constrained" or self.top_k < 1):
            raise ConfigurationError(f"top_k must be at least 1, and needs decode='constrained', got {self.top_k}")
        if self.layout is not None and (self.system, self.template) != (SYSTEM, TASK):
            raise ConfigurationError("system and template belong to a layout that is given; leave them out beside it")
        self._layout.check(["example"])

    @property
    def _layout(self) -> Layout:
        answer = "[" if self.asks == "choices" else ""
        return self.layout or OneMessage(self.template, system=self.system, answer=answer)

    @property
    def asks(self) -> Literal["choices", "generate"]:
        """For the probabilities of the identifiers, or for a written order."""
        decode = self.decode or ("first" if self.labels == "letters" else "generate")
        return "choices" if decode == "first" else "generate"

    @property
    def gives(self) -> Evidence:
        """The order of the window."""
        return Evidence.ORDER

    @property
    def max_docs(self) -> int | None:
        """As many as there are identifiers to tell them apart."""
        return most_labels(self.labels, self.asks)

    @property
    def passage(self) -> Preparation:
        """What is done to a document's text."""
        return self._layout.passage

    def names(self, n: int) -> list[str]:
        """Identifiers of ``n`` documents."""
        return label_names(self.labels, n)

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """The window, with the query before and after it."""
        names = self.names(len(texts))
        example = self._written([*names[1:2], *names[:1], *names[2:3], "..."])
        return self._layout.render(query, texts, names, {"example": example})

    def longest(self, n: int) -> str:
        """Every identifier once, or as many as are asked for."""
        return self._written(self.names(n)[-self._named(n) :])  # the last ones are no shorter than others

    def constraint(self, n: int) -> tuple[tuple[str, ...], str, int] | None:
        """What an answer is held to: identifiers as they are written, what stands between two, how many; or nothing."""
        if self.decode != "constrained":
            return None
        identifiers = tuple(self._layout.identifier.format(label=name) for name in self.names(n))
        return identifiers, BETWEEN, self._named(n)

    def written(self, order: Sequence[int]) -> str:
        """The answer that puts documents in an order, given by their places among those shown, best first."""
        names = self.names(max(order, default=-1) + 1)
        return self._written([names[place] for place in order])

    def _named(self, n: int) -> int:
        """How many of ``n`` documents an answer names."""
        return n if self.top_k is None else min(self.top_k, n)

    def _written(self, names: Sequence[str]) -> str:
        """An order as it is written."""
        identifier = self._layout.identifier
        return BETWEEN.join(name if name == "..." else identifier.format(label=name) for name in names)

    def parse(self, answer: str, n: int) -> Parsed:
        """Scores 0, -1, -2, … in the order written; NaN for what was left out, all NaN where nothing can be read."""
        if self.legacy:
            found = parse_permutation(answer, n, labels=self.labels, legacy=True)
            return Parsed(from_order(found.order, n), found.status)
        parsed = parse_ranking(answer, n, labels=self.labels)
        asked = self.top_k is not None and np.isfinite(parsed.scores).sum() == self._named(n)
        return parsed._replace(status="ok") if asked else parsed

    def options(self, n: int) -> tuple[str, ...]:
        """The identifiers, as they follow the beginning of the answer."""
        return tuple(self.names(n))

    def read(self, logprobs: NDArray[np.float64], n: int) -> Scores:
        """The natural-log probabilities of the identifiers."""
        return logprobs
