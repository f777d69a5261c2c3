"""Losses over a list as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pyterrier_llmrank.errors import InputError

from .lists import Lists, average, differences, levels, log_shares, ordered, prepared, shares, sort_keys, spans


def list_net(scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Cross-entropy of two beliefs in which document is best: the softmax of targets and that of scores.

    Args:
        scores: (batch, docs).
        targets: (batch, docs); as log-probabilities up to a constant, so that their scale counts.
        mask: True where a document is real, (batch, docs); None where all are.

    Returns:
        Mean over lists, in nats, a scalar. Its minimum is the entropy of the targets' belief, see ``kl_divergence``.

    Raises:
        InputError: A target is NaN or infinite, or shapes differ.

    Reference:
        Cao et al., 2007 (top one).
    """
    lists = prepared(scores, targets, mask)
    belief = shares(lists.targets, lists.mask)
    return average(-(belief * log_shares(lists.scores, lists.mask)).sum(dim=1), lists.mask.any(dim=1))


def softmax_cross_entropy(scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Negative log-softmax of the relevant documents, each times its target.

    Args:
        scores: (batch, docs).
        targets: 1 for a relevant document and 0 for another, or grades, (batch, docs).
        mask: True where a document is real, (batch, docs); None where all are.

    Returns:
        Mean over lists, in nats, a scalar; a list without a relevant document counts 0.

    Raises:
        InputError: A target is below 0 (the loss would have no lower bound), NaN or infinite, or shapes differ.

    Reference:
        Zhuang et al., 2022 (RankT5).
    """
    lists = prepared(scores, targets, mask)
    if bool((lists.targets < 0).any()):
        raise InputError(
            "softmax_cross_entropy needs labels from 0 up, and some targets are below; for a teacher's scores take a "
            "loss that reads their order or their differences, such as rank_net, kl_divergence or margin_mse"
        )
    return average(-(lists.targets * log_shares(lists.scores, lists.mask)).sum(dim=1), lists.mask.any(dim=1))


def list_mle(scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Negative log-likelihood of the targets' order: of choosing the best, then the best of what is left, and so on.

    Each document is chosen over all that have a lower target. Those with the same target are no rivals, so that
    documents of equal relevance are not put in an order nobody asked for; with one relevant document this is
    ``softmax_cross_entropy``.

    Args:
        scores: Log-odds of being chosen up to a constant of each list, (batch, docs).
        targets: Higher is better, (batch, docs); only their order counts.
        mask: True where a document is real, (batch, docs); None where all are.

    Returns:
        Sum over a list's documents, mean over lists, in nats, a scalar.

    Raises:
        InputError: A target is NaN or infinite, or shapes differ.

    Reference:
        Xia et al., 2008.
    """
    lists = prepared(scores, targets, mask)
    return average(_surprise(lists).sum(dim=1), lists.mask.any(dim=1))


def position_aware_list_mle(scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """``list_mle`` whose choice at place i of n, from 0, weighs ``2 ** (n - i) - 1``, as part of the weights' sum.

    Args:
        scores: Log-odds of being chosen up to a constant of each list, (batch, docs).
        targets: Higher is better, (batch, docs); only their order counts.
        mask: True where a document is real, (batch, docs); None where all are.

    Returns:
        Weighted sum over a list's documents, mean over lists, in nats, a scalar.

    Raises:
        InputError: A target is NaN or infinite, or shapes differ.

    Reference:
        Lan et al., 2014 (p-ListMLE).
    """
    lists = prepared(scores, targets, mask)
    n, (_, reached) = lists.mask.sum(dim=1, keepdim=True), spans(lists)
    left = torch.where(lists.mask, n - reached + 1, 0)  # n - i, where targets are distinct
    weights = torch.exp2((left - left.amax(dim=1, keepdim=True)).to(lists.scores))  # 2 ** 200 is no float32
    weights = weights - torch.exp2(-left.amax(dim=1, keepdim=True).to(lists.scores))
    weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-10)
    return average((weights * _surprise(lists)).sum(dim=1), lists.mask.any(dim=1))


def rank_list(scores: Tensor, targets: Tensor, mask: Tensor | None = None, *, skips: Sequence[int] = (1,)) -> Tensor:
    """Log of one plus the odds of every wrong order among near neighbours of the targets' order.

    Where RankNet adds up ``log(1 + odds)`` of each pair, this is ``log(1 + ...)`` of all their odds together, which is
    never more.

    Args:
        scores: Log-odds up to a constant of each list, (batch, docs).
        targets: Higher is better, (batch, docs); only their order counts.
        mask: True where a document is real, (batch, docs); None where all are.
        skips: How many different targets apart compared documents are: 1 for neighbours; more of them, added while
            training goes on, for the whole order.

    Returns:
        Mean over lists, in nats, a scalar.

    Raises:
        InputError: A target is NaN or infinite, or shapes differ.

    Reference:
        Naini et al., 2025 (RankList), after their abstract; how their equations weigh near and far is not known here.
    """
    lists = prepared(scores, targets, mask)
    apart = differences(levels(lists)).abs()
    compared = ordered(lists) & torch.isin(apart, torch.tensor(skips).to(apart))
    lowest = torch.finfo(lists.scores.dtype).min
    leads = (-differences(lists.scores)).masked_fill(~compared, lowest)  # of the worse over the better
    return average(functional.softplus(leads.flatten(1).logsumexp(dim=1)), lists.mask.any(dim=1))


def circle(
    scores: Tensor,
    targets: Tensor,
    mask: Tensor | None = None,
    *,
    margin: float = 0.25,
    scale: float = 10.0,
) -> Tensor:
    """Log of one plus every wrong pair's odds, where a score that is right already pulls less.

    Args:
        scores: Similarities, 0 to 1 when all is learnt, (batch, docs).
        targets: Above 0 for a relevant document, (batch, docs).
        mask: True where a document is real, (batch, docs); None where all are.
        margin: Relevant documents should reach ``1 - margin``, others at most ``margin``.
        scale: Of the exponents.

    Returns:
        Mean over lists, in nats, a scalar; a list without a relevant document, or without another, counts 0.

    Raises:
        InputError: A target is NaN or infinite, or shapes differ.

    Reference:
        Sun et al., 2020; Liu et al., 2025 (ListConRanker), who train with it.
    """
    lists = prepared(scores, targets, mask)
    relevant = lists.mask & (lists.targets > 0)
    pull = (1 + margin - lists.scores).clamp(min=0).detach() * (1 - margin - lists.scores)
    push = (lists.scores + margin).clamp(min=0).detach() * (lists.scores - margin)
    lowest = torch.finfo(lists.scores.dtype).min / 4  # two of them add up to a number still
    wrong = [
        (scale * value).masked_fill(~where, lowest).logsumexp(dim=1)
        for value, where in ((pull, relevant), (push, lists.mask & ~relevant))
    ]
    return average(functional.softplus(wrong[0] + wrong[1]), lists.mask.any(dim=1))


def pearson(scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """One less the linear correlation of scores and targets.

    Args:
        scores: (batch, docs), any scale.
        targets: (batch, docs), any scale.
        mask: True where a document is real, (batch, docs); None where all are.

    Returns:
        Mean over the lists whose targets differ, 0 to 2, a scalar.

    Raises:
        InputError: A target is NaN or infinite, or shapes differ.
    """
    lists = prepared(scores, targets, mask)
    n = lists.mask.sum(dim=1, keepdim=True).clamp(min=1)
    ours, theirs = (
        torch.where(lists.mask, values - values.sum(dim=1, keepdim=True) / n, 0.0)
        for values in (lists.scores, lists.targets)
    )
    spread = (ours**2).sum(dim=1).clamp(min=1e-12).sqrt() * (theirs**2).sum(dim=1).clamp(min=1e-12).sqrt()
    return average(1 - (ours * theirs).sum(dim=1) / spread, ordered(lists).any(dim=2).any(dim=1))


def _surprise(lists: Lists) -> Tensor:
    """Of choosing each document over those with a lower target, in nats, (batch, docs)."""
    lowest = torch.finfo(lists.scores.dtype).min
    order = sort_keys(lists).argsort(dim=1, descending=True)
    best_first = lists.scores.masked_fill(~lists.mask, lowest).gather(1, order)
    from_here = functional.pad(best_first.flip(1).logcumsumexp(dim=1).flip(1), (0, 1), value=lowest)
    _, reached = spans(lists)
    rivals = from_here.gather(1, reached)  # log of the sum over all that have a lower target
    some = lists.mask & (reached < lists.mask.sum(dim=1, keepdim=True))
    return torch.where(some, functional.softplus(rivals - lists.scores), 0.0)
