"""PE-Rank's network: a Mistral that reads passages as vectors, through a projector into its token embeddings.

The names are those of the released checkpoint (``model.projector.0.weight`` …), so that transformers loads it as it is.
The encoder that it was trained with is in it too (``model.encoder.*``); frozen, it is the same as that encoder's own
checkpoint, and is not loaded here.

Reference:
    Liu et al., 2024, Leveraging Passage Embeddings for Efficient Listwise Reranking with Large Language Models;
    liuqi6777/pe_rank, src/modeling.
"""

from __future__ import annotations

import math
import re
from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, MistralConfig, MistralForCausalLM, MistralModel

from pyterrier_llmrank.errors import ModelError


class EmbedMistralConfig(MistralConfig):  # type: ignore[no-untyped-call]
    """A Mistral's configuration, with what is known of the vectors.

    Attributes:
        embedding_size: Numbers in a vector, as the encoder gives it.
        projector_type: "linear", "identity" or "mlp2x_gelu" (any depth): what makes an embedding of a vector.
        encoder_name: The checkpoint of the encoder.
        encoder_pooling: "mean", "cls" or "last_token".
    """

    model_type = "embed_mistral"

    embedding_size: int = 768
    projector_type: str = "linear"
    encoder_name: str = ""
    encoder_pooling: str = "mean"


class Projecting(nn.Linear):
    """A layer of a projector."""


class EmbedMistralModel(MistralModel):
    """Mistral's layers, and a projector."""

    config_class = EmbedMistralConfig

    def __init__(self, config: EmbedMistralConfig) -> None:
        super().__init__(config)
        self.projector = projector(config)
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        """What a checkpoint lacks is made up, as everywhere; but of a projector it is NaN, and so is noticed."""
        if not isinstance(module, Projecting):
            super()._init_weights(module)  # type: ignore[no-untyped-call]
            return
        for weight in module.parameters(recurse=False):
            if not getattr(weight, "_is_hf_initialized", False):
                nn.init.constant_(weight, math.nan)


class EmbedMistralForCausalLM(MistralForCausalLM):
    """Mistral with a projector: its tokens may be vectors, given as embeddings that ``projected`` makes of them."""

    config_class = EmbedMistralConfig
    _keys_to_ignore_on_load_unexpected = [r"model\.encoder\..*"]  # noqa: RUF012 - as transformers declares it

    def __init__(self, config: EmbedMistralConfig) -> None:
        super().__init__(config)
        self.model = EmbedMistralModel(config)
        self.post_init()  # type: ignore[no-untyped-call]

    def projected(self, vectors: Tensor) -> Tensor:
        """Embeddings, (…, hidden_size), of vectors, (…, embedding_size); not scaled to length 1."""
        weight: Any = self.get_input_embeddings().weight
        made: Tensor = self.model.projector(vectors.to(weight.device, weight.dtype))
        return made

    def check_projector(self) -> None:
        """Whether the checkpoint brought the projector.

        Raises:
            ModelError: It did not, and it would be made up.
        """
        if any(not math.isfinite(weight.sum().item()) for weight in self.model.projector.parameters()):
            raise ModelError(
                f"{self.config.name_or_path} has no projector (model.projector.*), through which vectors are read; "
                "give a checkpoint that was trained for it, such as 'liuqi6777/pe-rank-mistral-jina'"
            )


def projector(config: EmbedMistralConfig) -> nn.Module:
    """Untrained layers from vectors to embeddings, named as in the checkpoint.

    Raises:
        ModelError: There is no such projector.
    """
    kind = config.projector_type
    if kind == "identity":
        return nn.Identity()
    if kind == "linear":
        return Projecting(config.embedding_size, config.hidden_size)
    depth = re.fullmatch(r"mlp(\d+)x_gelu", kind)
    if depth is None:
        raise ModelError(f"there is no projector {kind!r}; PE-Rank has 'linear', 'identity' and 'mlp2x_gelu'")
    layers: list[Any] = [Projecting(config.embedding_size, config.hidden_size)]
    for _ in range(1, int(depth[1])):
        layers += [nn.GELU(), Projecting(config.hidden_size, config.hidden_size)]
    return nn.Sequential(*layers)


AutoConfig.register(EmbedMistralConfig.model_type, EmbedMistralConfig, exist_ok=True)
AutoModel.register(EmbedMistralConfig, EmbedMistralModel, exist_ok=True)
AutoModelForCausalLM.register(EmbedMistralConfig, EmbedMistralForCausalLM, exist_ok=True)
