"""Insertion: what its docstring promises. No recorded runs of official code; the authors' sort is told in a test."""

from __future__ import annotations

from itertools import pairwise
from math import ceil, log2

import numpy as np
import pytest
from fakes import first, intransitive, last, oracle, silent

from pyterrier_llmrank.core import Evidence, descending
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.flow import run
from pyterrier_llmrank.strategies import Heapsort, Insertion

SHAPES = [Insertion(), Insertion(2), Insertion(10), Insertion(4, head=1), Insertion(3, head=2), Insertion(5, head=30)]
each_shape = pytest.mark.parametrize("strategy", SHAPES, ids=repr)


def inserted(strategy, n, k, ask):
    """Order, and the groups asked, in order."""
    asked = []

    def listen(groups):
        asked.extend(groups)
        return ask(groups)

    return descending(range(n), run(strategy(n, min(k, n)), listen)), asked


def stable(relevance):
    """All documents by relevance, equals in input order."""
    return sorted(range(len(relevance)), key=lambda i: -relevance[i])


def noisy_first_stage(n, noise, seed):
    """Relevance of documents whose input order is right but for noise."""
    rng = np.random.default_rng(seed)
    return np.argsort(np.argsort(-np.arange(n) + noise * rng.normal(size=n))).tolist()


@each_shape
def test_a_perfect_scorer_gives_the_exact_order_and_equal_grades_keep_theirs(strategy):
    for n in (0, 1, 2, 3, 9, 10, 11, 25, 47):
        rng = np.random.default_rng(n)
        for relevance in (list(range(n)), list(range(n, 0, -1)), rng.integers(0, 5, size=n).tolist()):
            for k in {1, strategy.head, n}:
                k = min(k, n)
                assert inserted(strategy, n, k, oracle(relevance))[0][:k] == stable(relevance)[:k]


def test_a_winner_is_put_at_its_exact_place_wherever_that_is():
    """The published code lets it rise by whole groups and leaves it under all of the group that it does not win."""
    for place in range(10):
        relevance = [100 - i for i in range(10)] + [0] * 7 + [100.5 - place] + [0] * 5
        order, _ = inserted(Insertion(4, head=10), len(relevance), 10, oracle(relevance))
        assert order[:10] == [*range(place), 17, *range(place, 9)]


def test_a_group_that_does_not_beat_the_last_of_the_head_costs_one_question():
    order, asked = inserted(Insertion(4, head=3), 12, 3, oracle(range(12, 0, -1)))
    assert asked[2:] == [(2, 3, 4, 5), (2, 6, 7, 8), (2, 9, 10, 11)]  # after the head is sorted
    assert order == list(range(12))


def test_the_rest_of_a_group_that_was_won_is_asked_about_again_with_the_new_last_of_the_head():
    relevance = [9, 8, 7, 1, 8.5, 7.5, 0, 0]
    order, asked = inserted(Insertion(4, head=3), 8, 3, oracle(relevance))
    # 4 beats 2 and goes between 0 and 1; then 3 and 5 meet 1, the new last
    assert asked[2:] == [(2, 3, 4, 5), (1, 4), (0, 4), (1, 3, 5, 6), (1, 7)]
    assert order[:3] == [0, 4, 1]


@pytest.mark.parametrize(("group_size", "head"), [(2, 10), (4, 10), (10, 10), (4, 1), (4, 50)])
def test_calls_where_the_first_stage_is_right_follow_the_documented_formula(group_size, head):
    strategy, n = Insertion(group_size, head), 100
    sort = len(inserted(Heapsort(group_size), head, head, oracle(range(head, 0, -1)))[1])
    for ask in (oracle(range(n, 0, -1)), silent):
        order, asked = inserted(strategy, n, head, ask)
        assert order == list(range(n))
        if ask is not silent or group_size > 2:
            assert len(asked) == sort + ceil((n - head) / (group_size - 1))


@each_shape
def test_calls_never_exceed_the_documented_bound(strategy):
    for n in (1, 10, 11, 33):
        for k in {1, n}:
            bound, left = 0, n
            while left > n - k:
                h = min(strategy.head, left)
                bound += Heapsort(strategy.group_size).cost(h, h).calls + (left - h) * (1 + ceil(log2(h)))
                left -= h
            cost = strategy.cost(n, k)
            assert cost.calls == bound and cost.rounds <= bound and not cost.exact
            for ask in (oracle(range(n)), first, last, intransitive, silent):
                assert len(inserted(strategy, n, k, ask)[1]) <= bound


def test_the_documented_numbers_are_those_measured():
    right, random = range(100, 0, -1), [np.random.default_rng(seed).permutation(100).tolist() for seed in range(20)]
    assert len(inserted(Insertion(4), 100, 10, oracle(right))[1]) == 45
    assert len(inserted(Heapsort(4), 100, 10, oracle(right))[1]) == 69
    calls = [len(inserted(Insertion(4), 100, 10, oracle(relevance))[1]) for relevance in random]
    assert np.mean(calls) == pytest.approx(130, rel=0.05)


@pytest.mark.parametrize("group_size", [2, 4])
def test_a_good_first_stage_saves_calls_over_heapsort(group_size):
    """Published: 23% fewer than the setwise heapsort, on BM25."""
    saved = []
    for seed in range(10):
        relevance = noisy_first_stage(100, noise=10, seed=seed)
        (order, asked), (heap, heap_asked) = (
            inserted(strategy, 100, 10, oracle(relevance)) for strategy in (Insertion(group_size), Heapsort(group_size))
        )
        assert order[:10] == heap[:10] == stable(relevance)[:10]
        saved.append(1 - len(asked) / len(heap_asked))
    assert np.mean(saved) > 0.1


def test_a_smaller_cutoff_is_the_same_sort_cut_off():
    for ask in (oracle(range(40)), intransitive):
        asked = [inserted(Insertion(4, head=10), 40, k, ask)[1] for k in (1, 10, 11, 20, 40)]
        assert asked[0] == asked[1] and asked[2] == asked[3]
        for fewer, more in pairwise(asked):
            assert more[: len(fewer)] == fewer


def test_it_needs_the_best_of_a_group():
    assert (Insertion(4).needs, Insertion(4).group_size) == (Evidence.CHOICE, 4)


@pytest.mark.parametrize(
    ("arguments", "found", "remedy"),
    [
        ({"group_size": 1}, "group_size=1", "at least 2 documents"),
        ({"head": 0}, "head=0", "at least 1 document"),
    ],
)
def test_bad_arguments_are_named_with_a_remedy(arguments, found, remedy):
    with pytest.raises(ConfigurationError, match=remedy) as caught:
        Insertion(**arguments)
    assert found in str(caught.value)


@each_shape
def test_repr_rebuilds_the_strategy(strategy):
    assert eval(repr(strategy)) == strategy
