"""LambdaLoss: RankNet's pairs, weighed by what exchanging them would do to nDCG or another measure."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from .lists import Lists, average, both, differences, discounts, gains, ordered, prepared, ranks, shares_of_ideal
from .pairwise import PairWeight


def lambda_rank(lists: Lists, k: int | None = None) -> Tensor:
    """How much exchanging two documents changes nDCG: ``|1/D_i - 1/D_j| |G_i - G_j|`` (Burges et al., 2006)."""
    worth = discounts(ranks(lists.scores, lists.mask))
    return differences(worth).abs() * differences(shares_of_ideal(lists, k)).abs()


def ndcg_loss1(lists: Lists, k: int | None = None) -> Tensor:
    """``G_i / D_i`` for every pair, also of equals: what is lost if i stands below j (Wang et al., 2018)."""
    weights = shares_of_ideal(lists, k) * discounts(ranks(lists.scores, lists.mask))
    return weights.unsqueeze(2).expand(-1, -1, weights.shape[1])


def ndcg_loss2(lists: Lists, k: int | None = None) -> Tensor:
    """``|1/D_d - 1/D_(d+1)| |G_i - G_j|``, d places apart: a tighter bound (Wang et al., 2018)."""
    apart = differences(ranks(lists.scores, lists.mask)).abs()
    steps = torch.where(apart > 0, discounts(apart.clamp(min=1)) - discounts(apart + 1), 0.0)
    return steps * differences(shares_of_ideal(lists, k)).abs()


def ndcg_loss2_plus(lists: Lists, k: int | None = None, *, mu: float = 10.0) -> Tensor:
    """``mu`` times ``ndcg_loss2`` and ``lambda_rank`` together: NDCG-Loss2++ (Wang et al., 2018)."""
    return mu * ndcg_loss2(lists, k) + lambda_rank(lists, k)


def mrr(lists: Lists, k: int | None = None) -> Tensor:
    """``|1/r_i - 1/r_j|``: what exchanging two documents moves in reciprocal rank (Zhan et al., 2021, ADORE)."""
    return differences(1 / ranks(lists.scores, lists.mask)).abs()


def lambda_loss(
    scores: Tensor,
    targets: Tensor,
    mask: Tensor | None = None,
    *,
    weight: PairWeight | None = ndcg_loss2_plus,
    k: int | None = None,
    sigma: float = 1.0,
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """Negative log2-probability that of two documents the better one wins, weighed by what the pair is worth.

    Args:
        scores: (batch, docs).
        targets: Grades, at least 0, (batch, docs).
        mask: True where a document is real, (batch, docs); None where all are.
        weight: ``ndcg_loss1``, ``ndcg_loss2``, ``ndcg_loss2_plus``, ``lambda_rank``, ``mrr``, or one of ``rank_net``'s;
            None for evenly. Weights are constants to the gradient.
        k: Count only pairs of which both stand among the first k by the current scores, and normalise gains by the
            ideal DCG there; None for all.
        sigma: Scores are multiplied by it.
        reduction: "mean" over pairs of all lists, or their "sum", which grows with lists and batch.

    Returns:
        In bits, a scalar. Pairs are those with different targets; of ``ndcg_loss1`` all.

    Raises:
        InputError: A target is NaN or infinite, or shapes differ.

    Reference:
        Wang et al., 2018.
    """
    lists = prepared(scores, targets, mask)
    pairs = both(lists.mask) if weight is ndcg_loss1 else ordered(lists)
    if k is not None:
        top = ranks(lists.scores, lists.mask) <= k
        pairs = pairs & top.unsqueeze(2) & top.unsqueeze(1)
    losses = functional.softplus(-sigma * differences(lists.scores)) / math.log(2)
    if weight is not None:
        losses = weight(lists, k).detach() * losses
    return average(losses, pairs) if reduction == "mean" else torch.where(pairs, losses, 0.0).sum()


def lipo_lambda(scores: Tensor, targets: Tensor, mask: Tensor | None = None, *, beta: float = 0.05) -> Tensor:
    """LambdaLoss on a language model's preference for its own answers, as DPO is on a pair of them.

    Args:
        scores: ``log pi - log pi_reference`` of each answer (or ranking) as a whole, natural logarithms, (batch, docs).
        targets: How good the answers are, at least 0, (batch, docs).
        mask: True where an answer is real, (batch, docs); None where all are.
        beta: What turns the scores into rewards.

    Returns:
        Sum over pairs with different targets, mean over lists, in nats, a scalar.

    Raises:
        InputError: A target is NaN or infinite, or shapes differ.

    Reference:
        Liu et al., 2024 (LiPO-lambda); gains are not normalised, and discounts are ``log(1 + rank)``.
    """
    lists = prepared(scores, targets, mask)
    worth = 1 / torch.log1p(ranks(lists.scores, lists.mask))
    weights = differences(gains(lists)).abs() * differences(worth).abs()
    losses = weights * functional.softplus(-beta * differences(lists.scores))
    return average(torch.where(ordered(lists), losses, 0.0).sum(dim=(1, 2)), lists.mask.any(dim=1))
