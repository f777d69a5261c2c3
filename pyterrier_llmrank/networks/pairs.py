"""How well one document follows another: a weight for every ordered pair of a list (TSPRank)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .context import ContextNetwork


class PairNetwork(ContextNetwork):
    """The weight of placing each document (column) right after each other one (row): bilinear in their states.

    One matrix serves pairs in the order in which the list is shown, another those against it: the first stage's order
    is told by that alone. Takes the arguments of ``ContextNetwork``; its blocks are optional here.

    Reference:
        Li et al., 2025 (TSPRank).
    """

    def __init__(self, inputs: int, **options: Any) -> None:  # noqa: ANN401 - those of ContextNetwork
        super().__init__(inputs, **options)
        width = self.config["width"]
        self.output_layer = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(width, width) / width) for name in ("along", "against")}
        )

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Weights of arcs from row to column, (batch, docs, docs), any scale; the diagonal is 0."""
        states = self.states(features, mask)
        along, against = (
            torch.einsum("bih,hk,bjk->bij", states, self.output_layer[name], states)  # type: ignore[index]
            for name in ("along", "against")
        )
        return (along.triu(1) + against.tril(-1)) / math.sqrt(states.shape[-1])
