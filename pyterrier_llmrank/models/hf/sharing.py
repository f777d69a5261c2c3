"""Reads with shared prefixes: keys and values of a prefix that many prompts begin with are computed once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .batching import Budget, in_batches
from .loading import Loaded
from .prefixes import Shared, shared_prefixes
from .reading import Read, logits_at, read_plainly, right_padded, values_at

if TYPE_CHECKING:
    from transformers import DynamicCache

logger = logging.getLogger(__name__)

WORTH = 0.1  # share of a group's tokens that a prefix must save
PROBES = 3  # prompts that are read both ways at first use
TOLERANCES = {"torch.float32": 1e-3, "torch.bfloat16": 0.2, "torch.float16": 0.05}  # of natural-log probabilities


class Reading(NamedTuple):
    """What was read of one sequence.

    Attributes:
        logprobs: Natural log-probability of each wanted token, (wanted,).
        totals: Log of the sum of exp(logit) over the vocabulary at each wanted position, (wanted,).
        cached: How many of its tokens were computed before, for another sequence.
    """

    logprobs: NDArray[np.float64]
    totals: NDArray[np.float64]
    cached: int


NOTHING = Reading(np.empty(0), np.empty(0), 0)


def read_all(loaded: Loaded, reads: Sequence[Read], budget: Budget) -> list[Reading]:
    """One reading per read; who else is read changes none of them.

    At first use a few prompts are read with and without a shared prefix; where an architecture does not give the same
    both ways, that is logged, and nothing is shared with it.
    """
    results: list[Reading | None] = [None if read.wanted else NOTHING for read in reads]
    groups = _groups(loaded, reads, budget)
    if groups and loaded.shares_prefixes is None:
        loaded.shares_prefixes = _exact(loaded, reads, groups[0], budget)
    if not loaded.shares_prefixes:
        groups = []
    for group in groups:
        for item, values in zip(group.items, _read_group(loaded, reads, group, budget), strict=True):
            results[item] = Reading(values[0], values[1], group.length if item != group.items[0] else 0)
    rest = [item for item, result in enumerate(results) if result is None]
    for item, values in zip(rest, read_plainly(loaded, [reads[item] for item in rest], budget), strict=True):
        results[item] = Reading(values[0], values[1], 0)
    return [result for result in results if result is not None]


def _groups(loaded: Loaded, reads: Sequence[Read], budget: Budget) -> list[Shared]:
    """Groups whose prefix is worth computing apart; on a GPU, those that still fill a batch."""
    if loaded.network.config.is_encoder_decoder or loaded.shares_prefixes is False:
        return []
    window = _window(loaded)
    asked = [item for item, read in enumerate(reads) if read.wanted]
    limits = [min(reads[item].positions) for item in asked]  # what is read belongs to the rest
    groups = []
    for length, places in shared_prefixes([reads[item].ids for item in asked], limits):
        if window is not None and length >= window:
            continue  # the cache of a sliding layer holds no more than its window
        group = Shared(length, [asked[place] for place in places])
        tokens = sum(len(reads[item].ids) for item in group.items)
        full = loaded.device.type == "cpu" or tokens - group.saved >= budget.tokens // 4
        if full and group.saved > WORTH * tokens:
            groups.append(group)
    return groups


def _window(loaded: Loaded) -> int | None:
    """How far back the nearest-sighted layer can see; None for all the way."""
    config = loaded.network.config.get_text_config(decoder=True)
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return min((window for window in windows if isinstance(window, int)), default=None)


def _exact(loaded: Loaded, reads: Sequence[Read], group: Shared, budget: Budget) -> bool:
    """Whether this network gives the same with a shared prefix as without."""
    probe = Shared(group.length, group.items[:PROBES])
    try:
        apart = _read_group(loaded, reads, probe, budget)
    except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
        logger.warning("%s shares no prefixes: %s", type(loaded.network).__name__, error)
        return False
    whole = read_plainly(loaded, [reads[item] for item in probe.items], budget)
    tolerance = TOLERANCES.get(str(loaded.network.dtype), 0.0)
    worst = max(float(np.abs(one[0] - other[0]).max()) for one, other in zip(apart, whole, strict=True))
    if worst > tolerance:
        logger.warning("%s shares no prefixes: scores would be off by %.2g", type(loaded.network).__name__, worst)
    return worst <= tolerance


def _read_group(loaded: Loaded, reads: Sequence[Read], group: Shared, budget: Budget) -> list[NDArray[np.float64]]:
    """What is wanted of each read of a group, its prefix run once and its rests in batches."""
    import torch

    results: dict[int, NDArray[np.float64]] = {}
    own = [reads[item] for item in group.items]
    prefixes: list[DynamicCache] = []
    start = own[0].ids[: group.length]
    in_batches([group.length], [0], budget, lambda _: prefixes.append(_run_prefix(loaded, start)))
    [prefix] = prefixes

    def work(batch: list[int]) -> None:
        chosen = [own[place] for place in batch]
        ids, _ = right_padded([read.ids[group.length :] for read in chosen], 0, loaded.device)
        positions = torch.arange(group.length, group.length + ids.shape[1], device=loaded.device)[None]
        with torch.inference_mode():
            cache = _for_batch(loaded, prefix, len(batch))
        arguments = {"input_ids": ids, "position_ids": positions, "past_key_values": cache, "use_cache": True}
        results.update(zip(batch, values_at(loaded, chosen, arguments, offset=group.length), strict=True))

    lengths = [len(read.ids) for read in own]  # keys and values of the prefix take room in every row
    in_batches(lengths, [len(read.positions) for read in own], budget, work)
    return [results[place] for place in range(len(own))]


def _run_prefix(loaded: Loaded, ids: list[int]) -> DynamicCache:
    """Keys and values of a prefix, of every layer, for one row; no logits."""
    import torch
    from transformers import DynamicCache

    cache = DynamicCache(config=loaded.network.config)
    tokens, _ = right_padded([ids], 0, loaded.device)
    positions = torch.arange(len(ids), device=loaded.device)[None]
    arguments = {"input_ids": tokens, "position_ids": positions, "past_key_values": cache, "use_cache": True}
    with torch.inference_mode():
        logits_at(loaded, [], arguments)
    return cache


def _for_batch(loaded: Loaded, prefix: DynamicCache, rows: int) -> DynamicCache:
    """The prefix for every row of a batch, as a cache that a forward pass may add to."""
    from transformers import DynamicCache

    cache = DynamicCache(config=loaded.network.config)
    layers: list[Any] = prefix.layers  # those without keys (linear attention) raise AttributeError
    for number, layer in enumerate(layers):
        cache.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), number)
    return cache
