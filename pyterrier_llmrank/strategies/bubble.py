"""Bubble sort: passes from the end of the list to its head, each of which settles one position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyterrier_llmrank.core import Cost, Evidence, Flow, Scores, descending
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.flow import once

from .sorts import head_first


@dataclass(frozen=True)
class Bubble:
    """Carries the best document up to the first position, the next best to the second, and so on.

    A pass shows groups of ``group_size`` from the end of what is not settled to its head, each group sharing one
    document with the one before: the winner of that. The best of a group moves to the front of it, the others keep
    their order, also where there is no answer. Pairs give the PRP-Sliding-K of ``passes=K``, groups of c + 1 the
    setwise bubble sort with c children. A pass follows the one before two groups behind, in the same rounds, which
    changes no result; no set of documents is asked about twice, so what a pass left as it was costs the next nothing.

    ``SlidingWindow(w, stride=w - 1, passes)`` has the same windows, but needs the order of a window and takes all of
    it; ``Bubble(w, passes)`` needs and takes only its best document, and leaves alone what is settled.

    Calls: at most ``sum of ceil((n - p) / (group_size - 1)) for p = 1 .. P``, ``P = min(passes, k, n - 1)``; for
    n = 100, k = 10 at most 945 for pairs, 318 for groups of 4.
    Rounds: at most ``ceil((n - P) / (group_size - 1)) + 2 (P - 1)``: 108 and 48.

    Args:
        group_size: Documents in a question, at least 2.
        passes: Positions to settle at most; None for as many as will be read. The documents behind them are in the
            order that the passes left them in.

    Raises:
        ConfigurationError: An argument is out of range.

    Reference:
        Qin et al., 2024 (PRP-Sliding-K); Zhuang et al., 2024 (Setwise), section 3.
    """

    group_size: int = 2
    passes: int | None = None

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise ConfigurationError(f"Bubble compares at least 2 documents, got group_size={self.group_size}")
        if self.passes is not None and self.passes < 1:
            raise ConfigurationError(f"Bubble needs at least one pass, got passes={self.passes}; None for all of them")

    @property
    def needs(self) -> Evidence:
        """The best of a group."""
        return Evidence.CHOICE

    def __call__(self, n: int, k: int) -> Flow[Scores]:
        """The first ``k`` as the passes leave them; the rest follow in input order."""
        return once(self._sorted(n, k))

    def _sorted(self, n: int, k: int) -> Flow[Scores]:
        """The sort itself, which forgets what it asked."""
        order = list(range(n))
        for windows in self.rounds(n, k):
            answers = yield [tuple(order[start:end]) for start, end in windows]
            for (start, end), scores in zip(windows, answers, strict=True):
                best = descending(range(start, end), scores)[0]
                order.insert(start, order.pop(best))
        return head_first(order[:k], n)

    def rounds(self, n: int, k: int) -> Iterator[list[tuple[int, int]]]:
        """Windows ``[start, end)`` of each round, those of earlier passes first; no two of a round overlap."""
        passes = min(n - 1, k, k if self.passes is None else self.passes)
        ends = [n] * passes  # where the next window of each pass ends; right behind its own position once it is done
        while True:
            windows, ahead = [], 0
            for own, end in enumerate(ends):
                start = max(own, end - self.group_size)
                if end - start > 1 and ahead <= start:  # the pass before is through with what this one reads
                    windows.append((start, end))
                    ends[own] = start + 1
                ahead = end
            if not windows:
                return
            yield windows

    def cost(self, n: int, k: int) -> Cost:
        """Upper bounds: nothing is known from before."""
        rounds = list(self.rounds(n, k))
        return Cost(sum(map(len, rounds)), len(rounds), exact=False)
