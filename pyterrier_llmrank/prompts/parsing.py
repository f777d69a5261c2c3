"""Reads the order of a window out of a language model's answer, whatever the answer looks like.

The robust reading (the default) takes what a person would take:

1. Everything up to the last ``</think>`` goes, then what is outside the last complete ``<answer>``.
2. Square brackets decide if any hold a place of the window: ``[2] > [1]``, ``["2", "1"]``, half lost ones (``2]``,
   ``[2 >``), and what stands among them as an item of its own (``[2] > Passage 1 > [3]``). Then names (``PASSAGE2``,
   ``Document 2``). Then bare integers (``2 > 1``), but none beside a word (``20 passages``, ``from 1 to 20``) or glued
   to one (``rank_1``), no decimals, no list numbers. Round, curly and angle brackets are decoration.
3. Of several rankings the last counts: a chain of two or more identifiers on a line, or a vertical list.

Letters read the same way, in brackets in either case, otherwise only as single capitals. ``=`` separates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

Labels = Literal["numbers", "letters"]


class Permutation(NamedTuple):
    """The 0-based places in a window that an answer names, best first and each once.

    Status ``ok``: complete and clean; ``repaired``: something was dropped or is missing; ``empty``: nothing was read.
    """

    order: tuple[int, ...]
    status: Literal["ok", "repaired", "empty"]


def parse_permutation(text: str, n: int, *, labels: Labels = "numbers", legacy: bool = False) -> Permutation:
    """The order that an answer gives to a window of ``n`` documents; never raises, whatever the text.

    Args:
        text: The model's answer, raw.
        n: Documents in the window; identifiers run from 1 (or A) to ``n``.
        labels: How the prompt named the documents.
        legacy: Read as RankLLM 0.25 does: after ``</think>``, every run of digits is an identifier, also in prose.
    """
    found = _legacy_identifiers(text, labels) if legacy else identifiers(text, n, labels)
    return _permutation(found, n)


def identifiers(text: str, n: int, labels: Labels = "numbers") -> Sequence[str]:
    """The identifiers that an answer lists, as they are written; none where no place of the window is among them."""
    answer = (answer_text(text) or "").replace("<answer>", "\n")  # a stop string may have cut its end off
    return next((found for found in _readings(answer, n, labels) if places(found, n)), ())


def places(found: Sequence[str], n: int) -> tuple[int, ...]:
    """The 0-based places that identifiers name, each once; those outside 1..n go."""
    named = (ordinal(identifier) - 1 for identifier in dict.fromkeys(found))
    return tuple(dict.fromkeys(place for place in named if 0 <= place < n))


def answer_text(text: str) -> str | None:
    """What follows the reasoning, inside the last complete ``<answer>`` if any; None if the reasoning never ends."""
    tags = re.finditer(r"(?i)<(/?)(?:think|thinking|reason|reasoning)>", text)
    tag = max(tags, key=re.Match.end, default=None)
    if tag and not tag[1]:
        return None
    answer = text[tag.end() :] if tag else text
    closed = (re.split(r"(?i)<answer>", block) for block in re.split(r"(?i)</answer>", answer)[:-1])
    return ([block[-1] for block in closed if len(block) > 1] or [answer])[-1]


# An answer is taken apart into identifiers and the glue before, between and behind them; the glue tells what a number
# is. No pattern here takes more than linear time; those that search for something before $ see 40 characters.
_SPLIT = {"numbers": re.compile(r"(\d+)"), "letters": re.compile(r"(?<!\w['\u2019])\b([A-Za-z])\b(?!['\u2019]\w)")}
_MOST = 40_000  # pieces read at either end; only a model that repeats itself forever gives more
_LETTER = r"[^\W\d_]"
_NAME = r"(?:passage|document|doc|paragraph|candidate|snippet|text|item)s?"
_NAME_BEFORE = re.compile(rf"(?<!{_LETTER}){_NAME}[\s_#№:.-]*$", re.IGNORECASE)
_WORD = re.compile(rf"(?<!{_LETTER})(?!{_NAME}(?!{_LETTER})){_LETTER}{{2,}}", re.IGNORECASE)
_WORD_BUT_AND = re.compile(rf"(?<!{_LETTER})(?!(?:{_NAME}|and|then)(?!{_LETTER})){_LETTER}{{2,}}", re.IGNORECASE)
_WORD_LEFT = re.compile(rf"(?<!{_LETTER})(?!(?:and|then)$){_LETTER}+$")
_WORD_RIGHT = re.compile(rf"[.)\s]*(?!(?:and|then)\b){_LETTER}")
_GLUED_RIGHT = re.compile(rf"[\w%]|['\u2019]{_LETTER}")
_COUNTER_RIGHT = re.compile(r"[\"'`*]*(?:[.)][ \t]|:)[ \t\"'`*\\#(]*$")
_BRACKETS = str.maketrans("\uff3b\uff3d\u3010\u3011\uff1e\u203a", "[][]>>")
_DECORATION = " \t\r\"'`*\\#"
_SEPARATORS = frozenset("[]<>,;|=→:-")
_WRAPPED = (">", ",", "=", "|", ";", "→")


@lru_cache(maxsize=4096)
def _kind(left: str, right: str) -> str:
    """What the glue makes of an identifier: square, named, bare or nothing; an item has separators on either side."""
    left, right = left.rpartition("\n")[2], right.partition("\n")[0]
    name = _NAME_BEFORE.search(left)
    opening, closing = left[: name.start() if name else None].rstrip(_DECORATION), right.lstrip(_DECORATION)
    if _GLUED_RIGHT.match(right) or opening.endswith("[-") or not (name or re.search(r"(?!\w).$|^$", left)):
        return ""
    alone = not opening or opening[-1] in _SEPARATORS
    if name:
        return "named item" if alone and (not closing or closing[0] in _SEPARATORS) else "named"
    word = _WORD_RIGHT.match(closing) and not opening.endswith(">")
    if (alone and closing.startswith("]")) or (opening.endswith("[") and (not word or _NAME_BEFORE.match(closing))):
        return "square"
    if word or (_WORD_LEFT.search(opening) and not closing.startswith(">")):
        return ""
    return "bare item" if alone and closing.startswith(">") else "bare"


def _kinds(parts: Sequence[str], n: int) -> list[str]:
    """The kind of each identifier; ``parts`` alternates between glue (even places) and identifiers (odd places)."""
    kinds: list[str] = []
    inside = False  # of a bracketed list, [2, 1, 3]
    for at in range(1, len(parts), 2):
        left, identifier, right = parts[at - 1 : at + 2]
        bracket = max(left.rfind("["), left.rfind("]"))
        inside = (left[bracket] == "[" if bracket >= 0 else inside) and not _WORD.search(left, bracket + 1)
        kind = _kind(left[-40:], right[:40])
        kind = "square" if inside and kind.startswith("bare") else kind
        kinds.append("" if identifier.islower() and kind != "square" else kind)
        thousand = left == "," and len(identifier) == 3 and not 0 < ordinal(identifier) <= n
        if at > 1 and (left == "." or (thousand and parts[at - 3] != ",")):
            kinds[-2:] = "", ""  # 1.5 or 1,000
    return kinds


def _readings(answer: str, n: int, labels: Labels) -> Iterator[Sequence[str]]:
    """Identifiers as brackets, names and bare ones show them; the first reading that names a place counts."""
    parts = _SPLIT[labels].split(answer.translate(_BRACKETS))
    parts = parts if len(parts) < 2 * _MOST else [*parts[:_MOST], "\nand so on\n", *parts[-_MOST:]]
    kinds = _kinds(parts, n)
    if any(kind == "square" and 0 < ordinal(parts[2 * at + 1]) <= n for at, kind in enumerate(kinds)):
        yield _last_ranking(parts, [at for at, kind in enumerate(kinds) if kind == "square" or kind.endswith("item")])
    named = [at for at, kind in enumerate(kinds) if kind.startswith("named")]
    if len(named) > 1:
        yield _last_ranking(parts, named)
    bare = [at for at, kind in enumerate(kinds) if kind and kind != "square"]
    marked = [at for at in bare[:-1] if _COUNTER_RIGHT.match(parts[2 * at + 2]) and not parts[2 * at].endswith("(")]
    counters = {at: ordinal(parts[2 * at + 1]) for at in marked}
    if [*counters.values()] == [*range(1, len(counters) + 1)] and len(bare) >= 2 * len(counters):
        bare = [at for at in bare if at not in counters]  # list numbers: 1, 2, 3 … as in "1. 3" or '"1": 3'
    yield _last_ranking(parts, bare)


class _Run(list[str]):
    """Identifiers that read as one ranking."""

    trust = 2  # 2: nothing else on its lines, 1: a vertical list with remarks, 0: behind other words on a line


def _last_ranking(parts: Sequence[str], chosen: Sequence[int]) -> Sequence[str]:
    """The last ranking among the chosen identifiers, else the last line with several of them, else all."""
    runs, lines = [chain := _Run()], list[_Run]()  # the line goes on with the chain,
    column: _Run | None = None  # and the next line with the column, a vertical list
    for last, at in zip([-1, *chosen], chosen, strict=False):
        glue, identifier = "".join(parts[2 * last + 2 : 2 * at + 1]), parts[2 * at + 1]
        remark, newline, margin = glue.partition("\n") if lines else ("", "\n", glue)
        word = _WORD.search(glue)
        if newline:
            lines.append(_Run())
            if not word and remark.rstrip().endswith(_WRAPPED):
                column = None
            elif column and not _WORD.search(margin):
                column.trust = 1 if word or chain is not column else column.trust
                chain = column
            else:
                runs.append(chain := _Run())
                prefix = _WORD.search(margin.rpartition("\n")[2])  # "Ranking: [2]" may start a list, "I like [2]" not
                column = None if prefix and (":" not in margin or _WORD.search(parts[2 * at + 2])) else chain
        elif word and (chain is column or len(chain) < 2 or _WORD_BUT_AND.search(glue)):
            runs.append(chain := _Run())  # "and" goes on with what is a ranking without it
            chain.trust = 0
        else:
            if chain is column and len(chain) > 1:  # this line is no part of the list above
                runs.append(chain := _Run([chain.pop()]))
            column = None
        chain.append(identifier)
        lines[-1].append(identifier)
    found = sorted((run for run in runs if len(run) > 1), key=lambda run: run.trust) or [x for x in lines if len(x) > 1]
    return found[-1] if found else [parts[2 * at + 1] for at in chosen]


def _permutation(found: Sequence[str], n: int) -> Permutation:
    """The places named, in order, and how well they name the whole window."""
    order = places(found, n)
    return Permutation(order, "empty" if not order else "ok" if len(order) == n == len(found) else "repaired")


def ordinal(identifier: str) -> int:
    """1 for 1, A and a, 2 for 2 …, in decimal digits of any script; 0 for numbers beyond any window."""
    if identifier.isalpha():
        return ord(identifier.upper()) - ord("A") + 1
    digits = identifier.lstrip("0")
    return int(digits) if 0 < len(digits) < 10 else 0  # CPython refuses to convert more than 4300 digits


# RankLLM makes these digits ASCII. U+1F100 is "0." and U+1F101 "0,", but RankLLM counts on from one to the other.
_LEGACY_DIGITS = {0x1F100 + i: str(i) for i in range(10)} | str.maketrans(
    "⁰¹²³⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉①②③④⑤⑥⑦⑧⑨❶❷❸❹❺❻❼❽❾", "0123456789" * 2 + "123456789" * 2
)


def _legacy_identifiers(text: str, labels: Labels) -> Sequence[str]:
    """Every number of the answer, as RankLLM reads it; none at all if one of them does not convert."""
    answer = text.rpartition("</think>")[2].translate(_LEGACY_DIGITS)
    digits = {c: c for c in set(answer) if c.isdigit()}
    if labels == "letters":  # each letter becomes its distance from "@", and neighbours join: "AB" is 12
        digits = {c: str(ord(c) - ord("@")) for c in set(answer) if c.isalpha()}
    numbers = answer.translate({ord(c): digits.get(c, " ") for c in set(answer)}).split()
    return numbers if all(number.isdecimal() and len(number) <= 4300 for number in numbers) else ()
