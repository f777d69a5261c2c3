"""``Loaded``: a network in memory with its tokenizer, and what has to be known of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from inspect import signature
from typing import TYPE_CHECKING, Any

from .apart import Host
from .reach import reach_of
from .trimming import Spot

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


class Loaded:
    """A network in evaluation mode on its device, with its tokenizer. Shared by all who ask for the same checkpoint.

    Args:
        network: Its own, or the host's.
        tokenizer: What makes its inputs.
        host: Where its adapter stays apart from the weights: the network, and those who share it.
    """

    def __init__(
        self, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, host: tuple[Host, str] | None = None
    ) -> None:
        self.network = network
        self.tokenizer = tokenizer
        # whether packed rows are exact, by whether inputs exceed ``window`` and by what the last layer finishes of them
        self.packs: dict[tuple[bool, Spot | None], bool] = {}
        self.attends: float | None = None  # how far attention weights that are read quickly are off; not known at first
        self._host = host
        self._lock = threading.RLock()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other threads off the network; it has its own adapter meanwhile, where there are several."""
        if self._host is None:
            with self._lock:
                yield
        else:
            host, name = self._host
            with host.wearing(name):
                yield

    @cached_property
    def device(self) -> torch.device:
        """Where inputs go: the network, or of one that is spread over several devices its embeddings."""
        import torch

        embeddings: Any = self.network.get_input_embeddings()
        hook = getattr(embeddings, "_hf_hook", None)  # accelerate's: weights may be elsewhere until they are needed
        device = getattr(hook, "execution_device", None)
        return self.network.device if device is None else torch.device(device)

    @cached_property
    def may_keep_keys(self) -> bool:
        """Whether it keeps keys for tokens to come, unless it is told not to."""
        return "use_cache" in signature(self.network.forward).parameters

    @property
    def known_ids(self) -> int:
        """Token ids that the network has an embedding for; those that were added to the tokenizer later come after."""
        return len(self.network.get_input_embeddings().weight)  # type: ignore[arg-type]

    @cached_property
    def configs(self) -> list[PretrainedConfig]:
        """Every configuration that a part of the network goes by, those of the whole first."""
        found: list[Any] = [getattr(part, "config", None) for part in self.network.modules()]
        distinct = {id(config): config for config in found if hasattr(config, "_attn_implementation")}
        return list(distinct.values())

    @cached_property
    def last_layer(self) -> torch.nn.Module | None:
        """The last of the network's layers; None where it is not plain which that is."""
        import torch

        count = self.network.config.get_text_config(decoder=True).num_hidden_layers
        lists = [part for part in self.network.base_model.modules() if isinstance(part, torch.nn.ModuleList)]
        found = [part[-1] for part in lists if len(part) == count]
        return found[0] if len(found) == 1 else None

    @cached_property
    def biased(self) -> list[Any]:
        """Attention modules that compute a bias of relative positions, as T5's do."""
        return [part for part in self.network.modules() if hasattr(part, "compute_bias")]

    @cached_property
    def window(self) -> int | None:
        """How far back the nearest-sighted layer can see, in tokens; None for all the way."""
        names = ("sliding_window", "attention_chunk_size")
        found = [getattr(config, name, None) for config in self.configs for name in names]
        return min((size for size in found if isinstance(size, int)), default=None)

    @cached_property
    def reach(self) -> int | None:
        """Tokens up to which positions are turned as in its first training; None where all are turned alike."""
        return min((found for found in map(reach_of, self.configs) if found is not None), default=None)

    @cached_property
    def rotary(self) -> list[torch.nn.Module]:
        """Modules that turn positions in one way within its reach and in another beyond it."""
        found = [part for part in self.network.modules() if hasattr(part, "inv_freq")]
        return [part for part in found if reach_of(getattr(part, "config", None)) is not None]

    @cached_property
    def _position_embeddings(self) -> list[Any]:
        """Those whose counting a padding token shifts."""
        named = self.network.named_modules()
        found = [module for name, module in named if name.endswith("position_embeddings")]
        return [module for module in found if getattr(module, "padding_idx", None) is not None]

    @cached_property
    def first_position(self) -> int:
        """The position of an input's first token: RoBERTa and its like count from behind their padding token."""
        return max((module.padding_idx + 1 for module in self._position_embeddings), default=0)

    @cached_property
    def context(self) -> int | None:
        """Tokens it was made for; None where it does not say."""
        config = self.network.config.get_text_config(decoder=True)
        limits = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
        limits.append(self.tokenizer.model_max_length)
        if self.first_position:
            limits += [module.num_embeddings - self.first_position for module in self._position_embeddings]
        known = [limit for limit in limits if isinstance(limit, int) and 0 < limit < 10**9]
        return min(known, default=None)
