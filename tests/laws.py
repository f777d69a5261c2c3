"""The strategies that the laws are checked on. A new strategy is one more line here.

``settles(n, k)`` says how many of the first ``k`` documents a perfect scorer puts right, whatever the input order.
``once`` says that no set of documents is asked about twice, whatever the answers.
"""

from __future__ import annotations

from typing import NamedTuple

from pyterrier_llmrank.aggregates import additive, borda, bradley_terry, mean, page_rank, win_rate
from pyterrier_llmrank.designs import (
    all_ordered_pairs,
    all_pairs,
    cycles,
    equi_replicate,
    grouped_pairs,
    latin,
    random_blocks,
    random_pairs,
    shuffled_groups,
    triangular,
    window_pairs,
)
from pyterrier_llmrank.strategies import (
    Bubble,
    Heapsort,
    Insertion,
    Knockout,
    MultiwayTournament,
    Narrowing,
    OneShot,
    Pointwise,
    Sampled,
    SlidingWindow,
    TopDown,
    Tournament,
)


class Law(NamedTuple):
    strategy: object
    settles: object
    once: bool = False


def everything(n, k):
    return k


def the_best(n, k):
    return min(k, 1)


def _bubble(group_size, passes):
    """A pass settles a position; once all but one are settled, so is the last."""
    return Law(Bubble(group_size, passes), lambda n, k: k if passes >= n - 1 else min(k, passes), once=True)


def _window(window, stride, passes=1):
    """RankGPT's guarantee: ``window - stride`` documents in one pass, ``min(stride, window - stride)`` in each more."""

    def settles(n, k):
        if n <= window:
            return k
        return min(k, (window - stride) + (passes - 1) * min(stride, window - stride))

    return Law(SlidingWindow(window, stride, passes), settles)


def _top_down(window, pivot):
    """All that one window holds, or the ``pivot`` documents of a longer list."""

    def settles(n, k):
        return k if n <= window else min(k, pivot)

    return Law(TopDown(window, pivot), settles)


def nothing(n, k):
    """Points only grade documents, and a buffer may leave the best out: a perfect scorer settles no place for sure."""
    return 0


def one_window(n, k):
    return k if n <= 20 else 0


def _sampled(design, aggregate, whole=0):
    """Up to ``whole`` documents, the design compares all with all equally often; of more, it promises no place."""
    return Law(Sampled(design, aggregate), lambda n, k: k if n <= whole else 0)


LAWS = [
    Law(OneShot(), everything),
    Law(Pointwise(), everything),
    _window(20, 10),
    _window(20, 10, passes=3),
    _window(4, 3),
    _window(5, 2, passes=2),
    _window(6, 6),
    _window(2, 1, passes=10),
    Law(Heapsort(2), everything, once=True),
    Law(Heapsort(3), everything, once=True),
    Law(Heapsort(4), everything, once=True),
    Law(Heapsort(10), everything, once=True),
    Law(Heapsort(2, children=4), everything, once=True),
    Law(Bubble(), everything, once=True),
    Law(Bubble(4), everything, once=True),
    _bubble(2, passes=10),
    _bubble(5, passes=3),
    Law(Insertion(), everything, once=True),
    Law(Insertion(2, head=3), everything, once=True),
    Law(Insertion(20, head=1), everything, once=True),
    Law(Knockout(), the_best, once=True),
    Law(Knockout(4, seed=1), the_best, once=True),
    Law(Sampled(all_pairs, additive), everything),
    Law(Sampled(all_ordered_pairs, additive), everything),
    _sampled(random_pairs(), bradley_terry, whole=9),
    _sampled(random_pairs(1, seed=1), win_rate, whole=2),
    _sampled(window_pairs(5), additive, whole=6),
    _sampled(window_pairs(10), borda, whole=11),
    _sampled(window_pairs(2, dilation=3), page_rank),
    _sampled(grouped_pairs(5), borda, whole=5),
    _sampled(grouped_pairs(4, wrap=True, shuffled=True), additive, whole=8),
    _sampled(cycles(), bradley_terry, whole=3),
    _sampled(latin(10), page_rank, whole=10),
    _sampled(latin(3), win_rate, whole=3),
    _sampled(triangular(10), win_rate, whole=10),
    _sampled(triangular(3), page_rank, whole=3),
    _sampled(equi_replicate(20), page_rank, whole=20),
    _sampled(equi_replicate(2, copies=3), bradley_terry, whole=3),
    _sampled(random_blocks(5, copies=2), borda, whole=5),
    _sampled(shuffled_groups(), mean, whole=60),
    _sampled(shuffled_groups(2, epochs=3), borda, whole=2),
    Law(Tournament(), nothing),
    Law(Tournament(repeats=3, group_size=5, seed=1), nothing),
    Law(Tournament(repeats=2, group_size=2), nothing),
    Law(Narrowing(), everything, once=True),
    Law(Narrowing(keep=3, share=0.5, least=1), everything, once=True),
    Law(MultiwayTournament(), everything, once=True),
    Law(MultiwayTournament(group_size=5, keep=1), everything, once=True),
    Law(MultiwayTournament(group_size=2, keep=1), everything, once=True),
    Law(MultiwayTournament(group_size=7, keep=3), everything, once=True),
    _top_down(20, 10),
    _top_down(10, 9),
    _top_down(5, 1),
    _top_down(2, 1),
    Law(TopDown(20, 10, buffer=20), one_window),
    Law(TopDown(20, 10, buffer=20, legacy=True), one_window),
    Law(TopDown(5, 2, buffer=2), nothing),
]
