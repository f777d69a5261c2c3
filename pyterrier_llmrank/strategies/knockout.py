"""Knockout tournament: a random bracket; who loses is out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyterrier_llmrank.core import Cost, Evidence, Flow, Scores
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.seeds import generator

from .sorts import leading, winner


@dataclass(frozen=True)
class Knockout:
    """Finds the best document: matches of ``group_size`` in a random bracket, whose winners meet in the next round.

    A document without an opponent goes on. Documents are ranked by the round in which they were beaten, those of the
    same round in input order. A match without an answer beats nobody: the document that came first on input goes on,
    and all of it count as if beaten in the round after their last win; so silence keeps the input order. Only the
    first position is settled, whatever ``k``.

    Calls: ``n - 1`` for pairs, about ``(n - 1) / (group_size - 1)``. Rounds: ``ceil(log(n) / log(group_size))``.

    Args:
        group_size: Documents in a match, at least 2.
        seed: Draws the bracket.

    Raises:
        ConfigurationError: An argument is out of range.

    Reference:
        Liu et al., 2025 (Pairwise RM).
    """

    group_size: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise ConfigurationError(f"Knockout compares at least 2 documents, got group_size={self.group_size}")

    @property
    def needs(self) -> Evidence:
        """The best of a group."""
        return Evidence.CHOICE

    def __call__(self, n: int, k: int) -> Flow[Scores]:
        """Scores documents by the round in which they were beaten; the winner by one more than the last."""
        standing = np.ones(n)
        alive: list[int] = generator(self.seed).permutation(n).tolist()
        played = 0
        while len(alive) > 1:
            played += 1
            matches = [tuple(alive[i : i + self.group_size]) for i in range(0, len(alive), self.group_size)]
            alive = list(matches.pop()) if len(matches[-1]) == 1 else []
            answers = yield matches
            for match, scores in zip(matches, answers, strict=True):
                alive.append(winner(match, scores))
                unbeaten = leading(scores)
                if not unbeaten.all():
                    standing[list(match)] = played + unbeaten
        return standing

    def cost(self, n: int, k: int) -> Cost:
        """As many matches and rounds, whoever wins."""
        calls = rounds = 0
        while n > 1:
            calls += n // self.group_size + (n % self.group_size > 1)
            n, rounds = -(-n // self.group_size), rounds + 1
        return Cost(calls, rounds)
