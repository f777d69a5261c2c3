"""What every user of local weights shares: which checkpoint, where, in what precision, how much at once."""

from __future__ import annotations

import os
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, ClassVar

from pyterrier_llmrank.core import brief
from pyterrier_llmrank.errors import ConfigurationError

from .batching import Budget
from .heads import Kind
from .loading import Checkpoint, Loaded, load
from .own import Own

GPU_TOKENS, CPU_TOKENS = 16_384, 2_048
GPU_LOGITS, CPU_LOGITS = 2**28, 2**26  # of one batch, in float32: at most 1 GiB, and 256 MiB


@dataclass(frozen=True, repr=False)
class Local:
    """A value that names weights; they load on first use, and equal checkpoints share them.

    Args:
        name: A folder, or a name on the Hugging Face hub.
        revision: Branch, tag or commit on the hub.
        device: "cuda", "cuda:1", "mps" or "cpu"; the best there is by default.
        dtype: "float32", "bfloat16" or "float16"; by default half precision on a GPU, float32 on a CPU.
        batch_tokens: Tokens of one forward pass, padding included; halved by itself when memory runs out. By default
            16,384 on a GPU and 2,048 on a CPU, where longer batches gain nothing.
        max_length: Tokens of one input, answer included; the model's own limit by default.
        trust_remote_code: Whether code that comes with the weights may be run.
        adapter: A LoRA adapter, by folder or name on the hub, that is merged into the weights of ``name``. Where
            ``name`` itself is an adapter, its base is found by what the adapter says of it.
        layers: Layers to load and run, the first ones; the head is read behind the last of them. All by default.

    Raises:
        MissingExtra: On first use: there is an adapter, but peft is not installed.
        ModelNotFound: On first use (a missing folder: at once); says what to do.
        ConfigurationError: An argument is out of range.
    """

    name: str
    _: KW_ONLY
    revision: str | None = None
    device: str | None = None
    dtype: str | None = None
    batch_tokens: int | None = None
    max_length: int | None = None
    trust_remote_code: bool = False
    adapter: str | None = None
    layers: int | None = None

    kind: ClassVar[Kind]

    def __post_init__(self) -> None:
        for field in ("name", "adapter"):
            value = getattr(self, field)
            if isinstance(value, str | os.PathLike):
                path = os.path.expanduser(value)
                object.__setattr__(self, field, path if os.path.isdir(path) else os.fspath(value))
        self._checkpoint()
        for size, value in (("batch_tokens", self.batch_tokens), ("max_length", self.max_length)):
            if value is not None and value < 1:
                raise ConfigurationError(f"{size} must be at least 1 token, got {value}")
        if self.layers is not None and self.layers < 1:
            raise ConfigurationError(f"layers must be at least 1, got {self.layers}")

    def _checkpoint(self) -> Checkpoint:
        own = self.name, self.revision, self.device, self.dtype, self.trust_remote_code, self.adapter, self.layers
        return Checkpoint(*own)

    @cached_property
    def _loaded(self) -> Loaded:
        return load(self._of, self._checkpoint())

    @property
    def _of(self) -> Kind | Own:
        """What is to be loaded; a class of our own is imported when it is needed."""
        return self.kind

    @cached_property
    def _budget(self) -> Budget:
        on_cpu = self._loaded.device.type == "cpu"
        tokens, logits = (CPU_TOKENS, CPU_LOGITS) if on_cpu else (GPU_TOKENS, GPU_LOGITS)
        vocabulary = self._loaded.network.config.get_text_config(decoder=True).vocab_size
        return Budget(self.batch_tokens or tokens, max(1, logits // vocabulary))

    @property
    def context(self) -> int | None:
        """Tokens of one input, answer included; None if unbounded."""
        limits = [limit for limit in (self.max_length, self._loaded.context) if limit is not None]
        return min(limits, default=None)

    def check(self) -> None:
        """Refuses a name that the hub does not know, without loading anything.

        Raises:
            ModelNotFound: There is no such model.
        """
        self._checkpoint().check()

    def load(self) -> None:
        """Loads weights and tokenizer, unless they are there already."""
        self._loaded  # noqa: B018 - a cached property

    __repr__ = brief

    def __getstate__(self) -> dict[str, Any]:
        """Its arguments: weights are loaded again where it is unpickled."""
        return {name: value for name, value in vars(self).items() if name in self.__dataclass_fields__}
