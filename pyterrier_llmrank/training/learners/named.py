"""Losses of retrievers by name, and of vectors of several widths."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.training import losses

from .contrasting import BiXSE, InfoNCE
from .vectors import Cadet, OfLists, VectorLoss, Vectors, check_settings


class Matryoshka(VectorLoss):
    """The sum of a loss over vectors of several widths: whole, and cut to their first numbers and scaled again.

    Args:
        loss: Of vectors of any width.
        widths: To cut to.

    Reference:
        Kusupati et al., 2022; Hu et al., 2025 (KaLM-Embedding).
    """

    def __init__(self, loss: VectorLoss, widths: tuple[int, ...]) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ConfigurationError(f"vectors are cut to widths of 1 or more, got {widths}")
        self.loss, self.widths, self.guide = loss, widths, loss.guide

    def forward(self, batch: Vectors) -> Tensor:
        """A sum of scalars.

        Raises:
            ConfigurationError: The vectors are not wider than all of the widths.
        """
        if max(self.widths) >= batch.queries.shape[1]:
            raise ConfigurationError(f"vectors of width {batch.queries.shape[1]} cannot be cut to {max(self.widths)}")
        views = [batch, *(batch.cut(width) for width in self.widths)]
        return torch.stack([self.loss(view) for view in views]).sum()


LISTWISE = (
    *("adr_mse", "approx_mrr", "approx_ndcg", "lambda_loss", "lipo_lambda", "list_mle", "list_net"),
    *("neural_ndcg", "pearson", "position_aware_list_mle", "rank_list", "rank_net", "softmax_cross_entropy"),
)

LOSSES: dict[str, Callable[..., VectorLoss]] = {
    "cadet": Cadet,
    "info_nce": InfoNCE,
    "bixse": BiXSE,
    "kl_divergence": partial(OfLists, losses.kl_divergence, teacher_temperature=0.3),
    "margin_mse": partial(OfLists, losses.margin_mse, temperature=1.0),
    "circle": partial(OfLists, losses.circle, temperature=1.0),
    **{name: partial(OfLists, getattr(losses, name)) for name in LISTWISE},
}
"""Losses by name. ``kl_divergence`` begins with CADET's temperatures, ``margin_mse``
with margins of similarities as they are, as does ``circle``."""


def vector_loss(loss: str | VectorLoss, **settings: Any) -> VectorLoss:  # noqa: ANN401 - the loss's own
    """A loss by its name in ``LOSSES``, with settings; or the loss itself.

    Raises:
        ConfigurationError: There is no such name or setting.
    """
    if isinstance(loss, VectorLoss):
        if settings:
            raise ConfigurationError(f"{type(loss).__name__} has its settings already, got {sorted(settings)}")
        return loss
    if loss not in LOSSES:
        raise ConfigurationError(f"loss must be one of {', '.join(map(repr, LOSSES))}, or a VectorLoss, got {loss!r}")
    check_settings(LOSSES[loss], settings)
    return LOSSES[loss](**settings)
