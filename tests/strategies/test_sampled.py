"""Sampled with all pairs and sums, against recorded runs of official code and against what it promises."""

from __future__ import annotations

import pickle
from collections import Counter
from functools import partial

import numpy as np
import pytest
from fakes import first, last, oracle, silent
from shared_data import parity

from pyterrier_llmrank.aggregates import additive
from pyterrier_llmrank.core import Cost, Evidence, descending
from pyterrier_llmrank.designs import (
    all_pairs,
    cycles,
    equi_replicate,
    latin,
    random_pairs,
    shuffled_groups,
    window_pairs,
)
from pyterrier_llmrank.flow import run
from pyterrier_llmrank.seeds import reseeded
from pyterrier_llmrank.strategies import Sampled

ALL_PAIRS = Sampled(all_pairs, additive)


def pairwise(prefer):
    """Answers of pairs: ``prefer(i, j)`` is the probability that i is better."""
    return lambda groups: [np.array([prefer(i, j), 1 - prefer(i, j)]) for i, j in groups]


def sampled(n, ask, strategy=ALL_PAIRS):
    """Scores, the order they give, and the groups asked."""
    rounds = []

    def listen(groups):
        rounds.append(groups)
        return ask(groups)

    scores = run(strategy(n, n), listen)
    return scores, descending(range(n), scores), [group for asked in rounds for group in asked]


# -- official code ----------------------------------------------------------------------------------------------------


def shares(case):
    """What the recorded comparator makes of a pair after both orders: a win (1), a loss (0) or a contradiction."""
    relevance = case["rel"]

    def prefer(i, j):
        if case["mode"] == "cyclic":
            return {0: 0.5, 1: 1.0, 2: 0.0}[(i - j) % 3]
        if case["mode"] in ("always_first", "junk"):
            return 0.5
        return 0.5 + np.sign(relevance[i] - relevance[j]) / 2

    return prefer


def official_top(scores, prefer, k):
    """The first ``k`` by ``scores``, equals in the order in which they first got a point: llm-rankers' rule.

    Pairs are gone through in our order. A document without any point is missing from its table and follows at the end.
    """
    n = len(scores)
    pointed: dict[int, None] = {}
    for i, j in all_pairs(n):
        pointed |= dict.fromkeys(([i] if prefer(i, j) > 0 else []) + ([j] if prefer(i, j) < 1 else []))
    return sorted(pointed, key=lambda i: -scores[i])[:k]


def test_all_pairs_order_like_llm_rankers_but_for_the_order_of_equals():
    """Theirs is wrong there: who happened to get the first point says nothing, and undoes the first stage's order.

    Junk is silence for us and half a point each for them: the same.
    """
    compared = Counter()
    for case in parity("llmrankers_allpair")["cases"]:
        n, k, prefer = case["n"], case["k"], shares(case)
        scores, order, asked = sampled(n, silent if case["mode"] == "junk" else pairwise(prefer))
        top = case["order0"][:k]
        assert 2 * len(asked) == case["n_prompts"]  # both orders are two prompts
        assert case["order0"][k:] == sorted(case["order0"][k:])
        assert sorted(scores, reverse=True)[:k] == [scores[i] for i in top]
        assert [i for i in top if scores[i] > 0] == [i for i in official_top(scores, prefer, k) if scores[i] > 0]
        if order[:k] == top:
            compared["exact, no ties" if len(set(scores)) == n else "exact, with ties"] += 1
        else:
            assert len(set(scores)) < n
            compared["equals in their order"] += 1
    assert compared == {"exact, no ties": 8, "exact, with ties": 21, "equals in their order": 1}


def test_sums_of_probabilities_equal_rank_llm():
    """One order a pair, the earlier document first, as there: score(i) += p and score(j) += 1 - p."""
    compared = Counter()
    for case in parity("rank_llm_pairwise_aggregate")["cases"]:
        matrix = case["P"]
        scores, order, asked = sampled(case["n"], pairwise(lambda i, j, matrix=matrix: matrix[i][j]))
        assert len(asked) == case["n_prompts"]
        np.testing.assert_allclose(scores[case["order0"]], case["scores"], atol=1e-6, rtol=0)
        assert order == case["order0"], case
        compared["no ties" if len(set(case["scores"])) == case["n"] else "ties"] += 1
    assert compared == {"no ties": 12, "ties": 6}


# -- what it promises -------------------------------------------------------------------------------------------------


