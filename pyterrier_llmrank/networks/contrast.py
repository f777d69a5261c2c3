"""A list encoder over text vectors: every passage is compared with all others of its list (ListConRanker)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class ListConNetwork(nn.Module):
    """Scores of passages from their vectors and their query's, each vector made by itself.

    Vectors are mapped to ``width``; a tag tells the query from passages. Post-norm transformer layers let passages see
    the query and one another, and the query only itself. The score is read from query and passage as they came in and
    as they came out. Names of parameters are those of the released ``list_transformer.pt``; ``linear_in_embedding`` is
    a file of its own there.

    Args:
        inputs: Width of vectors.
        width: Of the list encoder; 1792 in the released checkpoint.
        layers: Of the list encoder.
        heads: Of attention; those of the text encoder in the released checkpoint.
        hidden: Width within a layer's feed-forward part.
        dropout: Share of values dropped in training.

    Reference:
        Liu et al., 2025 (ListConRanker), and its published code for the head.
    """

    def __init__(
        self,
        inputs: int,
        *,
        width: int = 256,
        layers: int = 2,
        heads: int = 4,
        hidden: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"inputs": inputs, "width": width, "layers": layers, "heads": heads}
        self.config |= {"hidden": hidden, "dropout": dropout}
        self.linear_in_embedding = nn.Linear(inputs, width)
        self.query_embedding = nn.ModuleDict(
            {"query_embedding": nn.Embedding(2, width), "layerNorm": nn.LayerNorm(width)}
        )
        layer = nn.TransformerEncoderLayer(width, heads, hidden, dropout, functional.gelu, batch_first=True)
        self.list_transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.heads = heads
        self.linear_score3 = nn.Linear(2 * width, width)
        self.linear_score2 = nn.Linear(2 * width, width)
        self.linear_score1 = nn.Linear(2 * width, 1)

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Scores 0 to 1, (batch, docs).

        Args:
            vectors: Of the query, then of the passages, (batch, 1 + docs, inputs).
            mask: True where a passage is real, (batch, docs).
        """
        whole = functional.pad(mask, (1, 0), value=True)
        before = self.linear_in_embedding(torch.where(whole[..., None], vectors, 0.0))
        tags = torch.zeros(before.shape[1], dtype=torch.long, device=before.device)
        tags[0] = 1
        tagged = self.query_embedding["layerNorm"](before + self.query_embedding["query_embedding"](tags))
        after = self.list_transformer(tagged, mask=self._hidden(whole))
        sides = [
            torch.cat([states[:, :1].expand(-1, mask.shape[1], -1), states[:, 1:]], dim=-1)
            for states in (before, after)
        ]
        joined = torch.cat([self.linear_score2(sides[0]).relu(), self.linear_score3(sides[1]).relu()], dim=-1)
        scores: Tensor = self.linear_score1(joined)[..., 0].sigmoid()
        return scores

    def _hidden(self, whole: Tensor) -> Tensor:
        """True where one element (row) must not see another: padding, and for the query all but itself."""
        size = whole.shape[1]
        own = torch.eye(size, dtype=torch.bool, device=whole.device)
        hidden = ~whole[:, None, :].expand(-1, size, -1).clone()
        hidden[:, 0, 1:] = True
        return (hidden & ~own).repeat_interleave(self.heads, dim=0)
