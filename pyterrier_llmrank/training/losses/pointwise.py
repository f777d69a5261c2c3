"""Losses that look at one document at a time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pyterrier_llmrank.errors import InputError

from .lists import Lists, average, prepared


def binary_cross_entropy(scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Cross-entropy of each document's probability of being relevant.

    For a model that answers yes or no, the score is the logit of yes less that of no, and this is the cross-entropy of
    its two answers. Targets in between are graded relevance (BiXSE): over all pairs of a batch of queries and documents
    with scores ``scale * cosine + bias``, the target of a query's own document its grade, and 0 elsewhere.

    Args:
        scores: Log-odds of relevance, (batch, docs).
        targets: Probabilities of relevance, 0 to 1, (batch, docs).
        mask: True where a document is real, (batch, docs); None where all are.

    Returns:
        Mean over real documents, in nats, a scalar.

    Raises:
        InputError: A target is no probability, or shapes differ.

    Reference:
        Nogueira and Cho, 2019 (monoBERT); Nogueira et al., 2020 (monoT5); Tsirigotis et al., 2025 (BiXSE).
    """
    lists = _probable(prepared(scores, targets, mask))
    losses = functional.binary_cross_entropy_with_logits(lists.scores, lists.targets, reduction="none")
    return average(losses, lists.mask)


def mean_squared_error(scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Squared distance of scores and targets, as zELO's pointwise students learn strengths.

    Args:
        scores: (batch, docs), in the targets' unit.
        targets: (batch, docs).
        mask: True where a document is real, (batch, docs); None where all are.

    Returns:
        Mean over real documents, a scalar.

    Raises:
        InputError: A target is NaN or infinite, or shapes differ.

    Reference:
        Pipitone et al., 2025 (zELO).
    """
    lists = prepared(scores, targets, mask)
    return average((lists.scores - lists.targets) ** 2, lists.mask)


def root_mean_squared_error(scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Root of each list's mean squared distance of scores and targets.

    Args:
        scores: (batch, docs), in the targets' unit.
        targets: (batch, docs).
        mask: True where a document is real, (batch, docs); None where all are.

    Returns:
        Mean over lists, a scalar.

    Raises:
        InputError: A target is NaN or infinite, or shapes differ.

    Reference:
        The loss of that name of RankGPT's permutation distillation (Sun et al., 2023).
    """
    lists = prepared(scores, targets, mask)
    squares = ((lists.scores - lists.targets) ** 2).sum(dim=1) / lists.mask.sum(dim=1).clamp(min=1)
    # the slope of a root is infinite at 0; a list that fits perfectly has none
    return average(torch.where(squares > 0, squares, 1.0).sqrt(), lists.mask.any(dim=1) & (squares > 0))


def _probable(lists: Lists) -> Lists:
    """The same lists.

    Raises:
        InputError: A target is no probability.
    """
    low, high = (lists.targets.min().item(), lists.targets.max().item()) if lists.targets.numel() else (0.0, 0.0)
    if low < 0 or high > 1:
        raise InputError(
            f"binary_cross_entropy takes targets from 0 to 1, got {low:.4g} to {high:.4g}; divide grades by the highest"
        )
    return lists
