"""SlidingWindow against recorded runs of official code, and against what its docstring promises.

Official loops that are unsound at the edges are not copied; ``OFFICIALLY_WRONG`` says where, why, and what is right.
"""

from __future__ import annotations

from collections import Counter
from math import ceil

import numpy as np
import pytest
from fakes import oracle, silent
from shared_data import parity

from pyterrier_llmrank.core import Evidence, descending
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.flow import relabel, run, together
from pyterrier_llmrank.strategies import SlidingWindow

SHAPES = [(20, 10), (20, 20), (20, 19), (20, 1), (10, 5), (5, 2), (5, 3), (4, 3), (3, 1), (3, 3), (2, 1), (2, 2)]
each_shape = pytest.mark.parametrize(("window", "stride"), SHAPES)


def ranked(strategy, relevance, start=0, end=None):
    """Order of all documents after ``[start, end)`` was reranked by a perfect scorer, and the groups that it saw."""
    end = len(relevance) if end is None else end
    n, rounds = end - start, []
    scores = run(relabel(strategy(n, n), range(start, end)), oracle(relevance, rounds))
    order = [*range(start), *(start + i for i in descending(range(n), scores)), *range(end, len(relevance))]
    return order, [group for asked in rounds for group in asked]


def windows_of(case):
    """Our windows of a case, as positions of its list."""
    start, end = case["rank_start"], min(case["rank_end"], case["n"])
    bounds = SlidingWindow(case["window"], case["stride"]).bounds(end - start)
    return [[start + a, start + b] for a, b in bounds]


# (loop, n after the cut, window, stride) -> (what it does, why that is wrong). Ours is asserted to equal RankLLM's
# asynchronous loop there, which is sound for every n >= 2, or, for PE-Rank, the ideal order.
OFFICIALLY_WRONG = {
    ("rankgpt", 95, 20, 10): ("8 windows, [5, 25) the last", "(n - window) % stride != 0: documents 0 to 4 not seen"),
    ("rankgpt", 31, 20, 10): ("2 windows, [1, 21) the last", "(n - window) % stride != 0: document 0 is not seen"),
    ("rankgpt", 25, 20, 10): ("1 window, [5, 25)", "(n - window) % stride != 0: documents 0 to 4 are not seen"),
    ("rankgpt", 12, 5, 5): ("2 windows, [2, 7) the last", "(n - window) % stride != 0: documents 0 and 1 not seen"),
    ("rankgpt", 20, 20, 10): ("9 windows, 7 of them empty", "rank_end=100 beyond the list: paid calls about nothing"),
    ("rankgpt", 1, 20, 10): ("9 windows, 8 of them empty", "rank_end=100 beyond the list: paid calls about nothing"),
    ("rankgpt", 0, 20, 10): ("9 windows, all of them empty", "rank_end=100 beyond the list: paid calls about nothing"),
    ("rank_llm", 1, 20, 10): ("1 window, [0, 1)", "a single document is in order already: a paid call about nothing"),
    ("pe_rank", 10, 20, 10): ("no window", "n == window - step ends the loop before it began: nothing is ranked"),
    ("pe_rank", 15, 20, 5): ("no window", "n == window - step ends the loop before it began: nothing is ranked"),
}


def officially_wrong(loop, case):
    cut = min(case["rank_end"], case["n"]) - case["rank_start"]
    return (loop, cut, case["window"], case["stride"]) in OFFICIALLY_WRONG


def test_windows_and_orders_equal_rank_llm():
    compared = Counter()
    for case in parity("sliding_windows")["cases"]:
        relevance = case["relevance_by_doc"][: case["n"]]
        start, end = case["rank_start"], min(case["rank_end"], case["n"])
        order, groups = ranked(SlidingWindow(case["window"], case["stride"]), relevance, start, end)
        for loop in ("rank_llm_async", "rank_llm_sync"):
            official = case[loop]
            if case["n"] == 0:
                compared["empty"] += 1
                assert (groups, order) == ([], []) and not official.get("windows")
            elif officially_wrong("rank_llm", case):
                compared["single document"] += 1
                assert official["windows"] == [[0, 1]] and groups == []
                assert order == official["order0"] == [0]
            else:
                compared["exact"] += 1
                assert windows_of(case) == official["windows"]
                assert [len(group) for group in groups] == [b - a for a, b in official["windows"]]
                assert order == official["order0"]
        if case["n"] > 1:
            assert len(groups) == case["count_windows"]
    assert compared == {"exact": 28, "single document": 2, "empty": 2}


