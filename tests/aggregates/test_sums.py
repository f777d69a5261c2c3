"""Sums, means, and how a document did against each opponent. See strategies/test_sampled.py for ``additive``."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from pyterrier_llmrank.aggregates import (
    additive,
    binary,
    borda,
    copeland,
    maximum,
    mean,
    minimum,
    page_rank,
    shown_first,
    win_rate,
)
from pyterrier_llmrank.core import silence
from pyterrier_llmrank.errors import ConfigurationError

PAIRS = [(0, 1), (0, 2), (1, 2)]
BELIEFS = [np.array([0.9, 0.1]), np.array([0.4, 0.6]), np.array([0.7, 0.3])]


@pytest.mark.parametrize(
    ("aggregate", "scores"),
    [
        (additive, [1.3, 0.8, 0.9]),
        (borda, [1.3, 0.8, 0.9]),
        (binary, [1, 1, 1]),
        (copeland, [0, 0, 0]),
        (win_rate, [0.65, 0.4, 0.45]),
        (minimum, [0.4, 0.1, 0.3]),
        (maximum, [0.9, 0.7, 0.6]),
    ],
)
def test_scores_of_three_uncertain_pairs(aggregate, scores):
    np.testing.assert_allclose(aggregate(3, PAIRS, BELIEFS), scores, atol=1e-12)


def test_the_shares_of_the_document_shown_first_are_the_sum_of_duot5():
    p = np.random.default_rng(3).random((5, 5))
    groups = list(permutations(range(5), 2))
    answers = [np.array([p[i, j], 1 - p[i, j]]) for i, j in groups]
    told = shown_first(5, groups, answers)
    sums = [sum(p[i, j] for j in range(5) if j != i) for i in range(5)]
    np.testing.assert_allclose(told - told.mean(), np.array(sums) - np.mean(sums), atol=1e-9)
    assert (shown_first(5, groups, [silence(2)] * len(groups)) == 0).all()


def test_summing_both_orders_is_the_symmetric_sum_of_duot5():
    rng = np.random.default_rng(0)
    p = rng.random((5, 5))
    groups = list(permutations(range(5), 2))
    symmetric = [sum(p[i, j] + 1 - p[j, i] for j in range(5) if j != i) for i in range(5)]
    answers = [np.array([p[i, j], 1 - p[i, j]]) for i, j in groups]
    np.testing.assert_allclose(additive(5, groups, answers), symmetric, atol=1e-9)


def test_borda_gives_the_best_of_m_documents_m_minus_1_points():
    np.testing.assert_array_equal(borda(4, [(2, 0, 3, 1)], [np.array([9.0, 1.0, 4.0, 4.0])]), [0, 1.5, 3, 1.5])


def test_borda_and_binary_do_not_prefer_who_is_compared_more_often():
    groups, answers = [(0, 1), (2, 3), (2, 4), (2, 5)], [np.array([1.0, 0.0])] + [np.array([0.5, 0.5])] * 3
    for aggregate in (borda, binary, additive):
        scores = aggregate(6, groups, answers)
        assert scores[0] > scores[2] == scores[3] > scores[1]


def test_binary_does_not_care_how_sure_an_answer_is_and_a_tie_is_half():
    groups = [(0, 1), (0, 1), (0, 1)]
    answers = [np.array([0.51, 0.49]), np.array([0.0, 1.0]), np.array([0.5, 0.5])]
    np.testing.assert_array_equal(binary(2, groups, answers), [1.5, 1.5])


def test_copeland_counts_opponents_not_comparisons():
    groups, answers = [(0, 1)] * 3 + [(1, 2), (2, 0)], [np.array([1.0, 0.0])] * 5
    np.testing.assert_array_equal(copeland(4, groups, answers), [0, 0, 0, 0])
    np.testing.assert_array_equal(copeland(4, groups[:4], answers[:4]), [1, 0, -1, 0])


def test_win_rate_counts_every_opponent_the_same():
    groups, answers = [(0, 1)] * 9 + [(0, 2)], [np.array([1.0, 0.0])] * 9 + [np.array([0.0, 1.0])]
    np.testing.assert_array_equal(win_rate(4, groups, answers), [0.5, 0, 1, 0.5])


def test_both_orders_of_a_pair_are_one_opponent_for_minimum_and_maximum():
    groups, answers = [(0, 1), (1, 0)], [np.array([0.9, 0.1]), np.array([0.5, 0.5])]
    np.testing.assert_allclose(minimum(3, groups, answers), [0.7, 0.3, 0.5])
    np.testing.assert_allclose(maximum(3, groups, answers), [0.7, 0.3, 0.5])


# -- means of scores --------------------------------------------------------------------------------------------------


def test_means_leave_failures_out_rather_than_count_them_as_nothing():
    groups = [(0, 1), (2, 3), (0, 2), (1, 3)]
    answers = [np.array([8.0, 4.0]), silence(2), np.array([6.0, 5.0]), np.array([np.nan, 1.0])]
    np.testing.assert_array_equal(mean(4, groups, answers), [7, 4, 5, 1])


def test_a_document_without_any_score_comes_out_among_the_others():
    np.testing.assert_array_equal(mean(4, [(0, 1), (2, 3)], [np.array([9.0, 3.0]), silence(2)]), [9, 3, 6, 6])


def test_means_do_not_depend_on_the_assignment_to_groups_when_scores_hold_between_them():
    relevance, rng = np.array([0.3, 0.9, 0.1, 0.7, 0.5, 0.2]), np.random.default_rng(0)
    for _ in range(5):
        groups = [tuple(part.tolist()) for _ in range(3) for part in np.split(rng.permutation(6), 2)]
        scores = mean(6, groups, [relevance[list(group)] for group in groups])
        np.testing.assert_allclose(scores, relevance, atol=1e-12)


def test_equal_scores_in_another_order_have_equal_means():
    answers = [np.array([0.1, 0.3]), np.array([0.2, 0.1]), np.array([0.3, 0.2])]
    assert len(set(mean(2, [(0, 1)] * 3, answers))) == 1


# -- PageRank ---------------------------------------------------------------------------------------------------------


def test_page_rank_prefers_who_beat_the_strong_over_who_beat_the_weak():
    # 4 beat 0, which beat three; 5 beat 3, which beat none
    groups = [(0, 1), (0, 2), (0, 3), (4, 0), (5, 3)]
    scores = page_rank(6, groups, [np.array([1.0, 0.0])] * 5)
    assert scores[4] > scores[5]
    assert scores.sum() == pytest.approx(1)


def test_page_rank_solves_its_equations():
    rng = np.random.default_rng(0)
    groups = [tuple(rng.permutation(6)[:3].tolist()) for _ in range(12)]
    answers = [-np.arange(3.0)] * 12
    links = np.zeros((6, 6))
    for a, b, c in groups:
        links[[b, c, c], [a, a, b]] += 1
    steps = links / links.sum(axis=1, keepdims=True)
    for damping in (0.5, 0.85):
        visits = page_rank(6, groups, answers, damping=damping, tolerance=1e-14)
        np.testing.assert_allclose(damping * visits @ steps + (1 - damping) / 6, visits, atol=1e-11)


@pytest.mark.parametrize("damping", [-0.1, 1.0, float("nan")])
def test_a_damping_that_is_no_probability_below_1_is_refused(damping):
    with pytest.raises(ConfigurationError, match=f"got {damping}; 0.85 is usual"):
        page_rank(2, PAIRS[:1], BELIEFS[:1], damping=damping)


def test_shares_of_documents_shown_first_that_cancel_out_move_nobody():
    groups = [(a, b) for a in range(6) for b in range(6) if a != b] * 2
    answers = [np.array([p, 1 - p]) for p in np.repeat([0.3, 0.7], 30)]
    assert set(shown_first(6, groups, answers)) == {0.0}
