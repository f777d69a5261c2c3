"""Prompts that ask which documents of a group to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pyterrier_llmrank.core import Evidence, Prompt, brief
from pyterrier_llmrank.errors import ConfigurationError

from .answers import parse_selection
from .base import Parsed
from .layouts import Layout, OneMessage, check_labels, label_names, most_labels
from .parsing import Labels
from .passages import Preparation

SHOWN = """\
Below are {n} passages, each with an identifier in square brackets.

Query: {query}

{passages}

Query: {query}

"""

BEST = OneMessage(
    SHOWN
    + """\
Which {keep} of the {n} passages answer the query best? Answer with the identifiers of these {keep} alone, the best \
first, in the form {example}, and without any explanation."""
)

USEFUL = OneMessage(
    SHOWN
    + """\
Suppose that you had to answer the query with the help of these passages. Being on the topic is not enough: which of \
them would be of use in working out a correct answer? Answer with their identifiers alone, the most useful first, in \
the form {example}, or with None if there is none, and without any explanation."""
)


@dataclass(frozen=True, repr=False)
class SelectPrompt:
    """Shows a group of documents and asks which of them to keep.

    A document that is selected scores above 0 (more, the earlier it is named), the others 0. Where more are named than
    asked for, the first count.

    Args:
        keep: How many to select: a number; a share of the group, 0 to 1 (rounded, at least one); or numbers by size of
            the group, such as ``{20: 10, 10: 4, 5: 2}``, with the share of the next larger size for others. None lets
            the model decide, also for none at all (utility judgments; DynamicRAG): with
            ``Rerank(keep_only_selected=True)`` the others are dropped.
        labels: Identifiers: "numbers" from 1, or "letters" from A (at most 26 documents).
        layout: How the documents are shown, and asked about; by default ``BEST``, or ``USEFUL`` without ``keep``.

    Raises:
        ConfigurationError: ``keep`` or ``labels`` is out of range, or the layout lacks a field or has others.

    Reference:
        Chen et al., 2025 (TourRank), section 3.2; Zhang et al., 2024 (Are Large Language Models Good at Utility
        Judgments?), listwise; Sun et al., 2025 (DynamicRAG).
    """

    keep: float | Mapping[int, int] | None = None
    labels: Labels = "numbers"
    layout: Layout | None = None

    __repr__ = brief

    def __post_init__(self) -> None:
        check_labels(self.labels)
        check_keep(self.keep)
        self._layout.check(["example"] if self.keep is None else ["example", "keep"])

    def __hash__(self) -> int:
        """By its parts; a mapping by its items."""
        keep = tuple(sorted(self.keep.items())) if isinstance(self.keep, Mapping) else self.keep
        return hash((keep, self.labels, self.layout))

    @property
    def _layout(self) -> Layout:
        return self.layout or (USEFUL if self.keep is None else BEST)

    @property
    def asks(self) -> Literal["choices", "generate"]:
        """For a written list."""
        return "generate"

    @property
    def gives(self) -> Evidence:
        """The order of those selected, before the rest."""
        return Evidence.ORDER

    @property
    def selects(self) -> bool:
        """Whether a score above 0 means selected, and 0 rejected."""
        return True

    @property
    def max_docs(self) -> int | None:
        """As many as there are identifiers."""
        return most_labels(self.labels, "generate")

    @property
    def passage(self) -> Preparation:
        """What is done to a document's text."""
        return self._layout.passage

    def kept(self, n: int) -> int | None:
        """How many of ``n`` documents to select; None where the model decides."""
        return None if self.keep is None else kept(self.keep, n)

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """The group and the question."""
        labels = label_names(self.labels, len(texts))
        example = self._written(labels[1:2] + labels[:1])
        return self._layout.render(query, texts, labels, {"example": example, "keep": self.kept(len(texts))})

    def longest(self, n: int) -> str:
        """The last identifiers."""
        most = self.kept(n)
        return self._written(label_names(self.labels, n)[n - (n if most is None else most) :])

    def _written(self, labels: Sequence[str]) -> str:
        return ", ".join(self._layout.identifier.format(label=label) for label in labels)

    def parse(self, answer: str, n: int) -> Parsed:
        """Above 0 for the documents selected, 0 for the others; all NaN where nothing can be read."""
        return parse_selection(answer, n, labels=self.labels, most=self.kept(n), none=self.keep is None)


def kept(keep: float | Mapping[int, int], n: int) -> int:
    """How many of ``n`` documents to keep, 1 to ``n`` (0 of none)."""
    if isinstance(keep, Mapping):
        size = min((size for size in keep if size >= n), default=max(keep))
        keep = keep[size] if size == n else keep[size] / size
    most = round(keep * n) if isinstance(keep, float) else keep
    return min(n, max(1, most))


def check_keep(keep: object) -> None:
    """Whether so many documents can be kept.

    Raises:
        ConfigurationError: They cannot.
    """
    pairs = keep.items() if isinstance(keep, Mapping) else ()
    numbers = isinstance(keep, int) and keep >= 1
    share = isinstance(keep, float) and 0 < keep < 1
    sizes = bool(pairs) and all(1 <= most <= size for size, most in pairs)
    if keep is not None and not (numbers or share or sizes):
        raise ConfigurationError(
            f"keep must be a number from 1, a share between 0 and 1, sizes with numbers such as {{20: 10}}, or None, "
            f"got {keep!r}"
        )
