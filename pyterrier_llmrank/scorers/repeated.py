"""``Repeated``: the same question again, with other random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property

from pyterrier_llmrank.core import Answer, Evidence, Question, Scorer, brief
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.seeds import derived, reseeded

from .around import Around, check_scorer, check_times, combined
from .combining import USUAL, Aggregate, Rule, as_aggregate, check_rule, evidence


@dataclass(frozen=True, repr=False)
class Repeated(Around):
    """Asks each question several times, with other seeds, and combines the answers (self-consistency).

    For scorers that draw at random: sampled answers, reasoning. An answer that could not be read is left out of the
    mean, and counted as a failure. Costs: ``times`` calls of the scorer for each of its own.

    Args:
        scorer: What is asked, e.g. ``Prompted(prompt, model, sampling=Sampling(0.6))``.
        times: Answers to each question.
        combine: "mean", "borda", "votes" (majority), "agree" or an aggregate; see ``Shuffled``.
        seed: Decides the seeds of the answers.

    Raises:
        ConfigurationError: ``scorer`` is not a scorer or draws nothing at random, so that all its answers would be the
            same; ``times`` is below 1, or ``combine`` none of these.

    Reference:
        Wang et al., 2023 (self-consistency); Lan et al., 2025 (Retro*), for the mean of sampled scores.
    """

    scorer: Scorer
    times: int
    combine: Rule | Aggregate | None = None
    seed: int = 0

    __repr__ = brief

    def __post_init__(self) -> None:
        check_scorer("Repeated", self.scorer)
        check_times("Repeated", self.times)
        if self.combine is not None:
            check_rule("Repeated", self.combine)
        if not _draws(self.scorer):
            raise ConfigurationError(
                f"{self.scorer!r} draws nothing at random, so to ask it again gives the same answer; give it "
                "sampling=Sampling(temperature), or use Shuffled, which changes the order of the documents"
            )

    @property
    def gives(self) -> Evidence:
        """What the scorer gives; an order at most, unless scores are averaged."""
        return evidence(self._rule, self.scorer.gives)

    @property
    def _rule(self) -> Rule | Aggregate:
        return self.combine or USUAL[self.scorer.gives]

    @cached_property
    def _copies(self) -> list[Scorer]:
        """The scorer with the seeds of each repetition; what it has loaded is shared."""
        return [reseeded(self.scorer, derived(self.seed, number)) for number in range(self.times)]

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question; each repetition asks all questions together."""
        if not questions:
            return []
        rounds = [copy(questions) for copy in self._copies]
        rule = as_aggregate(self._rule)
        answers = []
        for question, *own in zip(questions, *rounds, strict=True):
            n = len(question.docs)
            answers.append(combined(n, [tuple(range(n))] * self.times, own, rule))
        return answers


def _draws(part: object) -> bool:
    """Whether anything in ``part`` has a seed that matters: one without a ``sampling``, or with one that is set."""
    if type(part) is tuple:
        return any(map(_draws, part))
    if not is_dataclass(part) or isinstance(part, type):
        return False
    values = {field.name: getattr(part, field.name) for field in fields(part) if field.init}
    if "seed" in values and values.get("sampling", part) is not None:
        return True
    return any(_draws(value) for value in values.values())
