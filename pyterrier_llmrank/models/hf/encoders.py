"""Encoder networks: pairs of texts to logits, texts to vectors. No score depends on its batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Prompt, Usage
from pyterrier_llmrank.errors import PromptTooLong

from .batching import Budget, in_batches
from .exactness import Way, way_of
from .loading import Loaded
from .local import Local
from .reading import right_padded
from .replicas import pick
from .text import TextSide
from .trimming import Spot
from .unpadding import unpadded

if TYPE_CHECKING:
    from torch import Tensor

WORTH_A_TRIAL = 32  # inputs; with nothing to share between them, less is to be gained than by a decoder's

Pooling = Literal["mean", "cls", "last"]


class LocalEncoder(Local):
    """Local weights that read texts as they are: no chat template, and no control token in them."""

    @cached_property
    def _control(self) -> TextSide:
        return TextSide(self._loaded.tokenizer, encoder_decoder=False, chat=False, thinking=False)

    def plain(self, text: str) -> str:
        """``text`` with a space inside every control token of this tokenizer."""
        return self._control.plain(text)

    def token_ends(self, texts: Sequence[str]) -> list[list[int]]:
        """Where each token of each text ends, in characters."""
        return self._control.ends(texts)

    def lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt, a text by itself, with those that the tokenizer puts around it."""
        texts = [prompt.messages[0].content for prompt in prompts]
        return [len(one.ids) for one in encode(self._loaded, texts, None, Limits())]

    def filled(self, inputs: Sequence[Encoded]) -> list[Encoded]:
        """Inputs that can all be read: one without any token, of an empty text, becomes the end token."""
        return filled(self._loaded, inputs)

    def _run(
        self, inputs: Sequence[Encoded], read: Callable[[Any, Tensor], Tensor], spot: Spot | None = None
    ) -> NDArray[np.float64]:
        """What ``read(output, mask)`` makes of each input, (inputs, width), float64 (see ``run_encoder``)."""
        rows = self._spread(
            [one.ids for one in inputs],
            lambda on, budget, some: [*run_encoder(on, pick(inputs, some), budget, read, spot)],
        )
        return np.stack(rows) if rows else np.empty((0, 0))


class Encoded(NamedTuple):
    """One input of an encoder.

    Attributes:
        ids: Token ids, special tokens included.
        types: Segment of each token, for networks that read it; else empty.
        lost: Tokens of the text (of a pair: of the second) that were cut.
    """

    ids: list[int]
    types: list[int]
    lost: int

    @property
    def usage(self) -> Usage:
        """What it costs to read it."""
        return Usage(calls=1, prompt_tokens=len(self.ids), truncated_tokens=self.lost)


class Limits(NamedTuple):
    """Tokens to keep at most; None for all.

    Attributes:
        whole: Of an input, special tokens included: taken off the second text of a pair, or off a text by itself.
        first: Of the first text of a pair.
        second: Of the second.
    """

    whole: int | None = None
    first: int | None = None
    second: int | None = None


def encode(
    loaded: Loaded, first: Sequence[str], second: Sequence[str] | None, limits: Limits, end: Sequence[int] = ()
) -> list[Encoded]:
    """Inputs for texts or pairs of texts, put together as the tokenizer does it; texts are cut at their end.

    Args:
        loaded: Network and tokenizer.
        first: The texts, or the first ones of the pairs.
        second: The second texts of the pairs.
        limits: Tokens to keep.
        end: Token ids that close an input, where the tokenizer does not put them there itself.

    Raises:
        PromptTooLong: The first text of a pair leaves no room for the second.
    """
    if not first:
        return []
    pairs = (list(first),) if second is None else (list(first), list(second))
    rows = loaded.tokenizer(*pairs, return_attention_mask=False, return_special_tokens_mask=True, verbose=False)
    types = rows.get("token_type_ids") or [[]] * len(first)
    heads = [0] * len(first)
    if second is not None:
        heads = [
            len(ids) for ids in loaded.tokenizer(list(first), add_special_tokens=False, verbose=False)["input_ids"]
        ]
    inputs = []
    for ids, kinds, special, head in zip(rows["input_ids"], types, rows["special_tokens_mask"], heads, strict=True):
        close = [] if ids[len(ids) - len(end) :] == [*end] else [*end]
        gone, lost = _cut([place for place, mark in enumerate(special) if not mark], head, len(ids + close), limits)
        kept = [token for place, token in enumerate(ids) if place not in gone]
        segments = [kind for place, kind in enumerate(kinds) if place not in gone] + kinds[-1:] * len(close)
        inputs.append(Encoded(kept + close, segments, lost))
    return inputs


