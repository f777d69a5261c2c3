"""Attention between the documents of a set: each sees its own tokens, and the interaction token of every other one.

Registered with transformers under a name of its own, so that layers of BERT and its like stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from pyterrier_llmrank.models.hf.varlen import Gather, attend_to_gathered, fits

NAME = "pyterrier_llmrank_set"


class Seen(NamedTuple):
    """Tokens that are attended to, in one layer.

    Attributes:
        keys: Their keys, (tokens, heads, width).
        values: Their values, likewise.
    """

    keys: Tensor
    values: Tensor


class Part:
    """Some documents of a row, one behind the other, whole. One is made for every forward pass, for all layers.

    Args:
        lengths: Tokens of each document.
        sets: Which set each of them is of.
        place: Place of the interaction token in a document.
    """

    def __init__(self, lengths: Sequence[int], sets: Sequence[int], place: int) -> None:
        self.lengths, self.sets, self.place = list(lengths), list(sets), place
        self.tokens = sum(lengths)
        self._cut = [size for length in lengths for size in (place, 1, length - place - 1)]
        self._gather: Gather | None = None

    def pieces(self, own: Tensor, shared: Sequence[Tensor]) -> list[list[Tensor]]:
        """The keys (or values) that each document sees; its interaction token is among those of its set.

        Args:
            own: Those of the documents' tokens, (tokens, heads, width).
            shared: Those of the interaction tokens of each set.
        """
        # one split: slices would cost a gradient of the whole row each
        cut = own.split(self._cut)  # type: ignore[no-untyped-call]
        return [[shared[of], cut[3 * at], cut[3 * at + 2]] for at, of in enumerate(self.sets)]

    def gather(self, shared: Sequence[Tensor]) -> Gather:
        """Where the same are among those of all sets with those of the documents behind them, in every layer."""
        if self._gather is None:
            device = shared[0].device
            places = self._places([0, *accumulate(map(len, shared))])
            widths = [len(own) for own in places]
            joined = torch.tensor([place for own in places for place in own], device=device)
            queries, keys = (
                torch.tensor([0, *accumulate(own)], dtype=torch.int32, device=device) for own in (self.lengths, widths)
            )
            self._gather = Gather([], joined, queries, keys, (max(self.lengths), max(widths)))
        return self._gather

    def _places(self, commons: Sequence[int]) -> list[list[int]]:
        """The same for each document; the interaction tokens of sets end at ``commons``."""
        places, start = [], commons[-1]
        for length, of in zip(self.lengths, self.sets, strict=True):
            mark, end = start + self.place, start + length
            places.append([*range(commons[of], commons[of + 1]), *range(start, mark), *range(mark + 1, end)])
            start = end
        return places


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    *,
    part: Part | None = None,
    shared: Sequence[Seen] = (),
    own: Seen | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,  # noqa: ANN401 - every architecture passes its own
) -> tuple[Tensor, None]:
    """What a layer calls: (1, heads, tokens, width) each, to (1, tokens, heads, width).

    Args:
        module: The layer's attention.
        query: Of the documents' tokens; of their first tokens alone where ``own`` is given.
        key: Of the same tokens.
        value: Of the same tokens.
        attention_mask: None.
        part: The documents.
        shared: Interaction tokens of each set.
        own: The documents' tokens, where the layer does not read all of them.
        scaling: What scores are multiplied with.
        dropout: Share of the attention to leave out, in training.

    Raises:
        NotImplementedError: The layer does not pass on what it was given, or hides tokens in ways of its own.
    """
    firsts = own is not None
    if part is None or attention_mask is not None or query.shape[2] != (len(part.sets) if firsts else part.tokens):
        raise NotImplementedError(f"{type(module).__name__} attends to something else than the documents of a set")
    own = own or Seen(key[0].transpose(0, 1), value[0].transpose(0, 1))
    rows = query[0].transpose(0, 1)  # (tokens, heads, width), as layers make them: whole blocks of memory to join
    if fits(query, value) and not dropout:
        return _at_once(part, rows, own, shared, scaling, firsts=firsts)[None], None
    keys = part.pieces(own.keys, [one.keys for one in shared])
    values = part.pieces(own.values, [one.values for one in shared])
    queries: Any = rows.split(1 if firsts else part.lengths)  # type: ignore[no-untyped-call]
    found = []
    for its_own, its_keys, its_values in zip(queries, keys, values, strict=True):
        one, seen, read = (_batch(states) for states in (its_own, torch.cat(its_keys), torch.cat(its_values)))
        found.append(scaled_dot_product_attention(one, seen, read, dropout_p=dropout, scale=scaling))
    return torch.cat(found, 2).transpose(1, 2), None


def _at_once(
    part: Part, rows: Tensor, own: Seen, shared: Sequence[Seen], scaling: float | None, *, firsts: bool
) -> Tensor:
    """The same in one call for all documents, on a GPU, (tokens, heads, width)."""
    gather = part.gather([one.keys for one in shared])
    keys, values = (torch.cat(states)[gather.places] for states in zip(*shared, own, strict=True))
    if firsts:
        each = torch.arange(len(part.sets) + 1, dtype=torch.int32, device=rows.device)
        gather = gather._replace(queries=each, longest=(1, gather.longest[1]))
    return attend_to_gathered(rows.contiguous(), keys, values, gather, scaling)


def _batch(states: Tensor) -> Tensor:
    """(tokens, heads, width) to (1, heads, tokens, width)."""
    return states.transpose(0, 1)[None]


AttentionInterface.register(NAME, attend)
