"""Bubble against recorded runs of llm-rankers, and against what its docstring promises.

Pairs equal the official sort in every recorded case. Sets equal it wherever it is right: it skips what no pass changed
at the bottom of the list, which for sets is unsound, and on short lists it asks about nothing.
"""

from __future__ import annotations

from collections import Counter
from math import ceil

import numpy as np
import pytest
from fakes import first, intransitive, last, oracle, silent
from shared_data import parity

from pyterrier_llmrank.core import Evidence, descending
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.flow import run
from pyterrier_llmrank.strategies import Bubble, SlidingWindow

SHAPES = [Bubble(2), Bubble(3), Bubble(4), Bubble(10), Bubble(20), Bubble(2, passes=3), Bubble(5, passes=2)]
each_shape = pytest.mark.parametrize("strategy", SHAPES, ids=repr)
each_answerer = pytest.mark.parametrize("ask", [first, last, intransitive, silent], ids=lambda ask: ask.__name__)


def bubbled(strategy, n, k, ask):
    """Order, and the groups asked, round by round."""
    rounds = []

    def listen(groups):
        rounds.append(groups)
        return ask(groups)

    return descending(range(n), run(strategy(n, min(k, n)), listen)), rounds


def flat(rounds):
    return [group for asked in rounds for group in asked]


def stable(relevance, k):
    """The first ``k`` by relevance, equals in input order; the others in input order."""
    top = sorted(range(len(relevance)), key=lambda i: -relevance[i])[:k]
    return top + [i for i in range(len(relevance)) if i not in top]


def one_pass_after_another(strategy, n, k, ask):
    """The sort as it is told in papers: order, and the sets asked about for the first time."""
    order, known = list(range(n)), {}
    for own in range(min(n - 1, k, strategy.passes or k)):
        end = n
        while end - own > 1:
            start = max(own, end - strategy.group_size)
            group = tuple(order[start:end])
            if frozenset(group) not in known:
                known[frozenset(group)] = dict(zip(group, ask([group])[0], strict=True))
            best = descending(group, np.array([known[frozenset(group)][i] for i in group]))[0]
            order[start:end] = [best, *(i for i in group if i != best)]
            end = start + 1
    return order[:k] + sorted(order[k:]), set(known)


# -- llm-rankers ------------------------------------------------------------------------------------------------------


def both_orders(case):
    """Answers of a pair asked in both orders: 1 and 0 where they agree, a tie where they contradict, NaN for junk."""

    def shares(a, b):
        if case["mode"] == "oracle":
            better = np.sign(case["rel"][a] - case["rel"][b])
        else:
            better = {0: 0, 1: 1, 2: -1}[(a - b) % 3] if case["mode"] == "cyclic" else 0
        return np.array([0.5 + better / 2, 0.5 - better / 2])

    return silent if case["mode"] == "malformed" else lambda groups: [shares(*group) for group in groups]


def test_pairs_give_the_official_order_for_no_more_calls():
    """All 100 cases, contradictions, junk and cycles included: in both, a pair without a winner stays as it is."""
    compared = Counter()
    for case in parity("llmrankers_pairwise_sort")["cases"]:
        if case["method"] != "bubblesort":
            continue
        order, rounds = bubbled(Bubble(2), case["n"], case["k"], both_orders(case))
        asked = flat(rounds)
        assert order == case["order0"], case
        assert len(asked) <= case["n_comparisons"], case
        if case["n"] <= 10:  # recorded as (lower, upper)
            log = {frozenset(pair) for pair in case["comparisons"]}
            assert {frozenset(pair) for pair in asked} == log, case
            compared["logs"] += 1
        compared[case["mode"]] += 1
        compared["fewer calls"] += len(asked) < case["n_comparisons"]
    assert compared == {"oracle": 64, "always_first": 12, "malformed": 12, "cyclic": 12, "logs": 70, "fewer calls": 19}


def test_sets_give_the_official_top_where_it_is_right_and_the_right_one_where_it_is_not():
    compared = Counter()
    for case in parity("llmrankers_setwise_sort")["cases"]:
        if case["method"] != "bubblesort" or case["mode"] != "oracle":
            continue
        relevance, k = case["rel"], min(case["k"], case["n"])
        order, _ = bubbled(Bubble(case["num_child"] + 1), case["n"], k, oracle(relevance))
        assert order == stable(relevance, k)
        if case["error_class"] == "empty_set_prompt":
            compared["official asks about nothing"] += 1  # windows that start at n or beyond: D3
        elif not case["topk_correct"]:
            compared["official skips too much"] += 1  # the window that a pass ends with is not the next pass's
            assert order[:k] != case["order0"][:k]
        elif order == case["order0"]:
            compared["same order"] += 1
        else:  # it swaps the winner with the first of its set, which shuffles equals
            compared["official unstable"] += 1
            assert [relevance[i] for i in order[:k]] == [relevance[i] for i in case["order0"][:k]]
    assert compared == {
        "same order": 219,
        "official unstable": 1,
        "official asks about nothing": 76,
        "official skips too much": 4,
    }


@pytest.mark.parametrize(
    ("mode", "ask", "official"),
    [("always_first", first, 27), ("malformed", silent, 27), ("out_of_set", silent, 0)],  # raises where out of set
)
def test_sets_without_a_preference_keep_the_order(mode, ask, official):
    compared = 0
    for case in parity("llmrankers_setwise_sort")["cases"]:
        if case["method"] != "bubblesort" or case["mode"] != mode:
            continue
        order, _ = bubbled(Bubble(case["num_child"] + 1), case["n"], case["k"], ask)
        assert order == list(range(case["n"])) == (case["order0"] or order)
        compared += case["order0"] is not None
    assert compared == official


