"""Every loss as ``(scores, targets, mask) -> scalar`` on grades 0, 1, 2, … and what holds for it."""

from __future__ import annotations

from functools import partial

import torch

from pyterrier_llmrank.training import losses


def _graded(loss):
    """For losses whose targets are probabilities."""

    def graded(scores, targets, mask=None):
        return loss(scores, torch.where(targets.isfinite(), (targets / 2).clamp(0, 1), targets), mask)

    return graded


def _best(loss):
    """For losses that know relevant documents and others: only the best of a list is relevant."""

    def binary(scores, targets, mask=None):
        known = targets if mask is None else targets.masked_fill(~mask, -1e9)
        top = (known == known.amax(dim=1, keepdim=True)) & (targets > 0)
        return loss(scores, torch.where(targets.isfinite(), top.to(targets.dtype), targets), mask)

    return binary


def _dear(scores, targets, mask=None):
    return losses.dear(scores, targets, targets, mask)


def _joint(scores, targets, mask=None):
    """FIRST's joint loss on a model whose logits after the bracket are the scores, and flat elsewhere."""
    n, docs = scores.shape
    logits = torch.zeros(n, 3, 12, dtype=scores.dtype)  # letters are the first tokens of a vocabulary of 12
    clean = scores if mask is None else torch.where(mask, scores, 0.0)
    logits = torch.cat([logits[:, :1], torch.nn.functional.pad(clean, (0, 12 - docs)).unsqueeze(1), logits], dim=1)
    labels = torch.tensor([[losses.IGNORED, 11, losses.IGNORED, 11, 11]]).expand(n, 5)  # 11 is the bracket
    return losses.first_joint(logits, labels, torch.arange(docs), targets, mask)


def _steps(scores, targets, mask=None):
    """PE-Rank's loss on a model whose belief does not change from step to step."""
    mask = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
    order = torch.where(mask, targets.nan_to_num(), -1e9).argsort(dim=1, descending=True, stable=True)
    logits = torch.where(mask, scores, 0.0).unsqueeze(1).expand(-1, scores.shape[1], -1)
    return losses.stepwise_list_mle(logits, order, mask.gather(1, order))


POINTWISE = {
    "binary_cross_entropy": _graded(losses.binary_cross_entropy),
    "mean_squared_error": losses.mean_squared_error,
    "root_mean_squared_error": losses.root_mean_squared_error,
}
"""Judge each document alone, so that a shift of scores matters, and one document says something."""

BINARY = {
    "softmax_cross_entropy": _best(losses.softmax_cross_entropy),
    "info_nce": _best(losses.info_nce),
    "approx_mrr": _best(losses.approx_mrr),
}

CHOICES = {
    "rank_net": losses.rank_net,
    "rank_net by_teacher_ranks": partial(losses.rank_net, weight=losses.by_teacher_ranks),
    "rank_net by_difference": partial(losses.rank_net, weight=losses.by_difference),
    "rank_net by_squares": partial(losses.rank_net, weight=losses.by_squares),
    "list_mle": losses.list_mle,
    "position_aware_list_mle": losses.position_aware_list_mle,
    "rank_list": losses.rank_list,
    "rank_list skips": partial(losses.rank_list, skips=(1, 2)),
    "lambda_loss even": partial(losses.lambda_loss, weight=None),
    "lambda_loss lambda_rank": partial(losses.lambda_loss, weight=losses.lambda_rank),
    "lambda_loss ndcg_loss2": partial(losses.lambda_loss, weight=losses.ndcg_loss2),
    "lambda_loss ndcg_loss2_plus": losses.lambda_loss,
    "lambda_loss mrr": partial(losses.lambda_loss, weight=losses.mrr),
    "lambda_loss sum": partial(losses.lambda_loss, reduction="sum"),
    "lipo_lambda": partial(losses.lipo_lambda, beta=1.0),
}
"""Sums over documents that should come before others: where none should, there is nothing to learn."""

ORDERS = {
    **CHOICES,
    "approx_ndcg": losses.approx_ndcg,
    "adr_mse": losses.adr_mse,
    "neural_ndcg": losses.neural_ndcg,
    "neural_ndcg transposed": partial(losses.neural_ndcg, transposed=True),
}
"""Only the order of targets counts, and a perfect order by far costs nothing."""

DISTANCES = {
    "list_net": losses.list_net,
    "kl_divergence": losses.kl_divergence,
    "margin_mse": losses.margin_mse,
    "pearson": losses.pearson,
    "dear": _best(_dear),
}
"""Want more than an order: the scores' distances, up to a shift."""

OTHERS = {
    "circle": _best(losses.circle),
    "lambda_loss ndcg_loss1": partial(losses.lambda_loss, weight=losses.ndcg_loss1),
    "first_joint": _joint,
    "stepwise_list_mle": _steps,
    "pg_rank": losses.pg_rank,
    "pg_rank to_go": partial(losses.pg_rank, to_go=True),
}

EVERY = {**POINTWISE, **BINARY, **ORDERS, **DISTANCES, **OTHERS}
PER_LIST = (
    *("list_net", "kl_divergence", "softmax_cross_entropy", "list_mle", "position_aware_list_mle", "rank_list"),
    *("circle", "lipo_lambda", "approx_ndcg", "approx_mrr", "neural_ndcg", "neural_ndcg transposed", "pearson"),
    "root_mean_squared_error",
)
"""Means over lists; the others are means over documents or pairs of all lists together, or draw at random."""

SHIFT_INVARIANT = {**BINARY, **ORDERS, **DISTANCES, **OTHERS}
del SHIFT_INVARIANT["circle"]  # its similarities have a scale: 0 to 1
del SHIFT_INVARIANT["first_joint"]  # its letters compete with every other token
