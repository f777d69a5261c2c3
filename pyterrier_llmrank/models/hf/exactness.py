"""Whether a network is exact in packed rows: tried on a few inputs at first use, and logged where it is not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .loading import Loaded
from .trimming import Spot

logger = logging.getLogger(__name__)

PROBES = 3  # inputs that are run both ways
TOLERANCES = {"torch.float32": 1e-3, "torch.bfloat16": 0.2, "torch.float16": 0.05}  # as ``way_of`` compares


class Way(NamedTuple):
    """How inputs are run.

    Attributes:
        packed: In packed rows, or else in plain batches.
        spot: Of packed rows, what the last layer finishes; None for all tokens.
    """

    packed: bool
    spot: Spot | None = None


def way_of(
    loaded: Loaded,
    lengths: Sequence[int],
    difference: Callable[[Way], float],
    spot: Spot | None = None,
    least: int = PROBES + 1,
) -> Way:
    """The fastest way to run inputs that gives what plain batches give.

    Each way is tried at first use, and again for the first inputs that exceed what its nearest-sighted layer can see.

    Args:
        loaded: The network.
        lengths: Tokens of each input.
        difference: Runs ``PROBES`` of them in a way and in plain batches; how far apart the results are, in natural-log
            probability or relative to the largest.
        spot: What alone is read of the last layer; None for all tokens.
        least: Inputs that are worth a trial: fewer are run in ways that were tried before.
    """
    beyond = exceed(loaded, lengths)
    for way in dict.fromkeys([Way(True, spot), Way(True)]):
        known = loaded.packs.get((beyond, None)) is not False and loaded.packs.get((beyond, way.spot))
        if known is None and len(lengths) >= least:
            known = loaded.packs[beyond, way.spot] = _exact(loaded, way, difference)
        if known:
            loaded.packs[beyond, None] = True
            return way
    return Way(packed=False)


def exceed(loaded: Loaded, lengths: Sequence[int]) -> bool:
    """Whether inputs are longer than what the network's nearest-sighted layer can see."""
    return loaded.window is not None and max(lengths, default=0) > loaded.window


def _exact(loaded: Loaded, way: Way, difference: Callable[[Way], float]) -> bool:
    """Whether a network is; says so where not."""
    try:
        worst = difference(way)
        why = f"it would be off by {worst:.2g}"
    except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        worst, why = float("inf"), str(error)
    if worst <= TOLERANCES.get(str(loaded.network.dtype), 0.0):
        return True
    name = type(loaded.network).__name__
    if way.spot is None:
        logger.warning("%s is run in plain batches, without packing or shared prefixes: packed, %s", name, why)
    else:
        logger.info("%s computes at its end what is not read: otherwise %s", name, why)
    return False
