"""What scorers around scorers share."""

from __future__ import annotations

from collections.abc import Sequence

from pyterrier_llmrank.core import Answer, Group, Question, Scorer, Scores, Usage, silence
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.models.partial import carrying, finished, spans, whole

from .combining import Aggregate


class Around:
    """A scorer that asks another one; it takes the groups that the other takes."""

    scorer: Scorer

    @property
    def max_docs(self) -> int | None:
        """Documents of the largest group that the scorer takes."""
        return self.scorer.max_docs

    def load(self) -> None:
        """Loads what the scorer needs."""
        load_all([self.scorer])


def check_scorer(owner: str, scorer: object) -> None:
    """Whether ``scorer`` can be asked.

    Raises:
        ConfigurationError: It cannot.
    """
    if not callable(scorer) or getattr(scorer, "gives", None) is None:
        raise ConfigurationError(
            f"{owner} asks a scorer, and {scorer!r} is none: pass one such as Prompted(ListPrompt(), model)"
        )


def check_times(owner: str, times: int) -> None:
    """Whether ``times`` is a number of times.

    Raises:
        ConfigurationError: It is below 1.
    """
    if times < 1:
        raise ConfigurationError(f"{owner} asks at least once, got times={times}")


def load_all(scorers: Sequence[Scorer]) -> None:
    """Loads what scorers need, those of them that need anything."""
    for scorer in scorers:
        load = getattr(scorer, "load", None)
        if load is not None:
            load()


def in_orders(
    scorer: Scorer, questions: Sequence[Question], orders: Sequence[Sequence[Group]], combine: Aggregate
) -> list[Answer]:
    """One answer per question, which was asked with its documents in each of its orders; one call of the scorer."""
    if not questions:
        return []
    copies = [
        question._replace(docs=tuple(question.docs[i] for i in order))
        for question, own in zip(questions, orders, strict=True)
        for order in own
    ]
    own = spans(map(len, orders))

    def made(at: int, replies: Sequence[Answer]) -> Answer:
        return combined(len(questions[at].docs), orders[at], replies, combine)

    def early(error: Exception) -> dict[int, Answer]:
        told = whole(finished(error, "__call__", copies), own)
        return {at: made(at, replies) for at, replies in told.items()}

    with carrying(questions, early):
        replies = scorer(copies)
    return [made(at, [replies[place] for place in part]) for at, part in enumerate(own)]


def combined(n: int, orders: Sequence[Group], answers: Sequence[Answer], combine: Aggregate) -> Answer:
    """One answer of several about the same ``n`` documents; a single one stays as it is. Costs add up."""
    usage = sum((answer.usage for answer in answers), Usage())
    if len(answers) == 1:
        scores: Scores = silence(n)
        scores[list(orders[0])] = answers[0].scores
        return Answer(scores, usage)
    return Answer(combine(n, orders, [answer.scores for answer in answers]), usage)
