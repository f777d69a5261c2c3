"""Networks of our own, which transformers does not know by name: what is loaded is a class in place of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


class Own(Protocol):
    """A class of networks."""

    def config_of(self, name: str, **where: Any) -> PretrainedConfig:  # noqa: ANN401 - arguments of transformers
        """The configuration of a checkpoint, refused if it is of another architecture."""
        ...

    def from_pretrained(self, name: str, **options: Any) -> PreTrainedModel:  # noqa: ANN401
        """The network of a checkpoint."""
        ...

    def __call__(self, config: PretrainedConfig) -> PreTrainedModel:
        """A network with random weights."""
        ...


def own_network(
    kind: Own,
    name: str,
    dtype: torch.dtype | None,
    **where: Any,  # noqa: ANN401 - arguments of transformers
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Network and tokenizer of a checkpoint; of a pickle, nothing but tensors is read.

    Args:
        kind: The class.
        name: Folder or name on the hub.
        dtype: Precision; None for a network on the meta device, whose tensors have shapes and no values.
        where: Arguments of transformers that say where it is.
    """
    import torch
    from transformers import PreTrainedTokenizerFast

    where.pop("trust_remote_code", None)  # all code is ours
    config = kind.config_of(name, **where)
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(name, truncation_side="right", **where)
    if dtype is None:
        with torch.device("meta"):
            return kind(config), tokenizer
    where["adapter_kwargs"] = {"local_files_only": where.get("local_files_only", False)}
    return kind.from_pretrained(name, config=config, dtype=dtype, weights_only=True, **where), tokenizer
