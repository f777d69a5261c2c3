"""The network of a retriever: an encoder, what makes vectors of its states, and the parameters of a loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import PreTrainedModel

from pyterrier_llmrank.models.hf.encoders import Encoded, Pooling, pooled
from pyterrier_llmrank.models.hf.reading import right_padded

from .vectors import VectorLoss


class RetrieverNetwork(nn.Module):
    """An encoder with what makes vectors of its states, and the parameters of a loss.

    Args:
        encoder: From tokens to states.
        loss: May hold parameters.
        pooling: Of states.
        normalize: Whether vectors are scaled to length 1.
        dropout: Whether the encoder's dropout is on in training.
    """

    def __init__(
        self, encoder: PreTrainedModel, loss: VectorLoss, *, pooling: Pooling, normalize: bool, dropout: bool
    ) -> None:
        super().__init__()
        self.encoder, self.loss = encoder, loss
        self.pooling, self.normalize, self.dropout = pooling, normalize, dropout

    def train(self, mode: bool = True) -> RetrieverNetwork:
        """As any network's, but an encoder without dropout stays as it is in use."""
        super().train(mode)
        self.encoder.train(mode and self.dropout)
        return self

    def forward(self, inputs: Sequence[Encoded], pad: int = 0) -> Tensor:
        """Vectors of texts, (texts, width), float32."""
        ids, mask = right_padded([one.ids for one in inputs], pad, self.encoder.device)
        even = len({len(one.ids) for one in inputs}) == 1  # attention is fastest without a mask
        arguments = {"input_ids": ids, "attention_mask": None if even else mask}
        if inputs[0].types:
            arguments["token_type_ids"] = right_padded([one.types for one in inputs], 0, ids.device)[0]
        return self.vectors(self.encoder(**arguments), mask)

    def vectors(self, output: Any, mask: Tensor) -> Tensor:  # noqa: ANN401 - of every network its own
        """Vectors of what the encoder put out."""
        made = pooled(output.last_hidden_state, mask, self.pooling)
        return normalize(made, dim=1, eps=1e-12) if self.normalize else made
