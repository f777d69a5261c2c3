"""``Narrowing``: the whole list, again and again without its worst part."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from pyterrier_llmrank.core import Cost, Evidence, Flow, Scores, brief, descending, from_order
from pyterrier_llmrank.errors import ConfigurationError


@dataclass(frozen=True, repr=False)
class Narrowing:
    """Asks about all documents, drops the worst, and asks about the others again, until few are left.

    For scorers that compare the documents of a list, and do it better the fewer they are. Those dropped later stand
    above those dropped earlier; equals of the best one dropped go with it, unless all others are.

    Args:
        keep: Documents of the last list at most.
        share: Part of a list that is dropped, 0 to 1.
        least: Documents that are dropped at least.

    Raises:
        ConfigurationError: A number is out of range.

    Reference:
        Liu et al., 2025 (ListConRanker), iterative inference.
    """

    keep: int = 20
    share: float = 0.2
    least: int = 10

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.keep < 1 or self.least < 1 or not 0 <= self.share <= 1:
            raise ConfigurationError(
                f"keep and least must be at least 1 and share from 0 to 1, got keep={self.keep}, least={self.least}, "
                f"share={self.share}"
            )

    @property
    def needs(self) -> Evidence:
        """The order of a list."""
        return Evidence.ORDER

    @property
    def group_size(self) -> int | None:
        """The whole list."""
        return None

    def __call__(self, n: int, k: int) -> Flow[Scores]:
        """Orders ``n`` documents; see the class."""
        left, dropped = list(range(n)), list[int]()
        while len(left) > self.keep:
            [scores] = yield [tuple(left)]
            order = descending(left, scores)
            kept = self._kept(np.sort(-scores), len(order))
            left, dropped = order[:kept], order[kept:] + dropped
        if len(left) > 1:
            [scores] = yield [tuple(left)]
            left = descending(left, scores)
        return from_order(left + dropped)

    def cost(self, n: int, k: int) -> Cost:
        """One call a round; fewer where equals go together."""
        calls = int(n > 1)
        while n > self.keep:
            n = self._fewer(n)
            calls += n > 1
        return Cost(calls, calls, exact=False)

    def _fewer(self, n: int) -> int:
        """How many of ``n`` stay where all scores differ."""
        return max(n - max(ceil(n * self.share), self.least), 1)

    def _kept(self, ascending: Scores, n: int) -> int:
        """How many stay: not the equals of the best one that is dropped, where any are better.

        Args:
            ascending: The scores' negatives from best to worst, NaN last.
            n: Documents.
        """
        kept = self._fewer(n)
        better = int(np.searchsorted(ascending, ascending[kept])) if not np.isnan(ascending[kept]) else kept
        return better or kept
