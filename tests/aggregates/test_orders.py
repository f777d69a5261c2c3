"""Greedy, KwikSort, Kemeny's order and heaviest paths: what they maximise, and how well."""

from __future__ import annotations

from itertools import combinations, pairwise, permutations

import numpy as np
import pytest

from pyterrier_llmrank.aggregates import greedy, heaviest_path, kemeny, kwiksort, tsp
from pyterrier_llmrank.aggregates.comparisons import wins
from pyterrier_llmrank.core import descending
from pyterrier_llmrank.errors import ConfigurationError


def order_of(scores):
    return descending(range(len(scores)), scores)


def pairs(n, belief):
    groups = list(combinations(range(n), 2))
    return groups, [np.array([belief(i, j), 1 - belief(i, j)]) for i, j in groups]


def random_pairs(n, seed):
    belief = np.random.default_rng(seed).random((n, n)).round(3)
    return pairs(n, lambda i, j: belief[i, j])


def agreement(order, won):
    """How much belief agrees with an order."""
    return sum(won[i, j] for i, j in combinations(order, 2))


def weight(path, weights):
    return sum(weights[i, j] for i, j in pairwise(path))


# -- KwikSort ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 9, 50])
def test_kwiksort_with_a_perfect_comparator_gives_the_true_order_for_every_seed(n):
    relevance = np.random.default_rng(n).permutation(n)
    groups, answers = pairs(n, lambda i, j: float(relevance[i] > relevance[j]))
    for seed in range(20):
        assert order_of(kwiksort(n, groups, answers, seed=seed)) == order_of(relevance.astype(float))


def test_kwiksort_settles_contradictions_by_its_seed_and_the_same_way_each_time():
    groups, answers = random_pairs(12, 0)
    orders = [tuple(order_of(kwiksort(12, groups, answers, seed=seed))) for seed in range(10)]
    assert len(set(orders)) > 1
    assert orders == [tuple(order_of(kwiksort(12, groups, answers, seed=seed))) for seed in range(10)]


def test_kwiksort_never_contradicts_the_answers_about_neighbours():
    groups, answers = random_pairs(15, 1)
    won = wins(15, groups, answers)
    for seed in range(5):
        assert all(won[i, j] >= 0.5 for i, j in pairwise(order_of(kwiksort(15, groups, answers, seed=seed))))


def test_kwiksort_leaves_documents_that_were_not_compared_with_a_pivot_in_input_order():
    for seed in range(10):
        order = order_of(kwiksort(4, [(0, 1), (2, 3)], [np.array([0.0, 1.0])] * 2, seed=seed))
        assert order.index(1) < order.index(0) and order.index(3) < order.index(2)


# -- the published mistakes -------------------------------------------------------------------------------------------


def test_kwiksort_as_shipped_is_right_only_by_chance():
    relevance = np.random.default_rng(0).permutation(20)
    groups, answers = pairs(20, lambda i, j: float(relevance[i] > relevance[j]))
    assert order_of(kwiksort(20, groups, answers, legacy=True)) != order_of(relevance.astype(float))
    # its permutation is the inverse of the right one
    scores = kwiksort(20, groups, answers, legacy=True)
    assert (20 - scores).astype(int).tolist() == order_of(relevance.astype(float))


def test_legacy_takes_pairs_only_and_leaves_out_who_has_no_answer():
    with pytest.raises(ConfigurationError, match="takes pairs only, got a group of 3"):
        kwiksort(3, [(0, 1, 2)], [np.array([3.0, 2.0, 1.0])], legacy=True)
    scores = kwiksort(4, [(0, 2), (1, 3)], [np.array([0.1, 0.9]), np.array([np.nan, np.nan])], legacy=True)
    assert np.isnan(scores).tolist() == [False, True, False, True]


# -- greedy and Kemeny ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_kemeny_is_the_best_of_all_orders(seed):
    groups, answers = random_pairs(6, seed)
    won = wins(6, groups, answers)
    best = max(agreement(order, won) for order in permutations(range(6)))
    assert agreement(order_of(kemeny(6, groups, answers)), won) == pytest.approx(best)
    # Cohen et al.: at least half of the best
    assert agreement(order_of(greedy(6, groups, answers)), won) >= best / 2


