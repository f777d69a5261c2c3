"""Top-down partitioning: find the documents above a pivot, then order those."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from pyterrier_llmrank.core import Cost, Evidence, Flow, Scores, descending, from_order
from pyterrier_llmrank.errors import ConfigurationError


@dataclass(frozen=True)
class TopDown:
    """Orders the head of the list, then looks for documents further down that beat its ``pivot``-th.

    All later documents are shown in parts of ``window - 1``, behind the pivot. Those ranked above it go on as
    candidates, together with the ``pivot - 1`` from the head; while they are more than a window, they are partitioned
    again, and at last ordered. Where nothing beats the pivot, the head is in order already. What was set aside follows,
    the last partitioning first.

    With a perfect scorer and ``buffer=None`` the first ``pivot`` documents are right (all, if ``n <= window``), so set
    ``pivot`` to the cutoff that counts. A ``buffer`` as published saves calls, but promises nothing: what comes after
    the buffer is full is not looked at, and what does not fit is set aside.

    Calls: 1 if ``n <= window``. Otherwise a partitioning takes ``1 + ceil((n - window) / (window - 1))`` in 2 rounds
    and sets aside at least ``window - pivot + 1`` documents, which bounds their number. With a ``buffer`` parts are
    asked in one round only as far as they are sure to be needed, so that no call is wasted. Documents that are alone
    are not asked about. For n = 100: 6 calls in 2 rounds where nothing beats the pivot, about 11 in 6 for a list in
    random order, about 4 in 4 with ``buffer=20``.

    Args:
        window: Documents shown at once, at least 2.
        pivot: Place of the pivot in the first window, 1 to ``window - 1``.
        buffer: No further part is shown once there are as many candidates, and no more are kept; at least ``pivot``.
            None: all of them.
        legacy: As the released code, for its published numbers: orders the survivors once more where nothing beat the
            pivot, and where they just fill a window; puts what was set aside in order of partitioning, so that place
            ``pivot`` may go to a document that was left over early.

    Raises:
        ConfigurationError: An argument is out of range.

    Reference:
        Parry et al., 2024 (Top-Down Partitioning), arXiv 2405.14589; published with ``buffer=20``.
    """

    window: int = 20
    pivot: int = 10
    buffer: int | None = None
    legacy: bool = False

    def __post_init__(self) -> None:
        if self.window < 2:
            raise ConfigurationError(
                f"TopDown needs a window of at least 2 documents, got window={self.window}; 20 is usual"
            )
        if not 1 <= self.pivot < self.window:
            raise ConfigurationError(
                f"TopDown(window={self.window}) needs a pivot from 1 to {self.window - 1}, got pivot={self.pivot}; "
                f"window // 2 = {self.window // 2} is usual"
            )
        if self.buffer is not None and self.buffer < self.pivot:
            raise ConfigurationError(
                f"TopDown(pivot={self.pivot}) needs a buffer of at least {self.pivot} documents, got "
                f"buffer={self.buffer}; None for all candidates"
            )

    @property
    def needs(self) -> Evidence:
        """The order of a window; the better of two is one."""
        return Evidence.CHOICE if self.window == 2 else Evidence.ORDER

    @property
    def group_size(self) -> int | None:
        """One window."""
        return self.window

    def __call__(self, n: int, k: int) -> Flow[Scores]:
        """Partitions while the candidates are more than a window, and orders them."""
        docs, aside = list(range(n)), list[int]()
        while len(docs) > self._fits:
            docs, rest = yield from self._above(docs)
            aside = aside + rest if self.legacy else rest + aside
            if len(docs) < self.pivot and not self.legacy:
                break  # nothing beat the pivot: docs are the head of an ordered window
        else:
            docs = yield from _ordered(docs)
        return from_order(docs + aside)

    @property
    def _fits(self) -> int:
        """The longest list that is ordered without partitioning it."""
        return self.window - 1 if self.legacy else self.window

    def _above(self, docs: list[int]) -> Flow[tuple[list[int], list[int]]]:
        """The candidates, and all others: those too many, the pivot, those below it, those not looked at."""
        head = yield from _ordered(docs[: self.window])
        above, pivot, below = head[: self.pivot - 1], head[self.pivot - 1], head[self.pivot :]
        size, room = self.window - 1, self._room(len(docs))
        parts = [docs[i : i + size] for i in range(self.window, len(docs), size)]
        while parts and len(above) < room:
            sure = ceil((room - len(above)) / size)  # even if all they hold is above the pivot, the last is needed
            groups, parts = [(pivot, *part) for part in parts[:sure]], parts[sure:]
            answers = yield groups
            for group, scores in zip(groups, answers, strict=True):
                order = descending(group, scores)
                place = order.index(pivot)
                above, below = above + order[:place], below + order[place + 1 :]
        return above[:room], [*above[room:], pivot, *below, *(doc for part in parts for doc in part)]

    def _room(self, n: int) -> int:
        """Candidates that are kept, of ``n`` documents."""
        return n if self.buffer is None else self.buffer

    def cost(self, n: int, k: int) -> Cost:
        """Upper bounds: all parts are looked at, and all they hold is above the pivot. Exact for a single window."""
        calls, rounds, exact = 0, 0, n <= self._fits
        while n > self._fits:
            parts = ceil((n - self.window) / (self.window - 1))
            calls += 1 + parts
            rounds += 1 + (min(parts, 1) if self.buffer is None else parts)
            n = min(self._room(n), n - (self.window - self.pivot + 1))
        return Cost(calls + (n > 1), rounds + (n > 1), exact)


def _ordered(docs: list[int]) -> Flow[list[int]]:
    """One window, best first."""
    if len(docs) < 2:
        return docs
    [scores] = yield [tuple(docs)]
    return descending(docs, scores)
