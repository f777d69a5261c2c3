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

from pyterrier_llmrank.models.hf.varlen import attend_to_gathered, fits

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
        self.lengths, self.sets = list(lengths), list(sets)
        self.tokens = sum(lengths)
        self._cut = [size for length in lengths for size in (place, 1, length - place - 1)]
        self._bounds: dict[bool, tuple[Tensor, Tensor, tuple[int, int]]] = {}

    def pieces(self, own: Tensor, shared: Sequence[Tensor]) -> list[list[Tensor]]:
        """The keys (or values) that each document sees; its interaction token is among those of its set.

        Args:
            own: Those of the documents' tokens, (tokens, heads, width).
            shared: Those of the interaction tokens of each set.
        """
        cut = own.split(self._cut)  # type: ignore[no-untyped-call]  # one split, since each slice would cost a gradient of the whole row
        return [[shared[of], cut[3 * at], cut[3 * at + 2]] for at, of in enumerate(self.sets)]

    def bounds(self, pieces: list[list[Tensor]], *, firsts: bool) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Where the queries and the keys of each document begin, and how many there are of one at most."""
        if firsts not in self._bounds:
            counts = [1] * len(pieces) if firsts else self.lengths, [sum(map(len, own)) for own in pieces]
            device = pieces[0][0].device
            queries, keys = (torch.tensor([0, *accumulate(own)], dtype=torch.int32, device=device) for own in counts)
            self._bounds[firsts] = queries, keys, (max(counts[0]), max(counts[1]))
        return self._bounds[firsts]


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
    rows: Any = query[0].transpose(0, 1)  # (tokens, heads, width), as layers make them: whole blocks of memory to join
    keys = part.pieces(own.keys, [one.keys for one in shared])
    values = part.pieces(own.values, [one.values for one in shared])
    if fits(query, value) and not dropout:
        all_keys, all_values = (torch.cat([piece for its in of for piece in its]) for of in (keys, values))
        queries, ends, longest = part.bounds(keys, firsts=firsts)
        return attend_to_gathered(rows.contiguous(), all_keys, all_values, queries, ends, longest, scaling)[None], None
    found = []
    for its_own, its_keys, its_values in zip(rows.split(1 if firsts else part.lengths), keys, values, strict=True):
        one, seen, read = (_batch(states) for states in (its_own, torch.cat(its_keys), torch.cat(its_values)))
        found.append(scaled_dot_product_attention(one, seen, read, dropout_p=dropout, scale=scaling))
    return torch.cat(found, 2).transpose(1, 2), None


def _batch(states: Tensor) -> Tensor:
    """(tokens, heads, width) to (1, heads, tokens, width)."""
    return states.transpose(0, 1)[None]


AttentionInterface.register(NAME, attend)