def test_kemeny_of_equally_good_orders_is_the_first():
    groups, answers = pairs(3, lambda i, j: [[0, 1, 0], [0, 0, 1], [0, 0, 0]][i][j])  # 0 > 1 > 2 > 0
    assert order_of(kemeny(3, groups, answers)) == [0, 1, 2]


@pytest.mark.parametrize("n", [8, 12])
def test_local_search_comes_close_to_kemeny(n):
    for seed in range(5):
        groups, answers = random_pairs(n, seed)
        won = wins(n, groups, answers)
        exact, local = (agreement(order_of(kemeny(n, groups, answers, exact=e)), won) for e in (12, 0))
        assert local <= exact + 1e-9
        assert local >= 0.97 * exact
        assert local >= agreement(descending(range(n), won.sum(axis=1)), won) - 1e-9, "where it began"


def test_no_single_move_betters_the_order_of_local_search():
    groups, answers = random_pairs(20, 3)
    won = wins(20, groups, answers)
    order = order_of(kemeny(20, groups, answers))
    for place in range(20):
        rest = order[:place] + order[place + 1 :]
        for target in range(20):
            moved = [*rest[:target], order[place], *rest[target:]]
            assert agreement(moved, won) <= agreement(order, won) + 1e-9


def test_greedy_takes_who_wins_most_of_what_is_left():
    # over all, 1 wins most; without it 2 does, which lost to it; 0 narrowly beat both
    belief = {(0, 1): 0.6, (0, 2): 0.6, (0, 3): 0.5, (1, 2): 0.9, (1, 3): 0.5, (2, 3): 1.0}
    groups, answers = pairs(4, lambda i, j: belief[i, j])
    assert order_of(greedy(4, groups, answers)) == [1, 2, 0, 3]


# -- paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_the_heaviest_path_is_that_of_all_orders(seed):
    weights = np.random.default_rng(seed).normal(size=(6, 6))
    best = max(weight(path, weights) for path in permutations(range(6)))
    path = heaviest_path(weights)
    assert sorted(path) == list(range(6))
    assert weight(path, weights) == pytest.approx(best)


@pytest.mark.parametrize("exact", [12, 0])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 10])
def test_a_chain_is_found_link_by_link(n, exact):
    chain = np.random.default_rng(n).permutation(n).tolist()
    weights = np.zeros((n, n))
    for i, j in pairwise(chain):
        weights[i, j] = 1.0
    assert heaviest_path(weights, exact) == chain


def test_local_search_comes_close_to_the_heaviest_path_and_far_from_the_lightest():
    for seed in range(5):
        weights = np.random.default_rng(seed).normal(size=(12, 12))
        best, local = (weight(heaviest_path(weights, exact), weights) for exact in (12, 0))
        lightest = -weight(heaviest_path(-weights), -weights)
        assert lightest < 0 < 0.85 * best <= local <= best + 1e-9


@pytest.mark.parametrize("n", [13, 40])
def test_no_reversal_and_no_move_betters_the_path_of_local_search(n):
    weights = np.random.default_rng(n).normal(size=(n, n))
    path = heaviest_path(weights)
    assert sorted(path) == list(range(n))
    for i, j in combinations(range(n + 1), 2):
        reversed_part = path[:i] + path[i:j][::-1] + path[j:]
        assert weight(reversed_part, weights) <= weight(path, weights) + 1e-9
        if j - i <= 3:
            part, rest = path[i:j], path[:i] + path[j:]
            for at in range(len(rest) + 1):
                assert weight([*rest[:at], *part, *rest[at:]], weights) <= weight(path, weights) + 1e-9


def test_only_the_surest_neighbours_count_for_tsp():
    # a sure chain 2, 0, 1; the direct answer about its ends disagrees, and no matter
    groups, answers = [(2, 0), (0, 1), (1, 2)], [np.array([0.9, 0.1]), np.array([0.9, 0.1]), np.array([0.6, 0.4])]
    assert order_of(tsp(3, groups, answers)) == [2, 0, 1]
