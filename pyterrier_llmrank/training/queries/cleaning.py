"""From what a model wrote to a query, or to the reason why it is none."""

from __future__ import annotations

import re

from .kinds import Kind
from .words import normalised

_THOUGHT = re.compile(r"(?s)^.*</think>|<think>.*$")
_NUMBER = re.compile(r"^(?:[-*•#>]+|\(?\d{1,2}[.)]|\(\d{1,2}\))\s+")
_LABEL = re.compile(
    r"^(?:(?:generated|search|web)\s+)?(?:query|queries|question|claim|title|keywords?|answer|output)\s*(?:\d+\s*)?:\s*",
    re.IGNORECASE,
)
_PAIRS = ('""', "''", "``", "“”", "\u2018\u2019", "«»", "„“", "**", "__", "[]")
_REFUSAL = re.compile(
    r"(?:i(?:'m| am) (?:sorry|unable)|sorry\b|i (?:cannot|can't|can not)\b|as an ai\b)", re.IGNORECASE
)
_POINTING = re.compile(
    r"\b(?:the|this) (?:given |above )?(?:passage|excerpt)\b"
    r"|\b(?:according to|in|from) (?:the|this) (?:text|document|article)\b",
    re.IGNORECASE,
)


def first_query(answer: str) -> tuple[str, bool]:
    """The query in an answer, stripped of what models put around it, and whether anything follows its line.

    Thoughts go, then announcements (``Sure, here is one:``), list numbers, labels (``Query:``), quotes and emphasis;
    what is left of the first line that has a word is the query; empty if there is none.
    """
    lines = [line.strip() for line in _THOUGHT.sub("", answer).splitlines()]
    for place, line in enumerate(lines):
        query, more = _stripped(line), any(lines[place + 1 :])
        announced = line.endswith(":") and more
        if normalised(query) and not announced:
            return query, more
    return "", False


def fault(query: str, passage: str, kind: Kind) -> str | None:
    """Why a query is not fit for use: "empty", "refused", "long", "pointing" (at the passage) or "copied"; or None."""
    plain = normalised(query).split()
    if not plain:
        return "empty"
    if _REFUSAL.match(query):
        return "refused"
    if len(plain) > kind.most_words or (kind.most_parts and query.strip(", ").count(",") >= kind.most_parts):
        return "long"
    if _POINTING.search(query):
        return "pointing"
    return "copied" if kind.copied and _copies(plain, normalised(passage), kind.copied) else None


def _stripped(line: str) -> str:
    """A line without number, label, quotes and emphasis, however they are nested."""
    before = None
    while line != before:
        before = line
        line = _LABEL.sub("", _NUMBER.sub("", line)).strip()
        for opening, closing in map(tuple, _PAIRS):
            if len(line) > 1 and line[0] == opening and line[-1] == closing and opening not in line[1:-1]:
                line = line[1:-1].strip()
        line = re.sub(r"^\*\*(.*?)\*\*", r"\1", line)
    return " ".join(line.split())


def _copies(plain: list[str], passage: str, length: int) -> bool:
    """Whether so many words in a row of a query are in the passage too."""
    text = f" {passage} "
    starts = range(len(plain) - length + 1)
    return any(f" {' '.join(plain[start : start + length])} " in text for start in starts)
