"""``Lora``: small matrices that are trained in place of a network's own."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from pyterrier_llmrank.core import brief
from pyterrier_llmrank.errors import ConfigurationError, MissingExtra

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, repr=False)
class Lora:
    """Low-rank adapters in place of whole weights; needs peft.

    Args:
        rank: Of the update of each matrix.
        alpha: The update is multiplied by ``alpha / rank``.
        dropout: Share of its inputs that are dropped in training.
        modules: Which matrices, by the ends of their names; all linear ones but the head by default.
        merged: Whether the weights are saved with the update in them, a checkpoint like any other; the adapter alone
            otherwise, which needs its base.

    Raises:
        ConfigurationError: A number is out of range.

    Reference:
        Hu et al., 2022 (LoRA).
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    merged: bool = field(default=True, kw_only=True)

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0 or not 0 <= self.dropout < 1:
            raise ConfigurationError(
                "Lora needs a rank of at least 1, alpha above 0 and a dropout from 0 to below 1, got "
                f"rank={self.rank}, alpha={self.alpha}, dropout={self.dropout}"
            )

    def on(self, network: PreTrainedModel, seed: int = 0) -> nn.Module:
        """The network with adapters, the only weights of it that are trained; its modules are changed.

        Args:
            network: On the CPU.
            seed: Of the adapters' first weights.

        Raises:
            MissingExtra: peft is not installed.
            ConfigurationError: The network has no such modules.
        """
        try:
            import peft
        except ImportError as error:
            raise MissingExtra("LoRA", "peft", "train") from error
        modules = self.modules if isinstance(self.modules, str) else list(self.modules)
        config = peft.LoraConfig(
            r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=modules, task_type="CAUSAL_LM"
        )
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            warnings.simplefilter("ignore", FutureWarning)  # what peft calls in transformers is between the two of them
            try:
                return peft.get_peft_model(network, config)
            except ValueError as error:
                raise ConfigurationError(f"{type(network).__name__} cannot have {self!r}: {error}") from error

    def whole(self, network: nn.Module) -> Any:  # noqa: ANN401 - a PreTrainedModel or one of peft's
        """What is saved of such a network: a merged copy, or the adapters."""
        copied: Any = copy.deepcopy(network) if self.merged else network
        return copied.merge_and_unload() if self.merged else copied
