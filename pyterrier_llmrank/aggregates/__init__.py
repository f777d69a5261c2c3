"""Aggregates: from the answers about many groups to one score per document. One file a family.

An aggregate is a function ``(n, groups, answers) -> Scores``, with options as keywords: write
``partial(bradley_terry, prior=1.0)`` to change one. Groups may have any size, answers may be missing. What all of them
keep: silence moves nobody, equals stay in input order, and a document that was never compared is not the last for it:
it gets an average score, or keeps its place where a method only gives an order.

``heaviest_path`` is no aggregate, but the search that ``tsp`` and ``BestPath`` order documents by.
"""

from __future__ import annotations

from .disagreement import kemeny
from .graph import page_rank
from .likelihood import bradley_terry, elo, plackett_luce, thurstone
from .opponents import copeland, maximum, minimum, win_rate
from .orders import greedy, kwiksort
from .paths import heaviest_path, tsp
from .sums import additive, binary, borda, mean, shown_first

__all__ = [
    "additive",
    "binary",
    "borda",
    "bradley_terry",
    "copeland",
    "elo",
    "greedy",
    "heaviest_path",
    "kemeny",
    "kwiksort",
    "maximum",
    "mean",
    "minimum",
    "page_rank",
    "plackett_luce",
    "shown_first",
    "thurstone",
    "tsp",
    "win_rate",
]