def test_reversing_the_input_changes_nothing_but_ties():
    n, rng = 12, np.random.default_rng(0)
    matrix = rng.random((n, n))
    belief = np.where(np.tri(n, k=-1, dtype=bool), 1 - matrix.T, matrix)  # belief[i, j] + belief[j, i] == 1

    forward, order, _ = sampled(n, pairwise(lambda i, j: belief[i, j]))
    backward, reverse_order, _ = sampled(n, pairwise(lambda i, j: belief[n - 1 - i, n - 1 - j]))
    np.testing.assert_allclose(backward[::-1], forward, atol=1e-12)
    assert [n - 1 - i for i in reverse_order] == order


def test_ties_go_by_input_order_also_when_the_input_is_reversed():
    relevance = [0, 2, 1, 2, 0, 1]

    def prefer(relevance):
        return pairwise(lambda i, j: 0.5 + np.sign(relevance[i] - relevance[j]) / 2)

    assert sampled(6, prefer(relevance))[1] == [1, 3, 2, 5, 0, 4]
    assert sampled(6, prefer(relevance[::-1]))[1] == [2, 4, 0, 3, 1, 5]


def test_a_perfect_comparator_gives_each_document_its_number_of_wins():
    relevance = np.random.default_rng(1).permutation(15)
    scores, _, _ = sampled(15, pairwise(lambda i, j: float(relevance[i] > relevance[j])))
    np.testing.assert_array_equal(scores, relevance)


def test_silence_counts_as_an_even_split():
    scores, order, _ = sampled(7, silent)
    np.testing.assert_array_equal(scores, np.full(7, 3.0))
    assert order == list(range(7))


def test_one_silent_pair_counts_as_a_tie_among_answers():
    def ask(groups):
        return [np.full(2, np.nan) if group == (0, 2) else np.array([1.0, 0.0]) for group in groups]

    np.testing.assert_array_equal(sampled(3, ask)[0], [1.5, 1.0, 0.5])


@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        ([np.nan, 0.7], [0.0, 0.7]),
        ([0.2, np.nan, 0.6], [0.2, 0.0, 0.6]),
        ([np.nan, 0.9, np.nan], [0.0, 0.9, 0.0]),
        ([np.nan, np.nan, np.nan, np.nan], [0.25, 0.25, 0.25, 0.25]),
        ([0.2, 0.8], [0.2, 0.8]),
    ],
)
def test_a_document_left_out_of_an_answer_has_no_share_in_it(answer, counted):
    group = tuple(range(len(answer)))
    np.testing.assert_allclose(additive(len(answer), [group], [np.array(answer)]), counted)


def test_the_answers_are_left_as_they_were():
    answer = np.array([np.nan, 0.7])
    additive(2, [(0, 1)], [answer])
    np.testing.assert_array_equal(answer, [np.nan, 0.7])


def test_unequal_groups_count_as_if_all_were_in_the_average_number():
    groups = [(0, 1), (2, 3, 1), (3,)]
    answers = [np.array([0.9, 0.1]), np.array([0.5, 0.3, 0.2]), np.array([1.0])]
    gains = [0.9 - 1 / 2, 0.1 - 1 / 2 + 0.2 - 1 / 3, 0.5 - 1 / 3, 0.3 - 1 / 3 + 1.0 - 1, 0.0]
    np.testing.assert_allclose(additive(5, groups, answers), np.array(gains) + 3 / 5)


def test_unequal_groups_are_asked_about_in_one_round():
    def blocks(n):
        return [(0, 1, 2), (2, 3)]

    blocks.group_size = 3
    rounds = []
    strategy = Sampled(blocks, additive)
    scores = run(strategy(4, 4), oracle([0.1, 0.2, 0.7, 0.3], rounds))
    assert rounds == [[(0, 1, 2), (2, 3)]]
    assert strategy.group_size == 3
    np.testing.assert_allclose(scores, np.array([0.1 - 1 / 3, 0.2 - 1 / 3, 1.4 - 1 / 3 - 1 / 2, 0.3 - 1 / 2]) + 2 / 4)