def test_windows_and_orders_equal_rankgpt_where_it_sees_the_whole_list():
    compared = Counter()
    for case in parity("sliding_windows")["cases"]:
        official, sound = case["rankgpt"], case["rank_llm_async"]
        relevance = case["relevance_by_doc"][: case["n"]]
        end = min(case["rank_end"], case["n"])
        order, groups = ranked(SlidingWindow(case["window"], case["stride"]), relevance, case["rank_start"], end)
        if not officially_wrong("rankgpt", case):
            compared["exact"] += 1
            assert [len(group) for group in groups] == official["window_sizes"]
            assert order == official["order0"]
        elif end < case["rank_end"]:
            compared["asks about nothing"] += 1
            assert 0 in official["window_sizes"]
            assert len(groups) == (end > 1) < official["n_calls"]
            assert order == official["order0"][: case["n"]]
        else:
            compared["head not seen"] += 1
            assert len(groups) == official["n_calls"] + 1
            assert order == sound["order0"] != official["order0"]
            settled = case["window"] - case["stride"]
            assert [relevance[i] for i in order[:settled]] == sorted(relevance[:end], reverse=True)[:settled]
    assert compared == {"exact": 9, "asks about nothing": 3, "head not seen": 4}


def test_ragged_queries_in_lockstep_equal_rank_llm_batched():
    strategy, sizes = SlidingWindow(20, 10), (60, 35, 10, 41)
    content, compared = parity("sliding_windows_multiquery"), 0
    relevance = content["meta"]["relevance_by_doc"]
    rows = [range(100 * q, 100 * q + n) for q, n in enumerate(sizes)]
    calls = Counter()

    def ask(groups):
        calls.update(group[0] // 100 for group in groups)
        return [np.array([relevance[i % 100] for i in group], dtype=float) for group in groups]

    scores = run(together([relabel(strategy(len(r), len(r)), r) for r in rows]), ask)
    orders = [descending(range(n), s) for n, s in zip(sizes, scores, strict=True)]
    for case in content["cases"]:  # one per limit of parallel requests
        compared += 1
        assert orders == case["orders"]
        assert [calls[q] for q in range(4)] == list(case["calls_per_query"].values())
    assert compared == 3


def test_windows_and_orders_equal_pe_rank_where_it_ranks_anything():
    compared, content = Counter(), parity("perank_sliding_windows")
    for case in content["cases"]:
        relevance = case["gold"]
        order, groups = ranked(SlidingWindow(case["window"], case["step"]), relevance)
        if ("pe_rank", case["n"], case["window"], case["step"]) in OFFICIALLY_WRONG:
            compared["n == window - step"] += 1
            assert case["n_calls"] == 0 and case["order"] == list(range(case["n"]))
            assert groups == [tuple(range(case["n"]))]
            assert [relevance[i] for i in order] == sorted(relevance, reverse=True)
        else:
            compared["exact"] += 1
            assert [len(group) for group in groups] == case["window_sizes"]
            assert order == case["order"]
    for case in content["rank_llm_sync_loop_top_k_100"]:
        compared["exact"] += 1
        assert [list(bounds) for bounds in SlidingWindow(20, 10).bounds(case["n"])] == case["sync_windows"]
    assert compared == {"exact": 5, "n == window - step": 2}


def test_windows_equal_those_of_the_tdpart_repository_where_both_align():
    """That repository aligns windows to multiples of the stride from the head, RankGPT and we to the end of the list.

    Both are the same schedule where one window is enough or ``(n - window) % stride == 0``. In the one other case
    (n = 95) both settle the first 10 of 95, by other windows.
    """
    compared = Counter()
    for case in parity("tdpart")["cases"]:
        if case["algorithm"] != "sliding":
            continue
        n, window, stride = case["n"], case["window"], case["stride"]
        order, groups = ranked(SlidingWindow(window, stride), case["gold"])
        assert len(groups) == case["n_calls"]
        if n <= window or (n - window) % stride == 0:
            compared["exact"] += 1
            assert [len(group) for group in groups] == case["window_sizes"]
            assert order == case["final_order"]
        else:
            compared["aligned otherwise"] += 1
            assert [len(group) for group in groups] != case["window_sizes"]
            assert order[: window - stride] == case["final_order"][: window - stride]
    assert compared == {"exact": 3, "aligned otherwise": 1}


def test_documents_outside_the_ranks_asked_for_stay_where_they_are():
    relevance = np.random.default_rng(0).permutation(50).tolist()
    order, groups = ranked(SlidingWindow(20, 10), relevance, start=10, end=40)
    assert order[:10] == list(range(10)) and order[40:] == list(range(40, 50))
    assert {i for group in groups for i in group} == set(range(10, 40))
    assert [relevance[i] for i in order[10:20]] == sorted(relevance[10:40], reverse=True)[:10]


@each_shape
@pytest.mark.parametrize("passes", [1, 3])
def test_calls_follow_the_documented_formula(window, stride, passes):
    strategy = SlidingWindow(window, stride, passes)
    for n in range(2, 101):
        rounds = []
        run(strategy(n, n), oracle(range(n), rounds))
        formula = 1 if n <= window else ceil((n - window) / stride) + 1
        single = stride == window and n % window == 1  # the last window would be [0, 1)
        assert [len(asked) for asked in rounds] == [1] * passes * (formula - single), n
        assert strategy.cost(n, n) == (len(rounds), len(rounds), True), n


@each_shape
@pytest.mark.parametrize("n", [0, 1])
def test_a_list_of_one_document_is_not_asked_about(window, stride, n):
    order, groups = ranked(SlidingWindow(window, stride, passes=3), list(range(n)))
    assert (order, groups) == (list(range(n)), [])
    assert SlidingWindow(window, stride, passes=3).cost(n, n) == (0, 0, True)


@pytest.mark.parametrize("n", [3, 5, 41])
def test_a_window_of_one_document_is_not_asked_about(n):
    _, groups = ranked(SlidingWindow(2, 2), list(range(n)))
    assert {len(group) for group in groups} == {2}


@each_shape
def test_windows_reach_from_the_end_of_the_list_to_its_head(window, stride):
    for n in range(2, 101):
        bounds = list(SlidingWindow(window, stride).bounds(n))
        assert bounds[0][1] == n
        seen = {place for start, end in bounds for place in range(start, end)}
        assert seen >= set(range(1, n)) and (0 in seen or stride == window)
        assert all(end - start == min(window, end) for start, end in bounds)


@each_shape
@pytest.mark.parametrize("passes", [1, 2, 5])
def test_passes_settle_what_the_docstring_promises(window, stride, passes):
    strategy = SlidingWindow(window, stride, passes)
    settled = (window - stride) + (passes - 1) * min(stride, window - stride)
    for n in (window + 1, 3 * window + 1, 47, 60):
        ideal = list(range(n - 1, -1, -1))
        inputs = [ideal, ideal[::-1], *(np.random.default_rng(seed).permutation(n).tolist() for seed in range(3))]
        for relevance in inputs:
            order, _ = ranked(strategy, relevance)
            assert sorted(order) == list(range(n))
            assert [relevance[i] for i in order[:settled]] == ideal[:settled]


@pytest.mark.parametrize(("passes", "settled"), [(1, 10), (2, 20), (3, 30)])
def test_no_more_is_settled_than_promised_when_the_best_come_last(passes, settled):
    order, _ = ranked(SlidingWindow(20, 10, passes), list(range(100)))
    assert order[:settled] == list(range(99, 99 - settled, -1))
    assert order[settled] != 99 - settled


def test_nothing_is_carried_over_when_the_stride_is_the_window():
    order, _ = ranked(SlidingWindow(5, 5), list(range(15)))
    assert order == [4, 3, 2, 1, 0, 9, 8, 7, 6, 5, 14, 13, 12, 11, 10]


@pytest.mark.parametrize(("window", "stride"), [(2, 1), (4, 3), (20, 19)])
@pytest.mark.parametrize("passes", [1, 4])
def test_choices_alone_settle_what_the_docstring_promises_where_choices_are_said_to_be_enough(window, stride, passes):
    strategy = SlidingWindow(window, stride, passes)
    relevance = np.random.default_rng(7).permutation(50).tolist()

    def choose(groups):
        best = [max(relevance[i] for i in group) for group in groups]
        return [np.array([float(relevance[i] == top) for i in g]) for g, top in zip(groups, best, strict=True)]

    order = descending(range(50), run(strategy(50, 50), choose))
    settled = [relevance[i] for i in order[:passes]]
    assert settled == list(range(49, 49 - passes, -1)) or strategy.needs > Evidence.CHOICE


@each_shape
def test_a_choice_is_enough_exactly_where_windows_share_one_document(window, stride):
    needs = SlidingWindow(window, stride).needs
    assert needs == (Evidence.CHOICE if stride == window - 1 else Evidence.ORDER)


def test_a_window_without_an_answer_stays_in_order_and_the_others_go_on():
    relevance = np.random.default_rng(1).permutation(40).tolist()
    asked = []

    def ask(groups):
        asked.append(groups)
        return silent(groups) if len(asked) == 1 else oracle(relevance)(groups)

    order = descending(range(40), run(SlidingWindow(20, 10)(40, 40), ask))
    assert order[30:] == list(range(30, 40))
    assert [relevance[i] for i in order[:10]] == sorted(relevance[:30], reverse=True)[:10]


@pytest.mark.parametrize(
    ("arguments", "found", "remedy"),
    [
        ({"window": 1, "stride": 1}, "window=1", "at least 2 documents.*20 is usual"),
        ({"window": 0, "stride": 1}, "window=0", "at least 2 documents.*20 is usual"),
        ({"window": -5, "stride": 1}, "window=-5", "at least 2 documents.*20 is usual"),
        ({"window": 20, "stride": 0}, "stride=0", "stride from 1 to 20.*10 is usual"),
        ({"window": 20, "stride": -1}, "stride=-1", "stride from 1 to 20.*10 is usual"),
        ({"window": 20, "stride": 21}, "stride=21", "stride from 1 to 20.*10 is usual"),
        ({"window": 5}, "stride=10", "stride from 1 to 5.*2 is usual"),
        ({"passes": 0}, "passes=0", "at least one pass"),
        ({"passes": -2}, "passes=-2", "at least one pass"),
    ],
)
def test_bad_arguments_are_named_with_a_remedy(arguments, found, remedy):
    with pytest.raises(ConfigurationError, match=remedy) as caught:
        SlidingWindow(**arguments)
    assert found in str(caught.value)


@pytest.mark.parametrize("strategy", [SlidingWindow(), SlidingWindow(4, 3), SlidingWindow(2, 1, passes=10)], ids=repr)
def test_repr_rebuilds_the_strategy(strategy):
    assert eval(repr(strategy)) == strategy


@each_shape
def test_one_pass_needs_no_more_of_a_window_than_it_carries_on_for_the_head_of_the_list(window, stride):
    """The law behind ``ListwiseLLM(decode="constrained", top_k=k)``; the scorer is as intransitive as can be."""

    def asked(named):
        def answer(groups):
            rows = []
            for group in groups:
                scores = np.random.default_rng(group).permutation(len(group)).astype(float)
                scores[scores < len(group) - named] = np.nan
                rows.append(scores)
            return rows

        return answer

    strategy = SlidingWindow(window, stride)
    for n in (0, 1, window - 1, window, window + 1, window + stride, 3 * window + 1):
        whole = descending(range(n), run(strategy(n, n), asked(window)))
        for k in range(1, window + 1):
            part = descending(range(n), run(strategy(n, n), asked(max(window - stride, k))))
            assert part[:k] == whole[:k]


def test_less_than_that_is_not_enough():
    """Else the law above would say nothing: a window of 4 that names 1 loses what it should have carried on."""
    relevance = [0, 0, 0, 0, 9, 8]

    def best(groups):
        tops = [max(group, key=relevance.__getitem__) for group in groups]
        return [np.where(np.array(group) == top, 1.0, np.nan) for group, top in zip(groups, tops, strict=True)]

    assert descending(range(6), run(SlidingWindow(4, 2)(6, 2), best))[:2] == [4, 0]
