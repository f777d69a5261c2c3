"""A query's vector, moved until its products with documents agree with what a reranker said of them (FIRST)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From scores and targets, (1, docs) each, to what is minimised."""


def moved(query: Tensor, docs: Tensor, targets: Tensor, *, loss: Loss, learning_rate: float, steps: int) -> Tensor:
    """A vector whose products with the documents' lie nearer to the targets, by steps of Adam.

    Products are scaled to the range of the targets and halved, as the authors do. With no step, with one document, or
    with documents that the query cannot tell apart, it is the query.

    Args:
        query: (width,).
        docs: (docs, width).
        targets: (docs,).
        loss: What is minimised.
        learning_rate: Of Adam.
        steps: Of Adam.

    Reference:
        Reddy et al., 2024 (FIRST), section 3.4, after Reddy et al., 2023 (ReFIT).
    """
    started = docs @ query
    span, wanted = float(started.max() - started.min()), float(targets.max() - targets.min())
    if not span > 0 or not wanted > 0:
        return query.clone()
    scale = wanted / span / 2
    vector = query.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([vector], lr=learning_rate)
    with torch.enable_grad():
        for _ in range(steps):
            value = loss((docs @ vector)[None] * scale, targets[None])
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return vector.detach()
