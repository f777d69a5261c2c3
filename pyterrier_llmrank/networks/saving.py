"""Small networks of this package as folders: weights in safetensors, arguments in JSON."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyterrier_llmrank.errors import ModelError, ModelNotFound

if TYPE_CHECKING:
    from torch import nn

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def kinds() -> dict[str, type[nn.Module]]:
    """The networks that can be saved, by the name that is written down."""
    from .context import ContextNetwork
    from .contrast import ListConNetwork
    from .pairs import PairNetwork

    return {kind.__name__: kind for kind in (ContextNetwork, PairNetwork, ListConNetwork)}


def save(network: nn.Module, folder: str | os.PathLike[str]) -> None:
    """Writes weights and arguments; a file that is there already is replaced whole, or not at all."""
    from safetensors.torch import save as serialised

    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    config = {"kind": type(network).__name__, **network.config}  # type: ignore[dict-item]
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    for name, content in ((WEIGHTS, serialised(weights)), (CONFIG, json.dumps(config, indent=2).encode())):
        half = path / f"{name}.{os.getpid()}.part"
        half.write_bytes(content)
        half.replace(path / name)


def opened(folder: str, kind: str) -> Any:  # noqa: ANN401 - a network of that kind
    """The network in a folder, in float64 and evaluation mode; read again when its files change.

    Small networks are run in double precision, so that equal documents of a list get equal scores.

    Raises:
        ModelNotFound: There is none.
        ModelError: It is of another kind, or cannot be read.
    """
    return _opened(folder, kind, _stamp(folder))


def digest(folder: str) -> str:
    """What tells the content of a folder from another's, wherever it is.

    Raises:
        ModelNotFound: There is no network in it.
    """
    _stamp(folder)
    told = blake2b(digest_size=16)
    for name in (CONFIG, WEIGHTS):
        told.update(Path(folder, name).read_bytes())
    return told.hexdigest()


def _stamp(folder: str) -> tuple[int, ...]:
    """When the files of a folder were written."""
    try:
        return tuple(Path(folder, name).stat().st_mtime_ns for name in (CONFIG, WEIGHTS))
    except OSError as error:
        raise ModelNotFound(
            f"there is no trained network in {folder} ({CONFIG} and {WEIGHTS}); train it with fit(...), or give the "
            "folder of one that was"
        ) from error


@lru_cache(maxsize=8)
def _opened(folder: str, kind: str, stamp: tuple[int, ...]) -> Any:  # noqa: ANN401 - a network of that kind
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = json.loads(Path(folder, CONFIG).read_text(encoding="utf-8"))
        found = config.pop("kind", None)
        if found != kind:
            raise ModelError(f"{folder} holds a network of kind {found!r}, but {kind!r} was to be read")
        with torch.random.fork_rng(devices=[]):  # whose first weights are drawn, and not used
            network = kinds()[kind](**config)
        network.load_state_dict(load_file(Path(folder, WEIGHTS)))
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"the network in {folder} cannot be read: {error}") from error
    return network.double().eval().requires_grad_(False)
