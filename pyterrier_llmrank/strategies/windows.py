"""Sliding windows: order a long list by ordering overlapping windows of it, from its end to its head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyterrier_llmrank.core import Cost, Evidence, Flow, Scores, descending, from_order
from pyterrier_llmrank.errors import ConfigurationError


@dataclass(frozen=True)
class SlidingWindow:
    """Moves a window from the end of the list to its head, ordering what it shows in place.

    The head is always reached, for every ``n``: the last window is ``[0, end)``. With a perfect scorer one pass
    settles the first ``window - stride`` documents and each further pass ``min(stride, window - stride)`` more;
    ``stride == window`` carries nothing over. Where only the best document of a window is known, use ``Bubble``.

    Calls and rounds: ``passes * (1 if n <= window else ceil((n - window) / stride) + 1)``; windows of a single
    document are not asked about.

    Args:
        window: Documents shown at once, at least 2.
        stride: How far the window moves, 1 to ``window``.
        passes: How often the whole list is gone through.

    Raises:
        ConfigurationError: An argument is out of range.

    Reference:
        Sun et al., 2023 (RankGPT), section 3.2; Pradeep et al., 2023 (RankZephyr) for several passes.
    """

    window: int = 20
    stride: int = 10
    passes: int = 1

    def __post_init__(self) -> None:
        if self.window < 2:
            raise ConfigurationError(
                f"SlidingWindow needs a window of at least 2 documents, got window={self.window}; 20 is usual"
            )
        if not 1 <= self.stride <= self.window:
            raise ConfigurationError(
                f"SlidingWindow(window={self.window}) needs a stride from 1 to {self.window}, got "
                f"stride={self.stride}: a longer stride would skip documents; window // 2 = {self.window // 2} is usual"
            )
        if self.passes < 1:
            raise ConfigurationError(f"SlidingWindow needs at least one pass, got passes={self.passes}")

    @property
    def needs(self) -> Evidence:
        """The order of a window; its best document is enough for a bubble sort of one pass, or of pairs."""
        bubble = self.stride == self.window - 1 and (self.passes == 1 or self.window == 2)
        return Evidence.CHOICE if bubble else Evidence.ORDER

    @property
    def group_size(self) -> int | None:
        """One window."""
        return self.window

    def __call__(self, n: int, k: int) -> Flow[Scores]:
        """Orders the list in place, window by window."""
        order = list(range(n))
        for _ in range(self.passes):
            for start, end in self.bounds(n):
                [scores] = yield [tuple(order[start:end])]
                order[start:end] = descending(order[start:end], scores)
        return from_order(order)

    def bounds(self, n: int) -> Iterator[tuple[int, int]]:
        """Windows of one pass over ``n`` documents as ``[start, end)``, in the order they are asked."""
        end = n
        while end > 1:
            start = max(0, end - self.window)
            yield start, end
            if start == 0:
                return
            end -= self.stride

    def cost(self, n: int, k: int) -> Cost:
        """Windows are sequential: as many rounds as calls."""
        calls = self.passes * sum(1 for _ in self.bounds(n))
        return Cost(calls, calls)
