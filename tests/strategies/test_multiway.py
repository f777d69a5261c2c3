"""MultiwayTournament against recorded runs of official code, and against what its docstring promises."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from fakes import intransitive, oracle, silent
from shared_data import parity

from pyterrier_llmrank.core import Cost, Evidence, descending
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.flow import run
from pyterrier_llmrank.strategies import MultiwayTournament


def asked_by(strategy, n, k, answer):
    """The order, and the groups of each round."""
    rounds = []

    def ask(groups):
        rounds.append(groups)
        return answer(groups)

    return descending(range(n), run(strategy(n, k), ask)), rounds


def flat(rounds):
    return [list(group) for groups in rounds for group in groups]


def test_groups_and_orders_equal_the_official_ones():
    """Modulo the copies that fill a group: a question of ours names each document once, since a model that is shown
    one passage twice can contradict itself about it, and pays for it.
    """
    cases = parity("listt5_tournament")["cases"]
    for case in cases:
        strategy = MultiwayTournament(case["m"], case["r"])
        order, rounds = asked_by(strategy, case["n"], case["rerank_topk"], oracle(case["gold"]))
        recorded = [sorted(set(group)) for group in case["groups"]]
        assert len(recorded) == (30 if case["n"] >= 50 else case["num_forward"]), "the first 30 groups of long lists"
        assert flat(rounds)[: len(recorded)] == recorded
        assert len(flat(rounds)) == case["num_forward"]
        assert order == case["final_order"]
    assert len(cases) >= 20


def test_groups_of_one_level_are_one_round():
    _, rounds = asked_by(MultiwayTournament(), 100, 1, silent)
    assert [len(groups) for groups in rounds] == [20, 8, 4, 2, 1]
    assert rounds[0] == [tuple(range(i, i + 5)) for i in range(0, 100, 5)]
    assert rounds[1][:2] == [(0, 1, 5, 6, 11), (10, 15, 16, 20, 21)], "of each group the second goes on before the best"
    assert MultiwayTournament().cost(100, 1) == Cost(35, 5, exact=False)


def test_no_set_of_documents_is_asked_twice():
    for n in range(60):
        for answer in (oracle(np.random.default_rng(n).permutation(n)), intransitive, silent):
            groups = [frozenset(group) for group in flat(asked_by(MultiwayTournament(), n, n, answer)[1])]
            assert not [group for group, times in Counter(groups).items() if times > 1]


def test_a_short_group_is_filled_with_the_first_others_of_its_level():
    _, rounds = asked_by(MultiwayTournament(), 12, 1, silent)
    assert rounds[0][-1] == (0, 1, 2, 10, 11)


def test_the_next_dummy_is_21_places_behind_the_winner():
    _, rounds = asked_by(MultiwayTournament(keep=1), 50, 2, silent)
    second = rounds[3]
    assert second == [(1, 2, 3, 4, 21)], "document 0 is out; 0 + 21 takes its place, nothing else changes"


@pytest.mark.parametrize("n", [2, 3, 5, 6, 21, 22, 30, 42, 100])
@pytest.mark.parametrize(
    "strategy", [MultiwayTournament(), MultiwayTournament(keep=1), MultiwayTournament(8, 4)], ids=repr
)
def test_a_perfect_scorer_orders_the_whole_list(strategy, n):
    relevance = np.random.default_rng(n).permutation(n)
    order, _ = asked_by(strategy, n, n, oracle(relevance))
    assert relevance[order].tolist() == list(range(n - 1, -1, -1))


@pytest.mark.parametrize("n", [2, 3, 5, 6, 23, 42])
def test_a_mere_choice_is_enough_where_one_goes_on(n):
    relevance = np.random.default_rng(n).permutation(n)

    def choose(groups):
        return [np.eye(len(group))[np.argmax(relevance[list(group)])] for group in groups]

    order, _ = asked_by(MultiwayTournament(keep=1), n, n, choose)
    assert relevance[order].tolist() == list(range(n - 1, -1, -1))


def test_a_short_list_is_one_question_unless_only_the_best_is_known():
    order, rounds = asked_by(MultiwayTournament(), 4, 1, oracle([1, 3, 0, 2]))
    assert (order, rounds) == ([1, 3, 0, 2], [[(0, 1, 2, 3)]])
    order, rounds = asked_by(MultiwayTournament(keep=1), 4, 4, oracle([1, 3, 0, 2]))
    assert (order, flat(rounds)) == ([1, 3, 0, 2], [[0, 1, 2, 3], [0, 2, 3], [0, 2]])


def test_the_rest_follows_in_input_order():
    order, _ = asked_by(MultiwayTournament(), 30, 3, oracle(range(30)))
    assert order == [29, 28, 27, *range(27)]


@pytest.mark.parametrize(("keep", "least", "most"), [(1, 45, 60), (2, 85, 100)])
def test_costs_about_what_is_documented(keep, least, most):
    for seed in range(10):
        relevance = np.random.default_rng(seed).permutation(100)
        strategy = MultiwayTournament(keep=keep)
        calls = len(flat(asked_by(strategy, 100, 10, oracle(relevance))[1]))
        assert least <= calls <= most <= strategy.cost(100, 10).calls


def test_answers_at_random_end_within_the_bound():
    rng = np.random.default_rng(0)

    def moody(groups):
        scores = [rng.integers(0, 3, len(group)).astype(float) for group in groups]
        return [np.where(rng.random(len(some)) < 0.3, np.nan, some) for some in scores]

    for n in range(2, 80):
        for strategy in (MultiwayTournament(), MultiwayTournament(2, 1), MultiwayTournament(6, 3)):
            order, rounds = asked_by(strategy, n, n, moody)
            assert sorted(order) == list(range(n))
            cost = strategy.cost(n, n)
            assert len(flat(rounds)) <= cost.calls and len(rounds) <= cost.rounds


def test_needs_an_order_where_several_go_on():
    assert MultiwayTournament(keep=1).needs == Evidence.CHOICE
    assert MultiwayTournament().needs == Evidence.ORDER


@pytest.mark.parametrize(
    ("arguments", "found"),
    [({"group_size": 1, "keep": 1}, "group_size=1"), ({"keep": 0}, "keep=0"), ({"keep": 3}, "keep from 1 to 2, got")],
)
def test_arguments_out_of_range_are_named(arguments, found):
    with pytest.raises(ConfigurationError, match=f"MultiwayTournament.*{found}"):
        MultiwayTournament(**arguments)


def test_repr_rebuilds():
    strategy = MultiwayTournament(7, keep=3)
    assert eval(repr(strategy)) == strategy
