"""Losses over lists of scores by their names. Needs no torch until one is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from pyterrier_llmrank.errors import ConfigurationError

Loss: TypeAlias = Callable[..., Any]
"""``(scores, targets, mask) -> scalar``, such as those of ``training.losses``."""

ALONE = ("binary_cross_entropy", "mean_squared_error", "root_mean_squared_error")
"""Losses that learn from a list whose documents all have the same target."""

LOSSES = (
    *ALONE,
    *("rank_net", "margin_mse", "lambda_loss", "lipo_lambda"),
    *("softmax_cross_entropy", "info_nce", "list_net", "kl_divergence", "list_mle", "position_aware_list_mle"),
    *("rank_list", "circle", "pearson", "approx_ndcg", "approx_mrr", "neural_ndcg", "adr_mse", "pg_rank"),
)
"""Those of ``training.losses`` that take ``(scores, targets, mask)``."""


def check_loss(loss: str | Loss) -> None:
    """Whether it is a loss.

    Raises:
        ConfigurationError: It is no function, and no name of one.
    """
    if not callable(loss) and loss not in LOSSES:
        raise ConfigurationError(f"loss must be one of {', '.join(map(repr, LOSSES))}, or a function, got {loss!r}")


def loss_of(loss: str | Loss) -> Loss:
    """A loss by its name in ``training.losses``, or the function itself.

    Raises:
        ConfigurationError: There is no such name.
    """
    check_loss(loss)
    if callable(loss):
        return loss
    from pyterrier_llmrank.training import losses

    return getattr(losses, loss)  # type: ignore[no-any-return]
