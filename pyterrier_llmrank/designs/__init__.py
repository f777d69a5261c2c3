"""Designs: from the number of documents to the groups to ask about.

Each works for every number of documents: lists of less than two are not asked about, groups of one document neither,
and from two on every document is in a group. A design that draws has a ``seed``, and as many groups for every seed.
"""

from __future__ import annotations

from .blocks import equi_replicate, latin, random_blocks, triangular
from .cycles import cycles
from .groups import shuffled_groups
from .pairs import all_ordered_pairs, all_pairs, grouped_pairs, random_pairs, window_pairs

__all__ = [
    "all_ordered_pairs",
    "all_pairs",
    "cycles",
    "equi_replicate",
    "grouped_pairs",
    "latin",
    "random_blocks",
    "random_pairs",
    "shuffled_groups",
    "triangular",
    "window_pairs",
]
