"""Decoding over vectors: a decoder orders items that it reads as embeddings, by emitting them one after the other.

An item stands in the prompt as one or more ids past the vocabulary. At each step the state of the last token is
compared with the items that were not emitted yet, and no row of the vocabulary's head is computed. The last item is no
choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .batching import Budget, in_batches
from .growing import Growing
from .loading import Loaded

if TYPE_CHECKING:
    from torch import Tensor


class Order(NamedTuple):
    """Items as they were emitted.

    Attributes:
        items: Their places, first emitted first; all of them.
        logits: Of every item at each step, before those that were emitted are left out, (items - 1, items).
    """

    items: list[int]
    logits: NDArray[np.float32]


def emit(
    loaded: Loaded, sequences: Sequence[list[int]], items: Sequence[Tensor], budget: Budget, pad: int
) -> list[Order]:
    """Orders the items of each sequence, greedily; of equal ones the first in the prompt goes first.

    Args:
        loaded: A decoder.
        sequences: Token ids; ids from the size of the vocabulary on stand for the embeddings of the sequence's own
            items, in order.
        items: Their embeddings, (items, m, hidden) for each sequence. The logit of an item is the mean of the inner
            products of its m embeddings with the state; all m are read when it was emitted.
        budget: What a batch may hold; emitted embeddings count.
        pad: A token to fill gaps with.
    """
    import torch

    results: dict[int, Order] = {}

    def work(batch: list[int]) -> None:
        with torch.inference_mode():
            orders = _emit(loaded, [sequences[one] for one in batch], [items[one] for one in batch], pad)
        results.update(zip(batch, orders, strict=True))

    lengths = [len(ids) + own[:-1].shape[:2].numel() for ids, own in zip(sequences, items, strict=True)]
    in_batches(lengths, [1] * len(sequences), budget, work)
    return [results[one] for one in range(len(sequences))]


def _emit(loaded: Loaded, sequences: Sequence[list[int]], items: Sequence[Tensor], pad: int) -> list[Order]:
    """The same of one batch."""
    rows = Embedded(loaded, sequences, items, pad)
    orders: list[list[int]] = [[] for _ in items]
    logits: list[list[NDArray[np.float32]]] = [[] for _ in items]
    while left := [row for row, own in enumerate(items) if len(orders[row]) < len(own) - 1]:
        ready, states = rows.run(left)
        for row, state in zip(ready, states, strict=True):
            # products, then sums: a product of matrices would round equal items apart, by their place
            found = (items[row].float() * state.float()).sum(-1).mean(-1).cpu().numpy()  # (items,)
            logits[row].append(found)
            free = found.astype(np.float64)
            free[orders[row]] = -np.inf
            chosen = int(np.argmax(free))
            orders[row].append(chosen)
            rows.write(row, rows.ids(row, chosen))
    for own, of in zip(orders, items, strict=True):
        own += [place for place in range(len(of)) if place not in own]  # the last one
    return [Order(own, np.reshape(steps, (-1, len(own)))) for own, steps in zip(orders, logits, strict=True)]


class Embedded(Growing):
    """Rows of tokens and embeddings, of which states are read.

    Args:
        loaded: A decoder.
        sequences: Token ids; ids past the vocabulary stand for the row's own items.
        items: Embeddings of each row's items, (items, m, hidden).
        pad: A token to fill gaps with.
    """

    def __init__(self, loaded: Loaded, sequences: Sequence[list[int]], items: Sequence[Tensor], pad: int) -> None:
        import torch

        self._known, self._m = loaded.known_ids, [own.shape[1] for own in items]
        starts = np.cumsum([0, *(own.shape[:2].numel() for own in items)])
        self._firsts = [self._known + int(start) for start in starts[:-1]]
        self._table = torch.cat([own.flatten(0, 1) for own in items])
        own_ids = [  # no two rows share an id of an item, and so no prefix that holds one
            [token + first - self._known if token >= self._known else token for token in ids]
            for ids, first in zip(sequences, self._firsts, strict=True)
        ]
        super().__init__(loaded, own_ids, [[] for _ in own_ids], pad)

    def ids(self, row: int, item: int) -> range:
        """What stands for an item of a row."""
        first = self._firsts[row] + item * self._m[row]
        return range(first, first + self._m[row])

    def _arguments(self, taken: Sequence[Sequence[int]], width: int) -> dict[str, Any]:
        """What the network is given: embeddings in place of ids."""
        given = super()._arguments(taken, width)
        ids = given.pop("input_ids")
        own = ids >= self._known
        embeddings = self._loaded.network.get_input_embeddings()(ids.masked_fill(own, self._pad))
        embeddings[own] = self._table[ids[own] - self._known].to(embeddings.dtype)
        return {**given, "inputs_embeds": embeddings}

    def _read(self, spots: Sequence[tuple[int, int]], arguments: dict[str, Any]) -> Tensor:
        """The last states at spots, (spots, hidden)."""
        states: Tensor = self._loaded.network.base_model(**arguments).last_hidden_state
        rows, places = zip(*spots, strict=True)
        return states[list(rows), list(places)]
