"""Keys and values that few ask for are not made: the few queries are taken to the states instead.

Where one token asks (a decoder's step, the token that a classification head reads), attention is as well
q · (K x) = (Kᵗ q) · x over the states x, and Σ aᵢ (V xᵢ) = V (Σ aᵢ xᵢ): two products of one row, not of every state.
Linear layers promise their output and give a stand-in, which attention knows again by its memory. Where something else
is done to it first (a rotation, a norm), it is not known again, and has to be made. DeepSeek-V2 (arXiv 2405.04434,
§2.1.2) takes weights over to the other side likewise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from .layout import Layout, Span

if TYPE_CHECKING:
    from torch import Tensor, nn


class Promise(NamedTuple):
    """What a linear layer would make of a row's states.

    Attributes:
        layer: The layer.
        states: What it was given, (1, tokens, width).
        token: What stands for its output, in that one's shape: a single value in memory, which is not a number.
    """

    layer: nn.Linear
    states: Tensor
    token: Tensor

    def stands_as(self, states: Tensor) -> bool:
        """Whether the stand-in has become keys or values, (1, heads, tokens, width), and nothing else."""
        _, heads, tokens, width = states.shape
        return (1, tokens, heads * width) == self.token.shape


Pair = tuple[Promise, Promise]  # of keys, of values


class Promises:
    """Those of one row, and the states in the form in which they are asked."""

    def __init__(self) -> None:
        self._made: dict[int, Promise] = {}
        self._asked: tuple[Tensor, _Batch] | None = None

    def make(self, layer: nn.Linear, states: Tensor) -> Tensor:
        """A stand-in for what a layer would make of states."""
        token = states.new_full((1,), float("nan")).expand(*states.shape[:-1], layer.out_features)
        self._made[token.untyped_storage().data_ptr()] = Promise(layer, states, token)
        return token

    def behind(self, key: Tensor, value: Tensor) -> Pair | None:
        """What was promised for keys and values, (1, heads, tokens, width) each; None where they are not stand-ins."""
        one, other = (self._made.get(part.untyped_storage().data_ptr()) for part in (key, value))
        if one is None or other is None or not one.stands_as(key) or not other.stands_as(value):
            return None
        return one, other

    def batch(self, states: Tensor, layout: Layout, spans: Sequence[Span]) -> _Batch:
        """The states that each segment sees; made once for all layers that ask the same ones."""
        if self._asked is None or self._asked[0] is not states:
            self._asked = states, _Batch.of(states, layout, spans)
        return self._asked[1]


class _Batch(NamedTuple):
    """Segments and what they see, as a padded batch.

    Attributes:
        states: What each segment sees, (segments, most seen, width).
        padding: Where there is none, (segments, 1, most seen).
        rows: Places of each segment's tokens in the row, (segments, most tokens).
        real: Which of these are not padding.
    """

    states: Tensor
    padding: Tensor
    rows: Tensor
    real: Tensor

    @classmethod
    def of(cls, states: Tensor, layout: Layout, spans: Sequence[Span]) -> _Batch:
        """That of a row, whose segments see these spans of the states, (1, tokens, width)."""
        seen, seeing = _places(spans), _places([(start, end) for start, end, _ in layout.segments])
        places, padding, rows, real = (part.to(states.device) for part in (seen[0], ~seen[1], seeing[0], seeing[1]))
        return cls(states[0][places], padding[:, None], rows, real)


def _places(spans: Sequence[Span]) -> tuple[Tensor, Tensor]:
    """(spans, longest): places of their tokens, in padding that of the last one, and which of them are not padding."""
    import torch

    starts, ends = torch.tensor(spans).T[..., None]
    places = starts + torch.arange(int((ends - starts).max()))
    return places.minimum(ends - 1), places < ends


@contextmanager
def promising(part: nn.Module, layout: Layout, states: Tensor | None = None) -> Iterator[None]:
    """Lets linear layers within a part of a network promise what they would make of ``states`` (without, of all)."""
    import torch

    layout.promises = promises = Promises()
    # layers of other kinds, and those that something was hooked into, do more than to multiply
    layers: list[Any] = [one for one in part.modules() if type(one) is torch.nn.Linear and "forward" not in vars(one)]

    def give(layer: nn.Linear, own: Tensor) -> Tensor:
        return promises.make(layer, own) if states is None or own is states else type(layer).forward(layer, own)

    for layer in layers:
        layer.forward = partial(give, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def ask(query: Tensor, pair: Pair, layout: Layout, spans: Sequence[Span], scaling: float | None) -> Tensor:
    """What every segment sees, (1, tokens, heads, width), of queries (1, heads, tokens, width) and promised keys.

    Args:
        query: Of the row's tokens.
        pair: Keys and values of as many heads, or of fewer that queries share.
        layout: Of the row.
        spans: The states that each of its segments sees all of.
        scaling: What scores are multiplied with; one over the root of the width by default.

    Raises:
        NotImplementedError: Keys are of other states than values.
    """
    import torch

    key, value = pair
    if key.states is not value.states:
        raise NotImplementedError("keys of other states than values")
    _, heads, tokens, width = query.shape
    batch = layout.promises.batch(key.states, layout, spans)
    wide = key.states.shape[-1]
    into = key.layer.weight.view(-1, width, wide)  # a matrix for each head of the keys
    out_of = value.layer.weight.view(len(into), -1, wide)
    query = query * (width**-0.5 if scaling is None else scaling)

    asked = (query[0].reshape(len(into), -1, width) @ into).view(heads, tokens, wide).transpose(0, 1)
    scores = asked[batch.rows].flatten(1, 2) @ batch.states.mT  # a bias of keys would add the same to all of them
    shares = scores.masked_fill(batch.padding, -torch.inf).softmax(-1, dtype=torch.float32).to(scores.dtype)
    found = (shares @ batch.states).unflatten(1, (-1, heads))[batch.real]  # (tokens, heads, wide)
    made: Tensor = found.transpose(0, 1).reshape(len(into), -1, wide) @ out_of.mT
    if value.layer.bias is not None:
        made = made + value.layer.bias.view(len(into), 1, -1)
    return made.view(1, heads, tokens, -1).transpose(1, 2)
