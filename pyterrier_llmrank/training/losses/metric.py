"""Ranking measures made smooth: a document's rank as a sum of sigmoids, or a whole order as a soft permutation."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .lists import (
    Lists,
    average,
    both,
    differences,
    discounts,
    gains,
    ideal_dcg,
    prepared,
    shared_ranks,
    shares_of_ideal,
)
from .sorting import neural_sort, sinkhorn


def approx_ndcg(scores: Tensor, targets: Tensor, mask: Tensor | None = None, *, temperature: float = 1.0) -> Tensor:
    """One less nDCG at smooth ranks.

    Args:
        scores: (batch, docs).
        targets: Grades, at least 0, (batch, docs); gains are ``2 ** grade - 1``.
        mask: True where a document is real, (batch, docs); None where all are.
        temperature: Scores are divided by it; towards 0, ranks become exact and gradients vanish.

    Returns:
        Mean over the lists with a relevant document, a scalar.

    Raises:
        InputError: A target is NaN or infinite, or shapes differ.

    Reference:
        Qin et al., 2010.
    """
    lists = prepared(scores, targets, mask)
    ndcg = (shares_of_ideal(lists) * discounts(smooth_ranks(lists, temperature))).sum(dim=1)
    return average(1 - ndcg, ideal_dcg(lists).squeeze(1) > 0)


def approx_mrr(scores: Tensor, targets: Tensor, mask: Tensor | None = None, *, temperature: float = 1.0) -> Tensor:
    """One less the best reciprocal of a relevant document's smooth rank.

    Args:
        scores: (batch, docs).
        targets: Above 0 for a relevant document, (batch, docs).
        mask: True where a document is real, (batch, docs); None where all are.
        temperature: Scores are divided by it.

    Returns:
        Mean over the lists with a relevant document, a scalar.

    Raises:
        InputError: A target is NaN or infinite, or shapes differ.

    Reference:
        Qin et al., 2010.
    """
    lists = prepared(scores, targets, mask)
    relevant = lists.mask & (lists.targets > 0)
    reciprocal = torch.where(relevant, 1 / smooth_ranks(lists, temperature), 0.0)
    return average(1 - reciprocal.amax(dim=1), relevant.any(dim=1))


def adr_mse(
    scores: Tensor,
    targets: Tensor,
    mask: Tensor | None = None,
    *,
    temperature: float = 1.0,
    discount: Literal["log2", "reciprocal"] | None = "log2",
) -> Tensor:
    """Squared distance of smooth ranks and the ranks of the targets, less for those far down.

    Args:
        scores: (batch, docs).
        targets: Higher is better, (batch, docs); only their order counts. Equals share their mean rank.
        mask: True where a document is real, (batch, docs); None where all are.
        temperature: Scores are divided by it.
        discount: The distance at target rank r is divided by ``log2(1 + r)``, by r ("reciprocal"), or not.

    Returns:
        Mean over real documents of all lists, a scalar.

    Raises:
        InputError: A target is NaN or infinite, or shapes differ.

    Reference:
        Schlatt et al., 2025 (Rank-DistiLLM).
    """
    lists = prepared(scores, targets, mask)
    wanted = shared_ranks(lists)
    errors = (smooth_ranks(lists, temperature) - wanted) ** 2
    worth = {"log2": discounts(wanted), "reciprocal": 1 / wanted, None: torch.ones_like(wanted)}[discount]
    return average(errors * worth, lists.mask)


def neural_ndcg(
    scores: Tensor,
    targets: Tensor,
    mask: Tensor | None = None,
    *,
    temperature: float = 1.0,
    k: int | None = None,
    transposed: bool = False,
) -> Tensor:
    """One less nDCG at k of a soft permutation (NeuralSort, then Sinkhorn's scaling).

    Args:
        scores: (batch, docs).
        targets: Grades, at least 0, (batch, docs); gains are ``2 ** grade - 1``.
        mask: True where a document is real, (batch, docs); None where all are.
        temperature: Of the permutation; towards 0 it becomes the exact order.
        k: Places that count; None for all.
        transposed: Whether a document gets its expected discount, rather than a place its expected gain.

    Returns:
        Mean over the lists with a relevant document, a scalar.

    Raises:
        InputError: A target is NaN or infinite, or shapes differ.

    Reference:
        Pobrotyn and Białobrzeski, 2021 (NeuralNDCG).
    """
    lists = prepared(scores, targets, mask)
    soft = sinkhorn(neural_sort(lists, temperature))  # (batch, places, docs)
    worth = discounts(torch.arange(1, scores.shape[1] + 1).to(lists.scores))
    worth = torch.where(torch.arange(scores.shape[1], device=scores.device) < (k or scores.shape[1]), worth, 0.0)
    if transposed:
        dcg = ((worth.unsqueeze(1) * soft).sum(dim=1) * gains(lists)).sum(dim=1)
    else:
        dcg = ((soft * gains(lists).unsqueeze(1)).sum(dim=2) * worth).sum(dim=1)
    ideal = ideal_dcg(lists, k).squeeze(1)
    return average(1 - dcg / ideal.clamp(min=1e-10), ideal > 0)


def smooth_ranks(lists: Lists, temperature: float) -> Tensor:
    """One plus, for each rival, the sigmoid of its lead, (batch, docs)."""
    leads = torch.sigmoid(-differences(lists.scores) / temperature)
    return 1 + torch.where(both(lists.mask), leads, 0.0).sum(dim=2)
