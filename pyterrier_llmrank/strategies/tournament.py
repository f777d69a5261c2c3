"""Selection tournaments: groups send their best on, stage by stage, and documents collect a point a stage."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import numpy as np

from pyterrier_llmrank.core import Cost, Evidence, Flow, Scores, descending, silence
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.flow import together
from pyterrier_llmrank.seeds import generator

CYCLE = ((0.5, 1), (0.4, 2), (0.5, 1))
"""Share of the documents that a stage keeps, and by what ``group_size`` is divided in it; repeated. From 100 documents
this gives the published plan: 5 groups of 20 keep 10 each, 5 of 10 keep 4, then 20 -> 10 -> 5 -> 2."""


class Stage(NamedTuple):
    """One stage of a tournament: ``(size, kept)`` of each of its groups."""

    groups: tuple[tuple[int, int], ...]

    @property
    def asked(self) -> int:
        """Groups that have somebody to lose; the others go on without a question."""
        return sum(size > kept for size, kept in self.groups)


@dataclass(frozen=True)
class Tournament:
    """Runs tournaments in which the best of each group go on, and ranks documents by the stages that they survived.

    Group i of g takes the documents at positions i, i + g, i + 2g, … of the list, so that each spans all levels of the
    first stage; a group is shown in random order. Stages keep .5, .4, .5, .5, .4, … of the documents, until at most two
    are left. Points of all tournaments are added up; equal points keep the input order. Each tournament starts from the
    input order: they differ in the order within groups, and in what the model says.

    With a perfect scorer and groups of 20 the one or two that survive all stages are the best, in input order; further
    down documents are graded, not ordered, and a strong group may lose one that a weak one would have sent on.

    Calls: ``repeats`` times the groups of all stages; 13 for n = 100. Rounds: the stages; 5 for n = 100.

    Args:
        repeats: Tournaments, at least 1; they run side by side.
        group_size: Documents of the largest group, at least 2.
        seed: Of the order within groups.

    Raises:
        ConfigurationError: An argument is out of range.

    Reference:
        Chen et al., 2025 (TourRank), arXiv 2406.11678.
    """

    repeats: int = 1
    group_size: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ConfigurationError(f"Tournament needs at least one tournament, got repeats={self.repeats}")
        if self.group_size < 2:
            raise ConfigurationError(
                f"Tournament needs groups of at least 2 documents, got group_size={self.group_size}; 20 is usual"
            )

    @property
    def needs(self) -> Evidence:
        """The order of a group, since several go on: a choice tells the best alone, which is enough for pairs.

        Ties are harmless: a scorer that gives one value to the half it selects and another to the rest will do.
        """
        return Evidence.CHOICE if self.group_size == 2 else Evidence.ORDER

    def __call__(self, n: int, k: int) -> Flow[Scores]:
        """Adds up the points of all tournaments."""
        points = yield from together([self._points(n, repeat) for repeat in range(self.repeats)])
        total: Scores = np.sum(points, axis=0)
        return total

    def _points(self, n: int, repeat: int) -> Flow[Scores]:
        """The points of one tournament."""
        rng = generator(self.seed, repeat)
        points, left = np.zeros(n), list(range(n))
        for stage in self.stages(n):
            groups = [left[i :: len(stage.groups)] for i in range(len(stage.groups))]
            kept = [kept for _, kept in stage.groups]
            shown = [
                rng.permutation(group).tolist() for group, keep in zip(groups, kept, strict=True) if keep < len(group)
            ]
            answers = yield [tuple(group) for group in shown]
            said = silence(n)
            for group, scores in zip(shown, answers, strict=True):
                said[group] = scores
            # Equal scores go by the list's order, not by the random one, or silence would shuffle.
            best = [descending(group, said[group])[:keep] for group, keep in zip(groups, kept, strict=True)]
            left = sorted(doc for group in best for doc in group)
            points[left] += 1
        return points

    def stages(self, n: int) -> list[Stage]:
        """The plan for ``n`` documents; the first groups of a stage take what cannot be shared out evenly."""
        plan: list[Stage] = []
        while n > 2 or (n == 2 and not plan):
            share, part = CYCLE[len(plan) % len(CYCLE)]
            groups = ceil(n / max(2, self.group_size // part))
            kept = max(groups, int(n * share + 0.5))
            plan.append(Stage(tuple(zip(_shared_out(n, groups), _shared_out(kept, groups), strict=True))))
            n = kept
        return plan

    def cost(self, n: int, k: int) -> Cost:
        """The groups of all stages, once a tournament; a round a stage."""
        plan = self.stages(n)
        return Cost(self.repeats * sum(stage.asked for stage in plan), len(plan))


def _shared_out(total: int, parts: int) -> list[int]:
    """``total`` in whole parts that differ by one at most, the larger first."""
    return [total // parts + (part < total % parts) for part in range(parts)]
