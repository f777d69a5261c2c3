"""Losses for rankings: ``loss(scores, targets, mask) -> scalar``, shapes (batch, docs). Importing this loads torch."""

from __future__ import annotations

from .cadet import cadet
from .contrastive import Contrast, below_positive, below_teacher_ratio, in_batch, info_nce, same_document
from .distillation import dear, kl_divergence
from .joint import (
    IGNORED,
    answer_starts,
    first_joint,
    identifier_ranks,
    importance_weighted,
    language_modelling,
    stepwise_list_mle,
)
from .lambdas import lambda_loss, lambda_rank, lipo_lambda, mrr, ndcg_loss1, ndcg_loss2, ndcg_loss2_plus
from .lists import Lists
from .listwise import circle, list_mle, list_net, pearson, position_aware_list_mle, rank_list, softmax_cross_entropy
from .metric import adr_mse, approx_mrr, approx_ndcg, neural_ndcg
from .pairwise import (
    PairWeight,
    by_difference,
    by_squares,
    by_teacher_ranks,
    margin_mse,
    novelty_targets,
    permutation_targets,
    rank_net,
)
from .pointwise import binary_cross_entropy, mean_squared_error, root_mean_squared_error
from .policy import pg_rank

__all__ = [
    "IGNORED",
    "Contrast",
    "Lists",
    "PairWeight",
    "adr_mse",
    "answer_starts",
    "approx_mrr",
    "approx_ndcg",
    "below_positive",
    "below_teacher_ratio",
    "binary_cross_entropy",
    "by_difference",
    "by_squares",
    "by_teacher_ranks",
    "cadet",
    "circle",
    "dear",
    "first_joint",
    "identifier_ranks",
    "importance_weighted",
    "in_batch",
    "info_nce",
    "kl_divergence",
    "lambda_loss",
    "lambda_rank",
    "language_modelling",
    "lipo_lambda",
    "list_mle",
    "list_net",
    "margin_mse",
    "mean_squared_error",
    "mrr",
    "ndcg_loss1",
    "ndcg_loss2",
    "ndcg_loss2_plus",
    "neural_ndcg",
    "novelty_targets",
    "pearson",
    "permutation_targets",
    "pg_rank",
    "position_aware_list_mle",
    "rank_list",
    "rank_net",
    "root_mean_squared_error",
    "same_document",
    "softmax_cross_entropy",
    "stepwise_list_mle",
]
