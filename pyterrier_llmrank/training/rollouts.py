"""Rewards as reinforcement learning asks for them: one for each of many answers, each with what the model was shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from pyterrier_llmrank.core import Doc, brief, descending
from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.prompts import SetPrompt
from pyterrier_llmrank.prompts.base import TextTemplate
from pyterrier_llmrank.prompts.layouts import label_names

from . import rewards
from .data.lists import TrainingList


class Rollout(NamedTuple):
    """One answer, and what it answers.

    Attributes:
        answer: What the model wrote, after what its prompt has the answer begin with.
        shown: The list whose documents it was shown, in that order, with their targets.
        place: Which of them, where a prompt shows one document; None where it shows all.
        number: Which list of the training data it is; several may be of one query.
    """

    answer: str
    shown: TrainingList
    place: int | None
    number: int


Reward: TypeAlias = Callable[[Sequence[Rollout]], Sequence[float]]
"""One reward per answer. A batch holds all answers to a prompt, and if that shows one document, all about its list."""


@dataclass(frozen=True, repr=False)
class Rearank:
    """REARANK's reward of listwise answers (see ``rewards.rearank``); targets are grades, at least 0.

    Args:
        k: Cutoff of nDCG.
    """

    k: int = 10

    __repr__ = brief

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float]:
        """The part of the possible gain over the shown order, and the format."""
        return [rewards.rearank(one.answer, one.shown.targets, k=self.k) for one in rollouts]


@dataclass(frozen=True, repr=False)
class RankR1:
    """Rank-R1's reward of setwise answers (see ``rewards.rank_r1``): the best document's label, after reasoning.

    Args:
        prompt: Whose labels are answered. Its layout should ask for the tags, as ``REASONED_CHOICE`` does.
    """

    prompt: SetPrompt

    __repr__ = brief

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float]:
        """1 or 0; of documents with equally high targets any is the best, so that no place among them is favoured."""
        return [max(rewards.rank_r1(one.answer, label) for label in self._labels(one.shown)) for one in rollouts]

    def _labels(self, shown: TrainingList) -> list[str]:
        names = zip(label_names(self.prompt.labels, len(shown.docs)), shown.targets, strict=True)
        best = [name for name, target in names if target == max(shown.targets)]
        return [self.prompt.layout.identifier.format(label=name) for name in best]


@dataclass(frozen=True, repr=False)
class ReasonRank:
    """ReasonRank's multi-view reward of listwise answers (see ``rewards.reason_rank``).

    Relevant is what has a target above 0; the teacher's order is that of the targets.

    Args:
        k: Cutoff of nDCG and recall.
    """

    k: int = 10

    __repr__ = brief

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float]:
        """NDCG, recall and likeness to the teacher's order."""
        return [rewards.reason_rank(one.answer, *self._wanted(one.shown), k=self.k) for one in rollouts]

    def _wanted(self, shown: TrainingList) -> tuple[set[int], list[int]]:
        relevant = {place for place, target in enumerate(shown.targets) if target > 0}
        return relevant, descending(range(len(shown.targets)), np.array(shown.targets))


@dataclass(frozen=True, repr=False)
class ERank:
    """ERank's reward of pointwise scores, by their place among all scores of the query (see ``rewards.erank``).

    Args:
        prompt: Asks for a written score, and reads it: ``ScorePrompt(highest=10)``.
        reference: Score of each qid and docno by the model before.
        penalty: See ``rewards.erank``.

    Raises:
        ConfigurationError: The prompt shows several documents.
    """

    prompt: TextTemplate
    reference: Mapping[tuple[str, str], float]
    penalty: float = 1.0

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.prompt.max_docs != 1:
            raise ConfigurationError(f"ERank rewards scores of single documents, but {self.prompt!r} shows several")

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Rewards of all answers about a list, by their ranks among one another.

        Raises:
            InputError: A document has no reference.
        """
        own: dict[int, dict[int, list[int]]] = {}  # list -> document -> answers
        for at, one in enumerate(rollouts):
            own.setdefault(one.number, {}).setdefault(one.place or 0, []).append(at)
        earned = [0.0] * len(rollouts)
        for asked in own.values():
            for at, value in self._of_list(rollouts, asked):
                earned[at] = value
        return earned

    def _of_list(self, rollouts: Sequence[Rollout], asked: Mapping[int, Sequence[int]]) -> list[tuple[int, float]]:
        """Answer and reward, for all answers about one list's documents."""
        shown = rollouts[next(iter(asked.values()))[0]].shown
        scores = np.full((len(asked), max(map(len, asked.values()))), np.nan)
        for row, answers in enumerate(asked.values()):
            scores[row, : len(answers)] = [self.prompt.parse(rollouts[at].answer, 1).scores[0] for at in answers]
        relevant = [shown.targets[place] > 0 for place in asked]
        reference = [self._known(shown, place) for place in asked]
        highest = float(getattr(self.prompt, "highest", 10))
        values = rewards.erank(scores, relevant, reference, penalty=self.penalty, highest=highest)
        return [
            (at, float(values[row, column]))
            for row, answers in enumerate(asked.values())
            for column, at in enumerate(answers)
        ]

    def _known(self, shown: TrainingList, place: int) -> float:
        key = (shown.qid, shown.docs[place].docno)
        if key not in self.reference:
            raise InputError(
                f"ERank has no reference score of document {key[1]!r} for query {key[0]!r}; score it first"
            )
        return self.reference[key]


@dataclass(frozen=True, repr=False)
class DynamicRAG:
    """DynamicRAG's reward of a selection, by the answer that a generator writes from it (see ``rewards.dynamic_rag``).

    Args:
        prompt: Asks for a selection, and reads it: ``SelectPrompt()``.
        respond: From the query and the documents chosen, the best first, to an answer.
        expected: What should be answered, by qid.
        semantic: Likeness of an answer to the expected one, 0 to 1, such as BERTScore's F1.
        judged: A mark for the answer to a query, given the expected one, 0 to 1.
    """

    prompt: TextTemplate
    respond: Callable[[str, Sequence[Doc]], str]
    expected: Mapping[str, str]
    semantic: Callable[[str, str], float]
    judged: Callable[[str, str, str], float]

    __repr__ = brief

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Mean of five parts; an answer that cannot be read selects nothing.

        Raises:
            InputError: Nobody says what a query's answer should be.
        """
        return [self._earned(one) for one in rollouts]

    def _earned(self, one: Rollout) -> float:
        shown = one.shown
        if shown.qid not in self.expected:
            raise InputError(
                f"DynamicRAG does not know what query {shown.qid!r} should be answered; add it to expected"
            )
        scores = self.prompt.parse(one.answer, len(shown.docs)).scores
        chosen = [place for place in descending(range(len(scores)), scores) if scores[place] > 0]
        answer, expected = self.respond(shown.query, [shown.docs[place] for place in chosen]), self.expected[shown.qid]
        return rewards.dynamic_rag(
            answer,
            expected,
            selected=len(chosen),
            semantic=self.semantic(answer, expected),
            judged=self.judged(shown.query, answer, expected),
        )
