"""Hidden states of a language model, for what reads them in place of its words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Prompt, Usage
from pyterrier_llmrank.errors import Unsupported

from .model import HFModel
from .reading import Read, last_states


def local_model(model: object) -> HFModel:
    """The local model in a value, or in wrappers such as ``Cached``, which keep no states.

    Raises:
        Unsupported: It is none.
    """
    part: Any = model
    while not isinstance(part, HFModel) and (inner := getattr(part, "inner", None)) is not None:
        part = inner
    if not isinstance(part, HFModel):
        raise Unsupported(f"hidden states are read from local models such as HFModel(name), not from {model!r}")
    return part


def check_states(model: object) -> None:
    """Whether hidden states can be read.

    Raises:
        Unsupported: There is no local model.
    """
    if getattr(model, "states", None) is None:
        local_model(model)


def hidden_states(told: object, prompts: Sequence[Prompt]) -> list[tuple[NDArray[np.float64], Usage]]:
    """The hidden state of each prompt's last token as the model's head sees it, (width,), and what it cost.

    Of an encoder-decoder it is that of the decoder's last token.

    Args:
        told: A local model, also within wrappers; or what has a method ``states`` of its own.
        prompts: What it reads.

    Raises:
        PromptTooLong: A prompt exceeds the context.
        Unsupported: There is no local model.
    """
    if (own := getattr(told, "states", None)) is not None:
        return own(prompts)  # type: ignore[no-any-return]
    model = local_model(told)
    rendered, ids = model._ready(prompts)
    sides = model._starts(rendered) if model._text.encoder_decoder else ids
    reads = [model._read(row, side, [(len(side) - 1, 0)]) for row, side in zip(ids, sides, strict=True)]
    found = last_states(model._loaded, reads, model._budget)
    return [(state, Usage(calls=1, prompt_tokens=tokens(read))) for state, read in zip(found, reads, strict=True)]


def tokens(read: Read) -> int:
    """Tokens that are read, on both sides."""
    return len(read.ids) + len(read.decoder)
