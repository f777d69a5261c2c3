"""Ask about groups that a design chooses, all in one round, and aggregate the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from pyterrier_llmrank.core import Cost, Evidence, Flow, Group, Scores, spelled

Design: TypeAlias = Callable[[int], list[Group]]
"""From the number of documents to the groups to ask about."""

Aggregate: TypeAlias = Callable[[int, Sequence[Group], Sequence[Scores]], Scores]
"""From n, groups and their answers to one score per document."""


@dataclass(frozen=True)
class Sampled:
    """Asks about every group of ``design(n)`` and combines the answers with ``aggregate``.

    Calls: ``len(design(n))``, the same for every seed. Rounds: 1.

    Args:
        design: n -> groups, e.g. ``all_pairs`` or ``random_pairs(per_doc=8)``. Its ``group_size`` attribute, where it
            has one, is the largest group it makes; pairs otherwise.
        aggregate: (n, groups, answers) -> scores, e.g. ``additive``, or a ``functools.partial`` of one. Its ``needs``
            attribute, where it has one, is the evidence it takes; CHOICE otherwise.
    """

    design: Design
    aggregate: Aggregate

    @property
    def needs(self) -> Evidence:
        """What the aggregate needs; a partial one, what the whole one does."""
        whole = self.aggregate.func if isinstance(self.aggregate, partial) else self.aggregate
        needs: Evidence = getattr(whole, "needs", Evidence.CHOICE)
        return needs

    @property
    def group_size(self) -> int | None:
        """The largest group of the design."""
        size: int | None = getattr(self.design, "group_size", 2)
        return size

    def __call__(self, n: int, k: int) -> Flow[Scores]:
        """Asks everything at once."""
        groups = self.design(n)
        answers = (yield groups) if groups else []
        return self.aggregate(n, groups, answers)

    def cost(self, n: int, k: int) -> Cost:
        """As many calls as the design has groups."""
        calls = len(self.design(n))
        return Cost(calls, min(calls, 1))

    def __repr__(self) -> str:
        """Names its parts as they are imported."""
        return f"Sampled({spelled(self.design)}, {spelled(self.aggregate)})"
