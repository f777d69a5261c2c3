"""Designs: from the number of documents to the groups to ask about."""

from __future__ import annotations

from itertools import combinations

from .core import Group


def all_pairs(n: int) -> list[Group]:
    """Every unordered pair, the earlier document first: ``n (n - 1) / 2`` groups.

    Ask both orders with a scorer that does so; the design stays the same.
    """
    return list(combinations(range(n), 2))
