"""The processes that train one network together, as ``torchrun`` and ``accelerate launch`` start them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from pyterrier_llmrank.errors import MissingExtra
from pyterrier_llmrank.models.hf.devices import pick_device

T = TypeVar("T")


@dataclass(frozen=True)
class Workers:
    """How many there are, and which of them this is.

    Args:
        device: Where this one computes.
        index: From 0.
        count: At least 1.
    """

    device: torch.device
    index: int = 0
    count: int = 1

    @classmethod
    def here(cls, device: str | None = None) -> Workers:
        """This process among those that were started together; alone if it was started by itself.

        Args:
            device: Where a process by itself computes; the best there is by default.

        Raises:
            MissingExtra: There are several processes and no accelerate.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls(torch.device(pick_device(device)))
        try:
            from accelerate import PartialState
        except ImportError:
            raise MissingExtra("training in several processes", "accelerate", "train") from None
        state = PartialState(cpu=device == "cpu")
        return cls(state.device, state.process_index, state.num_processes)

    @property
    def first(self) -> bool:
        """Whether it is this one that writes files and measures."""
        return self.index == 0

    def same(self, network: nn.Module) -> None:
        """Gives every worker the first one's weights."""
        if self.count > 1:
            for value in network.state_dict().values():
                distributed.broadcast(value, 0)

    def told(self, value: T) -> T:
        """What the first worker holds."""
        if self.count == 1:
            return value
        values: list[Any] = [value]
        distributed.broadcast_object_list(values, 0, device=self.device)
        return values[0]  # type: ignore[no-any-return]

    def all(self, value: T) -> list[T]:
        """What each worker holds."""
        return of_all(value)

    def mean(self, value: float, weight: float) -> float:
        """Mean of a number over workers, each with a weight."""
        pairs = self.all((value, weight))
        return sum(one * own for one, own in pairs) / max(sum(own for _, own in pairs), 1e-12)

    def average_gradients(self, parameters: Sequence[nn.Parameter], lists: int) -> None:
        """Makes each gradient the mean over workers, weighed by the lists that each learnt from."""
        if self.count == 1:
            return
        share = lists / max(sum(self.all(lists)), 1)
        for one in parameters:
            gradient: Tensor = torch.zeros_like(one) if one.grad is None else one.grad.mul_(share)
            distributed.all_reduce(gradient)
            one.grad = gradient


def joined() -> tuple[int, int]:
    """Which of how many processes that learn together this is."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def of_all(own: T) -> list[T]:
    """What every process has to say, in order."""
    _, number = joined()
    if number == 1:
        return [own]
    said: list[Any] = [None] * number
    distributed.all_gather_object(said, own)
    return said
