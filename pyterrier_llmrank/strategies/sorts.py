"""Heapsort, and what the comparison sorts share: who wins a group, and how an order that was cut off goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Cost, Evidence, Flow, Group, Scores, from_order
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.flow import once, together


@dataclass(frozen=True)
class Heapsort:
    """Builds a heap of the list and extracts its first ``k`` documents, best first.

    A node is judged together with its children, in groups of ``group_size``, and the best goes up; of equals, and
    where there is no answer, the document that came first on input. Groups of 2 give the pairwise heapsort of PRP,
    groups of c + 1 the setwise heapsort with c children. Nodes of one level are sifted in the same rounds, and no set
    of documents is asked about twice.

    Calls: at most ``m * (sum of the heights of all nodes + sum of the heights of the heap at each extraction)``,
    ``m = ceil(children / (group_size - 1))``; for n = 100, k = 10 about 265 for pairs, 82 for groups of 4.
    Rounds: at most the heights of the levels, added up, then one chain per extraction.

    Args:
        group_size: Documents in a question, at least 2.
        children: Children of a node; default ``max(2, group_size - 1)``, so that one question settles a node.

    Raises:
        ConfigurationError: An argument is out of range.

    Reference:
        Qin et al., 2024 (PRP-Sorting); Zhuang et al., 2024 (Setwise), section 3.
    """

    group_size: int = 2
    children: int | None = None

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise ConfigurationError(f"Heapsort compares at least 2 documents, got group_size={self.group_size}")
        if self.children is not None and self.children < 1:
            raise ConfigurationError(f"Heapsort needs at least one child a node, got children={self.children}")

    @property
    def arity(self) -> int:
        """Children of a node."""
        return self.children if self.children is not None else max(2, self.group_size - 1)

    @property
    def needs(self) -> Evidence:
        """The best of a group."""
        return Evidence.CHOICE

    def __call__(self, n: int, k: int) -> Flow[Scores]:
        """Extracts the best ``k``; the rest follow in input order."""
        return once(self._extracted(n, k))

    def _extracted(self, n: int, k: int) -> Flow[Scores]:
        """The sort itself, which forgets what it asked."""
        heap = list(range(n))
        for level in reversed(self._levels(n)):
            yield from together([self._sift(heap, root) for root in level])
        ranked: list[int] = []
        while heap and len(ranked) < k:
            ranked.append(heap[0])
            last = heap.pop()
            if heap and len(ranked) < k:
                heap[0] = last
                yield from self._sift(heap, 0)
        return head_first(ranked, n)

    def _levels(self, n: int) -> list[range]:
        """Places of the heap, level by level from the root."""
        levels, start, width = [], 0, 1
        while start < n:
            levels.append(range(start, min(start + width, n)))
            start, width = start + width, width * self.arity
        return levels

    def _sift(self, heap: list[int], root: int) -> Flow[None]:
        """Lets the document at ``root`` sink until no child beats it."""
        while (first := root * self.arity + 1) < len(heap):
            places = [root, *range(first, min(first + self.arity, len(heap)))]
            winner = yield from _best([heap[place] for place in places], self.group_size)
            place = next(place for place in places if heap[place] == winner)
            if place == root:
                return
            heap[root], heap[place] = heap[place], heap[root]
            root = place

    def cost(self, n: int, k: int) -> Cost:
        """Upper bounds: every sift goes all the way down."""
        chain = ceil(self.arity / (self.group_size - 1))
        levels = self._levels(n)
        heights = range(len(levels) - 1, -1, -1)
        build = sum(height * len(level) for height, level in zip(heights, levels, strict=True))
        extract = sum(len(self._levels(n - out)) - 1 for out in range(1, min(k, n)))
        return Cost(chain * (build + extract), chain * (sum(heights) + extract), exact=False)


def _best(items: Sequence[int], group_size: int) -> Flow[int]:
    """The best of ``items`` by knock-out in groups of ``group_size``."""
    champion, rest = items[0], items[1:]
    while rest:
        group = (champion, *rest[: group_size - 1])
        rest = rest[group_size - 1 :]
        [scores] = yield [group]
        champion = winner(group, scores)
    return champion


def leading(scores: Scores) -> NDArray[np.bool_]:
    """Which documents of a group have its highest score; all of them where there is no answer."""
    known = np.where(np.isnan(scores), -np.inf, scores)
    return np.asarray(known == known.max(), dtype=np.bool_)


def winner(group: Group, scores: Scores) -> int:
    """The best document of a group; of equals, and where there is no answer, the one that came first on input."""
    return min(item for item, leads in zip(group, leading(scores), strict=True) if leads)


def head_first(ranked: Sequence[int], n: int) -> Scores:
    """Scores that put ``ranked`` first, best first, and the others of ``n`` documents behind it in input order."""
    return from_order([*ranked, *sorted(set(range(n)).difference(ranked))])
