"""Which lists a training step sees: a function of seed and step alone, so that any step can be the first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyterrier_llmrank.core import brief
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.seeds import generator


@dataclass(frozen=True)
class Batches:
    """Batches of places in a data set, epoch after epoch without end, each in an order of its own.

    A training that was stopped after step s goes on with ``batches(s)``; nothing else need be saved. The last batch of
    an epoch may be smaller, and is not left out; a set smaller than a batch is one.

    Args:
        n: Lists in the data set, at least 1.
        size: Of a batch, over all workers.
        seed: Of the orders.
        shuffled: Whether there are any but the data set's own.
        worker: Which part of each batch is asked for, from 0.
        workers: In how many parts batches are split, such as GPUs; parts differ by one list at most.

    Raises:
        ConfigurationError: A number is out of range.
    """

    n: int
    size: int
    seed: int = 0
    shuffled: bool = True
    worker: int = 0
    workers: int = 1

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.n < 1 or self.size < 1 or not 0 <= self.worker < self.workers:
            raise ConfigurationError(
                f"Batches takes some lists, a size of 1 or more, and a worker that is one, got {self!r}"
            )

    @property
    def per_epoch(self) -> int:
        """Steps in which every list is seen once."""
        return -(-self.n // self.size)

    def at(self, step: int) -> list[int]:
        """The places of the lists of one step, from 0."""
        epoch, number = divmod(step, self.per_epoch)
        return self._of(self._order(epoch), number)

    def __call__(self, step: int = 0) -> Iterator[list[int]]:
        """The batches of this step and all that follow."""
        epoch, first = divmod(step, self.per_epoch)
        while True:
            order = self._order(epoch)
            for number in range(first, self.per_epoch):
                yield self._of(order, number)
            epoch, first = epoch + 1, 0

    def _order(self, epoch: int) -> list[int]:
        """The whole data set as this epoch sees it."""
        return generator(self.seed, epoch).permutation(self.n).tolist() if self.shuffled else list(range(self.n))

    def _of(self, order: list[int], number: int) -> list[int]:
        """This worker's part of a batch of an epoch."""
        return order[number * self.size : (number + 1) * self.size][self.worker :: self.workers]
