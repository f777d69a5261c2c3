"""Strategies of one round: the whole list at once, or every document by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyterrier_llmrank.core import Cost, Evidence, Flow, Scores


@dataclass(frozen=True)
class OneShot:
    """Shows the whole list in one question.

    Calls: 1. Rounds: 1. (None for an empty list.)
    """

    @property
    def needs(self) -> Evidence:
        """The order of the list."""
        return Evidence.ORDER

    @property
    def group_size(self) -> int | None:
        """The whole list."""
        return None

    def __call__(self, n: int, k: int) -> Flow[Scores]:
        """Orders the list by the scores of the one answer."""
        if n == 0:
            return np.empty(0)
        [scores] = yield [tuple(range(n))]
        return scores

    def cost(self, n: int, k: int) -> Cost:
        """One call, whatever ``n``."""
        return Cost(min(n, 1), min(n, 1))


@dataclass(frozen=True)
class Pointwise:
    """Asks about every document by itself.

    Calls: n. Rounds: 1.
    """

    @property
    def needs(self) -> Evidence:
        """Scores that hold between groups."""
        return Evidence.SCORE

    @property
    def group_size(self) -> int | None:
        """One document."""
        return 1

    def __call__(self, n: int, k: int) -> Flow[Scores]:
        """Scores every document alone."""
        if n == 0:
            return np.empty(0)
        answers = yield [(i,) for i in range(n)]
        return np.concatenate(answers)

    def cost(self, n: int, k: int) -> Cost:
        """A call per document, all in one round."""
        return Cost(n, min(n, 1))
