"""Networks to be trained: copies that nobody shares, and their loan to what reads with them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from pyterrier_llmrank.errors import ModelError, ModelNotFound

from .adapters import merged
from .heads import HEADS, Kind, quietly
from .loading import Checkpoint, Loaded, _read, _resolved
from .local import Local
from .own import Own, own_network
from .pretrained import network_of, tokenizer_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

L = TypeVar("L", bound=Local)
Pair: TypeAlias = "tuple[PreTrainedModel, PreTrainedTokenizerBase]"


def fresh(kind: Kind, checkpoint: Checkpoint, *, seed: int = 0) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A network of one's own and its tokenizer: on the CPU, in float32, every weight to be trained.

    Args:
        kind: What it is for. Where the checkpoint has no head for it, one with a single label is drawn, such as that of
            a reranker from the weights of a retriever.
        checkpoint: Where it starts; its device and precision do not matter. An adapter is merged into its base.
        seed: Draws the head; the caller's random state stays as it is.

    Raises:
        ModelNotFound: No usable weights under this name.
        ModelError: The weights need code of their own, or have no head that could be drawn.
    """
    import torch

    base, adapter = _resolved(replace(checkpoint, device="cpu", dtype="float32"))
    labels = adapter.labels() if adapter is not None and kind == "classifier" else None
    labels = labels or _labels(kind, base)
    tokenizer = _read(base, partial(tokenizer_of, base, adapter))
    read = partial(network_of, kind, base, labels, {"dtype": torch.float32})
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]), quietly(labels is not None):
        torch.manual_seed(seed)
        network = _read(base, read)
        network = network if adapter is None else merged(network, adapter)
    return network.requires_grad_(True), tokenizer


def fresh_own(
    kind: Own, checkpoint: Checkpoint, start: Callable[..., Pair], *, seed: int = 0
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The same of a class of our own: its checkpoint, or what ``start(name, ...)`` makes of another.

    Args:
        kind: The class.
        checkpoint: Where it starts; its device and precision do not matter.
        start: Takes a name, and arguments of transformers that say where it is; draws what the checkpoint lacks.
        seed: Of these draws.

    Raises:
        ModelNotFound: No usable weights under this name.
        ModelError: They are of no use here.
    """
    import torch

    base = replace(checkpoint, device="cpu", dtype="float32")
    where = {"revision": base.revision or "main"}
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]), quietly(True):
        torch.manual_seed(seed)
        try:
            network, tokenizer = _read(base, partial(own_network, kind, base.name, torch.float32, **where))
        except ModelNotFound:
            raise
        except ModelError:  # of another architecture
            network, tokenizer = _read(base, partial(start, base.name, dtype=torch.float32, **where))
    return network.requires_grad_(True), tokenizer


def _labels(kind: Kind, base: Checkpoint) -> int | None:
    """How many labels a new head has; None where the checkpoint's own serves."""
    from transformers import AutoConfig

    if kind not in ("classifier", "tokens"):
        return None
    where: dict[str, Any] = {"revision": base.revision or "main", "trust_remote_code": base.trust_remote_code}
    config = _read(base, partial(AutoConfig.from_pretrained, base.name, **where))
    trained = HEADS[kind].trained
    return None if any(re.search(trained, own) for own in config.architectures or []) else 1


class Live(Generic[L]):
    """A network that is being trained, and a reader that reads with it, as it is now and wherever it is.

    Args:
        reader: A scorer or model of local weights; its own are not loaded.
        network: What is trained.
        tokenizer: What makes its inputs.

    Attributes:
        network: The network.
        tokenizer: The tokenizer.
    """

    def __init__(self, reader: L, network: Any, tokenizer: Any) -> None:  # noqa: ANN401 - of transformers
        self.network, self.tokenizer = network, tokenizer
        self._told = replace(reader, device=None)
        self._reader: L | None = None

    @classmethod
    def start(cls, reader: L, *, seed: int = 0) -> Live[L]:
        """That of a reader's checkpoint, see ``fresh``."""
        kind = reader._of
        if not isinstance(kind, str):
            raise TypeError(f"{type(reader).__name__} reads a network of our own; see fresh_own")
        return cls(reader, *fresh(kind, reader._checkpoint(), seed=seed))

    @property
    def reader(self) -> L:
        """Reads with the network; another one once that was moved to another device."""
        if self._reader is None or self._reader._loaded.device != self.network.device:
            self._reader = replace(self._told)
            vars(self._reader)["_loaded"] = Loaded(self.network, self.tokenizer)
        return self._reader

    @property
    def loaded(self) -> Loaded:
        """The network and its tokenizer, as readers know them."""
        return self.reader._loaded

    def save(self, folder: Path, max_length: int | None = None) -> None:
        """Writes a checkpoint folder that readers load by its path.

        Args:
            folder: Is made if it is not there.
            max_length: Tokens that it was trained on, which readers then keep to.
        """
        if max_length is not None:
            self.tokenizer.model_max_length = min(max_length, self.tokenizer.model_max_length)
        self.network.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
