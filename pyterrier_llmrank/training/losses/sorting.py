"""Sorting that has a gradient: NeuralSort, and the scaling that makes its result nearly a permutation."""

from __future__ import annotations

import torch
from torch import Tensor

from .lists import Lists, both, differences

ROUNDS = 50  # of scaling; a fixed number, so that a list's loss does not depend on who shares its batch


def neural_sort(lists: Lists, temperature: float) -> Tensor:
    """How much each document (last axis) belongs at each place (middle), (batch, docs, docs); places add up to 1.

    Rows of places that a list does not have, and columns of padding, are 0.

    Reference:
        Grover et al., 2019.
    """
    n = lists.mask.sum(dim=1).to(lists.scores)[:, None, None]
    place = torch.arange(1, lists.scores.shape[1] + 1).to(lists.scores)[None, :, None]
    distances = torch.where(both(lists.mask), differences(lists.scores).abs(), 0.0).sum(dim=2)
    logits = (n + 1 - 2 * place) * lists.scores.unsqueeze(1) - distances.unsqueeze(1)
    lowest = torch.finfo(logits.dtype).min
    soft = (logits / temperature).masked_fill(~lists.mask.unsqueeze(1), lowest).softmax(dim=2)
    return torch.where((place <= n) & lists.mask.unsqueeze(1), soft, 0.0)


def sinkhorn(soft: Tensor) -> Tensor:
    """The same matrices with places and documents scaled in turn until both add up to 1.

    Reference:
        Sinkhorn, 1964; Pobrotyn and Białobrzeski, 2021, for this use.
    """
    for _ in range(ROUNDS):
        for axis in (1, 2):
            total = soft.sum(dim=axis, keepdim=True)
            soft = soft / torch.where(total > 0, total, 1.0)  # padding stays 0, and its slope finite
    return soft
