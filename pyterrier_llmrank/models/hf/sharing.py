"""Reads in packed rows where a network is exact in them, else in plain batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .batching import Budget
from .exactness import Way, way_of
from .loading import Loaded
from .packing import read_packed
from .reading import Read, read_plainly
from .trimming import Spot

STEPS = 8  # of a decoder for each input, over which keys and values of the input are cheaper than to do without


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


def read_all(loaded: Loaded, reads: Sequence[Read], budget: Budget) -> list[Reading]:
    """One reading per read; who else is read changes none of them."""
    results = [Reading(np.empty(0), np.empty(0), 0)] * len(reads)
    asked = [item for item, read in enumerate(reads) if read.wanted]
    chosen = [reads[item] for item in asked]
    lengths = [len(read.ids) for read in chosen]
    spot = _spot(chosen, both_sides=loaded.network.config.is_encoder_decoder) if chosen else None
    way = way_of(loaded, lengths, lambda way: _difference(loaded, chosen, budget, way), spot)
    if way.packed:
        found = read_packed(loaded, chosen, budget, way.spot)
    else:
        found = [(values, 0) for values in read_plainly(loaded, chosen, budget)]
    for item, (values, cached) in zip(asked, found, strict=True):
        results[item] = Reading(values[0], values[1], cached)
    return results


def _spot(reads: Sequence[Read], *, both_sides: bool) -> Spot | None:
    """What alone is computed of the end of a network, where little is read of it.

    Args:
        reads: At least one.
        both_sides: Whether it is an encoder-decoder.
    """
    if both_sides:
        steps = sum(len(read.decoder) for read in reads)
        return "steps" if steps <= STEPS * len({tuple(read.ids) for read in reads}) else None
    tokens, read = sum(len(read.ids) for read in reads), sum(len(read.ids) - min(read.positions) for read in reads)
    return "ends" if 2 * read <= tokens else None


def _difference(loaded: Loaded, reads: Sequence[Read], budget: Budget, way: Way) -> float:
    """The largest difference of a way from the plain one, over three prompts: the longest, itself again, and another.

    The one that occurs twice has all it can in common with itself, the other may have anything.
    """
    longest = max(reads, key=lambda read: len(read.ids))
    other = min(reads, key=lambda read: len(read.ids))
    probe = [longest, longest, other]
    found = read_packed(loaded, probe, budget, way.spot)
    pairs = zip(found, read_plainly(loaded, probe, budget), strict=True)
    return float(np.max([np.abs(one[0] - plain[0]).max() for (one, _), plain in pairs]))  # or not a number
