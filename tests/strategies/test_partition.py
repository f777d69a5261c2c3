"""TopDown against recorded runs of official code, and against what its docstring promises."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from fakes import intransitive, oracle, silent
from shared_data import parity

from pyterrier_llmrank.core import Cost, Evidence, descending
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.flow import run
from pyterrier_llmrank.strategies import TopDown


def asked_by(strategy, n, answer, k=None):
    """The order, and the groups of each round."""
    rounds = []

    def ask(groups):
        rounds.append(groups)
        return answer(groups)

    return descending(range(n), run(strategy(n, n if k is None else k), ask)), rounds


def flat(rounds):
    return [list(group) for groups in rounds for group in groups]


def official_cases():
    """Recorded runs of the released code, with the strategy's arguments."""
    for case in parity("tdpart")["cases"]:
        if (case["algorithm"], case["impl"]) == ("tdpart", "official"):
            yield case, (case["window"], case["cutoff"], case["buffer"])


def test_legacy_windows_and_orders_equal_the_official_ones():
    compared = 0
    for case, arguments in official_cases():
        order, rounds = asked_by(TopDown(*arguments, legacy=True), case["n"], oracle(case["gold"]))
        assert flat(rounds) == case["windows"]
        assert len(flat(rounds)) == case["n_calls"]
        assert order == case["final_order"]
        compared += 1
    assert compared >= 21


def test_windows_equal_the_official_ones_but_for_the_last_that_asks_about_an_ordered_list():
    """The official test for "nothing beat the pivot" is off by one and never true, so its last call orders again what
    the first window of that partitioning has ordered; likewise where the survivors just fill a window.
    """
    wasted = exact = 0
    for case, arguments in official_cases():
        _, rounds = asked_by(TopDown(*arguments), case["n"], oracle(case["gold"]))
        official = case["windows"]
        if flat(rounds) == official:
            exact += 1
            continue
        wasted += 1
        assert flat(rounds) == official[:-1]
        repeated = official[-1]
        assert len(repeated) == case["cutoff"] - 1
        assert repeated == sorted(repeated, key=lambda doc: -case["gold"][doc]), "it was in order already"
    assert exact >= 3 and wasted >= 3


def contradictions(order, windows, relevance):
    """Pairs that a window showed to a perfect scorer, and that ``order`` nevertheless has the wrong way round."""
    place = {doc: i for i, doc in enumerate(order)}
    pairs = {(a, b) for window in windows for a in window for b in window if relevance[a] > relevance[b]}
    return sum(place[a] > place[b] for a, b in pairs)


def test_no_order_contradicts_an_answer_as_official_orders_do():
    """Official code puts what an early partitioning left over before what a later one set aside, though the latter
    beat the former's pivot; the first wrong place is that of the pivot, which published nDCG@10 reads.
    """
    contradicted = 0
    for case, arguments in official_cases():
        gold, head = case["gold"], case["cutoff"] - 1
        order, rounds = asked_by(TopDown(*arguments), case["n"], oracle(gold))
        assert order[:head] == case["final_order"][:head]
        assert contradictions(order, flat(rounds), gold) == 0
        contradicted += contradictions(case["final_order"], case["windows"], gold) > 0
    assert contradicted >= 3


def test_without_a_buffer_all_parts_are_one_round():
    order, rounds = asked_by(TopDown(), 100, silent)
    assert [len(groups) for groups in rounds] == [1, 5]
    assert rounds[1][0] == (9, *range(20, 39)) and rounds[1][-1] == (9, 96, 97, 98, 99)
    assert order == list(range(100))


@pytest.mark.parametrize(("buffer", "rounds"), [(20, [1, 1, 1, 1, 1, 1]), (40, [1, 2, 2, 1]), (200, [1, 5])])
def test_with_a_buffer_parts_are_asked_together_only_when_all_are_sure_to_be_needed(buffer, rounds):
    assert [len(groups) for groups in asked_by(TopDown(buffer=buffer), 100, silent)[1]] == rounds


def one_by_one(window, pivot, buffer, docs, answer):
    """The published loop, a window at a time, and the windows that it asks."""
    windows, buffer = [], len(docs) if buffer is None else buffer

    def ordered(group):
        windows.append(list(group))
        [scores] = answer([tuple(group)])
        return descending(group, scores)

    while len(docs) > window:
        head, rest = ordered(docs[:window]), docs[window:]
        above, middle = head[: pivot - 1], head[pivot - 1]
        while rest and len(above) < buffer:
            part, rest = rest[: window - 1], rest[window - 1 :]
            order = ordered([middle, *part])
            above += order[: order.index(middle)]
        docs = above[:buffer]
        if len(docs) == pivot - 1:
            return windows
    if len(docs) > 1:
        ordered(docs)
    return windows


