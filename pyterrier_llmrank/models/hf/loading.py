"""Gets networks and tokenizers from folders, the cache or the hub; says what to do when there are none."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary

from pyterrier_llmrank.errors import ConfigurationError, ModelError, ModelNotFound

from .hub import REMEDY, Where, explained, is_path, where

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Kind = Literal["language", "classifier", "encoder"]

HEADS = {  # task, what the names of its architectures hold, what to use instead
    "language": (
        "language-model",
        "ForCausalLM|LMHead|Seq2SeqLM|ConditionalGeneration",
        "a language model, or CrossEncoder or BiEncoder for an encoder",
    ),
    "classifier": (
        "sequence-classification",
        "SequenceClassification",
        "a cross-encoder checkpoint, or PointwiseLLM for a language model",
    ),
}


@dataclass(frozen=True)
class Checkpoint:
    """Which weights to load, and how.

    Attributes:
        name: A folder, or a name on the hub.
        revision: Branch, tag or commit on the hub.
        device: "cuda", "mps", "cpu" …; the best there is by default.
        dtype: "float32", "bfloat16" or "float16"; half precision on a GPU, float32 on a CPU by default.
        trust_remote_code: Whether code that comes with the weights may be run.
    """

    name: str
    revision: str | None = None
    device: str | None = None
    dtype: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ConfigurationError(f"a model is named by a folder or a name on the hub, got {self.name!r}")
        if is_path(self.name) and not Path(self.name).is_dir():
            raise ModelNotFound(f"there is no folder {self.name}; {REMEDY}")

    def check(self) -> None:
        """Refuses a name that the hub does not know; one that cannot be looked up now may still come.

        Raises:
            ModelNotFound: There is no such model.
        """
        if where(self.name, self.revision) is Where.NOWHERE:
            raise ModelNotFound(explained(self.name, self.revision, Where.NOWHERE))


class Loaded:
    """A network in evaluation mode on its device, with its tokenizer. Shared by all who ask for the same checkpoint."""

    def __init__(self, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.shares_prefixes: bool | None = None  # unknown until tried

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.device

    @property
    def known_ids(self) -> int:
        """Token ids that the network has an embedding for; those that were added to the tokenizer later come after."""
        return len(self.network.get_input_embeddings().weight)  # type: ignore[arg-type]

    @cached_property
    def context(self) -> int | None:
        """Tokens it was made for; None where it does not say."""
        config = self.network.config.get_text_config(decoder=True)
        limits = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
        limits.append(self.tokenizer.model_max_length)
        for name, module in self.network.named_modules():
            padding = getattr(module, "padding_idx", None) if name.endswith("position_embeddings") else None
            if padding is not None:  # RoBERTa and its like count positions from there on
                limits.append(module.num_embeddings - padding - 1)
        known = [limit for limit in limits if isinstance(limit, int) and 0 < limit < 10**9]
        return min(known, default=None)


_shared: WeakValueDictionary[tuple[Kind, Checkpoint], Loaded] = WeakValueDictionary()


def load(kind: Kind, checkpoint: Checkpoint) -> Loaded:
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


def _load(kind: Kind, checkpoint: Checkpoint) -> Loaded:
    import torch
    from safetensors import SafetensorError

    found = where(checkpoint.name, checkpoint.revision)
    if found in (Where.NOWHERE, Where.UNREACHABLE):
        raise ModelNotFound(explained(checkpoint.name, checkpoint.revision, found))
    device = pick_device(checkpoint.device)
    dtype = pick_dtype(checkpoint.dtype, device)
    cached = found is Where.HERE and not Path(checkpoint.name).is_dir()
    try:
        try:
            network, tokenizer = _from_pretrained(kind, checkpoint, dtype, local_files_only=cached)
        except OSError:
            if not cached:
                raise
            network, tokenizer = _from_pretrained(kind, checkpoint, dtype, local_files_only=False)  # half cached
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise _explained(checkpoint, error) from error
    with torch.inference_mode(False):
        network = network.to(torch.device(device)).eval().requires_grad_(False)  # type: ignore[arg-type]
    return Loaded(network, tokenizer)


def _from_pretrained(
    kind: Kind, checkpoint: Checkpoint, dtype: torch.dtype, *, local_files_only: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    import transformers

    shared: dict[str, Any] = {
        "revision": checkpoint.revision or "main",
        "trust_remote_code": checkpoint.trust_remote_code,
        "local_files_only": local_files_only,
    }
    config = transformers.AutoConfig.from_pretrained(checkpoint.name, **shared)
    auto: Any = transformers.AutoModel
    if kind == "language":
        auto = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    elif kind == "classifier":
        auto = transformers.AutoModelForSequenceClassification
    _check_head(kind, checkpoint, config)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.name, truncation_side="right", **shared)
    network = auto.from_pretrained(checkpoint.name, dtype=dtype, use_safetensors=True, **shared)
    return network, tokenizer


def _check_head(kind: Kind, checkpoint: Checkpoint, config: PretrainedConfig) -> None:
    """A head that was not trained would be made up at random, and so would its scores."""
    if kind == "encoder" or (kind == "language" and not config.architectures):
        return
    task, trained, instead = HEADS[kind]
    if any(re.search(trained, name) for name in config.architectures or []):
        return
    found = ", ".join(config.architectures or ["no architecture named"])
    raise ModelError(
        f"{checkpoint.name} has no trained {task} head ({found}), so its scores would be random; use {instead}"
    )


def pick_device(device: str | None) -> str:
    """The device asked for, or the best there is."""
    import torch

    if device is not None:
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def pick_dtype(dtype: str | None, device: str) -> torch.dtype:
    """The precision asked for; by default half precision where the device computes in it, else float32.

    Raises:
        ConfigurationError: Not a float type, or float16 on a CPU (several times slower than float32 there).
    """
    import torch

    if dtype is None:
        if device.startswith("cuda"):
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        return torch.float16 if device.startswith("mps") else torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in known:
        raise ConfigurationError(f"dtype must be one of {', '.join(known)}, got {dtype!r}")
    if dtype == "float16" and device.startswith("cpu"):
        raise ConfigurationError("float16 is several times slower than float32 on a CPU; use 'float32' or 'bfloat16'")
    return known[dtype]


def _explained(checkpoint: Checkpoint, error: Exception) -> ModelError:
    """What went wrong in loading, in one line, and what to do."""
    name, folder = checkpoint.name, Path(checkpoint.name)
    if "trust_remote_code" in str(error):
        return ModelError(f"{name} comes with code of its own; if you trust it, load it with trust_remote_code=True")
    if "gated repo" in str(error):
        return ModelNotFound(f"the model {name!r} is gated: accept its terms on the hub, then log in (`hf auth login`)")
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            return ModelNotFound(f"the folder {name} holds no config.json; {REMEDY}")
        if not list(folder.glob("*.safetensors")):
            others = ", ".join(sorted(path.name for path in folder.glob("*.bin"))[:3])
            found = f" (only {others}, which may run code when loaded; convert it to safetensors)" if others else ""
            return ModelNotFound(f"the folder {name} holds no weights: no *.safetensors{found}; {REMEDY}")
        return ModelError(f"the folder {name} could not be loaded: {_first_line(error)}")
    return ModelNotFound(f"the model {name!r} could not be loaded: {_first_line(error)}; {REMEDY}")


def _first_line(error: Exception) -> str:
    """The telling part of a long message."""
    return str(error).strip().split("\n")[0].rstrip(".")
