"""A document's score in the context of its list: self-attention over the feature vectors of all documents."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

EPSILON = 1e-6
FARTHEST = 512  # places that have a position of their own

Positions: TypeAlias = Literal["fixed", "learned"]


class ContextNetwork(nn.Module):
    """Scores of lists of feature vectors, by transformer blocks over each list (allRank).

    Features are standardised, mapped to ``width``, go through pre-norm blocks in which every document sees all of its
    list, and are mapped to a score. Without positions a permuted list has permuted scores. Names of parameters are
    those of allRank, whose weights can be loaded; those lack ``shift`` and ``scale``.

    Args:
        inputs: Features of a document.
        width: Of its hidden state, at least 2.
        layers: Blocks; with none, each document is scored by itself, linearly.
        heads: Of attention; they divide ``width``.
        hidden: Width within the feed-forward part of a block.
        dropout: Share of values dropped in training.
        positions: "fixed" sines or "learned" vectors for the first stage's ranks, which then follow the features as one
            number more, from 0; none by default.
        farthest: Ranks that have a position; documents further down have none.

    Reference:
        Pobrotyn et al., 2020 (context-aware learning to rank with self-attention).
    """

    def __init__(
        self,
        inputs: int,
        *,
        width: int = 64,
        layers: int = 2,
        heads: int = 2,
        hidden: int = 128,
        dropout: float = 0.1,
        positions: Positions | None = None,
        farthest: int = FARTHEST,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"inputs": inputs, "width": width, "layers": layers, "heads": heads}
        self.config |= {"hidden": hidden, "dropout": dropout, "positions": positions, "farthest": farthest}
        self.register_buffer("shift", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))
        self.input_layer = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(inputs, width)])})
        blocks = nn.ModuleList(Block(width, heads, hidden, dropout) for _ in range(layers))
        self.encoder = nn.ModuleDict({"layers": blocks, "norm": Norm(width)})
        self.positions = positions
        if positions == "learned":
            self.encoder["position"] = nn.Embedding(farthest, width)
        self.output_layer: nn.Module = nn.ModuleDict({"w_1": nn.Linear(width, 1)})

    def standardise(self, features: Tensor) -> None:
        """Takes mean and deviation of each feature from (documents, inputs); a constant one is only shifted."""
        features = features[:, : self.config["inputs"]]
        deviation = features.std(dim=0, unbiased=False)
        self.shift = features.mean(dim=0)
        self.scale = torch.where(deviation > EPSILON * self.shift.abs().clamp(min=1.0), deviation, 1.0)

    def states(self, features: Tensor, mask: Tensor) -> Tensor:
        """Hidden states of documents in their lists, (batch, docs, width).

        Args:
            features: (batch, docs, inputs), or one more with positions; those of padding are not read.
            mask: True where a document is real, (batch, docs).
        """
        own = features[..., : self.config["inputs"]]
        own = torch.where(mask[..., None], (own - self.shift) / self.scale, 0.0)
        states: Tensor = self.input_layer["layers"][0](own)  # type: ignore[index]
        if self.positions is not None:
            places = torch.where(mask, features[..., -1], -1).long()
            states = math.sqrt(states.shape[-1]) * states + self._positions(places, states)
        # padding sees itself, so that a list of nothing but padding is no NaN
        seen = mask[:, None, :] | torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        blocks: Any = self.encoder["layers"]
        for block in blocks:
            states = block(states, seen[:, None])
        normed: Tensor = self.encoder["norm"](states)
        return normed

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Scores, (batch, docs), any scale; those of padding mean nothing. Arguments are those of ``states``."""
        scores: Tensor = self.output_layer["w_1"](self.states(features, mask))  # type: ignore[index]
        return scores[..., 0]

    def _positions(self, places: Tensor, states: Tensor) -> Tensor:
        """What is added to documents for their places, of the states' shape; 0 beyond the farthest."""
        farthest = self.config["farthest"]
        if self.positions == "learned":
            vectors: Tensor = self.encoder["position"].weight  # type: ignore[assignment]
        else:
            vectors = sines(farthest, states.shape[-1]).to(states)
        known = (places >= 0) & (places < farthest)
        return torch.where(known[..., None], vectors[places.clamp(0, farthest - 1)], 0.0)


class Block(nn.Module):
    """Self-attention, then two linear layers with a rectifier, each after a ``Norm`` and added to what came in."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.self_attn = nn.ModuleDict({"linears": nn.ModuleList(nn.Linear(width, width) for _ in range(4))})
        self.feed_forward = nn.ModuleDict({"w_1": nn.Linear(width, hidden), "w_2": nn.Linear(hidden, width)})
        self.sublayer = nn.ModuleList(nn.ModuleDict({"norm": Norm(width)}) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, seen: Tensor) -> Tensor:
        """States after the block, (batch, docs, width); ``seen`` is True where one (row) may see another."""
        states = states + self.dropout(self._attend(self.sublayer[0]["norm"](states), seen))  # type: ignore[index]
        inner = self.feed_forward["w_1"](self.sublayer[1]["norm"](states)).relu()  # type: ignore[index]
        output: Tensor = states + self.dropout(self.feed_forward["w_2"](self.dropout(inner)))
        return output

    def _attend(self, states: Tensor, seen: Tensor) -> Tensor:
        batch, docs, width = states.shape
        linears: Any = self.self_attn["linears"]
        split = [
            part(states).view(batch, docs, self.heads, -1).transpose(1, 2) for part in linears[:3]
        ]  # (batch, heads, docs, width / heads)
        weights = split[0] @ split[1].transpose(2, 3) / math.sqrt(width / self.heads)
        shares = self.dropout(weights.masked_fill(~seen, -torch.inf).softmax(dim=-1))
        result: Tensor = linears[3]((shares @ split[2]).transpose(1, 2).reshape(batch, docs, width))
        return result


class Norm(nn.Module):
    """Values less their mean, over their deviation (of a sample) plus a little; unlike ``nn.LayerNorm``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a_2 = nn.Parameter(torch.ones(width))
        self.b_2 = nn.Parameter(torch.zeros(width))

    def forward(self, values: Tensor) -> Tensor:
        """The same shape."""
        centred = values - values.mean(dim=-1, keepdim=True)
        # the root of 0 has no gradient
        deviation = values.var(dim=-1, keepdim=True).clamp(min=1e-20).sqrt()
        return self.a_2 * centred / (deviation + EPSILON) + self.b_2


def sines(places: int, width: int) -> Tensor:
    """A vector for each place, (places, width): sines at even indices, cosines at odd ones (Vaswani et al., 2017)."""
    steps = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(places)[:, None] * steps
    vectors = torch.zeros(places, width)
    vectors[:, 0::2] = angles.sin()
    vectors[:, 1::2] = angles.cos()[:, : width // 2]
    return vectors
