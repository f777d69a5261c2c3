"""``Learner``: what ``train`` trains. One file a kind in ``learners``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from torch import Tensor, nn

from pyterrier_llmrank.errors import ConfigurationError

from .data import TrainingList

Backward: TypeAlias = Callable[[Tensor], None]
"""Adds a scalar's gradient to those of the weights."""


class Learner(Protocol):
    """A network, and how it learns from lists.

    Its ``repr`` says what it is: a checkpoint of another one is not gone on with.

    Attributes:
        network: On the CPU in float32 at first. Its parameters that require a gradient are trained.
    """

    network: nn.Module

    def learn(self, lists: Sequence[TrainingList], backward: Backward) -> float:
        """The mean loss of lists; calls ``backward`` on scalars that sum up to it, one or several.

        Where there are several processes each is given its part of a batch, which may be empty, and the weights get
        the mean of their gradients, weighed by the lists of each.
        """
        ...

    def save(self, folder: Path) -> None:
        """Writes a checkpoint folder that a scorer loads by its path."""
        ...


class Micro(ABC):
    """A learner whose loss is a mean over lists: a batch is read a few lists at a time, so that it fits in memory.

    Args:
        micro: Lists that are read at once; all by default.

    Raises:
        ConfigurationError: ``micro`` is below 1.
    """

    def __init__(self, micro: int | None = None) -> None:
        if micro is not None and micro < 1:
            raise ConfigurationError(f"micro is how many lists are read at once, at least 1, got {micro}")
        self.micro = micro

    @abstractmethod
    def loss(self, lists: Sequence[TrainingList]) -> Tensor:
        """Mean over lists, of which there is at least one, a scalar."""

    def learn(self, lists: Sequence[TrainingList], backward: Backward) -> float:
        """The mean loss of lists, micro-batch by micro-batch."""
        size, total = self.micro or max(len(lists), 1), 0.0
        for start in range(0, len(lists), size):
            some = lists[start : start + size]
            value = self.loss(some) * (len(some) / len(lists))
            backward(value)
            total += float(value.detach())
        return total
