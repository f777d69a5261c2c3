"""Finds prefixes that prompts share, on their token ids: no template needs to say where its constant part ends."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

DEPTH = 100  # nested prefixes looked into; deeper ones are taken as they are


class Shared(NamedTuple):
    """Sequences that begin alike.

    Attributes:
        length: Tokens of the prefix; 0 for a sequence by itself.
        items: Places of the sequences.
    """

    length: int
    items: list[int]

    @property
    def saved(self) -> int:
        """Tokens that need not be computed again."""
        return self.length * (len(self.items) - 1)


def shared_prefixes(sequences: Sequence[list[int]], limits: Sequence[int]) -> list[Shared]:
    """Groups that save many tokens when each computes its prefix once (one level: no prefix within a prefix).

    Chosen bottom-up, from the longest prefixes to the shortest: not always the best of all groupings, but near it.

    Args:
        sequences: Token ids.
        limits: How much of each sequence may belong to a prefix.

    Returns:
        Groups that hold every sequence once.
    """
    if not sequences:
        return []
    order = sorted(range(len(sequences)), key=lambda item: sequences[item])
    common = [0] * len(order)  # with the sequence before
    for place in range(1, len(order)):
        one, other = order[place - 1], order[place]
        limit = min(limits[one], limits[other])
        common[place] = _common(sequences[one], sequences[other], limit)
    return _best_groups(order, common, 0, len(order), DEPTH)


def _common(one: Sequence[int], other: Sequence[int], limit: int) -> int:
    """Leading ids that two sequences share, at most ``limit``."""
    if one[:limit] == other[:limit]:
        return limit
    return next(place for place in range(limit) if one[place] != other[place])


def _best_groups(order: list[int], common: list[int], start: int, end: int, depth: int) -> list[Shared]:
    """The best groups of the sorted sequences ``start`` to ``end``: all as one, or split where they share least."""
    if end - start == 1:
        return [Shared(0, [order[start]])]
    length = min(common[start + 1 : end])
    whole = Shared(length, order[start:end])
    if depth == 0:
        return [whole]
    cuts = [start, *(place for place in range(start + 1, end) if common[place] == length), end]
    parts: list[Shared] = []
    for left, right in pairwise(cuts):
        parts += _best_groups(order, common, left, right, depth - 1)
    alone = [item for part in parts if len(part.items) == 1 for item in part.items]
    if len(alone) > 1:
        parts = [*(part for part in parts if len(part.items) > 1), Shared(length, alone)]
    return [whole] if whole.saved >= sum(part.saved for part in parts) else parts
