"""Words, sentences, and how many documents of a corpus hold each word."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b

import numpy as np

_WORD = re.compile(r"(?<!\w)[^\W\d_](?:[\w'-]*\w)?")
_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+")
SHORTEST = 4  # words of a sentence: fewer are a heading, or what an abbreviation's dot cut off


def words(text: str) -> list[str]:
    """The words of a text, lower-cased; numbers are none."""
    return _WORD.findall(text.lower())


def normalised(text: str) -> str:
    """A text without what writing changes: lower-cased letters and digits of all words, one space between them."""
    return " ".join(re.findall(r"\w+", text.lower()))


def sentences(text: str) -> list[str]:
    """The sentences of a text, each one line without its final mark, in order; a short piece belongs to the one before.

    A text without marks is one sentence; one without words is none.
    """
    found: list[list[str]] = []
    for piece in _END.split(" ".join(text.split())):
        if found and (len(words(piece)) < SHORTEST or len(words(" ".join(found[-1]))) < SHORTEST):
            found[-1].append(piece)
        elif words(piece):
            found.append([piece])
    return [" ".join(parts).rstrip(" .") for parts in found]


@dataclass(frozen=True)
class WordCounts:
    """In how many documents of a corpus each word is.

    Args:
        documents: In the corpus.
        counts: Of each word, at most ``documents``.
    """

    documents: int
    counts: Mapping[str, int] = field(repr=False)

    @classmethod
    def of(cls, texts: Iterable[str]) -> WordCounts:
        """Counts a corpus in one pass."""
        counts: Counter[str] = Counter()
        n = 0
        for text in texts:
            counts.update(set(words(text)))
            n += 1
        return cls(n, dict(counts))

    def rarity(self, word: str) -> float:
        """Natural log of one more than the documents by one more than those with the word; 0 where all have it."""
        return float(np.log((1 + self.documents) / (1 + self.counts.get(word, 0))))

    @cached_property
    def digest(self) -> str:
        """Of the counts: another corpus has another."""
        told = "\n".join(f"{word} {count}" for word, count in sorted(self.counts.items()))
        return blake2b(told.encode(), digest_size=8).hexdigest()

    def __repr__(self) -> str:
        """How many documents and words, and a digest of the counts."""
        return f"<WordCounts: {self.documents} documents, {len(self.counts)} words, {self.digest}>"

    def __hash__(self) -> int:
        return hash(self.digest)