@pytest.mark.parametrize(("group_size", "published"), [(2, 933), (4, 305), (10, 97), (20, 48)])
def test_ten_of_a_hundred_cost_no_more_than_the_published_number_of_calls(group_size, published):
    """Measured on llm-rankers under a perfect scorer, mean over random orders."""
    calls = []
    for seed in range(5):
        relevance = np.random.default_rng(seed).permutation(100).tolist()
        order, rounds = bubbled(Bubble(group_size), 100, 10, oracle(relevance))
        assert order == stable(relevance, 10)
        calls.append(len(flat(rounds)))
    assert 0.7 * published < np.mean(calls) < published


# -- passes in the same rounds ----------------------------------------------------------------------------------------


@each_shape
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 9, 10, 11, 33])
def test_passes_that_follow_closely_equal_one_pass_after_another(strategy, n):
    """The same order from the same sets, for answers of any kind."""
    relevance = np.random.default_rng(n).integers(0, 9, size=n).tolist()
    for ask in (oracle(relevance), first, last, intransitive, silent):
        for k in {1, 3, n}:
            order, rounds = bubbled(strategy, n, k, ask)
            plain, sets = one_pass_after_another(strategy, n, min(k, n), ask)
            assert order == plain
            assert {frozenset(group) for group in flat(rounds)} == sets
            assert len(flat(rounds)) == len(sets)


@each_shape
def test_windows_of_a_round_do_not_overlap_and_those_of_a_pass_share_one_document(strategy):
    for n in (0, 1, 2, 3, 5, 10, 20, 21, 47):
        passes = min(n - 1, strategy.passes or n)
        ends = [n] * passes
        for windows in strategy.rounds(n, n):
            assert windows
            for (start, _), (_, later_end) in zip(windows[1:], windows, strict=False):
                assert later_end <= start  # earlier passes are nearer to the head
            for start, end in windows:
                own = next(own for own, at in enumerate(ends) if at == end and own <= start and at > own + 1)
                assert start == max(own, end - strategy.group_size)
                ends[own] = start + 1
        assert ends == list(range(1, passes + 1))


@each_shape
def test_calls_and_rounds_are_bounded_as_documented(strategy):
    for n in range(1, 70):
        for k in {1, n // 2, n}:
            passes, step = min(strategy.passes or k, k, n - 1), strategy.group_size - 1
            cost = strategy.cost(n, k)
            assert cost.calls == sum(ceil((n - p) / step) for p in range(1, passes + 1))
            assert cost.rounds <= (ceil((n - passes) / step) + 2 * (passes - 1) if passes else 0)


def test_the_documented_numbers_are_those_of_the_formula():
    assert Bubble(2).cost(100, 10) == (945, 90 + 18, False)
    assert Bubble(4).cost(100, 10) == (318, 30 + 18, False)


def test_a_pass_that_changed_nothing_costs_the_next_nothing():
    for ask in (silent, oracle(range(60, 0, -1))):
        assert len(flat(bubbled(Bubble(2), 60, 60, ask)[1])) == 59


# -- kin --------------------------------------------------------------------------------------------------------------


@each_answerer
def test_a_pass_of_pairs_is_a_window_of_two(ask):
    for n in (0, 1, 2, 5, 11, 30):
        assert bubbled(Bubble(2, passes=1), n, n, ask) == bubbled(SlidingWindow(2, 1), n, n, ask)


@pytest.mark.parametrize("passes", [2, 3, 10])
def test_with_a_perfect_scorer_passes_of_pairs_order_like_a_window_of_two_for_fewer_calls(passes):
    """PRP-Sliding-K; equal grades keep their order in both."""
    for n in (5, 11, 30):
        ask = oracle(np.random.default_rng(n).integers(0, 6, size=n).tolist())
        (order, rounds), (window, asked) = (
            bubbled(s, n, n, ask) for s in (Bubble(2, passes), SlidingWindow(2, 1, passes))
        )
        assert order == window
        assert len(flat(rounds)) < len(flat(asked))


def test_only_the_best_of_a_group_moves():
    [order, rounds] = bubbled(Bubble(4, passes=1), 4, 4, oracle([2, 1, 3, 4]))
    assert (order, rounds) == ([3, 0, 1, 2], [[(0, 1, 2, 3)]])
    assert bubbled(SlidingWindow(4, 3), 4, 4, oracle([2, 1, 3, 4]))[0] == [3, 2, 0, 1]


def test_documents_behind_the_passes_keep_the_order_that_those_left_them_in():
    relevance = [1, 2, 3, 4, 5, 9, 0, 6, 8, 7]
    assert bubbled(Bubble(2, passes=2), 10, 10, oracle(relevance))[0] == [5, 8, 0, 1, 2, 3, 4, 9, 6, 7]
    assert bubbled(Bubble(2, passes=2), 10, 2, oracle(relevance))[0] == [5, 8, 0, 1, 2, 3, 4, 6, 7, 9]


def test_it_needs_the_best_of_a_group():
    assert (Bubble(4).needs, Bubble(4).group_size) == (Evidence.CHOICE, 4)


@pytest.mark.parametrize(
    ("arguments", "found", "remedy"),
    [
        ({"group_size": 1}, "group_size=1", "at least 2 documents"),
        ({"group_size": -3}, "group_size=-3", "at least 2 documents"),
        ({"passes": 0}, "passes=0", "None for all of them"),
    ],
)
def test_bad_arguments_are_named_with_a_remedy(arguments, found, remedy):
    with pytest.raises(ConfigurationError, match=remedy) as caught:
        Bubble(**arguments)
    assert found in str(caught.value)


@each_shape
def test_repr_rebuilds_the_strategy(strategy):
    assert eval(repr(strategy)) == strategy
