"""Batches that are shared out between processes: everyone sees all vectors, and has the gradients of its own."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


def workers() -> tuple[int, int]:
    """Which of how many processes this is."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def told(own: T) -> list[T]:
    """What every process has to say, in order."""
    _, number = workers()
    if number == 1:
        return [own]
    said: list[Any] = [None] * number
    distributed.all_gather_object(said, own)
    return said


def gathered(own: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
    """The rows of all processes, in order, of which the own ones keep their gradients.

    Args:
        own: (rows, width); any width where there are no rows.
        shapes: Rows and width of every process.
    """
    rank, number = workers()
    if number == 1:
        return own
    longest, width = max(rows for rows, _ in shapes), max(width for _, width in shapes)
    padded = own.new_zeros(longest, width)
    padded[: len(own), : own.shape[1]] = own.detach()
    parts = [torch.empty_like(padded) for _ in shapes]
    distributed.all_gather(parts, padded)
    rows = [part[:count] for part, (count, _) in zip(parts, shapes, strict=True)]
    if len(own):
        rows[rank] = own
    return torch.cat(rows)
