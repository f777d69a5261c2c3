"""Prompts that ask for the order of a window of documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Evidence, Prompt, Scores, brief, from_order
from pyterrier_llmrank.errors import ConfigurationError

from .base import Parsed, chat, check_template, one_line, without_markers
from .parsing import parse_permutation

SYSTEM = "You are a search assistant that orders passages by how well they answer a query."

TASK = """\
Below are {n} passages, each with an identifier in square brackets. Order them by how well they answer the search \
query, the best first.

Query: {query}

{passages}

Query: {query}

Order all {n} passages above, the best first, by their identifiers. Answer with the order alone, in the form \
{example}, and without any explanation."""


DIGITS = 9  # identifiers 1 to 9 differ in their first token; 10 begins like 1


@dataclass(frozen=True, repr=False)
class ListPrompt:
    """Shows a window of documents with identifiers and asks for their order.

    With ``decode="generate"`` the model writes the order out (RankGPT); what it leaves out keeps its order, at the
    end. With ``decode="first"`` the order is read from the probabilities of the identifiers as the first one of the
    answer (FIRST): one forward pass a window, and nothing is generated.

    Args:
        labels: Identifiers: "numbers" from 1, or "letters" from A (at most 26 documents).
        decode: "generate" or "first"; by default "first" for letters and "generate" for numbers, of which only 1 to 9
            differ in their first token.
        legacy: Whether written answers are read exactly as rank_llm 0.25.7 does, every number in them included.
        system: The system message.
        template: Text with ``{n}``, ``{query}``, ``{passages}`` and ``{example}``.

    Raises:
        ConfigurationError: ``labels`` or ``decode`` is none of its choices, or ``template`` lacks ``{query}`` or
            ``{passages}`` or has other fields.

    Reference:
        Sun et al., 2023 (RankGPT), section 3.2; Pradeep et al., 2023 (RankVicuna) for a single turn; Reddy et al.,
        2024 (FIRST), section 3.2; Chen et al., 2024, for FIRST on models that were not trained for it.
    """

    labels: Literal["numbers", "letters"] = "numbers"
    decode: Literal["generate", "first"] | None = None
    legacy: bool = False
    system: str = SYSTEM
    template: str = TASK

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.labels not in ("numbers", "letters"):
            raise ConfigurationError(f"labels must be 'numbers' or 'letters', got {self.labels!r}")
        if self.decode not in (None, "generate", "first"):
            raise ConfigurationError(f"decode must be 'generate' or 'first', got {self.decode!r}")
        check_template(self.template, ["query", "passages"], ["n", "example"])

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
        if self.labels == "letters":
            return len(ascii_uppercase)
        return DIGITS if self.asks == "choices" else None

    def names(self, n: int) -> list[str]:
        """Identifiers of ``n`` documents."""
        return list(ascii_uppercase[:n]) if self.labels == "letters" else [str(i) for i in range(1, n + 1)]

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """The window, with the query before and after it."""
        names = self.names(len(texts))
        shown = [f"[{name}] {without_markers(one_line(text))}" for name, text in zip(names, texts, strict=True)]
        example = " > ".join(f"[{name}]" for name in [*names[1:2], *names[:1], *names[2:3]]) + " > ..."
        user = self.template.format(
            n=len(texts), query=without_markers(one_line(query)), passages="\n\n".join(shown), example=example
        )
        return chat(user, system=self.system, answer="[" if self.asks == "choices" else "")

    def longest(self, n: int) -> str:
        """Every identifier once."""
        return " > ".join(f"[{name}]" for name in self.names(n))

    def parse(self, answer: str, n: int) -> Parsed:
        """Scores 0, -1, -2, … in the order written; NaN for what was left out, all NaN where nothing can be read."""
        found = parse_permutation(answer, n, labels=self.labels, legacy=self.legacy)
        return Parsed(from_order(found.order, n), found.status)

    def options(self, n: int) -> tuple[str, ...]:
        """The identifiers, as they follow the opening bracket."""
        return tuple(self.names(n))

    def read(self, logprobs: NDArray[np.float64], n: int) -> Scores:
        """The natural-log probabilities of the identifiers."""
        return logprobs
