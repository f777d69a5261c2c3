"""Rows of tokens that grow, through a network that remembers what it has read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .batching import Planner, plan, plan_alike
from .loading import Loaded
from .prefixes import WORTH, common_prefix
from .reading import logits_at, right_padded

if TYPE_CHECKING:
    from torch import Tensor


class Growing:
    """Rows of a batch, each of which may grow by as many tokens as it has.

    Where gaps do no harm (``gaps_allowed``), all rows read at once whatever they have got; elsewhere they go in step,
    as in ordinary generation, and a row that got more reads the rest later.

    Args:
        loaded: The network.
        sequences: What it reads (its encoder, for an encoder-decoder).
        starts: What the decoder's side of each starts with; empty for a decoder.
        pad: A token to fill gaps with.

    Attributes:
        shared: How many tokens all sequences begin with that were read once for all.
    """

    def __init__(self, loaded: Loaded, sequences: Sequence[list[int]], starts: Sequence[list[int]], pad: int) -> None:
        self._loaded, self._pad = loaded, pad
        self._both = bool(loaded.network.config.is_encoder_decoder)
        self._cache, self._gaps = new_cache(loaded), gaps_allowed(loaded)
        self._placed = not self._both and takes_positions(loaded)
        self._fixed = _encoded(loaded, sequences, pad) if self._both else {}
        self.shared = 0 if self._both else share(loaded, self._cache, sequences, self._read)
        self._waiting = [row[self.shared :] for row in (starts if self._both else sequences)]
        self._lengths = [self.shared] * len(sequences)
        self._mask = [[1] * self.shared for _ in sequences]

    def write(self, row: int, tokens: Sequence[int]) -> None:
        """Appends tokens to a row; they are read at the next runs."""
        self._waiting[row] = [*self._waiting[row], *tokens]

    def run(self, rows: Sequence[int]) -> tuple[list[int], Tensor]:
        """Reads on until one of ``rows`` has been read to its end.

        Returns:
            Those of ``rows`` that have nothing left to read, and the logits after the last token of each,
            (rows, vocabulary).
        """
        waiting = [len(self._waiting[row]) for row in rows]
        in_front = not self._both and not any(self._lengths)  # every network takes padding before its first token
        width = max(waiting) if self._gaps or in_front else min(waiting)
        taken = [tokens[:width] for tokens in self._waiting]
        self._waiting = [tokens[width:] for tokens in self._waiting]
        ready = [row for row in rows if not self._waiting[row]]
        return ready, self._read([(row, width - 1) for row in ready], self._arguments(taken, width))

    def _read(self, spots: Sequence[tuple[int, int]], arguments: dict[str, Any]) -> Tensor:
        """What is given back of the network, at (row, place) spots."""
        return logits_at(self._loaded, spots, arguments)

    def _arguments(self, taken: Sequence[Sequence[int]], width: int) -> dict[str, Any]:
        """What the network is given: new tokens of every row, padded on the left."""
        import torch

        ids, positions = [], []
        for row, new in enumerate(taken):
            gap, length = width - len(new), self._lengths[row]
            ids.append([self._pad] * gap + [*new])
            positions.append([0] * gap + [*range(length, length + len(new))])
            self._mask[row] += [0] * gap + [1] * len(new)
            self._lengths[row] += len(new)
        given = {"decoder_input_ids": ids} if self._both else {"input_ids": ids, "attention_mask": self._mask}
        if self._placed:
            given["position_ids"] = positions
        tensors = {name: torch.tensor(rows, device=self._loaded.device) for name, rows in given.items()}
        return {**tensors, **self._fixed, "past_key_values": self._cache, "use_cache": True}


def new_cache(loaded: Loaded) -> Any:  # noqa: ANN401 - transformers is imported lazily
    """Empty memory for what a network reads."""
    from transformers import DynamicCache, EncoderDecoderCache

    config = loaded.network.config
    if not config.is_encoder_decoder:
        return DynamicCache(config=config)
    return EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))


def planner(loaded: Loaded, sequences: Sequence[list[int]]) -> Planner:
    """How batches are made of sequences: those that begin alike go together where that saves reading it again."""
    return plan_alike(sequences) if gaps_allowed(loaded) else plan


def gaps_allowed(loaded: Loaded) -> bool:
    """Whether a row may have gaps: every layer sees all the way back, and is told the positions of tokens."""
    from transformers.cache_utils import DynamicLayer

    if loaded.network.config.is_encoder_decoder or not takes_positions(loaded):
        return False
    layers = new_cache(loaded).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def takes_positions(loaded: Loaded) -> bool:
    """Whether the network can be told the positions of its tokens."""
    return "position_ids" in inspect.signature(loaded.network.forward).parameters


def share(
    loaded: Loaded,
    cache: Any,  # noqa: ANN401 - a transformers cache
    sequences: Sequence[list[int]],
    read: Callable[[Sequence[tuple[int, int]], dict[str, Any]], Tensor],
) -> int:
    """Reads what all sequences begin with once, into the cache of every row; how many tokens that were."""
    import torch

    first, *others = sequences
    ends = [common_prefix(first, other) for other in others]
    common = min([*ends, *(len(row) - 1 for row in sequences)])
    if not others or common < WORTH or not gaps_allowed(loaded):
        return 0
    ids = torch.tensor([first[:common]], device=loaded.device)
    read([(0, common - 1)], {"input_ids": ids, "past_key_values": cache, "use_cache": True})
    cache.batch_repeat_interleave(len(sequences))
    return common


def _encoded(loaded: Loaded, sequences: Sequence[list[int]], pad: int) -> dict[str, Any]:
    """What an encoder makes of its side, read once."""
    from transformers.modeling_outputs import BaseModelOutput

    ids, mask = right_padded(sequences, pad, loaded.device)
    states = loaded.network.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
    return {"encoder_outputs": BaseModelOutput(states), "attention_mask": mask}
