"""One run of a scorer over a frame: questions out, answers checked, costs booked, progress shown."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

from .core import Answer, Doc, Group, Question, Scorer, Scores, Usage
from .errors import ConfigurationError, LLMRankWarning, ScoringError
from .ledger import Ledger

SLICE = 64  # questions between two steps of a progress bar


class Bar(Protocol):
    """What is used of a tqdm bar."""

    def update(self, n: int) -> object:
        """Moves on by ``n``."""
        ...

    def close(self) -> object:
        """Ends the bar."""
        ...


class Asking:
    """Answers the rounds of a run; a context manager, whose end says what went unread and closes the bar.

    Several threads may ask at once, each for a query of its own, where the scorer may be asked so.

    Args:
        name: Who asks, for messages.
        scorer: What answers.
        docs: Documents by row.
        rows: The qid and the query of each row.
        ledger: Where costs are booked.
        bar: Progress, in questions; None for none.
    """

    def __init__(
        self,
        name: str,
        scorer: Scorer,
        *,
        docs: Sequence[Doc],
        rows: Sequence[tuple[str, str]],
        ledger: Ledger,
        bar: Bar | None,
    ) -> None:
        self.name = name
        self.scorer = scorer
        self.docs = docs
        self.rows = rows
        self.ledger = ledger
        self.bar = bar
        self.asked = 0
        self.failed = 0
        self._booked = 0.0  # when the ledger was last written to
        self._lock = threading.Lock()

    def __call__(self, groups: list[Group]) -> list[Scores]:
        """One round: the scores of each group of rows, in order. What it cost is booked, also where it fails."""
        questions = [self._question(group) for group in groups]
        size = len(questions) if self.bar is None else SLICE
        answers: list[Answer] = []
        began = time.perf_counter()
        try:
            for start in range(0, len(questions), max(1, size)):
                answers += self._answers(questions[start : start + size])
        finally:
            self._book(questions, answers, began)
        return [answer.scores for answer in answers]

    def _answers(self, questions: Sequence[Question]) -> list[Answer]:
        """Asks the scorer once."""
        try:
            answers = self.scorer(questions)
        except (RuntimeError, OSError) as error:
            qids = list(dict.fromkeys(question.qid for question in questions))
            some = ", ".join(qids[:5]) + (f" and {len(qids) - 5} more" if len(qids) > 5 else "")
            raise ScoringError(f"{self.name} failed on the queries {some}: {error}") from error
        self._check(questions, answers)
        if self.bar is not None:
            with self._lock:
                self.bar.update(len(questions))
        return answers

    def _book(self, questions: Sequence[Question], answers: Sequence[Answer], began: float) -> None:
        """Writes down what the answers of a round cost; those of a round that failed are the first ones.

        Where rounds overlap, each is charged the time since the one before was booked: all add up to the wall time.
        """
        with self._lock:
            now = time.perf_counter()
            seconds, self._booked = now - max(began, self._booked), now
            if answers:
                costs = [(q.qid, a.usage) for q, a in zip(questions, answers, strict=False)]
                self.ledger.add_round(costs, seconds)
            self.asked += sum(_answered(answer.usage) for answer in answers)
            self.failed += sum(answer.usage.failures for answer in answers)

    def _question(self, group: Group) -> Question:
        """The question about a group of rows, which all belong to one query."""
        largest = self.scorer.max_docs
        if largest is not None and len(group) > largest:
            raise ConfigurationError(
                f"{self.scorer!r} takes at most {largest} documents, but the strategy asked about {len(group)}"
            )
        qid, query = self.rows[group[0]]
        return Question(query, tuple(self.docs[row] for row in group), qid)

    def _check(self, questions: Sequence[Question], answers: Sequence[Answer]) -> None:
        """A scorer must give one score per document of every question."""
        if len(answers) != len(questions):
            raise ScoringError(f"{self.scorer!r} gave {len(answers)} answers to {len(questions)} questions")
        for question, answer in zip(questions, answers, strict=True):
            if len(answer.scores) != len(question.docs):
                raise ScoringError(
                    f"{self.scorer!r} gave {len(answer.scores)} scores for {len(question.docs)} documents "
                    f"of query {question.qid}"
                )

    def __enter__(self) -> Callable[[list[Group]], list[Scores]]:
        """The function that answers a round."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Says how many answers could not be read, once."""
        if self.bar is not None:
            self.bar.close()
        if self.failed and error is None:
            warnings.warn(
                f"{self.failed} of {self.asked} answers to {self.name} could not be read "
                f"({self.failed / self.asked:.1%}); their documents kept their order",
                LLMRankWarning,
                stacklevel=4,
            )


def _answered(usage: Usage) -> int:
    """How many answers it was: those that were known from before count too."""
    return max(usage.calls + usage.cached_calls, usage.failures)
