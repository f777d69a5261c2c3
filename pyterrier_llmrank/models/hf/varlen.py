"""All segments of a packed row in one call, on a GPU: FlashAttention over sequences of any length, inside torch."""

from __future__ import annotations

import inspect
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from .layout import Layout, Span

if TYPE_CHECKING:
    from torch import Tensor

NEEDED = {"scale", "window_size", "enable_gqa"}  # what older releases of torch lack
WIDEST = 256  # head width that FlashAttention takes


class Gather(NamedTuple):
    """Where the keys of every segment are, one behind the other.

    Attributes:
        names: Tokens kept from earlier rows, which come before the row's own.
        places: Places of the keys, (keys,).
        queries: Where each segment's queries begin, and the last one's end, (segments + 1,).
        keys: The same of keys.
        longest: Queries and keys of a segment at most.
    """

    names: list[int]
    places: Tensor
    queries: Tensor
    keys: Tensor
    longest: tuple[int, int]


@cache
def _varlen_attn() -> Any:  # noqa: ANN401 - torch is imported lazily
    """The function, where this torch has it as it is needed here."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if inspect.signature(varlen_attn).parameters.keys() >= NEEDED else None


def fits(query: Tensor, value: Tensor) -> bool:
    """Whether the function takes these: half precision on a GPU, heads of one moderate width."""
    import torch

    half = query.dtype in (torch.bfloat16, torch.float16)
    width = query.shape[-1]
    return query.device.type == "cuda" and half and width == value.shape[-1] <= WIDEST and _varlen_attn() is not None


def attend_at_once(
    module: Any,  # noqa: ANN401
    layout: Layout,
    states: tuple[Tensor, Tensor, Tensor],
    scaling: float | None,
    causal: bool,
    window: int | None,
) -> Tensor:
    """What every segment sees, (1, tokens, heads, width), of query, key and value (1, heads, tokens, width)."""
    import torch

    query, key, value = states
    gather = layout.gathered.get(causal) or _gather(layout, key, module, across=None if causal else layout.across)
    layout.gathered[causal] = gather  # the same in every layer
    pools = [[layout.kept.tensors[name][module][which] for name in gather.names] for which in (0, 1)]
    keys, values = (
        torch.cat([*pool, own], 2)[0].transpose(0, 1)[gather.places]  # (keys, heads, width)
        for pool, own in zip(pools, (key, value), strict=True)
    )
    back = -1 if window is None else window - 1
    window_size = (back, 0 if causal else back)
    return attend_to_gathered(query[0].transpose(0, 1).contiguous(), keys, values, gather, scaling, window_size)[None]


def attend_to_gathered(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gather: Gather,
    scaling: float | None,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor:
    """What every segment sees of the keys gathered for it, (tokens, heads, width).

    Args:
        query: Of all segments, one behind the other, (tokens, heads, width).
        key: What each of them sees, one behind the other, (keys, heads, width).
        value: The same.
        gather: Where they begin.
        scaling: What scores are multiplied with; one over the root of the width by default.
        window_size: Keys seen before and after a token; -1 for all.
    """
    return _varlen_attn()(  # type: ignore[no-any-return]
        query,
        key,
        value,
        gather.queries,
        gather.keys,
        *gather.longest,
        scale=scaling,
        window_size=window_size,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _gather(layout: Layout, key: Tensor, module: Any, across: Any) -> Gather:  # noqa: ANN401
    """Places of keys in what is kept from earlier rows followed by the row itself."""
    import torch

    pieces: list[list[Span | int]] = layout.pieces if across is None else [[span] for span in across]
    names = sorted({piece for own in pieces for piece in own if isinstance(piece, int)})
    spans: dict[int, Span] = {}
    offset = 0
    for name in names:
        end = offset + layout.kept.tensors[name][module][0].shape[2]
        spans[name] = (offset, end)
        offset = end

    def placed(piece: Span | int) -> Tensor:
        start, end = spans[piece] if isinstance(piece, int) else (piece[0] + offset, piece[1] + offset)
        return torch.arange(start, end)

    places = [torch.cat([placed(piece) for piece in own]) for own in pieces]
    lengths = [segment.end - segment.start for segment in layout.segments]
    widths = [len(one) for one in places]
    ends = [torch.tensor([0, *sizes]).cumsum(0).to(key.device, torch.int32) for sizes in (lengths, widths)]
    return Gather(names, torch.cat(places).to(key.device), ends[0], ends[1], (max(lengths), max(widths)))
