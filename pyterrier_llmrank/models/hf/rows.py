"""Attention weights of the last tokens of prompts, in one pass over what the prompts have in common and their ends.

A row is [beginning | end of prompt 1 | end of prompt 2 | …], each end with positions that go on from the beginning. The
beginning attends to itself by a fused kernel. The ends' weights are spelled out, in float32: what they see follows from
them as well as the signal, which is summed up at once; no weight outlives its layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from pyterrier_llmrank.errors import Unsupported

from .attention import implemented
from .layout import Span
from .loading import Loaded

if TYPE_CHECKING:
    from torch import Tensor

NAME = "pyterrier_llmrank_rows"
WEIGHTS = 2**24  # spelled out at once: 64 MiB in float32
STRANGE = {  # options of attention that the beginning's kernel, or the ends' softmax, would leave out
    "softcap": "soft caps on attention scores",
    "s_aux": "attention sinks",
    "position_bias": "a bias by position",
}

_reading: ContextVar[Reading] = ContextVar("reading")


@dataclass(frozen=True)
class Ending:
    """What one prompt adds to the common beginning.

    Attributes:
        ids: Its tokens.
        rows: Which of them attend, [start, end).
    """

    ids: tuple[int, ...]
    rows: Span


class Stopped(Exception):
    """The last layer that was asked for is done."""


class Reading:
    """One row on its way through the layers.

    Args:
        beginning: Tokens of the common beginning.
        endings: What follows it.
        keys: Places in the beginning whose weights are wanted.
        heads: The heads of each layer that is asked for, by layer.
        by_head: Whether heads are told apart.
    """

    def __init__(
        self, beginning: int, endings: Sequence[Ending], keys: Tensor, heads: dict[int, list[int]], *, by_head: bool
    ) -> None:
        import torch

        device = keys.device
        self.beginning, self.keys, self.heads, self.by_head = beginning, keys, heads, by_head
        self.last = max(heads)
        self.seen: set[int] = set()
        self.layers: dict[int, Tensor] = {}  # (heads or 1, endings, keys)
        own = torch.tensor([place for place, end in enumerate(endings) for _ in end.ids], device=device)
        self.mask = ((own[:, None] == own[None]).tril()).logical_not()  # (tokens, tokens) of the ends; True: unseen
        self.means = torch.zeros(len(endings), len(own), device=device)
        start = 0
        for place, end in enumerate(endings):
            first, after = end.rows
            self.means[place, start + first : start + after] = 1 / (after - first)
            start += len(end.ids)

    def result(self) -> Tensor:
        """Weights, (heads or 1, endings, keys); heads layer by layer, in the order asked for."""
        import torch

        parts = [self.layers[layer] for layer in sorted(self.layers)]
        return torch.cat(parts) if self.by_head else torch.stack(parts).sum(0)

    def note(self, layer: int, weights: Tensor, chunk: slice) -> None:
        """Takes the weights of some of the ends' tokens, (heads, tokens, keys of the beginning)."""
        found = (self.means[:, chunk] @ weights)[..., self.keys]
        found = found if self.by_head else found.sum(0, keepdim=True)
        self.layers[layer] = found if layer not in self.layers else self.layers[layer] + found


def read_rows(
    loaded: Loaded,
    beginning: Sequence[int],
    endings: Sequence[Ending],
    keys: Sequence[int],
    heads: dict[int, list[int]],
    *,
    by_head: bool,
) -> Tensor:
    """Mean weights of each ending's rows on the keys, (heads or 1 for their sum, endings, keys), float32.

    Raises:
        Unsupported: The network attends in a way of its own.
    """
    import torch

    _register()
    ids = [*beginning, *(token for end in endings for token in end.ids)]
    places = [*range(len(beginning))]
    places += [len(beginning) + place for end in endings for place in range(len(end.ids))]
    row = torch.tensor([ids, places], device=loaded.device)
    wanted = torch.tensor(keys, dtype=torch.long, device=loaded.device)
    reading = Reading(len(beginning), endings, wanted, heads, by_head=by_head)
    token = _reading.set(reading)
    try:
        with torch.inference_mode(), implemented(loaded, NAME):
            loaded.network(input_ids=row[:1], position_ids=row[1:], use_cache=False)
    except Stopped:
        pass
    finally:
        _reading.reset(token)
    if gone := sorted(set(range(reading.last + 1)) - reading.seen):
        layers = ", ".join(map(str, gone))
        refuse(f"{type(loaded.network).__name__} does not attend in layers {layers}, or not by transformers' registry")
    return reading.result()


