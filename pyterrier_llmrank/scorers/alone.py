"""What scorers share that read each document by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from pyterrier_llmrank.core import Answer, Evidence, Question, Usage


class Alone:
    """A scorer whose score of a document depends on no other: it compares between groups, of any size."""

    @property
    def gives(self) -> Evidence:
        """Scores that hold between documents."""
        return Evidence.SCORE

    @property
    def max_docs(self) -> int | None:
        """Any number: each document is read by itself."""
        return None


def regrouped(questions: Sequence[Question], scored: Iterable[tuple[float, Usage]]) -> list[Answer]:
    """One answer per question, from the score and the cost of every document in turn."""
    turn = iter(scored)
    answers = []
    for question in questions:
        own = [next(turn) for _ in question.docs]
        answers.append(Answer(np.array([score for score, _ in own]), sum((usage for _, usage in own), Usage())))
    return answers
