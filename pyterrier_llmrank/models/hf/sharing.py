"""Reads in packed rows where a network is exact in them, else in plain batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .batching import Budget
from .exactness import PROBES, Way, exceed, way_of
from .loading import Loaded
from .packing import read_packed
from .reading import Read, read_plainly
from .trimming import Spot

STEPS = 8  # of a decoder for each input, over which keys and values of the input are cheaper than to do without
TRIED = 64  # tokens of a prompt, its last ones, that a trial takes
LONG = 8 * TRIED  # of one that is worth a trial by itself


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
    whole = exceed(loaded, lengths)  # what a layer does not see has to be there
    least = 1 if max(lengths, default=0) >= LONG and not whole else PROBES + 1

    def difference(way: Way) -> float:
        return _difference(loaded, _probe(chosen, whole=whole), budget, way)

    way = way_of(loaded, lengths, difference, spot, least)
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


def _probe(reads: Sequence[Read], *, whole: bool) -> list[Read]:
    """Three prompts, or their ends: the longest, itself again, and another.

    The one that occurs twice has all it can in common with itself, the other may have anything.
    """
    by_length = sorted(reads, key=lambda read: len(read.ids))
    chosen = [by_length[-1], by_length[-1], by_length[0]]
    return chosen if whole else [_end(read) for read in chosen]


def _end(read: Read) -> Read:
    """The end of a prompt, with all that is read of it."""
    start = len(read.ids) - TRIED
    if not read.decoder:
        start = min(start, *read.positions)
    if start <= 0:
        return read
    wanted = read.wanted if read.decoder else [(position - start, token) for position, token in read.wanted]
    return Read(read.ids[start:], read.decoder, wanted)


def _difference(loaded: Loaded, probe: Sequence[Read], budget: Budget, way: Way) -> float:
    """The largest difference of a way from the plain one, over some prompts."""
    found = read_packed(loaded, probe, budget, way.spot)
    pairs = zip(found, read_plainly(loaded, probe, budget), strict=True)
    return float(np.max([np.abs(one[0] - plain[0]).max() for (one, _), plain in pairs]))  # or not a number
