"""Pairs to ask about: all of them, random ones, neighbours in the input order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise, permutations, product
from typing import ClassVar

import numpy as np

from pyterrier_llmrank.core import Group, brief
from pyterrier_llmrank.seeds import generator

from .drawing import at_least, drawn_connected


def all_pairs(n: int) -> list[Group]:
    """Every unordered pair, the earlier document first: ``n (n - 1) / 2`` groups.

    Ask both orders with a scorer that does so; the design stays the same.
    """
    return list(combinations(range(n), 2))


def all_ordered_pairs(n: int) -> list[Group]:
    """Every pair in both orders: ``n (n - 1)`` groups.

    For scorers that ask one order, with an aggregate that takes each order for a judgment of its own. A scorer that
    asks both orders itself needs only ``all_pairs``.
    """
    return list(permutations(range(n), 2))


@dataclass(frozen=True)
class random_pairs:
    """Each document against ``per_doc`` random others: ``n * min(per_doc, n - 1)`` groups.

    Each document is shown first ``per_doc`` times, and second as often as others drew it. No ordered pair comes
    twice; a pair may come in both orders. It is drawn again until a chain of pairs links every two documents.

    Args:
        per_doc: Opponents that each document draws, at least 1; the paper's rate r is ``round(r * (n - 1))``.
        seed: Of the draw.

    Raises:
        ConfigurationError: ``per_doc`` is below 1.

    Reference:
        Gienapp et al., 2022 (Sparse Pairwise Re-ranking), random sampling per document.
    """

    per_doc: int = 8
    seed: int = 0
    group_size: ClassVar[int] = 2

    __repr__ = brief

    def __post_init__(self) -> None:
        at_least(1, self, "per_doc", "8 is usual")

    def __call__(self, n: int) -> list[Group]:
        """Draws opponents for one document after the other."""
        return drawn_connected(n, self.seed, lambda rng: self._draw(n, rng))

    def _draw(self, n: int, rng: np.random.Generator) -> list[Group]:
        pairs: list[Group] = []
        for i in range(n):
            others = rng.permutation(n - 1)[: self.per_doc].tolist()  # of a list without i
            pairs += [(i, j + (j >= i)) for j in others]
        return pairs


@dataclass(frozen=True)
class window_pairs:
    """Each document against the next ``width`` in input order, ``dilation`` places apart, round the end.

    Document i meets i + d, i + 2 d, … modulo n, for d = ``dilation``: ``n * min(width, n / gcd(n, dilation) - 1)``
    groups. The earlier document is shown first, but where the window goes round the end; so each is shown first as
    often as second, and a scorer that always prefers one side moves nobody. Windows of more than half the list ask
    some pairs in both orders, none twice in one. Where ``dilation`` and n have a common divisor g, the documents fall
    into g sets that never meet; where n divides ``dilation``, neighbours are asked about instead.

    Args:
        width: Opponents, at least 1; the paper's rate r is ``int(r * (n - 1))``: 2, 4, 14 and 24 of 50 documents
            for 5, 10, 30 and 50 percent.
        dilation: Places from one opponent to the next, at least 1.

    Raises:
        ConfigurationError: An argument is below 1.

    Reference:
        Gienapp et al., 2022 (Sparse Pairwise Re-ranking), structured sampling: windows, and windows with skips.
    """

    width: int
    dilation: int = 1
    group_size: ClassVar[int] = 2

    __repr__ = brief

    def __post_init__(self) -> None:
        at_least(1, self, "width", "int(0.3 * (n - 1)) asks 30 percent of all pairs in both orders")
        at_least(1, self, "dilation", "1 is the window of neighbours")

    def __call__(self, n: int) -> list[Group]:
        """Window by window."""
        if n < 2:
            return []
        turns = range(1, min(self.width, n) + 1)  # steps repeat after n of them
        steps = sorted({turn * self.dilation % n for turn in turns} - {0}) or [1]
        return [(i, (i + step) % n) for i in range(n) for step in steps]


@dataclass(frozen=True)
class grouped_pairs:
    """Both orders of all pairs inside groups of neighbours, and every pair of two groups in a row, once.

    The list is cut into groups of ``size`` from its end, as the official code cuts it; the first group may be smaller.
    Groups asked: the sum of ``m (m - 1)`` over groups of m documents, and of ``m m'`` over groups in a row. Pairs of
    two groups show the earlier document first, but those of the last and the first group the later one.

    Args:
        size: Documents of a group, at least 1; official code takes ``n // k`` for k groups.
        wrap: Whether the last group also meets the first.
        shuffled: Whether groups are cut from a random order instead of the input order.
        seed: Of that order.

    Raises:
        ConfigurationError: ``size`` is below 1.

    Reference:
        Gienapp et al., 2022 (Sparse Pairwise Re-ranking), grouped sampling of the official code.
    """

    size: int
    wrap: bool = False
    shuffled: bool = False
    seed: int = 0
    group_size: ClassVar[int] = 2

    __repr__ = brief

    def __post_init__(self) -> None:
        at_least(1, self, "size", "n // 5 makes five groups")

    def __call__(self, n: int) -> list[Group]:
        """Pairs in the order of their first document."""
        order = generator(self.seed).permutation(n).tolist() if self.shuffled else list(range(n))
        groups = [order[max(0, end - self.size) : end] for end in range(n, 0, -self.size)]
        pairs = {pair for group in groups for pair in permutations(group, 2)}
        for later, earlier in pairwise(groups):
            pairs |= set(product(earlier, later))
        if self.wrap and len(groups) > 1:
            pairs |= set(product(groups[0], groups[-1]))
        return sorted(pairs)
