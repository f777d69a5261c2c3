"""The laws that every strategy obeys (see laws.py for the list)."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import first, intransitive, last, oracle, silent
from laws import LAWS

from pyterrier_llmrank.core import Strategy, descending
from pyterrier_llmrank.flow import relabel, run, together

SIZES = [0, 1, 2, 3, 4, 5, 7, 11, 19, 20, 21, 25, 41, 60]
each_law = pytest.mark.parametrize("law", LAWS, ids=lambda law: repr(law.strategy))


def order_of(strategy, n, k, ask):
    return descending(range(n), run(strategy(n, k), ask))


def relevance_of(n, seed=0):
    return np.random.default_rng(seed + n).permutation(n).tolist()


@each_law
def test_strategy_follows_the_protocol(law):
    assert isinstance(law.strategy, Strategy)


@each_law
@pytest.mark.parametrize("n", SIZES)
def test_groups_are_distinct_valid_and_small_enough(law, n):
    rounds = []
    scores = run(law.strategy(n, n), oracle(relevance_of(n), rounds))
    assert scores.shape == (n,)
    for group in (group for asked in rounds for group in asked):
        assert 1 <= len(set(group)) == len(group) <= (law.strategy.group_size or n)
        assert all(0 <= i < n for i in group)
    assert all(asked for asked in rounds), "a round without questions is not a round"


@each_law
@pytest.mark.parametrize("n", SIZES)
def test_silence_keeps_the_input_order(law, n):
    assert order_of(law.strategy, n, n, silent) == list(range(n))


@each_law
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("ask", [intransitive, first, last], ids=lambda ask: ask.__name__)
def test_a_cutoff_changes_nothing_above_it(law, n, ask):
    whole = order_of(law.strategy, n, n, ask)
    for k in {1, 3, 10}:
        assert order_of(law.strategy, n, min(k, n), ask)[:k] == whole[:k]


@each_law
@pytest.mark.parametrize("n", [5, 21, 41])
def test_queries_together_equal_queries_apart(law, n):
    lists = [range(0, n), range(100, 100 + n // 2), range(200, 200 + n)]
    relevance = {i: (i * 7) % 101 for rows in lists for i in rows}

    def flows():
        return [relabel(law.strategy(len(rows), len(rows)), rows) for rows in lists]

    joint = run(together(flows()), oracle(relevance))
    for scores, flow in zip(joint, flows(), strict=True):
        np.testing.assert_array_equal(scores, run(flow, oracle(relevance)))


@each_law
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("k", [1, 5, 10, None])
def test_a_perfect_scorer_puts_the_best_first(law, n, k):
    k = min(n, k or n)
    for seed in range(3):
        relevance = relevance_of(n, seed)
        order = order_of(law.strategy, n, k, oracle(relevance))
        assert sorted(order) == list(range(n))
        promised = law.settles(n, k)
        assert [relevance[i] for i in order[:promised]] == sorted(relevance, reverse=True)[:promised]


@each_law
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("ask", ["oracle", intransitive, first, last, silent], ids=lambda a: getattr(a, "__name__", a))
def test_any_answer_ends_within_the_documented_cost(law, n, ask):
    for k in {1, min(3, n), min(10, n), n}:
        rounds = []
        answer = oracle(relevance_of(n)) if ask == "oracle" else ask

        def count(groups, rounds=rounds, answer=answer):
            rounds.append(len(groups))
            return answer(groups)

        assert sorted(order_of(law.strategy, n, k, count)) == list(range(n))
        cost = law.strategy.cost(n, k)
        calls = sum(rounds)
        if cost.exact:
            assert (calls, len(rounds)) == (cost.calls, cost.rounds)
        else:
            assert calls <= cost.calls and len(rounds) <= cost.rounds