def refuse(why: str) -> NoReturn:
    """Says what is in the way, and what would work.

    Raises:
        Unsupported: Always.
    """
    raise Unsupported(
        f"attention weights cannot be read quickly: {why}; use another model, or slowly=True, which runs the network "
        "with its own attention"
    )


@cache
def _register() -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attend)


def _attend(
    module: Any,  # noqa: ANN401 - torch is imported lazily
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    **options: Any,  # noqa: ANN401 - every architecture has its own
) -> tuple[Tensor, None]:
    """What a network calls: (1, heads, tokens, width) each, to (1, tokens, heads, width)."""
    import torch

    reading = _reading.get()
    layer = getattr(module, "layer_idx", None)
    _check(module, query, attention_mask, options, reading)
    reading.seen.add(layer)  # type: ignore[arg-type]
    scaling = options.get("scaling")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    split = reading.beginning
    states = query[0, :, split:], key[0], value[0]
    if layer == reading.last:
        _spell_out(reading, layer, states, scaling, out=None)
        raise Stopped
    out = query.new_empty(1, query.shape[2], query.shape[1], value.shape[-1])
    if split:
        seen = torch.nn.functional.scaled_dot_product_attention(
            query[:, :, :split],
            key[:, :, :split],
            value[:, :, :split],
            is_causal=True,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        out[:, :split] = seen.transpose(1, 2)
    _spell_out(reading, layer, states, scaling, out=out[0, split:])  # type: ignore[arg-type]
    return out, None


def _check(module: Any, query: Tensor, mask: Tensor | None, options: dict[str, Any], reading: Reading) -> None:  # noqa: ANN401
    """Whether this is attention as it is computed here."""
    name = type(module).__name__
    if not isinstance(getattr(module, "layer_idx", None), int):
        refuse(f"{name} does not tell which layer it is")
    for option, what in STRANGE.items():
        if options.get(option) is not None:
            refuse(f"{name} has {what}")
    tokens = reading.beginning + reading.means.shape[1]
    window = options.get("sliding_window")
    if window is not None and window < tokens:
        refuse(f"{name} sees only {window} tokens back, and the prompt has {tokens}")
    causal = options.get("is_causal")
    if not (getattr(module, "is_causal", True) if causal is None else causal):
        refuse(f"{name} is not causal")
    if mask is not None or query.shape[0] != 1 or query.shape[2] != tokens:
        refuse(f"{name} hides tokens in a way of its own")


def _spell_out(
    reading: Reading, layer: int, states: tuple[Tensor, Tensor, Tensor], scaling: float, *, out: Tensor | None
) -> None:
    """Weights of the ends' tokens, noted where they are asked for; what the tokens see goes to ``out``, if wanted.

    Args:
        reading: The row.
        layer: Which layer it is.
        states: Queries of the ends, (heads, tokens, width), and keys and values of the whole row.
        scaling: What scores are multiplied with.
        out: (tokens, heads, width).
    """
    query, key, value = states
    chosen = reading.heads.get(layer)
    if chosen == [*range(query.shape[0])]:
        chosen = None
    if out is None and chosen is not None:  # no other head is needed
        groups = query.shape[0] // key.shape[0]
        query, key = query[chosen], key[[head // groups for head in chosen]]
        chosen = None
    heads, tokens, width = query.shape
    kinds = key.shape[0]
    keys = key.float().transpose(1, 2)  # (key heads, width, keys)
    step = max(1, WEIGHTS // (heads * key.shape[1]))
    for start in range(0, tokens, step):
        chunk = slice(start, min(start + step, tokens))
        # heads of a group share their keys, so they go as one block of queries
        scores = (query[:, chunk].float() * scaling).reshape(kinds, -1, width) @ keys
        scores = scores.view(heads, -1, key.shape[1])
        scores[..., reading.beginning :].masked_fill_(reading.mask[chunk], float("-inf"))
        weights = scores.softmax(-1)
        if layer in reading.heads:
            noted = weights if chosen is None else weights[chosen]
            reading.note(layer, noted[..., : reading.beginning], chunk)
        if out is not None:
            seen = weights.to(value.dtype).view(kinds, -1, key.shape[1]) @ value
            out[chunk] = seen.view(heads, -1, value.shape[-1]).transpose(0, 1)
