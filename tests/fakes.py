"""Scorers without a model, for tests of everything that is not one."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pyterrier_llmrank.core import Answer, Evidence, Question, Usage, silence


@dataclass
class PerfectScorer:
    """Reads each document's relevance from its text, a number. Keeps what it was asked, round by round."""

    gives: Evidence = Evidence.SCORE
    max_docs: int | None = None
    rounds: list[list[Question]] = field(default_factory=list, compare=False, repr=False)

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        self.rounds.append(list(questions))
        return [Answer(np.array([float(doc.text) for doc in q.docs]), Usage(1, 10 * len(q.docs))) for q in questions]

    @property
    def calls(self) -> int:
        return sum(map(len, self.rounds))


@dataclass(frozen=True)
class SilentScorer:
    """Never gives an answer that can be read."""

    gives: Evidence = Evidence.SCORE
    max_docs: int | None = None

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        return [Answer(silence(len(q.docs)), Usage(calls=1, failures=1)) for q in questions]


@dataclass(frozen=True)
class FirstBiasedScorer:
    """Always prefers what it is shown first."""

    gives: Evidence = Evidence.ORDER
    max_docs: int | None = None

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        return [Answer(-np.arange(len(q.docs), dtype=float)) for q in questions]


@dataclass(frozen=True)
class UnreachableScorer:
    """Raises what a broken connection raises; proves that nobody asked it anything, or how its failure is told."""

    gives: Evidence = Evidence.SCORE
    max_docs: int | None = None

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        raise ConnectionError("the server went away")


def oracle(relevance, seen=None):
    """Answers groups of a bare strategy with their true relevance; ``seen`` collects the rounds."""

    def ask(groups):
        if seen is not None:
            seen.append(list(groups))
        return [np.array([relevance[i] for i in group], dtype=float) for group in groups]

    return ask


def silent(groups):
    """No answer to anything."""
    return [silence(len(group)) for group in groups]


def first(groups):
    """One-sided: whatever was shown first wins."""
    return [-np.arange(len(group), dtype=float) for group in groups]


def last(groups):
    """One-sided: whatever was shown last wins."""
    return [np.arange(len(group), dtype=float) for group in groups]


def intransitive(groups):
    """Deterministic answers that contradict one another; ties and gaps among them."""
    answers = []
    for group in groups:
        key = str(sorted(group)).encode()
        scores = np.array([float(zlib.crc32(key + str(i).encode()) % 7) for i in group])
        scores[scores == 0] = np.nan
        answers.append(scores)
    return answers
