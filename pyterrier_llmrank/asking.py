"""One run of a scorer over a frame: questions out, answers checked, costs booked, progress shown."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

from .core import Answer, Doc, Group, Question, Scorer, Scores
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

    def __call__(self, groups: list[Group]) -> list[Scores]:
        """One round: the scores of each group of rows, in order."""
        if self.bar is None:
            return self._answers(groups)
        scores: list[Scores] = []
        for start in range(0, len(groups), SLICE):
            part = groups[start : start + SLICE]
            scores += self._answers(part)
            self.bar.update(len(part))
        return scores

    def _answers(self, groups: list[Group]) -> list[Scores]:
        """Asks the scorer once and books what it cost."""
        questions = [self._question(group) for group in groups]
        began = time.perf_counter()
        try:
            answers = self.scorer(questions)
        except (RuntimeError, OSError) as error:
            qids = list(dict.fromkeys(question.qid for question in questions))
            some = ", ".join(qids[:5]) + (f" and {len(qids) - 5} more" if len(qids) > 5 else "")
            raise ScoringError(f"{self.name} failed on the queries {some}: {error}") from error
        seconds = time.perf_counter() - began
        self._check(questions, answers)
        self.ledger.add_round([(q.qid, a.usage) for q, a in zip(questions, answers, strict=True)], seconds)
        self.asked += sum(max(answer.usage.calls, answer.usage.failures) for answer in answers)
        self.failed += sum(answer.usage.failures for answer in answers)
        return [answer.scores for answer in answers]

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