def filled(loaded: Loaded, inputs: Sequence[Encoded]) -> list[Encoded]:
    """Inputs that can all be read: one without any token, of an empty text, becomes the end token."""
    nothing = [loaded.tokenizer.eos_token_id or 0]
    return [one if one.ids else one._replace(ids=nothing) for one in inputs]


def _cut(own: list[int], head: int, length: int, limits: Limits) -> tuple[set[int], int]:
    """Places to leave out of an input, and how many of them are of its second text (or only one).

    Args:
        own: Places of the texts' tokens, not those of special ones.
        head: How many of them are of the first text of a pair.
        length: Tokens of the input, all counted.
        limits: Tokens to keep.
    """
    gone = [] if limits.first is None else own[:head][limits.first :]
    tail = own[head:]
    room = len(tail)
    if limits.whole is not None:
        room = min(room, limits.whole - (length - len(gone) - len(tail)))
    if room < min(1, len(tail)):
        raise PromptTooLong(
            f"a query of {head} tokens leaves no room for a document within {limits.whole} tokens; shorten the query, "
            "or use a model with more context"
        )
    kept = room if limits.second is None else min(room, limits.second)
    return {*gone, *tail[kept:]}, len(tail) - kept


def run_encoder(
    loaded: Loaded,
    inputs: Sequence[Encoded],
    budget: Budget,
    read: Callable[[Any, Tensor], Tensor],
    spot: Spot | None = None,
) -> NDArray[np.float64]:
    """What ``read(output, mask)`` makes of each input, (inputs, width), float64.

    Padding is told from the last token of every input, so that a decoder with a classification head finds it. Layers
    compute no padding, where a network is exact without; nor does the last one what is not read, where ``spot`` tells
    the one token that is.
    """
    if not inputs:
        return np.empty((0, 0))
    lengths = [len(one.ids) for one in inputs]
    pad = pad_token(loaded, inputs)

    def difference(way: Way) -> float:
        order = sorted(range(len(inputs)), key=lambda item: lengths[item])
        probe = [inputs[order[place]] for place in (-1, len(order) // 2, 0)]
        packed, plain = (_run(loaded, probe, pad, read, one) for one in (way, Way(packed=False)))
        return float(np.abs(packed - plain).max() / max(np.abs(plain).max(), 1e-6))

    way = way_of(loaded, lengths, difference, spot, WORTH_A_TRIAL)
    results: list[NDArray[np.float64]] = [np.empty(0)] * len(inputs)

    def work(batch: list[int]) -> None:
        rows = _run(loaded, [inputs[item] for item in batch], pad, read, way)
        for item, row in zip(batch, rows, strict=True):
            results[item] = row

    in_batches(lengths, [1] * len(inputs), budget, work)
    return np.stack(results)


def _run(
    loaded: Loaded,
    inputs: Sequence[Encoded],
    pad: int,
    read: Callable[[Any, Tensor], Tensor],
    way: Way,
) -> NDArray[np.float64]:
    """The same of one batch."""
    import torch

    with torch.inference_mode():
        return read_batch(loaded, inputs, pad, read, way).double().cpu().numpy()


def read_batch(
    loaded: Loaded,
    inputs: Sequence[Encoded],
    pad: int,
    read: Callable[[Any, Tensor], Tensor],
    way: Way,
) -> Tensor:
    """What ``read(output, mask)`` makes of one batch, (inputs, width), with gradients where they are on."""
    ids, mask = right_padded([one.ids for one in inputs], pad, loaded.device)
    arguments: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    if inputs[0].types:
        arguments["token_type_ids"] = right_padded([one.types for one in inputs], 0, loaded.device)[0]
    if loaded.may_keep_keys:  # which no later token will ask for
        arguments["use_cache"] = False
    with unpadded(loaded, mask, way.spot) if way.packed else nullcontext():
        return read(loaded.network(**arguments), mask)


def pad_token(loaded: Loaded, inputs: Sequence[Encoded]) -> int:
    """An id that no input ends with, made known to the network; the tokenizer's own where that will do."""
    last = {one.ids[-1] for one in inputs if one.ids}
    own = loaded.tokenizer.pad_token_id
    fits = own is not None and own < loaded.known_ids and own not in last
    pad = own if fits else next(i for i in range(len(last) + 1) if i not in last)
    loaded.network.config.get_text_config().pad_token_id = pad
    return int(pad)


def spot_of(pooling: Pooling) -> Spot | None:
    """The one token that a pooling reads; None where it reads all."""
    return None if pooling == "mean" else pooling


def by_pooling(pooling: Pooling) -> tuple[Callable[[Any, Tensor], Tensor], Spot | None]:
    """How ``run_encoder`` makes vectors of an encoder's states, and the one token that it reads, where it is one."""
    return lambda out, mask: pooled(out.last_hidden_state, mask, pooling), spot_of(pooling)


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