DESIGNS = {
    "a chain": lambda n: [(i, i + 1) for i in range(n - 1)],
    "a star around the last": lambda n: [(i, n - 1) for i in range(n - 1)],
    "unequal blocks": lambda n: [tuple(range(n // 3)), tuple(range(n // 3, n))],
    "only the last two": lambda n: [(n - 2, n - 1)],
}


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_silence_moves_nobody_whatever_the_design(design):
    """The second law, and ``additive``'s own words: "silence never moves anybody"."""
    assert sampled(9, silent, Sampled(design, additive))[1] == list(range(9))


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_is_asked_about_less_than_two_documents(n):
    scores, order, asked = sampled(n, silent)
    assert (scores.shape, order, asked) == ((n,), list(range(n)), [])
    assert ALL_PAIRS.cost(n, n) == Cost(0, 0)


@pytest.mark.parametrize("n", [2, 3, 10, 100])
def test_all_pairs_cost_half_of_n_times_n_minus_1_calls_in_one_round(n):
    assert ALL_PAIRS.cost(n, 1) == Cost(n * (n - 1) // 2, 1)
    groups = all_pairs(n)
    assert len(groups) == len(set(groups)) == n * (n - 1) // 2
    assert all(i < j for i, j in groups)


def test_an_aggregate_that_gets_too_few_answers_says_so():
    with pytest.raises(ValueError, match="argument"):
        additive(3, all_pairs(3), [np.array([1.0, 0.0])])


def test_needs_and_group_size_come_from_the_parts_and_are_choice_and_pairs_otherwise():
    def triples(n):
        return [(0, 1, 2)]

    def first_score(n, groups, answers):
        return np.zeros(n)

    assert (ALL_PAIRS.needs, ALL_PAIRS.group_size) == (Evidence.CHOICE, 2)
    triples.group_size, first_score.needs = 3, Evidence.ORDER
    strategy = Sampled(triples, first_score)
    assert (strategy.needs, strategy.group_size) == (Evidence.ORDER, 3)


def test_repr_names_the_parts_as_they_are_imported():
    assert repr(ALL_PAIRS) == "Sampled(all_pairs, additive)"
    assert eval(repr(ALL_PAIRS)) == ALL_PAIRS
    assert hash(eval(repr(ALL_PAIRS))) == hash(ALL_PAIRS)


def test_a_partial_aggregate_needs_what_the_whole_one_does():
    def weighted(n, groups, answers, weight=1.0):
        return weight * additive(n, groups, answers)

    weighted.needs = Evidence.ORDER
    strategy = Sampled(all_pairs, partial(weighted, weight=2.0))
    assert strategy.needs == Evidence.ORDER
    np.testing.assert_array_equal(sampled(3, silent, strategy)[0], [2.0, 2.0, 2.0])
    assert repr(Sampled(all_pairs, partial(additive))) == "Sampled(all_pairs, partial(additive))"


def test_group_size_is_that_of_a_design_with_arguments():
    assert Sampled(random_pairs(3), additive).group_size == 2
    assert Sampled(equi_replicate(20, copies=2), additive).group_size == 20
    assert Sampled(latin(7), additive).group_size == 7


@pytest.mark.parametrize("design", [random_pairs(3), cycles(2), equi_replicate(5, copies=2), shuffled_groups(4)])
def test_each_query_gets_groups_of_its_own_at_the_same_cost(design):
    strategy = Sampled(design, additive)
    one, other = reseeded(strategy, "q1"), reseeded(strategy, "q2")
    assert one == reseeded(strategy, "q1") != other
    assert one.design(20) != other.design(20)
    for n in (0, 1, 2, 3, 20, 23):
        assert one.cost(n, n) == other.cost(n, n) == strategy.cost(n, n)


def test_a_sampled_strategy_is_a_value():
    strategy = Sampled(equi_replicate(20, copies=2, seed=3), additive)
    assert repr(strategy) == "Sampled(equi_replicate(20, copies=2, seed=3), additive)"
    assert eval(repr(strategy)) == strategy
    assert pickle.loads(pickle.dumps(strategy)) == strategy
    assert Sampled(equi_replicate(20, copies=2, seed=4), additive) != strategy


def test_the_example_of_joint_ranking_costs_20_calls_in_one_round():
    """100 documents: blocks of 20 with 4 copies each, or the rows and columns of a square of 10."""
    assert Sampled(equi_replicate(20, copies=4), additive).cost(100, 10) == Cost(20, 1)
    assert Sampled(latin(10), additive).cost(100, 10) == Cost(20, 1)


@pytest.mark.parametrize("design", [cycles(), window_pairs(5), window_pairs(3, dilation=2), window_pairs(30)])
@pytest.mark.parametrize("ask", [first, last], ids=lambda ask: ask.__name__)
def test_a_scorer_that_prefers_one_side_moves_nobody_where_all_are_shown_first_equally_often(design, ask):
    assert sampled(30, ask, Sampled(design, additive))[1] == list(range(30))
