"""How documents and queries are prepared before a prompt shows them."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pyterrier_llmrank.core import brief
from pyterrier_llmrank.errors import ConfigurationError

from .base import one_line, without_markers

FIELDS = ("text", "segment", "contents", "content", "body", "passage")
"""Where collections keep a document's text; the first of these that a document has counts."""


def without_numbers(text: str) -> str:
    """``text`` with ``[12]`` written as ``(12)``."""
    return re.sub(r"\[(\d+)\]", r"(\1)", text)


def without_letters(text: str) -> str:
    """``text`` with ``[A]`` and ``[see]`` written as ``(A)`` and ``(see)``."""
    return re.sub(r"\[([A-Za-z]+)\]", r"(\1)", text)


_MARKERS: dict[str, Callable[[str], str]] = {
    "both": without_markers,
    "numbers": without_numbers,
    "letters": without_letters,
    "none": str,
}


@dataclass(frozen=True, repr=False)
class Preparation:
    """What is done to a text before it is shown; called with one.

    The default suits identifiers in square brackets: one line a text, and no text can spell an identifier.

    Args:
        fold: "all" makes every run of white space one space; "lines" only runs of line breaks; "none" leaves it.
        markers: What in square brackets is put in round ones: "both" for numbers and single capitals, "numbers",
            "letters" for any run of letters, or "none".
        max_words: Words to keep. White space is folded then.
        max_chars: Characters to keep; counted after ``max_words``.
        repair: Whether broken Unicode is mended first (see ``repaired``).

    Raises:
        ConfigurationError: An argument is none of its choices, or a length is below 1.
    """

    fold: Literal["all", "lines", "none"] = "all"
    markers: Literal["both", "numbers", "letters", "none"] = "both"
    max_words: int | None = None
    max_chars: int | None = None
    repair: bool = False

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.fold not in ("all", "lines", "none"):
            raise ConfigurationError(f"fold must be 'all', 'lines' or 'none', got {self.fold!r}")
        if self.markers not in _MARKERS:
            raise ConfigurationError(f"markers must be one of {', '.join(_MARKERS)}, got {self.markers!r}")
        for name in ("max_words", "max_chars"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"{name} must be at least 1 or None (all), got {value}")

    def __call__(self, text: str) -> str:
        """The text as it is shown."""
        return _MARKERS[self.markers](self.cut(repaired(text) if self.repair else text)[: self.max_chars])

    def cut(self, text: str) -> str:
        """As much of the text as is ever shown, and so again the same: to be called before anything is measured."""
        if self.max_words is not None:
            text = first_words(text, self.max_words)
        elif self.fold == "all":
            text = one_line(text)
        elif self.fold == "lines":
            text = re.sub(r"\n+", " ", text)
        return text if self.max_chars is None else text[: self.max_chars + 1]  # a space may end what is shown


ONE_LINE = Preparation()
"""Each text on one line, without identifiers of its own."""

VERBATIM = Preparation(fold="none", markers="none")
"""Texts as they are."""


def document_text(fields: Mapping[str, str], max_words: int | None = None) -> str:
    """The text of a document with fields as RankLLM shows it: title, then content, on one line, without ``[n]``.

    Args:
        fields: The document; its text is the first of ``FIELDS`` that it has, and its ``title`` goes before it.
        max_words: Words to keep, those of the title and its name included; all by default. Below 0, so many are left
            out at the end.

    Raises:
        ConfigurationError: None of ``FIELDS`` is there.

    Reference:
        castorini/rank_llm 0.25.7, ``_convert_doc_to_prompt_content``.
    """
    text = next((fields[name] for name in FIELDS if name in fields), None)
    if text is None:
        raise ConfigurationError(f"a document needs one of the fields {', '.join(FIELDS)}, got {', '.join(fields)}")
    title = fields.get("title")
    text = f"Title: {title} Content: {text}" if title else text
    return without_numbers(first_words(repaired(text), max_words))


def first_words(text: str, most: int | None) -> str:
    """The first ``most`` words of a text, separated by single spaces."""
    return " ".join(text.split()[:most])


def _byte(value: int) -> str:
    """How Windows shows a byte; the five that it leaves undefined stand for themselves."""
    return bytes([value]).decode("cp1252", errors="ignore") or chr(value)


_BYTES = {_byte(value): value for value in range(256)}
_REST = "[" + re.escape("".join(_byte(value) for value in range(0x80, 0xC0))) + "]"
# UTF-8 that was read as Windows-1252: only with first bytes that hardly begin anything else, so that no word is harmed.
_MISREAD = re.compile(f"[{_byte(0xC2)}{_byte(0xC3)}]{_REST}|{_byte(0xE2)}{_REST}{{2}}|{_byte(0xF0)}{_REST}{{3}}")
# UTF-8 that was read as Latin-1, as all over MS MARCO: sure where it left a control character, which no text has.
_LATIN = re.compile("(?:[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3})+")
_C1 = re.compile("[\x80-\x9f]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ufeff\ufff9-\ufffc]")
_LIGATURES = re.compile("[\u0132\u0133\u0149\u01f1-\u01f3\u01c4-\u01cc\ufb00-\ufb06]")
_WIDE = re.compile("[\u3000\uff01-\uffef]")
_QUOTES = str.maketrans("\u2018\u2019\u201b\u201c\u201d\u201f", "'''\"\"\"")


def repaired(text: str) -> str:
    """``text`` with broken Unicode mended, and the typesetter's letters and quotes made plain.

    Entities such as ``&amp;`` (not in HTML), UTF-8 that was read as Latin-1 or Windows-1252, ligatures, full-width
    forms, curly quotes, control characters; composed normal form (NFC). The formats of several checkpoints were made
    with such a repair (ftfy); of what it does, this is the part that needs no guessing.

    Reference:
        Speer, 2019 (ftfy).
    """
    if text.isascii() and "&" not in text and not _CONTROL.search(text):
        return text
    if "<" not in text:
        text = re.sub(r"&#?\w{1,24};", lambda entity: html.unescape(entity[0]), text)
    text = _C1.sub(lambda control: _byte(ord(control[0])), _LATIN.sub(_decoded, text))
    text = _MISREAD.sub(_reread, text)
    text = _LIGATURES.sub(_compatible, text)
    text = _WIDE.sub(_compatible, text).translate(_QUOTES)
    return unicodedata.normalize("NFC", _CONTROL.sub("", text))


def _decoded(misread: re.Match[str]) -> str:
    """The characters whose UTF-8 this was; what may be meant as it is stays."""
    try:
        return misread[0].encode("latin-1").decode("utf-8") if _C1.search(misread[0]) else misread[0]
    except UnicodeDecodeError:
        return misread[0]


def _reread(misread: re.Match[str]) -> str:
    """The characters whose UTF-8 this was."""
    try:
        return bytes(_BYTES[character] for character in misread[0]).decode("utf-8")
    except UnicodeDecodeError:
        return misread[0]


def _compatible(character: re.Match[str]) -> str:
    """The plain spelling of a compatibility character."""
    return unicodedata.normalize("NFKC", character[0])
