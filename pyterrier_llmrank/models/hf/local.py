"""What every user of local weights shares: which checkpoint, where, in what precision, how much at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from pyterrier_llmrank.core import brief
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.nano import located

from .batching import Budget
from .heads import Kind
from .loading import Checkpoint, Loaded, load
from .own import Own
from .placing import DeviceMap, Quantization, as_key, settled
from .replicas import Replica, Work, spread

R = TypeVar("R")

GPU_TOKENS, CPU_TOKENS = 16_384, 2_048
GPU_LOGITS, CPU_LOGITS = 2**28, 2**26  # of one batch, in float32: at most 1 GiB, and 256 MiB


@dataclass(frozen=True, repr=False)
class Local:
    """A value that names weights; they load on first use, and equal checkpoints share them.

    Args:
        name: A folder, or a name on the Hugging Face hub; "llmrank-nano" comes with the package.
        revision: Branch, tag or commit on the hub.
        device: "cuda", "cuda:1", "mps" or "cpu"; the best there is by default. Several of one kind, such as
            ``("cuda:0", "cuda:1")``, hold a copy each, and share out the work.
        dtype: "float32", "bfloat16" or "float16"; by default half precision on a GPU, float32 on a CPU.
        batch_tokens: Tokens of one forward pass, padding included; halved by itself when memory runs out. By default
            16,384 on a GPU and 2,048 on a CPU, where longer batches gain nothing.
        max_length: Tokens of one input, answer included; the model's own limit by default.
        trust_remote_code: Whether code that comes with the weights may be run.
        adapter: A LoRA adapter, by folder or name on the hub, that goes on the weights of ``name``. Where ``name``
            itself is an adapter, its base is found by what the adapter says of it.
        merged: Whether the adapter is merged into the weights, which costs nothing in use. Those that are not share
            one base in memory, whatever their number, and cost a few small products each time.
        device_map: Where the parts of a network go that is too large for one device, as accelerate has it: "auto", or
            a name of a device by module. In place of ``device``.
        quantization: "8bit" or "4bit" (by bitsandbytes), or a configuration of transformers, such as ``{"quant_method":
            "torchao", …}``, for weights that do not fit otherwise. In 8 bits outliers are looked for in whole batches,
            so that scores depend a little on who shares one; in 4 bits they do not.
        layers: Layers to load and run, the first ones; the head is read behind the last of them. All by default.

    Raises:
        MissingExtra: On first use: peft, accelerate or bitsandbytes is needed, and not installed.
        ModelNotFound: On first use (a missing folder: at once); says what to do.
        ConfigurationError: An argument is out of range.
    """

    name: str
    _: KW_ONLY
    revision: str | None = None
    device: str | tuple[str, ...] | None = None
    dtype: str | None = None
    batch_tokens: int | None = None
    max_length: int | None = None
    trust_remote_code: bool = False
    adapter: str | None = None
    merged: bool = True
    device_map: DeviceMap | None = field(default=None, hash=False)
    quantization: Quantization | None = field(default=None, hash=False)
    layers: int | None = None

    kind: ClassVar[Kind]

    def __post_init__(self) -> None:
        for named in ("name", "adapter"):
            value = getattr(self, named)
            if isinstance(value, str | os.PathLike):
                value = located(os.fspath(value))
                path = os.path.expanduser(value)
                object.__setattr__(self, named, path if os.path.isdir(path) else value)
        places = settled(self.device, self.device_map, self.quantization)
        for place, value in zip(("device", "device_map", "quantization"), places, strict=True):
            object.__setattr__(self, place, value)
        if self.quantization is not None and self.adapter is not None and self.merged:
            raise ConfigurationError(
                "an adapter cannot be merged into quantized weights without loss; say merged=False"
            )
        self._checkpoint()
        for size, value in (("batch_tokens", self.batch_tokens), ("max_length", self.max_length)):
            if value is not None and value < 1:
                raise ConfigurationError(f"{size} must be at least 1 token, got {value}")
        if self.layers is not None and self.layers < 1:
            raise ConfigurationError(f"layers must be at least 1, got {self.layers}")

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(
            self.name,
            self.revision,
            self.device[0] if isinstance(self.device, tuple) else self.device,
            self.dtype,
            self.trust_remote_code,
            self.adapter,
            self.merged,
            as_key(self.device_map),
            as_key(self.quantization),
            layers=self.layers,
        )

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

    @cached_property
    def _replicas(self) -> list[Replica]:
        """The network on every device; a device that is named twice holds two."""
        devices = self.device if isinstance(self.device, tuple) else ()
        replicas = [Replica(self._loaded, self._budget)]
        for place, device in enumerate(devices[1:], start=1):
            own = replace(self._checkpoint(), device=device, copy=devices[:place].count(device))
            replicas.append(Replica(load(self._of, own), replace(self._budget)))
        return replicas

    def _spread(self, sequences: Sequence[Sequence[int]], work: Work[R], reserve: int = 0) -> list[R]:
        """What ``work`` makes of each sequence of token ids, on whichever replica is free (see ``spread``)."""
        return spread(self._replicas, sequences, work, reserve)

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
        self._replicas  # noqa: B018 - a cached property

    __repr__ = brief

    def __getstate__(self) -> dict[str, Any]:
        """Its arguments: weights are loaded again where it is unpickled."""
        return {name: value for name, value in vars(self).items() if name in self.__dataclass_fields__}
