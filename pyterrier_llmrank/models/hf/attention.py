"""Attention over packed rows, registered with transformers under a name of its own: no network is patched.

Networks build no mask for a name that they do not know, so that the ``Layout`` of a row alone tells who sees whom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from .layout import Layout, Span
from .promises import Pair, ask
from .trimming import trimmed
from .varlen import attend_at_once, fits

if TYPE_CHECKING:
    from torch import Tensor

    from .loading import Loaded

NAME = "pyterrier_llmrank_packed"
CHUNK = 256  # queries that see the same keys, at most

States: TypeAlias = "tuple[Tensor, Tensor, Tensor]"  # query, key and value, (1, heads, tokens, width) each

_layout: ContextVar[Layout] = ContextVar("layout")


@contextmanager
def packed(loaded: Loaded, layout: Layout) -> Iterator[None]:
    """Lets a network read a row of this layout, (1, tokens)."""
    _register()
    token = _layout.set(layout)
    try:
        for part in loaded.biased:  # they would make one for every pair of tokens of the row
            part.compute_bias = partial(_for_longest, part.compute_bias, layout.longest)
        layer = None if layout.trim is None else loaded.last_layer
        with implemented(loaded, NAME), nullcontext() if layer is None else trimmed(layer, layout):
            yield
    finally:
        for part in loaded.biased:
            vars(part).pop("compute_bias", None)
        _layout.reset(token)


@contextmanager
def implemented(loaded: Loaded, name: str) -> Iterator[None]:
    """Lets all parts of a network attend by what is registered under a name."""
    before = [(config, config._attn_implementation) for config in loaded.configs]
    try:
        for config, _ in before:
            config._attn_implementation = name
        yield
    finally:
        for config, own in before:
            config._attn_implementation = own


def _for_longest(compute: Callable[..., Tensor], longest: int, *_: int, device: object = None, **__: object) -> Tensor:
    """The bias of relative positions within the longest segment, (1, heads, longest, longest)."""
    return compute(longest, longest, device=device)


@cache
def _register() -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attend)


class Manner(NamedTuple):
    """How a network attends.

    Attributes:
        scaling: What scores are multiplied with; one over the root of the width by default.
        causal: Whether a token sees none after it.
        window: How many tokens back a token sees, itself included; None for all.
        softcap: Bound that scores are squeezed into.
        sinks: One score per head that takes its share and gives nothing.
        bias: What is added to scores, (1, heads, tokens, keys).
    """

    scaling: float | None
    causal: bool
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None
    bias: Tensor | None = None


def _attend(
    module: Any,  # noqa: ANN401 - torch is imported lazily
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    **options: Any,  # noqa: ANN401 - every architecture has its own
) -> tuple[Tensor, None]:
    """What a network calls: (1, heads, tokens, width) each, to (1, tokens, heads, width).

    Raises:
        NotImplementedError: The network hides tokens in ways that no layout knows of.
    """
    layout = _layout.get()
    trim, stage = layout.trim, layout.trim and layout.trim.stage
    if stage == "rows":
        layout, (key, value) = trim.layout, trim.states
    if attention_mask is not None or len(query) != 1 or query.shape[2] != layout.tokens:
        raise NotImplementedError("attention with a mask of its own, or over something else than the row")
    causal = options.get("is_causal")
    manner = Manner(
        options.get("scaling"),
        bool(getattr(module, "is_causal", True) if causal is None else causal),
        options.get("sliding_window"),
        options.get("softcap"),
        options.get("s_aux"),
        options.get("position_bias"),
    )
    pair = layout.promises and layout.promises.behind(key, value)
    if pair is not None and stage != "keys":
        return _ask(layout, query, pair, manner), None
    if layout.promises is not None and layout.across is not None and not manner.causal:
        raise NotImplementedError("keys that are more than a linear layer's")
    if layout.across is None or manner.causal:
        layout.remember(module, key, value)
    if stage == "keys":
        trim.note(key, value, causal=manner.causal)
    if stage == "rows" and not manner.causal and (manner.window, manner.bias) != (None, None):
        raise NotImplementedError("rows of a text that sees both ways, at some distance")
    if fits(query, value) and manner[3:] == (None, None, None):
        return attend_at_once(module, layout, (query, key, value), *manner[:3]), None
    return _one_by_one(module, layout, (query, key, value), manner), None


def _ask(layout: Layout, query: Tensor, pair: Pair, manner: Manner) -> Tensor:
    """What every segment sees where keys and values are promised, (1, tokens, heads, width)."""
    bias = manner.bias is not None and not layout.plain(manner.bias)
    if bias or manner[2:5] != (None, None, None):
        raise NotImplementedError("keys that are not made, and scores that are more than theirs")
    spans = [*map(_only, layout.pieces)] if layout.across is None else layout.across
    return ask(query, pair, layout, spans, manner.scaling)


def _only(pieces: Sequence[Span | int]) -> Span:
    """The one span of a row that there is."""
    [span] = pieces
    if isinstance(span, int):
        raise NotImplementedError("keys that are not made, of an earlier row")
    return span


def _one_by_one(module: Any, layout: Layout, states: States, manner: Manner) -> Tensor:  # noqa: ANN401
    """What every segment sees, one after the other, (1, tokens, heads, width)."""
    query, key, value = states
    out = query.new_empty(1, layout.tokens, query.shape[1], value.shape[-1])
    across = None if manner.causal else layout.across
    for place, (start, end, _) in enumerate(layout.segments):
        if across is None:
            span = (start, end)
            keys, values = layout.seen(module, place, key, value)
        else:
            span = across[place]
            keys, values = key[:, :, span[0] : span[1]], value[:, :, span[0] : span[1]]
        width = keys.shape[2]
        bias = None
        if manner.bias is not None:
            if span[1] - span[0] != width:
                raise NotImplementedError("a bias by position, between rows")
            bias = layout.bias(manner.bias, place, span)
        seen = _see(layout, (query[:, :, start:end], keys, values), manner, bias)
        out[:, start:end] = seen.transpose(1, 2)
    return out


def _see(layout: Layout, states: States, manner: Manner, bias: Tensor | None) -> Tensor:
    """What the queries of one segment see, (1, heads, tokens, width); they are the last of its keys.

    Long causal segments go in chunks, each with the keys that it can see and no more.
    """
    import torch

    query, key, value = states
    queries, keys = query.shape[2], key.shape[2]
    masked = keys > queries or bias is not None or manner[2:5] != (None, None, None)
    size = CHUNK if manner.causal and masked else queries
    seen = []
    for first in range(0, queries, size):
        last = min(first + size, queries)
        end = keys - queries + last if manner.causal else keys
        start = max(0, end - (last - first) - manner.window + 1) if manner.causal and manner.window else 0
        part = query[:, :, first:last], key[:, :, start:end], value[:, :, start:end]
        seen.append(_scores(part, layout, manner, None if bias is None else bias[:, :, first:last, start:end]))
    return seen[0] if len(seen) == 1 else torch.cat(seen, 2)


def _scores(states: States, layout: Layout, manner: Manner, bias: Tensor | None) -> Tensor:
    """What queries see of keys of which the last are theirs, (1, heads, tokens, width)."""
    import torch

    query, key, value = states
    queries, keys = query.shape[2], key.shape[2]
    special = manner.softcap is not None or manner.sinks is not None
    near = manner.window is None or manner.window >= keys
    diagonal = manner.causal and queries == keys and near and bias is None and not special
    mask = None if diagonal else layout.mask(queries, keys, query, causal=manner.causal, window=manner.window)
    mask = bias if mask is None else mask if bias is None else mask + bias
    if special:
        return _spelled_out(query, key, value, mask, manner)
    return torch.nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=diagonal,
        scale=manner.scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _spelled_out(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, manner: Manner) -> Tensor:
    """Attention with what no fused kernel has: soft caps, and sinks that take a share of every softmax."""
    import torch

    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scaling = query.shape[-1] ** -0.5 if manner.scaling is None else manner.scaling
    scores = query @ key.transpose(2, 3) * scaling  # (1, heads, queries, keys)
    if manner.softcap is not None:
        scores = (scores / manner.softcap).tanh() * manner.softcap
    if mask is not None:
        scores = scores + mask
    if manner.sinks is not None:
        sinks = manner.sinks.to(scores.dtype).reshape(1, -1, 1, 1).expand(-1, -1, scores.shape[2], 1)
        scores = torch.cat([scores, sinks], -1)
    shares = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    return shares[..., : key.shape[2]] @ value
