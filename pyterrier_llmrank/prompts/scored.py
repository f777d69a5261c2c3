"""Prompts that ask for a written score, or a written verdict, on one document; with reasoning or without."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pyterrier_llmrank.core import Prompt, silence
from pyterrier_llmrank.errors import ConfigurationError

from .base import Parsed, check_template
from .parsing import answer_text
from .pointwise import OneDocument

SCORE = """\
Query: {query}

Passage: {text}

How relevant is the passage to the query, on a scale from {lowest} (not at all) to {highest} (it answers the query \
perfectly)? Answer with a whole number between score tags, <score>like this</score>, and nothing else."""

REASONED_SCORE = """\
Query: {query}

Passage: {text}

How relevant is the passage to the query? First say what information the query needs, then what of it the passage \
gives, and what is missing. Then judge on a scale from {lowest} (not at all) to {highest} (it answers the query \
perfectly), and end with a whole number between score tags, <score>like this</score>."""

VERDICT = """\
Query: {query}

Passage: {text}

Is the passage relevant to the query? First say what information the query needs, then what of it the passage gives. \
End with your verdict on a line of its own: {yes} or {no}."""

_NUMBER = r"([+-]?\d{1,9}(?:\.\d{1,9})?)(?:\s{0,9}/\s{0,9}(\d{1,9}))?"
_TAGGED = re.compile(rf"(?i)<score>\s*{_NUMBER}\s*</score>")
_RANGE = r"(?!\d|\.\d|\s{0,9}[-\u2013]\s{0,9}\d)"  # "score (0-100)" tells the scale, not the score
_NAMED = re.compile(rf"(?i)\bscore\b[^\w\n]{{0,20}}?(?:\b(?:is|of)\b[^\w\n]{{0,20}}?)?{_NUMBER}{_RANGE}")
_BARE = re.compile(rf"\W*?{_NUMBER}\W*")
_SHORT = 100  # characters of an answer that is a number and nothing else


class WrittenOnOne(OneDocument):
    """A prompt about one document whose answer is written."""

    @property
    def asks(self) -> Literal["choices", "generate"]:
        """For a written answer."""
        return "generate"


@dataclass(frozen=True, repr=False)
class ScorePrompt(WrittenOnOne):
    """Asks for a score on a scale, such as 0 to 100, and reads it from the written answer.

    The score is what stands between the last ``<score>`` tags after any reasoning; without tags, a number after the
    word "score", or one that is the whole answer. A score outside the scale, or none, is no answer. Whole numbers tie
    often: ties keep their order, and ``Repeated`` averages over sampled answers. Takes the arguments of ``OneTurn``,
    and:

    Args:
        template: Text with ``{query}`` and ``{text}``; ``{lowest}`` and ``{highest}`` are the ends of the scale.
            ``REASONED_SCORE`` lets the model think first: give ``Prompted`` the ``max_tokens`` that this takes.
        lowest: The lowest score.
        highest: The highest.

    Raises:
        ConfigurationError: The scale is empty, or ``template`` lacks ``{query}`` or ``{text}``, or has other fields.

    Reference:
        Lan et al., 2025 (Retro*), section 3.1; Cai et al., 2025 (ERank), section 3.2, for whole numbers as scores.
    """

    template: str = SCORE
    lowest: int = 0
    highest: int = 100

    def __post_init__(self) -> None:
        check_template(self.template, ["query", "text"], ["lowest", "highest"])
        if self.lowest >= self.highest:
            raise ConfigurationError(f"a scale needs lowest < highest, got {self.lowest} and {self.highest}")

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """The question about one document."""
        scale = {"lowest": self.lowest, "highest": self.highest}
        return self.turn(self.template.format(query=self.question(query), text=self.passage(texts[0]), **scale))

    def longest(self, n: int) -> str:
        """The score between its tags."""
        return f"<score>{self.highest}</score>"

    def parse(self, answer: str, n: int) -> Parsed:
        """The score, as written."""
        spoken = answer_text(answer) or ""
        found = _TAGGED.findall(spoken)
        clean = len(set(found)) == 1
        if not found:
            found = _NAMED.findall(spoken)
        if not found and len(spoken) <= _SHORT and (bare := _BARE.fullmatch(spoken)):
            found = [bare.groups("")]
        number, scale = found[-1] if found else ("nan", "")
        score = float(number)
        if not self.lowest <= score <= self.highest or (scale and int(scale) != self.highest):
            return Parsed(silence(n), "empty")
        return Parsed(np.array([score]), "ok" if clean else "repaired")


@dataclass(frozen=True, repr=False)
class VerdictPrompt(WrittenOnOne):
    """Lets the model reason and end with a verdict in words: 1 for ``yes``, 0 for ``no``.

    Read is the last of the two words after any reasoning, whatever its case; an answer without either is no answer.
    Two scores tie often: where the model offers label probabilities, ``Reasoned(YesNo(…))`` tells more. Takes the
    arguments of ``OneTurn``, and:

    Args:
        template: Text with ``{query}``, ``{text}``, ``{yes}`` and ``{no}``. Give ``Prompted`` the ``max_tokens`` that
            the reasoning takes.
        yes: The verdict that means relevant.
        no: The other.

    Raises:
        ConfigurationError: The words are not two different ones, or ``template`` lacks ``{query}`` or ``{text}``, or
            has other fields.

    Reference:
        Niu et al., 2024 (JudgeRank); Weller et al., 2025 (Rank1), for true and false.
    """

    template: str = VERDICT
    yes: str = "true"
    no: str = "false"

    def __post_init__(self) -> None:
        check_template(self.template, ["query", "text"], ["yes", "no"])
        if not self.yes.strip() or not self.no.strip() or self.yes.strip().casefold() == self.no.strip().casefold():
            raise ConfigurationError(f"yes and no must be two different words, got {self.yes!r} and {self.no!r}")

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """The question about one document."""
        words = {"yes": self.yes, "no": self.no}
        return self.turn(self.template.format(query=self.question(query), text=self.passage(texts[0]), **words))

    def longest(self, n: int) -> str:
        """The longer verdict."""
        return max(self.yes, self.no, key=len)

    def parse(self, answer: str, n: int) -> Parsed:
        """1 or 0."""
        spoken = answer_text(answer) or ""
        yes = self.yes.strip().casefold()
        words = rf"(?i)(?<!\w)({re.escape(self.yes.strip())}|{re.escape(self.no.strip())})(?!\w)"
        found = [word.casefold() for word in re.findall(words, spoken)]
        if not found:
            return Parsed(silence(n), "empty")
        return Parsed(np.array([float(found[-1] == yes)]), "ok" if len(set(found)) == 1 else "repaired")
