"""Gets networks and tokenizers from folders, the cache or the hub; says what to do when there are none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from pyterrier_llmrank.errors import ConfigurationError, ModelError, ModelNotFound

from .adapters import Adapter, find_adapter, merged
from .devices import pick_device, pick_dtype
from .heads import Kind, auto_class, check_head, quietly, shorten
from .hub import REMEDY, Where, explained, failure, is_path, where
from .own import Own, own_network

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Checkpoint:
    """Which weights to load, and how.

    Attributes:
        name: A folder, or a name on the hub.
        revision: Branch, tag or commit on the hub.
        device: "cuda", "mps", "cpu" …; the best there is by default.
        dtype: "float32", "bfloat16" or "float16"; half precision on a GPU, float32 on a CPU by default.
        trust_remote_code: Whether code that comes with the weights may be run.
        adapter: Folder or name of what is merged into the weights.
        layers: How many layers to load; all by default.
    """

    name: str
    revision: str | None = None
    device: str | None = None
    dtype: str | None = None
    trust_remote_code: bool = False
    adapter: str | None = None
    layers: int | None = None

    def __post_init__(self) -> None:
        for name in self._names:
            if not isinstance(name, str) or not name.strip():
                raise ConfigurationError(f"a model is named by a folder or a name on the hub, got {name!r}")
            if is_path(name) and not Path(name).is_dir():
                raise ModelNotFound(f"there is no folder {name}; {REMEDY}")

    @property
    def _names(self) -> list[str]:
        return [self.name] if self.adapter is None else [self.name, self.adapter]

    def check(self) -> None:
        """Refuses a name that the hub does not know; one that cannot be looked up now may still come.

        Raises:
            ModelNotFound: There is no such model.
        """
        for name, revision in zip(self._names, (self.revision, None), strict=False):
            if where(name, revision) is Where.NOWHERE:
                raise ModelNotFound(explained(name, revision, Where.NOWHERE))


class Loaded:
    """A network in evaluation mode on its device, with its tokenizer. Shared by all who ask for the same checkpoint."""

    def __init__(self, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.packs: dict[bool, bool] = {}  # whether packed rows are exact, by whether inputs exceed ``window``
        self.attends: float | None = None  # how far attention weights that are read quickly are off; not known at first

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.device

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


_shared: WeakValueDictionary[tuple[Kind | Own, Checkpoint], Loaded] = WeakValueDictionary()


def load(kind: Kind | Own, checkpoint: Checkpoint) -> Loaded:
    """The network and tokenizer of a checkpoint; those already in memory are shared.

    Raises:
        ModelNotFound: No usable weights under this name.
        ModelError: The weights need code of their own, or another task's head.
        ConfigurationError: float16 on a CPU.
    """
    key = (kind, checkpoint)
    loaded = _shared.get(key)
    if loaded is None:
        loaded = _shared[key] = _load(kind, checkpoint)
    return loaded


def _load(kind: Kind | Own, checkpoint: Checkpoint) -> Loaded:
    import torch
    from safetensors import SafetensorError

    base, adapter = _resolved(checkpoint)
    cached = _cached(base)
    device = pick_device(checkpoint.device)
    dtype = pick_dtype(checkpoint.dtype, device)
    try:
        try:
            network, tokenizer = _from_pretrained(kind, base, adapter, dtype, local_files_only=cached)
        except OSError:
            if not cached:
                raise
            network, tokenizer = _from_pretrained(kind, base, adapter, dtype, local_files_only=False)  # half cached
    except (OSError, ValueError, ImportError, SafetensorError, UnpicklingError) as error:
        raise failure(base.name, error) from error
    with torch.inference_mode(False):
        network = network.to(torch.device(device))  # type: ignore[arg-type]
        network = network if adapter is None else merged(network, adapter)
        network = network.eval().requires_grad_(False)
    return Loaded(network, tokenizer)


def _cached(checkpoint: Checkpoint) -> bool:
    """Whether weights are in the cache, rather than in a folder or on the hub.

    Raises:
        ModelNotFound: They are in none of the three.
    """
    found = where(checkpoint.name, checkpoint.revision)
    if found in (Where.NOWHERE, Where.UNREACHABLE):
        raise ModelNotFound(explained(checkpoint.name, checkpoint.revision, found))
    return found is Where.HERE and not Path(checkpoint.name).is_dir()


def _resolved(checkpoint: Checkpoint) -> tuple[Checkpoint, Adapter | None]:
    """The weights that a checkpoint starts from, and the adapter that goes on them."""
    named = checkpoint.name if checkpoint.adapter is None else checkpoint.adapter
    own = replace(checkpoint, name=named, revision=checkpoint.revision if named == checkpoint.name else None)
    adapter = find_adapter(own.name, own.revision, cached=_cached(own))
    if checkpoint.adapter is not None:
        if adapter is None:
            raise ModelError(f"{named} holds whole weights, no adapter (adapter_config.json); give it as name")
        return checkpoint, adapter
    if adapter is None:
        return checkpoint, None
    try:
        base = replace(checkpoint, name=adapter.base, revision=adapter.revision)
        _cached(base)
    except ModelNotFound as error:
        raise ModelNotFound(
            f"{named} is an adapter of {adapter.base!r}, which is not to be had ({error}); give the base as name, and "
            f"adapter={named!r}"
        ) from error
    return base, adapter


def _from_pretrained(
    kind: Kind | Own, base: Checkpoint, adapter: Adapter | None, dtype: torch.dtype, *, local_files_only: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    import transformers

    shared: dict[str, Any] = {
        "revision": base.revision or "main",
        "trust_remote_code": base.trust_remote_code,
        "local_files_only": local_files_only,
    }
    if not isinstance(kind, str):
        return own_network(kind, base.name, dtype, **shared)
    labels = adapter.labels() if adapter is not None and kind == "classifier" else None
    config = transformers.AutoConfig.from_pretrained(base.name, **shared, **({"num_labels": labels} if labels else {}))
    auto = auto_class(kind, config)
    if labels is None:
        check_head(kind, base.name, config)
    if base.layers is not None:
        shorten(config, base.layers, base.name)
    source = {**shared, "revision": "main"} if adapter and adapter.has_tokenizer else shared
    text = str(adapter.folder) if adapter and adapter.has_tokenizer else base.name
    tokenizer = transformers.AutoTokenizer.from_pretrained(text, truncation_side="right", **source)
    own = {"config": config, "dtype": dtype, "adapter_kwargs": {"local_files_only": local_files_only}, **shared}
    with quietly(base.layers):
        try:  # without adapter_kwargs transformers would ask the hub for an adapter
            return auto.from_pretrained(base.name, use_safetensors=True, **own), tokenizer
        except OSError:
            try:  # older checkpoints are pickles, of which torch reads tensors and nothing that runs
                return auto.from_pretrained(base.name, use_safetensors=False, weights_only=True, **own), tokenizer
            except OSError:
                pass
            raise
