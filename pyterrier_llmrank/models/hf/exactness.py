"""Whether a network is exact in packed rows: tried on a few inputs at first use, and logged where it is not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from .loading import Loaded

logger = logging.getLogger(__name__)

PROBES = 3  # inputs that are run both ways
TOLERANCES = {"torch.float32": 1e-3, "torch.bfloat16": 0.2, "torch.float16": 0.05}  # as ``packs`` compares


def packs(loaded: Loaded, lengths: Sequence[int], difference: Callable[[], float], least: int = PROBES + 1) -> bool:
    """Whether to run inputs in packed rows: several of them, on a network that gives the same as in plain batches.

    Tried at first use, and again for the first inputs that exceed what its nearest-sighted layer can see.

    Args:
        loaded: The network.
        lengths: Tokens of each input.
        difference: Runs ``PROBES`` of them both ways; how far apart the results are, in natural-log probability or
            relative to the largest.
        least: Inputs that are worth a trial: fewer are run in plain batches, unless it was made before.
    """
    if len(lengths) < 2:
        return False
    beyond = loaded.window is not None and max(lengths) > loaded.window
    if beyond not in loaded.packs:
        if len(lengths) < least:
            return False
        loaded.packs[beyond] = _exact(loaded, difference)
    return loaded.packs[beyond]


def _exact(loaded: Loaded, difference: Callable[[], float]) -> bool:
    name = type(loaded.network).__name__
    try:
        worst = difference()
    except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        logger.warning("%s is run in plain batches, without packing or shared prefixes: %s", name, error)
        return False
    if not worst <= TOLERANCES.get(str(loaded.network.dtype), 0.0):
        logger.warning(
            "%s is run in plain batches, without packing or shared prefixes: packed, it would be off by %.2g",
            name,
            worst,
        )
        return False
    return True
