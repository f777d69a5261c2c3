"""Multiway tournament sort: the best document of a tournament tree, then of what is left of it, and so on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, islice
from math import ceil
from typing import TypeAlias

import numpy as np

from pyterrier_llmrank.core import Cost, Evidence, Flow, Scores, descending, from_order
from pyterrier_llmrank.errors import ConfigurationError

DUMMY_STEP = 21
"""A document that is out is replaced by the one this far behind it, as in the released code: another part of the list,
so that the replacement seldom meets itself."""

Known: TypeAlias = dict[frozenset[int], list[int]]
"""Who goes on from a group, worst first, by the documents of the group."""


@dataclass(frozen=True)
class MultiwayTournament:
    """Finds the best document by a tournament of groups, takes it out, and goes on until ``k`` are found.

    Neighbours form groups, ``keep`` of each go on, until one group is left: its best wins. The winner's place is then
    taken by a document that is still in, and only groups that this changes are asked again. Groups of one level are
    asked in one round. Documents are shown in input order.

    Places may hold a document twice, and short groups are filled up with others; the question names each document
    once, and ``keep`` counts the copies, so that groups are those of the released code.

    With a perfect scorer all ``k`` are right. A list that fits into one group is ordered by one question, unless
    ``keep`` is 1: then nothing is known but its best.

    Calls: at most ``min(k, n - 1)`` times the groups of the tree; about 52 (``keep=1``) or 94 (``keep=2``) for n = 100,
    k = 10. Rounds: at most as many times the levels of the tree.

    Args:
        group_size: Documents in a question, at least 2.
        keep: How many of a group go on, 1 to ``group_size // 2``.

    Raises:
        ConfigurationError: An argument is out of range.

    Reference:
        Yoon et al., 2024 (ListT5), arXiv 2402.15838.
    """

    group_size: int = 5
    keep: int = 2

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise ConfigurationError(
                f"MultiwayTournament needs groups of at least 2 documents, got group_size={self.group_size}; 5 is usual"
            )
        if not 1 <= self.keep <= self.group_size // 2:
            raise ConfigurationError(
                f"MultiwayTournament(group_size={self.group_size}) needs keep from 1 to {self.group_size // 2}, got "
                f"keep={self.keep}: a level that keeps more than half may never end"
            )

    @property
    def needs(self) -> Evidence:
        """The order of a group; its best is enough where only one goes on."""
        return Evidence.CHOICE if self.keep == 1 else Evidence.ORDER

    def __call__(self, n: int, k: int) -> Flow[Scores]:
        """Extracts the best ``k``; the rest follow in input order."""
        if n <= self.group_size and self.keep > 1:
            [scores] = (yield [tuple(range(n))]) if n > 1 else [np.zeros(n)]
            return scores
        places, ranked, known = list(range(n)), list[int](), Known()
        while len(ranked) < min(k, n):
            winner = yield from self._winner(places, known)
            ranked.append(winner)
            if len(ranked) < n:
                places[places.index(winner)] = (winner + DUMMY_STEP) % n
                places = [_still_in(doc, ranked, n) for doc in places]
        return from_order(ranked, n)

    def _winner(self, docs: list[int], known: Known) -> Flow[int]:
        """The best of ``docs``, level by level."""
        while True:
            level = docs
            groups = [level[i : i + self.group_size] for i in range(0, len(level), self.group_size)]
            docs = yield from self._best([self._filled(group, level) for group in groups], known)
            if len(docs) <= self.group_size:
                break
        final = yield from self._best([self._filled(docs, level)], known)
        return final[-1]

    def _filled(self, group: list[int], level: list[int]) -> list[int]:
        """A short group with the first others of its level, over and over until it is full."""
        others = [doc for doc in level if doc not in group] or level
        return group + list(islice(cycle(others), self.group_size - len(group)))

    def _best(self, groups: list[list[int]], known: Known) -> Flow[list[int]]:
        """Who goes on from ``groups``, one after the other, each worst first; asks about those not yet known."""
        new: dict[frozenset[int], list[int]] = {}
        for group in groups:
            docs = frozenset(group)
            if len(docs) == 1:
                known[docs] = group[:1]
            elif docs not in known:
                new.setdefault(docs, group)
        shown = [tuple(sorted(docs)) for docs in new]
        answers = (yield shown) if shown else []
        for docs, asked, scores in zip(new, shown, answers, strict=True):
            order = descending(asked, scores)
            known[docs] = sorted(new[docs], key=order.index)[: self.keep][::-1]
        return [doc for group in groups for doc in known[frozenset(group)]]

    def cost(self, n: int, k: int) -> Cost:
        """Upper bounds: every extraction asks about the whole tree again. Exact where one group holds the list."""
        winners = min(k, max(n - 1, 0))
        if n <= self.group_size:
            calls = winners if self.keep == 1 else int(n > 1)
            return Cost(calls, calls)
        levels, size = [1], n
        while size > self.group_size:
            levels.append(ceil(size / self.group_size))
            size = levels[-1] * self.keep
        return Cost(winners * sum(levels), winners * len(levels), exact=False)


def _still_in(doc: int, out: list[int], n: int) -> int:
    """``doc``, or the next one that is not out; at least one of the ``n`` must be in."""
    while doc in out:
        doc = (doc + 1) % n
    return doc
