"""Random cycles through all documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pyterrier_llmrank.core import Group, brief
from pyterrier_llmrank.seeds import generator

from .drawing import at_least


@dataclass(frozen=True)
class cycles:
    """Neighbours on ``count`` random cycles, each through all documents: ``count * n`` pairs.

    Each document is in ``2 * count`` pairs, shown first in half of them, and every two are linked. Cycles are drawn
    independently, as in the paper, so that a pair may be on several of them, in either order; up to
    ``2 * count + 1`` documents, ``all_pairs`` asks no more and tells more.

    Args:
        count: Cycles, at least 1.
        seed: Of the draw.

    Raises:
        ConfigurationError: ``count`` is below 1.

    Reference:
        Pipitone et al., 2025 (zELO): 4 cycles, sparse comparisons for Elo scores.
    """

    count: int = 4
    seed: int = 0
    group_size: ClassVar[int] = 2

    __repr__ = brief

    def __post_init__(self) -> None:
        at_least(1, self, "count", "4 is usual")

    def __call__(self, n: int) -> list[Group]:
        """Cycle by cycle."""
        if n < 2:
            return []
        rng = generator(self.seed)
        rounds = [rng.permutation(n).tolist() for _ in range(self.count)]
        return [(order[i - 1], order[i]) for order in rounds for i in range(n)]
