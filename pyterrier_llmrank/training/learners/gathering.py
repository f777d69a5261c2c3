"""Batches that are shared out between processes: everyone sees all vectors, and has the gradients of its own."""

from __future__ import annotations

import torch
from torch import Tensor, distributed

from pyterrier_llmrank.training.workers import joined


def gathered(own: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
    """The rows of all processes, in order, of which the own ones keep their gradients.

    Args:
        own: (rows, width); any width where there are no rows.
        shapes: Rows and width of every process.
    """
    rank, number = joined()
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
