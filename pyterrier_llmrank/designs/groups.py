"""Groups that cut the list up, for scores that hold between groups."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from pyterrier_llmrank.core import Group, brief
from pyterrier_llmrank.seeds import generator

from .drawing import at_least


@dataclass(frozen=True)
class shuffled_groups:
    """The shuffled list cut into groups, ``epochs`` times: ``epochs * ceil(n / size)`` groups.

    Groups of one epoch are as equal as can be, and share no document; an odd number of documents in pairs gets one
    of them once more. Documents are shown in random order. Different groups are linked by chance only, so the
    aggregate should take the scores at their value (a mean).

    Args:
        size: Documents of a group at most, at least 2.
        epochs: How often the list is shuffled and cut, at least 1.
        seed: Of the shuffles.

    Raises:
        ConfigurationError: An argument is out of range.

    Reference:
        Sun et al., 2025 (GroupRank): groups of 10 in 2 epochs.
    """

    size: int = 10
    epochs: int = 2
    seed: int = 0

    __repr__ = brief

    def __post_init__(self) -> None:
        at_least(2, self, "size", "10 is usual; to score each document by itself, use Pointwise")
        at_least(1, self, "epochs", "2 is usual")

    @property
    def group_size(self) -> int:
        """The largest group of an epoch."""
        return self.size

    def __call__(self, n: int) -> list[Group]:
        """Epoch by epoch."""
        if n < 2:
            return []
        rng, parts = generator(self.seed), -(-n // self.size)
        ends = [-(-n * part // parts) for part in range(parts + 1)]
        # a last group of one document takes in its neighbour
        bounds = [(min(start, end - 2), end) for start, end in pairwise(ends)]
        orders = [rng.permutation(n).tolist() for _ in range(self.epochs)]
        return [tuple(order[start:end]) for order in orders for start, end in bounds]
