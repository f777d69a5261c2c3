"""Networks and tokenizers as transformers reads them; a head that was not trained is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .heads import Kind, auto_class, check_head, quietly, shorten

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .adapters import Adapter
    from .loading import Checkpoint


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
    auto = auto_class(kind, config)
    if labels is None:
        check_head(kind, base.name, config)
    if base.layers is not None:
        shorten(config, base.layers, base.name)
    # without adapter_kwargs transformers would ask the hub for an adapter
    own = {"config": config, "adapter_kwargs": {"local_files_only": local_files_only}, **shared, **manner}
    with quietly(base.layers is not None):
        try:
            return auto.from_pretrained(base.name, use_safetensors=True, **own)  # type: ignore[no-any-return]
        except OSError:
            try:  # older checkpoints are pickles, of which torch reads tensors and nothing that runs
                return auto.from_pretrained(base.name, use_safetensors=False, weights_only=True, **own)  # type: ignore[no-any-return]
            except OSError:
                pass
            raise
