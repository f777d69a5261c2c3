"""One run of a scorer over a frame: questions out, answers checked, costs booked, progress shown."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

from .core import Answer, Doc, Group, Question, Scorer, Scores, Usage
from .errors import ConfigurationError, LLMRankError, LLMRankWarning, PromptTooLong, ScoringError
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
        costs: list[tuple[str | None, Usage]] = []
        began = time.perf_counter()
        try:
            for start in range(0, len(questions), max(1, size)):
                part = questions[start : start + size]
                try:
                    answers += self._answers(part)
                except Exception as error:
                    costs += _carried(error, part)
                    raise
        finally:
            self._book([*zip([q.qid for q in questions], [a.usage for a in answers], strict=False), *costs], began)
        self._count(answers)
        return [answer.scores for answer in answers]

    def _answers(self, questions: Sequence[Question]) -> list[Answer]:
        """Asks the scorer once.

        Raises:
            ScoringError: It failed, or gave something else than an answer for each question.
        """
        try:
            answers = self.scorer(questions)
        except (RuntimeError, OSError) as error:
            raise ScoringError(f"{self.name} failed on {_told(error, questions)}: {error}") from error
        except LLMRankError:
            raise  # says itself what to do
        except Exception as error:
            raise ScoringError(
                f"{self.name} failed on {_told(error, questions)}: {self.scorer!r} raised "
                f"{type(error).__name__}: {error}; mend it, or let it give NaN where it has no answer"
            ) from error
        self._check(questions, answers)
        if self.bar is not None:
            with self._lock:
                self.bar.update(len(questions))
        return answers

    def _book(self, costs: Sequence[tuple[str | None, Usage]], began: float) -> None:
        """Writes down what a round cost.

        Where rounds overlap, each is charged the time since the one before was booked: all add up to the wall time.
        """
        with self._lock:
            now = time.perf_counter()
            seconds, self._booked = now - max(began, self._booked), now
            if costs:
                self.ledger.add_round(costs, seconds)

    def _count(self, answers: Sequence[Answer]) -> None:
        """Remembers how many answers could not be read."""
        with self._lock:
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
        if not hasattr(answers, "__len__"):
            raise ScoringError(f"{self.scorer!r} gave {answers!r:.80}; return a list with an Answer for each question")
        if len(answers) != len(questions):
            raise ScoringError(f"{self.scorer!r} gave {len(answers)} answers to {len(questions)} questions")
        for question, answer in zip(questions, answers, strict=True):
            try:
                given = len(answer.scores)
            except (AttributeError, TypeError) as error:
                raise ScoringError(
                    f"{self.scorer!r} gave {answer!r:.80} for a question of query {question.qid}; give an Answer with "
                    "an array of scores, NaN for a document without one"
                ) from error
            if given != len(question.docs):
                raise ScoringError(
                    f"{self.scorer!r} gave {given} scores for {len(question.docs)} documents of query {question.qid}"
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


def _told(error: BaseException, questions: Sequence[Question]) -> str:
    """Which queries failed: the one whose prompt is too long, where that is known, else all of the round."""
    if isinstance(error, PromptTooLong):
        known = next((question.qid for question in questions if question.query == error.query), None)
        if known is not None:
            return f"the query {known}"
    qids = list(dict.fromkeys(question.qid for question in questions))
    some = ", ".join(qids[:5]) + (f" and {len(qids) - 5} more" if len(qids) > 5 else "")
    if isinstance(error, PromptTooLong) and len(qids) > 1:
        longest = max(questions, key=lambda question: len(question.query.encode()))
        some += f" (the longest query is that of {longest.qid})"
    return f"the queries {some}"


def _carried(error: BaseException | None, questions: Sequence[Question]) -> list[tuple[str | None, Usage]]:
    """What the answers cost that a failed call got before it failed, as far as an exception carries them.

    Answers to the questions themselves have a qid, those to prompts that a scorer made of them have none.
    """
    while error is not None:
        finished = getattr(error, "finished", None)
        if isinstance(finished, tuple) and len(finished) == 2:
            asked, answers = finished
            own = asked is questions
        else:
            own, answers = False, dict(enumerate(getattr(error, "partial", ())))
        costs = [(questions[at].qid if own else None, getattr(one, "usage", None)) for at, one in answers.items()]
        if told := [(qid, usage) for qid, usage in costs if isinstance(usage, Usage)]:
            return told
        error = error.__cause__
    return []
