"""Fusion in the decoder: an encoder reads the parts of a row each by itself, a decoder reads all of them.

A part ends with the end token and holds no other, so that rows of ids tell where their parts are, and everything that
runs encoder-decoders runs these too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from .attention import packed
from .exactness import Way, way_of
from .layout import Layout, Segment, Span
from .loading import Loaded
from .reading import right_padded

if TYPE_CHECKING:
    from torch import Tensor

WORTH_A_TRIAL = 16  # parts; fewer are read in one plain batch


@contextmanager
def fused(loaded: Loaded) -> Iterator[None]:
    """Lets the encoder of a network read each part of its rows by itself: no token sees another part.

    Parts are computed without padding where the network is exact so, else padded to the longest of their batch.
    """
    import torch
    from transformers.modeling_outputs import BaseModelOutput

    encoder: Any = loaded.network.get_encoder()
    whole = encoder.forward

    @wraps(whole)
    def apart(input_ids: Tensor, attention_mask: Tensor | None = None, **_: object) -> BaseModelOutput:
        real = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        states = _states(loaded, whole, input_ids[real])
        rows = states.new_zeros(*input_ids.shape, states.shape[-1])
        rows[real] = states
        return BaseModelOutput(last_hidden_state=rows)

    encoder.forward = apart
    try:
        yield
    finally:
        vars(encoder).pop("forward")


def parts_of(row: Sequence[int], end: int) -> list[Span]:
    """Where the parts of a row are."""
    return [*pairwise([0, *(place + 1 for place, token in enumerate(row) if token == end)])]


def _states(loaded: Loaded, encoder: Any, row: Tensor) -> Tensor:  # noqa: ANN401 - a bound method
    """What an encoder makes of parts that stand one behind the other, (tokens) to (tokens, width)."""
    spans = parts_of(row.tolist(), int(loaded.tokenizer.eos_token_id))
    lengths = [end - start for start, end in spans]

    def difference(_: Way) -> float:
        order = sorted(range(len(spans)), key=lambda place: lengths[place])
        probe = [row[slice(*spans[order[place]])] for place in (-1, len(order) // 2, 0)]
        ones, others = _packed(loaded, encoder, probe), _padded(loaded, encoder, probe)
        return float((ones - others).abs().max() / others.abs().max())

    parts = [row[start:end] for start, end in spans]
    way = way_of(loaded, lengths, difference, least=WORTH_A_TRIAL)
    return _packed(loaded, encoder, parts) if way.packed else _padded(loaded, encoder, parts)


def _packed(loaded: Loaded, encoder: Any, parts: Sequence[Tensor]) -> Tensor:  # noqa: ANN401
    """The same, without padding."""
    import torch

    row = torch.cat([*parts])
    ends = torch.tensor([0, *map(len, parts)]).cumsum(0).tolist()
    with packed(loaded, Layout([Segment(start, end) for start, end in pairwise(ends)])):
        states: Tensor = encoder(input_ids=row[None]).last_hidden_state[0]
    return states


def _padded(loaded: Loaded, encoder: Any, parts: Sequence[Tensor]) -> Tensor:  # noqa: ANN401
    """The same, as one padded batch."""
    ids, mask = right_padded([part.tolist() for part in parts], 0, loaded.device)
    states: Tensor = encoder(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]
    return states
