"""The strategies that the laws are checked on. A new strategy is one more line here.

``settles(n, k)`` says how many of the first ``k`` documents a perfect scorer puts right, whatever the input order.
"""

from __future__ import annotations

from typing import NamedTuple

from pyterrier_llmrank.aggregates import additive
from pyterrier_llmrank.designs import all_pairs
from pyterrier_llmrank.strategies import Heapsort, OneShot, Pointwise, Sampled, SlidingWindow


class Law(NamedTuple):
    strategy: object
    settles: object


def everything(n, k):
    return k


def _window(window, stride, passes=1):
    """RankGPT's guarantee: ``window - stride`` documents in one pass, ``min(stride, window - stride)`` in each more."""

    def settles(n, k):
        if n <= window:
            return k
        return min(k, (window - stride) + (passes - 1) * min(stride, window - stride))

    return Law(SlidingWindow(window, stride, passes), settles)


LAWS = [
    Law(OneShot(), everything),
    Law(Pointwise(), everything),
    _window(20, 10),
    _window(20, 10, passes=3),
    _window(4, 3),
    _window(5, 2, passes=2),
    _window(6, 6),
    _window(2, 1, passes=10),
    Law(Heapsort(2), everything),
    Law(Heapsort(3), everything),
    Law(Heapsort(4), everything),
    Law(Heapsort(10), everything),
    Law(Heapsort(2, children=4), everything),
    Law(Sampled(all_pairs, additive), everything),
]
