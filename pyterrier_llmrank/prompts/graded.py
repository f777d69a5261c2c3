"""Prompts that ask for one of several grades of relevance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Prompt, Scores
from pyterrier_llmrank.errors import ConfigurationError

from .base import check_template
from .pointwise import LabelsOfOne
from .turn import total

RG_2L = ("Not Relevant", "Relevant")
RG_3L = ("Not Relevant", "Somewhat Relevant", "Highly Relevant")
RG_4L = ("Not Relevant", "Somewhat Relevant", "Highly Relevant", "Perfectly Relevant")

GRADES = """\
Query: {query}

Passage: {text}

How relevant is the passage to the query? Choose one of these grades: {levels}. Answer with the grade only."""

SCALE = """\
Query: {query}

Passage: {text}

How relevant is the passage to the query, on a scale from {first} (not at all) to {last} (it answers the query \
perfectly)? Answer with the number only."""


@dataclass(frozen=True, repr=False)
class Graded(LabelsOfOne):
    """Asks how relevant a document is, and reads the probability of every grade.

    Grades are words (``RG_2L``, ``RG_3L``, ``RG_4L``, or others), or the digits of a scale from 0. Words of several
    tokens are scored as whole texts, one continuation each, by models that offer it. Takes the arguments of
    ``OneTurn``, and:

    Args:
        levels: The grades from the least to the most relevant; a number k for the digits 0 to k.
        score: "expected" for the mean value of the grades, weighted by their probabilities among one another, from the
            lowest value to the highest; "peak" for the natural-log probability of the grade of highest value, which is
            not set against the others; "likeliest" for the value of the most probable grade times its probability.
        values: What each grade is worth; 0, 1, 2 … by default.
        template: Text with ``{query}`` and ``{text}``; ``{levels}``, ``{first}`` and ``{last}`` are the grades. By
            default one for words, or one for digits.

    Raises:
        ConfigurationError: Fewer than two grades, one twice or one that begins another, a scale beyond 9 (10 begins
            like 1), as many values as grades are not given, an unknown ``score``, or a template that lacks a field.

    Reference:
        Zhuang et al., 2024 (Beyond Yes and No), section 3: RG-kL and RG-S(0,k), expected relevance and peak relevance;
        Cai et al., 2025 (ERank), section 3.2, for the likeliest grade.
    """

    levels: tuple[str, ...] | int = RG_4L
    score: Literal["expected", "peak", "likeliest"] = "expected"
    values: tuple[float, ...] | None = None
    template: str | None = None

    def __post_init__(self) -> None:
        check_template(self.template or GRADES, ["query", "text"], ["levels", "first", "last"])
        if self.score not in ("expected", "peak", "likeliest"):
            raise ConfigurationError(f"score must be 'expected', 'peak' or 'likeliest', got {self.score!r}")
        if isinstance(self.levels, int) and not 1 <= self.levels <= 9:
            raise ConfigurationError(f"a scale goes from 0 to 1 … 9, got {self.levels}; 10 would begin like 1")
        names = self.options(1)
        if len(names) < 2 or not all(names):
            raise ConfigurationError(f"levels must be two grades or more, none of them empty, got {self.levels!r}")
        for one, other in permutations(names, 2):
            if other.startswith(one):
                raise ConfigurationError(f"the grade {other!r} begins like {one!r}: they cannot be told apart")
        if self.values is not None and len(self.values) != len(names):
            raise ConfigurationError(f"{len(names)} levels need as many values, got {self.values!r}")

    def options(self, n: int) -> tuple[str, ...]:
        """The grades."""
        return tuple(map(str, range(self.levels + 1))) if isinstance(self.levels, int) else tuple(self.levels)

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """The question about one document."""
        names = self.options(1)
        template = self.template or (SCALE if isinstance(self.levels, int) else GRADES)
        grades = {"levels": ", ".join(names), "first": names[0], "last": names[-1]}
        return self.turn(template.format(query=self.question(query), text=self.passage(texts[0]), **grades))

    def read(self, logprobs: NDArray[np.float64], n: int) -> Scores:
        """What ``score`` says of the grades; NaN where none has any probability."""
        values = np.arange(len(logprobs)) if self.values is None else np.array(self.values)
        if self.score == "likeliest":
            best = int(logprobs.argmax())
            return np.array([values[best] * np.exp(logprobs[best]) if np.isfinite(logprobs[best]) else np.nan])
        if self.score == "peak":
            return np.array([logprobs[values.argmax()]])
        with np.errstate(invalid="ignore"):
            return np.array([np.exp(logprobs - total(logprobs)) @ values])
