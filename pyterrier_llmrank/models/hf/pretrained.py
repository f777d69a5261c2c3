"""Networks and tokenizers as transformers reads them; a head that was not trained is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pyterrier_llmrank.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from .adapters import Adapter
    from .loading import Checkpoint

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


def tokenizer_of(base: Checkpoint, adapter: Adapter | None, *, local_files_only: bool) -> PreTrainedTokenizerBase:
    """The adapter's tokenizer, where it has one, else that of its base."""
    import transformers

    own = adapter is not None and adapter.has_tokenizer
    name, revision = (str(adapter.folder), "main") if adapter and own else (base.name, base.revision or "main")
    tokenizer: PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(
        name,
        truncation_side="right",
        revision=revision,
        trust_remote_code=base.trust_remote_code,
        local_files_only=local_files_only,
    )
    return tokenizer


def network_of(
    kind: Kind, base: Checkpoint, labels: int | None, manner: Mapping[str, Any], *, local_files_only: bool
) -> PreTrainedModel:
    """A network with the head of its task.

    Args:
        kind: The task.
        base: Its weights.
        labels: Of a classification head that comes with an adapter; None where the head is the checkpoint's own.
        manner: Where weights go, and in what precision: arguments of ``from_pretrained``.
        local_files_only: Whether the hub is left alone.

    Raises:
        ModelError: It has no trained head of this kind.
    """
    import transformers

    shared: dict[str, Any] = {
        "revision": base.revision or "main",
        "trust_remote_code": base.trust_remote_code,
        "local_files_only": local_files_only,
    }
    config = transformers.AutoConfig.from_pretrained(base.name, **shared, **({"num_labels": labels} if labels else {}))
    auto: Any = transformers.AutoModel
    if kind == "language":
        auto = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    elif kind == "classifier":
        auto = transformers.AutoModelForSequenceClassification
    if labels is None:
        check_head(kind, base, config)
    # without adapter_kwargs transformers would ask the hub for an adapter
    own = {"config": config, "adapter_kwargs": {"local_files_only": local_files_only}, **shared, **manner}
    try:
        return auto.from_pretrained(base.name, use_safetensors=True, **own)  # type: ignore[no-any-return]
    except OSError:
        try:  # older checkpoints are pickles, of which torch reads tensors and nothing that runs
            return auto.from_pretrained(base.name, use_safetensors=False, weights_only=True, **own)  # type: ignore[no-any-return]
        except OSError:
            pass
        raise


def check_head(kind: Kind, checkpoint: Checkpoint, config: PretrainedConfig) -> None:
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
