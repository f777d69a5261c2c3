"""Insertion: a sorted head, and groups of candidates that must beat its last document to be looked at again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyterrier_llmrank.core import Cost, Evidence, Flow, Scores, descending
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.flow import once, relabel

from .sorts import Heapsort, head_first, winner


@dataclass(frozen=True)
class Insertion:
    """Trusts the first stage: sorts its first ``head`` documents, then looks for others that belong among them.

    The others come in input order, ``group_size - 1`` at a time, together with the last of the head. Where that wins,
    one question dismisses the whole group; where a candidate wins, it takes its place in the head by binary search
    with pairs, the last of the head drops out, and the rest of the group is asked about again. More than ``head``
    positions are settled by doing the same with what was dismissed, so that a smaller ``k`` is the same sort, cut off.
    Of equals, and where there is no answer, the document that came first on input is the better one. No set of
    documents is asked about twice.

    The binary search is where this differs from the published code, which lets a winner rise group by group and
    leaves it up to ``group_size - 1`` positions too low: here a perfect scorer gives the exact order.

    Calls and rounds, for each head of ``h`` of the ``m`` documents left: those of ``Heapsort(group_size)`` for
    ``(h, h)``, and from ``ceil((m - h) / (group_size - 1))``, where the first stage is right, to at most
    ``(m - h) (1 + ceil(log2 h))``. For n = 100, k = 10 and groups of 4: 45 where the first stage is right (Heapsort:
    69), about 130 where it is random (82).

    Args:
        group_size: Documents in a question, at least 2.
        head: Documents that are kept in order at a time; best as many as positions will be read.

    Raises:
        ConfigurationError: An argument is out of range.

    Reference:
        Podolak et al., 2025 (Setwise Insertion).
    """

    group_size: int = 4
    head: int = 10

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise ConfigurationError(f"Insertion compares at least 2 documents, got group_size={self.group_size}")
        if self.head < 1:
            raise ConfigurationError(f"Insertion needs a head of at least 1 document, got head={self.head}")

    @property
    def needs(self) -> Evidence:
        """The best of a group."""
        return Evidence.CHOICE

    def __call__(self, n: int, k: int) -> Flow[Scores]:
        """Settles heads until there are ``k``; the rest follow in input order."""
        return once(self._sorted(n, k))

    def _sorted(self, n: int, k: int) -> Flow[Scores]:
        """The sort itself, which forgets what it asked."""
        ranked: list[int] = []
        while len(ranked) < min(k, n):
            ranked += yield from self._best(sorted(set(range(n)).difference(ranked)))
        return head_first(ranked, n)

    def _best(self, items: Sequence[int]) -> Flow[list[int]]:
        """The first ``head`` of ``items``, best first."""
        first, queue = items[: self.head], list(items[self.head :])
        scores = yield from relabel(Heapsort(self.group_size)(len(first), len(first)), first)
        head = descending(first, scores)
        while queue:
            group = (head[-1], *queue[: self.group_size - 1])
            [scores] = yield [group]
            best = winner(group, scores)
            if best == head[-1]:
                del queue[: self.group_size - 1]
            else:
                queue.remove(best)
                head.pop()
                place = yield from _place(best, head)
                head.insert(place, best)
        return head

    def cost(self, n: int, k: int) -> Cost:
        """Upper bounds: every candidate makes its way into the head."""
        calls = rounds = 0
        for left in range(n, n - min(k, n), -self.head):
            size = min(self.head, left)
            sort = Heapsort(self.group_size).cost(size, size)
            insert = (left - size) * (1 + (size - 1).bit_length())  # of size places, ceil(log2(size)) questions
            calls, rounds = calls + sort.calls + insert, rounds + sort.rounds + insert
        return Cost(calls, rounds, exact=False)


def _place(item: int, ordered: Sequence[int]) -> Flow[int]:
    """Where ``item`` belongs among documents that are in order, by binary search."""
    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) // 2
        pair = (ordered[middle], item)
        [scores] = yield [pair]
        if winner(pair, scores) == item:
            high = middle
        else:
            low = middle + 1
    return low
