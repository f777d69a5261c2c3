"""Encoder networks: pairs of texts to logits, texts to vectors. No score depends on its batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.errors import PromptTooLong

from .batching import Budget, in_batches
from .loading import Loaded
from .local import Local
from .reading import right_padded
from .text import TextSide

if TYPE_CHECKING:
    from torch import Tensor

Pooling = Literal["mean", "cls", "last"]


class LocalEncoder(Local):
    """Local weights that read texts as they are: no chat template, and no control token in them."""

    @cached_property
    def _control(self) -> TextSide:
        return TextSide(self._loaded.tokenizer, encoder_decoder=False, chat=False, thinking=False)

    def plain(self, text: str) -> str:
        """``text`` with a space inside every control token of this tokenizer."""
        return self._control.plain(text)


class Encoded(NamedTuple):
    """One input of an encoder.

    Attributes:
        ids: Token ids, special tokens included.
        types: Segment of each token, for networks that read it; else empty.
        lost: Tokens that were cut to fit.
    """

    ids: list[int]
    types: list[int]
    lost: int


def encode(loaded: Loaded, first: Sequence[str], second: Sequence[str] | None, limit: int | None) -> list[Encoded]:
    """Inputs for texts or pairs of texts, of at most ``limit`` tokens; of a pair, the second text is cut.

    Raises:
        PromptTooLong: The first text of a pair alone exceeds the limit.
    """
    whole = _tokenised(loaded, first, second)
    too_long = [i for i, one in enumerate(whole) if limit is not None and len(one.ids) > limit]
    if not too_long:
        return whole
    truncation = "only_first" if second is None else "only_second"
    for i in too_long:
        pair = None if second is None else [second[i]]
        try:
            [cut] = _tokenised(loaded, [first[i]], pair, truncation=truncation, max_length=limit)
        except Exception as error:  # the tokenizers library raises a bare Exception here
            raise PromptTooLong(
                f"a query of {len(loaded.tokenizer.tokenize(first[i]))} tokens leaves no room for a document within "
                f"{limit} tokens; shorten the query, or use a model with more context"
            ) from error
        whole[i] = cut._replace(lost=len(whole[i].ids) - len(cut.ids))
    return whole


def _tokenised(loaded: Loaded, first: Sequence[str], second: Sequence[str] | None, **options: Any) -> list[Encoded]:  # noqa: ANN401
    if not first:
        return []
    pairs = (list(first),) if second is None else (list(first), list(second))
    rows = loaded.tokenizer(*pairs, return_attention_mask=False, verbose=False, **options)
    types = rows.get("token_type_ids") or [[]] * len(first)
    return [Encoded(ids, kinds, 0) for ids, kinds in zip(rows["input_ids"], types, strict=True)]


def run_encoder(
    loaded: Loaded, inputs: Sequence[Encoded], budget: Budget, read: Callable[[Any, Tensor], Tensor]
) -> NDArray[np.float64]:
    """What ``read(output, mask)`` makes of each input, (inputs, width), float64.

    Padding is told from the last token of every input, so that a decoder with a classification head finds it.
    """
    import torch

    results: list[NDArray[np.float64]] = [np.empty(0)] * len(inputs)
    pad = _pad_token(loaded, inputs)

    def work(batch: list[int]) -> None:
        ids, mask = right_padded([inputs[i].ids for i in batch], pad, loaded.device)
        arguments = {"input_ids": ids, "attention_mask": mask}
        if inputs[batch[0]].types:
            arguments["token_type_ids"] = right_padded([inputs[i].types for i in batch], 0, loaded.device)[0]
        with torch.inference_mode():
            rows = read(loaded.network(**arguments), mask).double().cpu().numpy()
        for item, row in zip(batch, rows, strict=True):
            results[item] = row

    in_batches([len(one.ids) for one in inputs], [1] * len(inputs), budget, work)
    return np.stack(results) if results else np.empty((0, 0))


def _pad_token(loaded: Loaded, inputs: Sequence[Encoded]) -> int:
    """An id that no input ends with, made known to the network; the tokenizer's own where that will do."""
    last = {one.ids[-1] for one in inputs if one.ids}
    own = loaded.tokenizer.pad_token_id
    fits = own is not None and own < loaded.known_ids and own not in last
    pad = own if fits else next(i for i in range(len(last) + 1) if i not in last)
    loaded.network.config.get_text_config().pad_token_id = pad
    return int(pad)


def pooled(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """(batch, tokens, width) -> (batch, width), in float32: mean of the real tokens, first token, or last real one."""
    import torch

    states = states.float()
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(states)), mask.sum(1) - 1]
    weights = mask[..., None].float()
    return (states * weights).sum(1) / weights.sum(1)
