"""Encoders without padding: the body of a network reads one packed row, what comes before and after sees a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from .attention import packed
from .layout import Layout, Segment
from .loading import Loaded
from .trimming import Spot, Trim

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def unpadded(loaded: Loaded, mask: Tensor, spot: Spot | None = None) -> Iterator[None]:
    """Lets a network compute the real tokens of right-padded batches alone, in its layers.

    Its head finds the states of a batch, in which those of padding are 0: it needs to know of nothing.

    Args:
        loaded: The network.
        mask: 1 where a token is real, (batch, tokens).
        spot: The one token of each input that is read of the last layer; the states of others are then 0, too.
    """
    import torch

    body: Any = loaded.network.base_model
    told = "position_ids" in signature(body.forward).parameters  # T5's encoder knows distances alone
    real = mask.bool()
    ends = [0, *real.sum(1).cumsum(0).tolist()]
    segments = [Segment(start, end) for start, end in pairwise(ends)]
    layout = Layout(segments, trim=None if spot is None else Trim(segments, spot))
    places = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)[real][None] + loaded.first_position

    def pack(_: object, args: tuple[Tensor, ...], given: dict[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
        if args:
            [given["input_ids"]] = args
        given["attention_mask"] = None
        if told:
            given["position_ids"] = places
        for name in ("input_ids", "token_type_ids"):
            if given.get(name) is not None:
                given[name] = given[name][real][None]
        return (), given

    def unpack(_: object, args: tuple[()], output: Any) -> Any:  # noqa: ANN401 - of every network its own
        states = output.last_hidden_state
        batch = states.new_zeros(*mask.shape, states.shape[-1])
        batch[real.to(states.device)] = states[0]
        output.last_hidden_state = batch
        if output.get("pooler_output") is not None:
            output.pooler_output = body.pooler(batch)
        return output

    handles = [body.register_forward_pre_hook(pack, with_kwargs=True), body.register_forward_hook(unpack)]
    try:
        with packed(loaded, layout):
            yield
    finally:
        for handle in handles:
            handle.remove()
