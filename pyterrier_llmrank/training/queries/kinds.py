"""Kinds of queries, and the prompts that ask a model for one of a kind about a passage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pyterrier_llmrank.core import Prompt, brief
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.prompts.base import chat, one_line

from . import shots as written_here
from .shots import Shot

RULES = (
    "Use fewer than 20 words. It must be understood without the passage, and must not copy phrases from it. Write "
    "nothing else."
)


@dataclass(frozen=True, repr=False)
class Kind:
    """One kind of query: how it is asked for, and what is none.

    Args:
        name: As it is called in frames and qids, such as "question".
        request: What the model is told to write about the passage.
        label: What a query is called in the prompt, such as "Question".
        examples: Passages with queries of this kind.
        shown: Examples that a prompt shows, drawn anew for each document; none by default where there are none.
        most_words: A query of more is "long".
        most_parts: A query of more parts between commas is "long"; None for any number.
        copied: So many words in a row that the passage has too make a query "copied"; None where that does not matter.

    Raises:
        ConfigurationError: A number is out of range, or there are fewer examples than a prompt shows.
    """

    name: str
    request: str
    label: str = "Query"
    examples: tuple[Shot, ...] = ()
    shown: int = 3
    most_words: int = 20
    most_parts: int | None = None
    copied: int | None = 6

    __repr__ = brief

    def __post_init__(self) -> None:
        if not self.name or any(space.isspace() for space in self.name):
            raise ConfigurationError(f"the name of a kind is one word, as it is part of qids, got {self.name!r}")
        if self.shown < 0 or min(self.most_words, self.most_parts or 1, self.copied or 1) < 1:
            raise ConfigurationError(f"the numbers of a kind are at least 1, and shown at least 0, got {self!r}")
        if 0 < len(self.examples) < self.shown:
            raise ConfigurationError(
                f"a prompt for {self.name!r} shows {self.shown} examples, but there are {len(self.examples)}; "
                "lower shown, or give more"
            )

    def __str__(self) -> str:
        """Its name."""
        return self.name

    def prompt(self, passage: str, shots: Sequence[Shot] = ()) -> Prompt:
        """What a model is asked about a passage, after these examples."""
        solved = [f"Passage: {one_line(one.passage)}\n{self.label}: {one_line(one.query)}" for one in shots]
        return chat("\n\n".join([self.request, *solved, f"Passage: {one_line(passage)}\n{self.label}:"]))

    def by_example(self, examples: Iterable[tuple[str, str]], *, shown: int = 3, name: str | None = None) -> Kind:
        """The same kind by the user's own examples, such as real queries of the field with passages that answer them.

        Args:
            examples: Passages and queries.
            shown: Examples that a prompt shows.
            name: Another name, so that both can be asked for.
        """
        own = tuple(Shot(passage, query) for passage, query in examples)
        return replace(self, examples=own, shown=min(shown, len(own)), name=name or self.name)


QUESTION = Kind(
    "question",
    f"Write a question that the passage answers, as a person would ask it who has not seen the passage. {RULES}",
    "Question",
    written_here.QUESTIONS,
)
CLAIM = Kind(
    "claim",
    f"Write a claim that the passage supports or refutes, as one sentence. {RULES}",
    "Claim",
    written_here.CLAIMS,
)
TITLE = Kind(
    "title",
    f"Write a title for a text that the passage could come from. {RULES}",
    "Title",
    written_here.TITLES,
)
KEYWORDS = Kind(
    "keywords",
    "Write at most 5 keywords, separated by commas, with which one would search for what the passage says. Write "
    "nothing else.",
    "Keywords",
    written_here.KEYWORDS,
    most_words=15,
    most_parts=5,
    copied=None,
)
SEARCH = Kind(
    "search",
    f"Write what one would type into a search engine to find the passage. {RULES}",
    "Search query",
    shown=0,
)

KINDS = {kind.name: kind for kind in (QUESTION, CLAIM, TITLE, KEYWORDS, SEARCH)}
"""CADET's kinds (Tamber et al., 2025), with prompts and examples of our own; ``SEARCH.by_example`` is its sixth."""
