"""Reads written answers other than a bare order: rankings with ties, one choice, a selection, scores as JSON.

All skip the reasoning as ``parse_permutation`` does, take linear time, and never raise, whatever the text.
"""

from __future__ import annotations

import re

import numpy as np

from pyterrier_llmrank.core import silence

from .base import Parsed
from .parsing import Labels, answer_text, identifiers, ordinal, places

_NAME = r"(?:passage|document|doc|text|candidate)"
_LABEL = {"numbers": r"(?<!\d)(\d{1,9})(?!\d)", "letters": r"(?<!\w)([A-Za-z])(?!\w)"}
_LINK = {  # two identifiers with one sign between them; the second may be the first of the next link
    labels: re.compile(rf"(?i){one}[^\w=>]{{0,9}}([=>])(?=[^\w=>]{{0,9}}{_NAME}?[^\w=>]{{0,3}}{one})")
    for labels, one in _LABEL.items()
}
_ALONE = {
    labels: re.compile(rf"(?i)\W*?(?:(?:{_NAME}|answer)\W{{0,9}}){{0,2}}{one}\W*") for labels, one in _LABEL.items()
}
_SHORT = 60  # characters of a line that holds one identifier and nothing else
_NONE = re.compile(r"(?i)\W{0,99}none\b")
_SCORE = re.compile(
    r"""(?<![\d.])(\d{1,9})(?!\d)\s{0,3}\]{0,3}\s{0,3}["']?\s{0,9}:\s{0,9}["']?([+-]?\d{1,9}(?:\.\d{1,9})?)(?!\d)"""
)


def parse_ranking(text: str, n: int, *, labels: Labels = "numbers") -> Parsed:
    """Scores 0, -1, -2, … in the order that an answer gives; equal ones for documents with ``=`` between them.

    Those left out get NaN. A sign counts where its two identifiers follow each other in the ranking; said twice, the
    last counts, as of rankings.
    """
    found = identifiers(text, n, labels)
    order = places(found, n)
    scores = silence(n)
    if not order:
        return Parsed(scores, "empty")
    signs = {
        (ordinal(link[1]) - 1, ordinal(link[3]) - 1): link[2]
        for link in _LINK[labels].finditer(answer_text(text) or "")
    }
    level = 0.0
    for before, place in zip((None, *order), order, strict=False):
        if before is not None and signs.get((before, place)) != "=":
            level -= 1
        scores[place] = level
    return Parsed(scores, "ok" if len(order) == n == len(found) else "repaired")


def parse_choice(text: str, n: int, *, labels: Labels = "letters") -> Parsed:
    """1 for the one document that an answer names and 0 for the others; unreadable where it names several, or none.

    Of an answer that names several, a line that holds one identifier and nothing else is the choice.
    """
    answer = answer_text(text) or ""
    order = places(identifiers(text, n, labels), n)
    alone = _alone(answer, n, labels)
    if len(order) != 1:
        order = tuple(dict.fromkeys(alone))
    if len(order) != 1:
        return Parsed(silence(n), "empty")
    scores = np.zeros(n)
    scores[order[0]] = 1.0
    clean = len(answer) <= _SHORT and _ALONE[labels].fullmatch(answer)
    return Parsed(scores, "ok" if clean else "repaired")


def _alone(answer: str, n: int, labels: Labels) -> list[int]:
    """The places named by lines that hold one identifier and nothing else."""
    matches = [_ALONE[labels].fullmatch(line) for line in answer.splitlines() if len(line) <= _SHORT]
    return list(places([match[1] for match in matches if match], n))


def parse_selection(
    text: str, n: int, *, labels: Labels = "numbers", most: int | None = None, none: bool = False
) -> Parsed:
    """Scores m, m - 1, …, 1 for the ``m`` documents that an answer selects, in its order, and 0 for the others.

    Args:
        text: The model's answer, raw.
        n: Documents to select from.
        labels: How the prompt named them.
        most: How many to select; further ones are not selected. Any number by default.
        none: Whether "None" is an answer: then no document is selected.
    """
    if none and _NONE.match(answer_text(text) or ""):
        return Parsed(np.zeros(n), "ok")
    found = identifiers(text, n, labels)
    order = places(found, n)
    if not order:
        return Parsed(silence(n), "empty")
    clean = len(found) == len(order) and most in (None, len(order))
    order = order[:most]
    scores = np.zeros(n)
    scores[list(order)] = np.arange(len(order), 0, -1)
    return Parsed(scores, "ok" if clean else "repaired")


def parse_scores(text: str, n: int, *, lowest: float = 0, highest: float = 10) -> Parsed:
    """The scores that an answer gives to the documents, as JSON or nearly; NaN for those it leaves out.

    Read are pairs such as ``"[1]": 5``, ``'1': 5`` or ``"Document 1": 5.5`` in the last pair of braces that has any,
    closed or not, else in the whole answer; said twice, the last counts. Scores outside the scale become its end.
    """
    answer = answer_text(text) or ""
    blocks = (_SCORE.findall(block.partition("}")[0]) for block in reversed(answer.split("{")[1:]))
    pairs = next((found for found in blocks if found), None) or _SCORE.findall(answer)
    scores = silence(n)
    for identifier, score in pairs:
        if 0 < (place := ordinal(identifier)) <= n:
            scores[place - 1] = float(score)
    if np.isnan(scores).all():
        return Parsed(scores, "empty")
    clipped = np.clip(scores, lowest, highest)
    clean = len(pairs) == n and np.array_equal(clipped, scores)
    return Parsed(clipped, "ok" if clean else "repaired")
