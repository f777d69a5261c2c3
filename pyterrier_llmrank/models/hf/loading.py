"""Gets networks and tokenizers from folders, the cache or the hub; says what to do when there are none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from weakref import WeakValueDictionary, finalize

from pyterrier_llmrank.errors import ConfigurationError, ModelError, ModelNotFound

from .adapters import Adapter, find_adapter, merged
from .apart import Host
from .devices import pick_device, pick_dtype
from .heads import Kind
from .hub import REMEDY, Where, explained, failure, is_path, where
from .loaded import Loaded as Loaded  # imported from here, too
from .own import Own, own_network
from .placing import manner
from .pretrained import network_of, tokenizer_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

T = TypeVar("T")
Stamps: TypeAlias = tuple[int, ...]

WRITTEN = {".safetensors", ".bin", ".json"}


@dataclass(frozen=True)
class Checkpoint:
    """Which weights to load, and how.

    Attributes:
        name: A folder, or a name on the hub.
        revision: Branch, tag or commit on the hub.
        device: "cuda", "mps", "cpu" …; the best there is by default.
        dtype: "float32", "bfloat16" or "float16"; half precision on a GPU, float32 on a CPU by default.
        trust_remote_code: Whether code that comes with the weights may be run.
        adapter: Folder or name of what goes on the weights.
        merged: Whether it is merged into them.
        device_map: Which part of the network goes where, as ``placing.as_key`` has it; ``device`` is then None.
        quantization: How weights are quantized, likewise.
        copy: Tells networks apart that are on one device with the same weights.
        layers: How many layers to load; all by default.
    """

    name: str
    revision: str | None = None
    device: str | None = None
    dtype: str | None = None
    trust_remote_code: bool = False
    adapter: str | None = None
    merged: bool = True
    device_map: str | None = None
    quantization: str | None = None
    copy: int = 0
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

    @property
    def stamps(self) -> Stamps:
        """When the files of its folders were written, such as by a training; empty for names on the hub."""
        files = sorted(path for name in self._names for path in Path(name).glob("*") if path.suffix in WRITTEN)
        return tuple(path.stat().st_mtime_ns for path in files)

    def check(self) -> None:
        """Refuses a name that the hub does not know; one that cannot be looked up now may still come.

        Raises:
            ModelNotFound: There is no such model.
        """
        for name, revision in zip(self._names, (self.revision, None), strict=False):
            if where(name, revision) is Where.NOWHERE:
                raise ModelNotFound(explained(name, revision, Where.NOWHERE))


_shared: WeakValueDictionary[tuple[Kind | Own, Checkpoint, Stamps], Loaded] = WeakValueDictionary()
_hosts: WeakValueDictionary[tuple[Kind, Checkpoint, int | None, Stamps], Host] = WeakValueDictionary()
_loading = threading.RLock()  # transformers changes what is global while it loads


def load(kind: Kind | Own, checkpoint: Checkpoint) -> Loaded:
    """The network and tokenizer of a checkpoint; those already in memory are shared, until their folder changes.

    Raises:
        ModelNotFound: No usable weights under this name.
        ModelError: The weights need code of their own, or another task's head.
        ConfigurationError: There is no such device, or float16 on a CPU.
        MissingExtra: It takes a library that is not installed.
    """
    import torch

    key = (kind, checkpoint, checkpoint.stamps)
    with _loading, torch.inference_mode(False):
        loaded = _shared.get(key)
        if loaded is None:
            loaded = _shared[key] = _load(kind, checkpoint)
        return loaded


def _load(kind: Kind | Own, checkpoint: Checkpoint) -> Loaded:
    base, adapter = _resolved(checkpoint)
    if not isinstance(kind, str):
        network, tokenizer = _own(kind, base)
        return Loaded(network if adapter is None else _still(merged(network, adapter)), tokenizer)
    tokenizer = _read(base, partial(tokenizer_of, base, adapter))
    labels = adapter.labels() if adapter is not None and kind == "classifier" else None
    if adapter is not None and not checkpoint.merged:
        return _apart(kind, base, labels, adapter, tokenizer)
    network = _placed(kind, base, labels)
    return Loaded(network if adapter is None else _still(merged(network, adapter)), tokenizer)


def _own(kind: Own, base: Checkpoint) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A network of our own where it is to be, and its tokenizer."""
    import torch

    if base.device_map or base.quantization:
        raise ConfigurationError(f"{base.name} is a network of our own, which takes no device_map= or quantization=")
    device = pick_device(base.device)
    dtype = pick_dtype(base.dtype, device)
    told = {"revision": base.revision or "main", "trust_remote_code": base.trust_remote_code}
    network, tokenizer = _read(base, partial(own_network, kind, base.name, dtype, **told))
    return _still(network.to(torch.device(device))), tokenizer  # type: ignore[arg-type]


def _apart(
    kind: Kind, base: Checkpoint, labels: int | None, adapter: Adapter, tokenizer: PreTrainedTokenizerBase
) -> Loaded:
    """An adapter beside others on a base that they share."""
    bare = replace(base, adapter=None)
    key = (kind, bare, labels, bare.stamps)
    host = _hosts.get(key) or Host(_placed(kind, base, labels))
    name = host.add(adapter)
    _hosts[key] = host
    loaded = Loaded(host.network, tokenizer, (host, name))
    finalize(loaded, host.gone.append, name)
    return loaded


def _placed(kind: Kind, base: Checkpoint, labels: int | None) -> PreTrainedModel:
    """A network where it is to be, in evaluation mode."""
    import torch

    device = pick_device(base.device)
    dtype = pick_dtype(base.dtype, device)
    where_to = manner(device, base.device_map, base.quantization, dtype)
    network = _read(base, partial(network_of, kind, base, labels, {"dtype": dtype, **where_to}))
    return _still(network if where_to else network.to(torch.device(device)))  # type: ignore[arg-type]


def _still(network: PreTrainedModel) -> PreTrainedModel:
    """In evaluation mode, with nothing to be trained."""
    network.train(False).requires_grad_(False)
    return network


def _read(base: Checkpoint, get: Callable[..., T]) -> T:
    """What ``get(local_files_only=...)`` finds: of what is cached, only what is missing is asked of the hub."""
    from safetensors import SafetensorError

    cached = _cached(base)
    try:
        try:
            return get(local_files_only=cached)
        except OSError:
            if not cached:
                raise
            return get(local_files_only=False)  # half cached
    except (OSError, ValueError, ImportError, SafetensorError, UnpicklingError) as error:
        raise failure(base.name, error) from error


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
