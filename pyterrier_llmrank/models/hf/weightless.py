"""Local models without their weights: a tokenizer, and the shape of a network, to count what would be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar

from pyterrier_llmrank.core import Prompt

from .heads import Kind
from .hub import failure
from .loading import Checkpoint, Loaded, _cached, _resolved
from .local import Local
from .model import HFModel
from .own import Own, own_network

L = TypeVar("L", bound=Local)


def weightless(local: L) -> L:
    """A copy with the tokenizer and the shape of the network, and no weights: it counts tokens, and runs nothing.

    What has its weights in memory already is returned as it is.

    Raises:
        ModelNotFound: There is no such model, or its tokenizer is not to be had.
        ModelError: The checkpoint needs code of its own.
    """
    if "_loaded" in vars(local):
        return local
    made = replace(local)
    vars(made)["_loaded"] = _shape(local._of, local._checkpoint())  # type: ignore[arg-type]  # classes are hashable
    return made


def beside(model: HFModel, prompts: Sequence[Prompt], labels: Sequence[Sequence[str]]) -> list[int]:
    """Tokens that ``choices`` reads of a prompt beside those of ``lengths``: labels' common ones, a decoder's side.

    Below 0 where the last tokens of a prompt merge with its labels. Needs no weights.

    Raises:
        SeveralTokens: A label is not one token after its prompt.
        LabelError: Two labels are the same to the tokenizer.
    """
    rendered = [model._text.render(prompt) for prompt in prompts]
    sides = [1 + len(ids) if model._text.encoder_decoder else 0 for ids in model._text.answers(rendered)]
    tokens = [model._text.labels(one, names) for one, names in zip(rendered, labels, strict=True)]
    return [side - own.dropped + len(own.shared) for side, own in zip(sides, tokens, strict=True)]


@lru_cache(maxsize=8)
def _shape(kind: Kind | Own, checkpoint: Checkpoint) -> Loaded:
    """A tokenizer, and a network on the meta device, whose tensors have shapes and no values."""
    import torch
    import transformers

    base, adapter = _resolved(checkpoint)
    shared: dict[str, Any] = {"trust_remote_code": base.trust_remote_code, "local_files_only": _cached(base)}
    own = adapter is not None and adapter.has_tokenizer
    text, revision = (str(adapter.folder), "main") if adapter and own else (base.name, base.revision or "main")
    try:
        if not isinstance(kind, str):
            return Loaded(*own_network(kind, base.name, None, revision=base.revision or "main", **shared))
        config = transformers.AutoConfig.from_pretrained(base.name, revision=base.revision or "main", **shared)
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            text, truncation_side="right", revision=revision, **shared
        )
        with torch.device("meta"):
            auto: Any = transformers.AutoModel
            network = auto.from_config(config, trust_remote_code=base.trust_remote_code)
    except (OSError, ValueError, ImportError) as error:
        raise failure(base.name, error) from error
    return Loaded(network, tokenizer)
