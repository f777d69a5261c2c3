"""The laws that every strategy obeys (see laws.py for the list).

One test a law and strategy, with all sizes inside: thousands of tiny tests cost more than what they check. Laws that
speak of the same run share it.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from fakes import first, intransitive, last, oracle, silent
from laws import LAWS

from pyterrier_llmrank.core import Strategy, descending
from pyterrier_llmrank.flow import relabel, run, together

SIZES = [0, 1, 2, 3, 4, 5, 7, 9, 10, 11, 19, 20, 21, 25, 41, 60]  # with windows of 20 and strides of 10 in mind
WHOLE = [95, 100, 101]  # lists as first stages return them, for answers that make sense
each_law = pytest.mark.parametrize("law", LAWS, ids=lambda law: repr(law.strategy))
each_answerer = pytest.mark.parametrize("ask", [intransitive, first, last, silent], ids=lambda ask: ask.__name__)


class Run(NamedTuple):
    """What the laws need to know of one run."""

    order: list[int]
    calls: int
    rounds: int
    unsound: list[tuple[int, ...]]
    repeated: int


def relevance_of(n, seed=0):
    return np.random.default_rng(seed + n).permutation(n).tolist()


def perfect(n, seed=0):
    return oracle(relevance_of(n, seed))


@cache
def recorded(law, n, k, ask, seed=None):
    """A run of ``law``'s strategy; a perfect scorer is made for its size and seed."""
    rounds, answer = [], ask if seed is None else ask(n, seed)

    def listen(groups):
        rounds.append(groups)
        return answer(groups)

    scores = run(law.strategy(n, k), listen)
    assert scores.shape == (n,)
    assert all(rounds), f"{n} documents, k={k}: a round without questions is not a round"
    asked, largest = [group for groups in rounds for group in groups], law.strategy.group_size or n
    valid = set(range(n))
    unsound = [g for g in asked if not (1 <= len(set(g)) == len(g) <= largest and valid.issuperset(g))]
    repeated = len(asked) - len({frozenset(group) for group in asked})
    return Run(descending(range(n), scores), len(asked), len(rounds), unsound, repeated)


def cutoffs(n):
    return sorted({min(k, n) for k in (1, 3, 10, n)})


@each_law
def test_strategy_follows_the_protocol(law):
    assert isinstance(law.strategy, Strategy)


@each_law
def test_groups_are_distinct_valid_and_small_enough(law):
    for n in SIZES + WHOLE:
        assert recorded(law, n, n, perfect, seed=0).unsound == []


@each_law
def test_silence_keeps_the_input_order(law):
    for n in SIZES + WHOLE:
        assert recorded(law, n, n, silent).order == list(range(n))


@each_law
@each_answerer
def test_a_cutoff_changes_nothing_above_it(law, ask):
    for n in SIZES:
        whole = recorded(law, n, n, ask).order
        for k in cutoffs(n):
            assert recorded(law, n, k, ask).order[:k] == whole[:k], (n, k)


@each_law
def test_queries_together_equal_queries_apart(law):
    for n in (5, 21, 41):
        lists = [range(0, n), range(100, 100 + n // 2), range(200, 200 + n)]
        relevance = {i: (i * 7) % 101 for rows in lists for i in rows}

        def flows(lists=lists):
            return [relabel(law.strategy(len(rows), len(rows)), rows) for rows in lists]

        joint = run(together(flows()), oracle(relevance))
        for scores, flow in zip(joint, flows(), strict=True):
            np.testing.assert_array_equal(scores, run(flow, oracle(relevance)))


@each_law
def test_a_perfect_scorer_puts_the_best_first(law):
    for n in SIZES + WHOLE:
        for k in cutoffs(n):
            promised = law.settles(n, k)
            for seed in range(3 if promised and n in SIZES else 1):
                relevance, order = relevance_of(n, seed), recorded(law, n, k, perfect, seed=seed).order
                best = sorted(relevance, reverse=True)[:promised]
                assert [relevance[i] for i in order[:promised]] == best, (n, k, seed)


@each_law
@pytest.mark.parametrize("ask", [perfect, intransitive, first, last, silent], ids=lambda ask: ask.__name__)
def test_any_answer_ends_within_the_documented_cost(law, ask):
    for n in SIZES + (WHOLE if ask is perfect else []):
        for k in cutoffs(n):
            done = recorded(law, n, k, ask, seed=0 if ask is perfect else None)
            assert sorted(done.order) == list(range(n))
            cost = law.strategy.cost(n, k)
            if cost.exact:
                assert (done.calls, done.rounds) == (cost.calls, cost.rounds), (n, k)
            else:
                assert done.calls <= cost.calls and done.rounds <= cost.rounds, (n, k)


@pytest.mark.parametrize("law", [law for law in LAWS if law.once], ids=lambda law: repr(law.strategy))
@pytest.mark.parametrize("ask", [perfect, intransitive, first, last, silent], ids=lambda ask: ask.__name__)
def test_no_set_of_documents_is_asked_about_twice(law, ask):
    for n in SIZES:
        for k in cutoffs(n):
            assert recorded(law, n, k, ask, seed=0 if ask is perfect else None).repeated == 0, (n, k)
