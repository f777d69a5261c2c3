"""Tournament against recorded runs of official code, and against what its docstring promises."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import first, intransitive, oracle, silent
from shared_data import parity

from pyterrier_llmrank.core import Cost, Evidence, descending
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.flow import run
from pyterrier_llmrank.strategies import Tournament

OFFICIAL = [(5, 20, 10), (5, 10, 4), (1, 20, 10), (1, 10, 5), (1, 5, 2)]  # groups, their size, kept of each


def asked_by(strategy, n, answer):
    """The points, and the groups of each round."""
    rounds = []

    def ask(groups):
        rounds.append(groups)
        return answer(groups)

    return run(strategy(n, n), ask), rounds


def selection(relevance):
    """Says 1 for as many documents as the official stage selects, 0 for the others."""
    kept = iter([kept for _, _, kept in OFFICIAL])

    def ask(groups):
        m = next(kept)
        bars = [sorted((relevance[i] for i in group), reverse=True)[m - 1] for group in groups]
        return [np.array([float(relevance[i] >= bar) for i in group]) for group, bar in zip(groups, bars, strict=True)]

    return ask


def shapes(strategy, n):
    return [stage.groups for stage in strategy.stages(n)]


def test_points_and_order_equal_the_official_ones():
    cases = parity("tourrank")["tournaments"]
    for case in cases:
        for ask in (selection(case["gold"]), oracle(case["gold"])):
            points = run(Tournament()(100, 100), ask)
            assert points.tolist() == case["points"]
            assert descending(range(100), points) == case["order"]
    assert len(cases) == 3


def test_plan_for_100_documents_is_the_published_one():
    assert shapes(Tournament(), 100) == [((size, kept),) * groups for groups, size, kept in OFFICIAL]
    points, rounds = asked_by(Tournament(), 100, silent)
    assert [[len(group) for group in groups] for groups in rounds] == [[size] * groups for groups, size, _ in OFFICIAL]
    assert np.bincount(points.astype(int)).tolist() == [50, 30, 10, 5, 3, 2]


def test_plans_of_other_lengths():
    assert shapes(Tournament(), 0) == shapes(Tournament(), 1) == []
    assert shapes(Tournament(), 2) == [((2, 1),)]
    assert shapes(Tournament(), 3) == [((3, 2),)]
    assert shapes(Tournament(), 20) == [((20, 10),), ((10, 4),), ((4, 2),)]
    assert shapes(Tournament(), 23) == [((12, 6), (11, 6)), ((6, 3), (6, 2)), ((5, 3),), ((3, 2),)]
    assert [len(groups) for groups in shapes(Tournament(), 1000)] == [50, 50, 10, 5, 5, 1, 1, 1]


@pytest.mark.parametrize("group_size", [2, 3, 5, 10, 20])
def test_every_plan_sends_on_some_of_each_group_and_ends_with_one_or_two(group_size):
    for n in range(2, 300):
        left = n
        for groups in shapes(Tournament(group_size=group_size), n):
            assert sum(size for size, _ in groups) == left > sum(kept for _, kept in groups)
            assert all(1 <= kept <= size <= group_size for size, kept in groups)
            left = sum(kept for _, kept in groups)
        assert left in {1, 2}


def test_groups_take_every_fifth_document():
    _, rounds = asked_by(Tournament(), 100, silent)
    assert [sorted(group) for group in rounds[0]] == [list(range(i, 100, 5)) for i in range(5)]
    assert [sorted(group) for group in rounds[1]] == [list(range(i, 50, 5)) for i in range(5)]


def test_groups_are_shown_in_an_order_that_only_the_seed_decides():
    _, rounds = asked_by(Tournament(repeats=2), 100, silent)
    once, again = rounds[0][:5], rounds[0][5:]
    assert all(list(group) != sorted(group) for group in once)
    assert once != again and list(map(set, once)) == list(map(set, again)), "each starts from the input order"
    assert asked_by(Tournament(repeats=2), 100, silent)[1] == rounds
    assert asked_by(Tournament(repeats=2, seed=1), 100, silent)[1][0] != rounds[0]


def test_an_earlier_tournament_does_not_change_with_more_of_them():
    one, three = (asked_by(Tournament(repeats), 60, intransitive)[1] for repeats in (1, 3))
    assert [groups[: len(groups) // 3] for groups in three] == one


@pytest.mark.parametrize("n", [2, 3, 17, 20, 21, 39, 60, 95, 100, 101, 250])
def test_finalists_of_a_perfect_scorer_are_the_best(n):
    for seed in range(5):
        relevance = np.random.default_rng(seed).permutation(n)
        points = run(Tournament(seed=seed)(n, n), oracle(relevance))
        finalists = np.flatnonzero(points == points.max())
        assert len(finalists) in {1, 2}
        assert set(relevance[finalists]) == set(range(n - len(finalists), n))
        assert points.max() == len(Tournament().stages(n))


def test_points_of_all_tournaments_are_added_up():
    relevance = np.random.default_rng(0).permutation(100)
    once, thrice = (run(Tournament(repeats)(100, 10), oracle(relevance)) for repeats in (1, 3))
    assert thrice.tolist() == (3 * once).tolist()


def test_repeats_help_a_noisy_scorer():
    """Each judgement errs afresh: points of ten tournaments find clearly more of the best ten than those of one."""
    found = []
    for repeats in (1, 10):
        rng, hits = np.random.default_rng(5), 0
        for seed in range(30):
            relevance = rng.permutation(100) / 100

            def ask(groups, relevance=relevance, rng=rng):
                return [relevance[list(group)] + rng.normal(0, 0.2, len(group)) for group in groups]

            order = descending(range(100), run(Tournament(repeats, seed=seed)(100, 10), ask))
            hits += sum(relevance[i] >= 0.9 for i in order[:10])
        found.append(hits / 300)
    assert found[0] + 0.05 < found[1]


def test_what_is_shown_first_gains_nothing_for_the_first_of_the_list():
    """A scorer that only likes the first place orders by chance; unshuffled groups would return the input order."""
    places = np.mean([run(Tournament(repeats=10, seed=seed)(100, 10), first) for seed in range(30)], axis=0)
    expected = (50 + 20 + 10 + 5 + 2) * 10 / 100
    assert abs(places[:50].mean() - expected) < 0.5 and abs(places[50:].mean() - expected) < 0.5


def test_a_group_that_answers_in_part_sends_on_what_it_named():
    def names_two(groups):
        answers = [np.full(len(group), np.nan) for group in groups]
        for group, scores in zip(groups, answers, strict=True):
            scores[[group.index(doc) for doc in sorted(group)[-2:]]] = 1.0
        return answers

    points = run(Tournament()(20, 20), names_two)
    assert np.flatnonzero(points >= 1).tolist() == [*range(8), 18, 19], "both that were named, then the list's order"
    assert np.flatnonzero(points == 3).tolist() == [18, 19]


@pytest.mark.parametrize(("repeats", "calls"), [(1, 13), (2, 26), (10, 130)])
def test_cost_is_the_published_one(repeats, calls):
    assert Tournament(repeats).cost(100, 10) == Cost(calls, 5)
    _, rounds = asked_by(Tournament(repeats), 100, intransitive)
    assert (sum(map(len, rounds)), len(rounds)) == (calls, 5)


def test_groups_that_lose_nobody_are_not_asked():
    _, rounds = asked_by(Tournament(group_size=2), 5, silent)
    assert [[len(group) for group in groups] for groups in rounds] == [[2, 2], [2]]
    assert Tournament(group_size=2).cost(5, 5) == Cost(3, 2)


def test_a_choice_is_enough_for_pairs_alone():
    assert Tournament(group_size=2).needs == Evidence.CHOICE
    assert Tournament(group_size=3).needs == Tournament().needs == Evidence.ORDER


@pytest.mark.parametrize(("arguments", "found"), [({"repeats": 0}, "repeats=0"), ({"group_size": 1}, "group_size=1")])
def test_arguments_out_of_range_are_named(arguments, found):
    with pytest.raises(ConfigurationError, match=f"Tournament .*{found}"):
        Tournament(**arguments)


def test_repr_rebuilds():
    strategy = Tournament(repeats=2, seed=3)
    assert eval(repr(strategy)) == strategy
