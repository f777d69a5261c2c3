"""Adapters (LoRA and its like): small weights that were trained on top of a base, and go on it after loading."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pyterrier_llmrank.errors import MissingExtra, ModelError, ModelNotFound

from .hub import REMEDY, failure

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

WEIGHTS = "adapter_model*"
FILES = ["adapter_*", "*token*", "*vocab*", "merges.txt", "*.model", "chat_template*"]
HEAD = re.compile(r"\b(score|classifier)\b(?!.*lora_)")  # what classification networks call theirs


class Adapter(NamedTuple):
    """Where an adapter is, and what it was trained on.

    Attributes:
        folder: Its files.
        base: Name of the weights it goes on, as the adapter says.
        revision: Branch, tag or commit of the base.
    """

    folder: Path
    base: str
    revision: str | None

    def weights(self) -> dict[str, Tensor]:
        """Its weights, on the CPU; those in a pickle are read without running any code of it."""
        found: dict[str, Tensor] = _peft().load_peft_weights(str(self.folder), device="cpu")
        return found

    def labels(self) -> int | None:
        """Labels of the classification head that comes with it; None if there is none."""
        heads = [len(weight) for name, weight in self.weights().items() if weight.ndim == 2 and HEAD.search(name)]
        return min(heads, default=None)

    @property
    def has_tokenizer(self) -> bool:
        """Whether its tokenizer was saved with it."""
        return (self.folder / "tokenizer_config.json").is_file()


def find_adapter(name: str, revision: str | None, *, cached: bool) -> Adapter | None:
    """The adapter under a name; None where there are whole weights.

    Args:
        name: A folder, or a name on the hub.
        revision: Branch, tag or commit on the hub.
        cached: Whether it was found in the cache.

    Raises:
        MissingExtra: There is one, but peft is not installed.
        ModelNotFound: It has no weights.
        ModelError: It does not name its base.
    """
    from transformers.utils.peft_utils import find_adapter_config_file

    found = find_adapter_config_file(name, revision=revision, local_files_only=cached)
    if found is None or list(Path(name).glob("model*.safetensors")):
        return None
    _peft()
    folder = _folder(name, revision, cached=cached)
    config = json.loads(Path(found).read_text(encoding="utf-8"))
    base = config.get("base_model_name_or_path")
    if not base:
        raise ModelError(f"{name} is an adapter that does not name its base; give that as name, and {name} as adapter=")
    return Adapter(folder, str(base), config.get("revision"))


def _folder(name: str, revision: str | None, *, cached: bool) -> Path:
    """Where the files of an adapter are, downloaded if need be."""
    from huggingface_hub import snapshot_download

    def snapshot(*, offline: bool) -> Path:
        return Path(snapshot_download(name, revision=revision, allow_patterns=FILES, local_files_only=offline))

    folder = Path(name)
    try:
        if not folder.is_dir():
            folder = snapshot(offline=cached)
            if cached and not list(folder.glob(WEIGHTS)):
                folder = snapshot(offline=False)
    except OSError as error:
        raise failure(name, error) from error
    if not list(folder.glob(WEIGHTS)):
        raise ModelNotFound(f"the adapter {name} holds no weights: no adapter_model.safetensors; {REMEDY}")
    return folder


def applied(network: PreTrainedModel, adapter: Adapter, name: str = "default", beside: Any = None) -> Any:  # noqa: ANN401 - peft is imported lazily
    """The network with an adapter on it, as peft has it; the network's own modules are changed.

    Args:
        network: What it goes on.
        adapter: What goes on it.
        name: What it goes by there.
        beside: The same with other adapters on it already.

    Raises:
        ModelError: The adapter does not fit, or is of a kind that does not go into weights.
    """
    peft = _peft()
    config = peft.PeftConfig.from_pretrained(str(adapter.folder))
    if config.is_prompt_learning:
        raise ModelError(f"{adapter.folder} is a {config.peft_type.value} adapter: only such as LoRA can be used")
    arguments = {"adapter_name": name, "torch_device": str(network.device)}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found missing adapter keys")  # an error, below
        warnings.filterwarnings("ignore", "Already found a `peft_config` attribute")  # of those beside it
        warnings.simplefilter("ignore", FutureWarning)  # what peft calls in transformers is between the two of them
        try:
            if beside is None:
                whole = peft.PeftModel.from_pretrained(network, str(adapter.folder), **arguments)
            else:
                whole = beside
                whole.load_adapter(str(adapter.folder), **arguments)
            given = set(adapter.weights())
            wanted = set(peft.get_peft_model_state_dict(whole, adapter_name=name, save_embedding_layers=False))
            if strays := sorted(wanted ^ given):
                raise ValueError(f"{len(strays)} weights match nothing, such as {strays[0]}")
        except (AttributeError, KeyError, RuntimeError, ValueError) as error:
            if beside is not None and name in beside.peft_config:
                beside.delete_adapter(name)
            raise ModelError(_misfit(network, adapter, str(error).strip().split("\n")[0])) from error
    return whole


def merged(network: PreTrainedModel, adapter: Adapter) -> PreTrainedModel:
    """The network with the adapter's weights in its own, as fast as without, in the precision that it had.

    Raises:
        ModelError: The adapter does not fit, or cannot be merged into weights.
    """
    before = {name: weight.dtype for name, weight in network.named_parameters()}
    plain: PreTrainedModel = applied(network, adapter).merge_and_unload()
    for name, weight in plain.named_parameters():
        weight.data = weight.data.to(before[name])  # peft computes in float32
    return plain


def _misfit(network: PreTrainedModel, adapter: Adapter, why: str) -> str:
    return (
        f"the adapter {adapter.folder} (of {adapter.base}) does not fit the {type(network).__name__} "
        f"{network.name_or_path}: {why}; HFModel takes adapters of language models, CrossEncoder those of classifiers, "
        "BiEncoder those of encoders"
    )


def _peft() -> Any:  # noqa: ANN401 - peft is imported lazily
    try:
        import peft
    except ImportError as error:
        raise MissingExtra("a LoRA adapter", "peft", "train") from error
    return peft
