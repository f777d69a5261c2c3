"""``FusedPrompt``: each document shown in a text of its own, with the query, and the order of all of them asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pyterrier_llmrank.core import Evidence, Message, Prompt, brief, from_order
from pyterrier_llmrank.errors import ConfigurationError

from .base import Parsed, check_template
from .parsing import parse_permutation
from .passages import VERBATIM, Preparation


@dataclass(frozen=True, repr=False)
class FusedPrompt:
    """The format of a model that fuses in its decoder: what it reads of each document, and how it writes their order.

    Every number of an answer is an identifier, as the released checkpoints' code reads them: they write nothing else.
    What an answer leaves out keeps its order, at the end.

    Args:
        template: What is read of a document: text with ``{query}``, ``{label}`` (its number, from 1) and ``{text}``.
        identifier: How an answer names a document: text with ``{label}``.
        between: What stands between two of them.
        ascending: Whether answers begin with the worst document.
        least: Documents of a question at least, for models that know no fewer: those of a smaller group are shown
            again, each beside itself, until there are so many.
        decode: "generate" lets the model write; with "constrained" it can name nothing but documents that it did not
            name yet, and runs only where there is a choice: every answer is complete.
        passage: What is done to a document's text.
        question: What is done to the query.

    Raises:
        ConfigurationError: A template lacks a field, or has others; ``decode`` is neither; ``least`` is below 1.

    Reference:
        Tamber et al., 2023 (LiT5), section 3; Yoon et al., 2024 (ListT5), section 3.
    """

    template: str
    identifier: str = "[{label}]"
    between: str = " > "
    ascending: bool = False
    least: int = 1
    decode: Literal["generate", "constrained"] = "generate"
    passage: Preparation = VERBATIM
    question: Preparation = VERBATIM

    __repr__ = brief

    def __post_init__(self) -> None:
        check_template(self.template, ["query", "text"], ["label"])
        check_template(self.identifier, ["label"])
        if self.decode not in ("generate", "constrained"):
            raise ConfigurationError(f"decode must be 'generate' or 'constrained', got {self.decode!r}")
        if self.least < 1:
            raise ConfigurationError(f"least must be at least 1 document, got {self.least}")

    @property
    def asks(self) -> Literal["choices", "generate"]:
        """For a written order."""
        return "generate"

    @property
    def gives(self) -> Evidence:
        """The order of the group."""
        return Evidence.ORDER

    @property
    def max_docs(self) -> int | None:
        """Any number."""
        return None

    def shown(self, n: int) -> list[int]:
        """The places of ``n`` documents in the order in which they are shown; the next label is the next one's."""
        return sorted(place % n for place in range(max(n, self.least))) if n else []

    def part(self, place: int) -> Part:
        """Renders what is read of the document that is shown at ``place``."""
        return Part(self, str(place + 1))

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """One message for each document shown."""
        shown = [texts[place] for place in self.shown(len(texts))]
        parts = [self.part(place).render(query, [text]) for place, text in enumerate(shown)]
        return Prompt(tuple(message for part in parts for message in part.messages), raw=True)

    def longest(self, n: int) -> str:
        """Every identifier once."""
        return self.between.join(self._names(n))

    def constraint(self, n: int) -> tuple[tuple[str, ...], str, int] | None:
        """What an answer is held to: identifiers, what stands between two, how many; or nothing."""
        if self.decode != "constrained":
            return None
        names = self._names(n)
        return tuple(names), self.between, len(names)

    def parse(self, answer: str, n: int) -> Parsed:
        """Scores 0, -1, -2, … in the order written, whatever the text; NaN for documents that were left out."""
        shown = self.shown(n)
        if self.ascending:
            answer = " ".join(reversed(answer.split()))
        order, status = parse_permutation(answer, len(shown), legacy=True)
        return Parsed(from_order([*dict.fromkeys(shown[place] for place in order)], n), status)

    def _names(self, n: int) -> list[str]:
        return [self.identifier.format(label=place + 1) for place in range(len(self.shown(n)))]


class Part(NamedTuple):
    """What is read of one document.

    Attributes:
        prompt: The format.
        label: The document's number.
    """

    prompt: FusedPrompt
    label: str

    @property
    def passage(self) -> Preparation:
        """What is done to the document's text."""
        return self.prompt.passage

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """The document with the query."""
        query, text = self.prompt.question(query), self.prompt.passage(texts[0])
        return Prompt(
            (Message("user", self.prompt.template.format(query=query, label=self.label, text=text)),), raw=True
        )


LIT5 = FusedPrompt("Search Query: {query} Passage: [{label}] {text} Relevance Ranking: ")
"""What LiT5-Distill reads and writes (castorini/LiT5)."""

LIST_T5 = FusedPrompt(
    "Query: {query}, Index: {label}, Context: {text}", identifier="{label}", between=" ", ascending=True, least=5
)
"""What ListT5 reads and writes (soyoung97/ListT5, run_listt5.py)."""