@pytest.mark.parametrize("shape", [(20, 10, None), (20, 10, 20), (20, 10, 47), (5, 2, 3), (5, 4, None), (4, 1, 30)])
def test_rounds_change_no_window(shape):
    for n in (0, 1, 4, 21, 60, 101):
        for answer in (oracle(np.random.default_rng(n).permutation(n)), intransitive):
            assert flat(asked_by(TopDown(*shape), n, answer)[1]) == one_by_one(*shape, list(range(n)), answer)


@pytest.mark.parametrize(("window", "pivot"), [(20, 10), (20, 19), (10, 5), (5, 1), (3, 2), (2, 1)])
def test_a_perfect_scorer_settles_as_many_as_the_pivot_counts_and_no_more(window, pivot):
    settled = []
    for seed in range(40):
        relevance = np.random.default_rng(seed).permutation(60)
        order, _ = asked_by(TopDown(window, pivot), 60, oracle(relevance))
        right = relevance[order] == np.arange(59, -1, -1)
        settled.append(60 if right.all() else int(np.argmin(right)))
    assert min(settled) >= pivot
    assert min(settled) < 60


def test_what_beat_an_earlier_pivot_stays_ahead_of_what_did_not():
    order, rounds = asked_by(TopDown(10, 5), 60, oracle(range(60)))
    pivots = [groups[0][0] for groups in rounds[1::2]]
    assert pivots[0] == 5 and len(pivots) >= 2
    place = order.index(5)
    assert min(order[:place]) > 5 > max(order[place + 1 :])


def test_a_bounded_buffer_may_miss_the_best():
    order, _ = asked_by(TopDown(buffer=20), 100, oracle(range(100)))
    assert 99 not in order[:10]


def test_more_places_than_the_pivot_are_graded_only():
    """Whatever k is, the questions are the same, so that a cutoff changes nothing above it."""
    relevance = np.random.default_rng(3).permutation(100)
    asked = [asked_by(TopDown(), 100, oracle(relevance), k) for k in (1, 10, 30, 100)]
    assert all(one == asked[0] for one in asked)


@pytest.mark.parametrize(("n", "cost"), [(0, (0, 0)), (1, (0, 0)), (2, (1, 1)), (20, (1, 1))])
def test_a_single_window_is_one_call(n, cost):
    assert TopDown().cost(n, n) == Cost(*cost)
    _, rounds = asked_by(TopDown(), n, silent)
    assert (len(flat(rounds)), len(rounds)) == cost


def test_a_head_that_nothing_beats_costs_one_partitioning():
    for n in range(21, 130):
        _, rounds = asked_by(TopDown(), n, silent)
        assert (len(flat(rounds)), len(rounds)) == (1 + ceil((n - 20) / 19), 2)


def test_the_bound_is_reached_when_the_last_part_beats_everything():
    """Shown last wins: a window loses only what stands behind its pivot."""

    def last(groups):
        return [np.arange(len(group), dtype=float) for group in groups]

    for n in (21, 40, 100):
        _, rounds = asked_by(TopDown(), n, last)
        cost = TopDown().cost(n, n)
        assert (len(flat(rounds)), len(rounds)) == (cost.calls, cost.rounds)


@pytest.mark.parametrize("buffer", [None, 10, 20, 35])
@pytest.mark.parametrize("legacy", [False, True])
def test_answers_at_random_end_within_the_bound(buffer, legacy):
    rng = np.random.default_rng(0)

    def moody(groups):
        scores = [rng.integers(0, 3, len(group)).astype(float) for group in groups]
        return [np.where(rng.random(len(some)) < 0.3, np.nan, some) for some in scores]

    for window, pivot in ((20, 10), (11, 10), (4, 1), (2, 1)):
        strategy = TopDown(window, pivot, buffer, legacy)
        for n in range(80):
            order, rounds = asked_by(strategy, n, moody)
            assert sorted(order) == list(range(n))
            cost = strategy.cost(n, n)
            assert len(flat(rounds)) <= cost.calls and len(rounds) <= cost.rounds


def test_an_order_is_needed_but_for_pairs():
    assert TopDown().needs == Evidence.ORDER
    assert TopDown(2, 1).needs == Evidence.CHOICE


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"window": 1, "pivot": 1}, "window=1"),
        ({"pivot": 0}, "pivot=0"),
        ({"pivot": 20}, "pivot=20"),
        ({"buffer": 9}, "buffer=9"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, found):
    with pytest.raises(ConfigurationError, match=f"TopDown.*{found}"):
        TopDown(**arguments)


def test_repr_rebuilds():
    strategy = TopDown(10, pivot=5, buffer=20)
    assert eval(repr(strategy)) == strategy


@pytest.mark.parametrize(("buffer", "calls", "rounds"), [(None, (9, 13), (4, 7)), (20, (3, 5), (3, 5))])
def test_costs_about_what_is_documented(buffer, calls, rounds):
    for seed in range(20):
        relevance = np.random.default_rng(seed).permutation(100)
        _, asked = asked_by(TopDown(buffer=buffer), 100, oracle(relevance))
        assert calls[0] <= len(flat(asked)) <= calls[1] and rounds[0] <= len(asked) <= rounds[1]
