"""How answers about groups become comparisons of two."""

from __future__ import annotations

import numpy as np
import pytest

from pyterrier_llmrank.aggregates.comparisons import compared, in_order, mean_shares, settled, wins
from pyterrier_llmrank.core import descending

NAN = np.nan


def told(group, answer):
    """Who is better than whom, and how surely."""
    found = compared([group], [np.array(answer)])
    return {(int(i), int(j)): round(float(share), 9) for i, j, share in zip(*found, strict=True)}


def test_a_ranked_group_gives_all_its_pairs():
    assert told((7, 2, 5), [0.0, -2.0, -1.0]) == {(7, 2): 1.0, (7, 5): 1.0, (2, 5): 0.0}


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        ([0.7, 0.3], 0.7),
        ([0.0, 1.0], 0.0),
        ([0.5, 0.5], 0.5),
        ([0.3333, 0.6666], 0.3333 / 0.9999),  # rounded when it was recorded
        ([0.7, 0.2], 1.0),  # not all of the belief: two scores
        ([1.3, -0.3], 1.0),
        ([-1.2, -0.3], 0.0),  # logarithms
        ([0.0, 0.0], 0.5),
        ([12.0, 3.0], 1.0),
        ([NAN, 1.0], 0.0),
        ([0.2, NAN], 1.0),
    ],
)
def test_two_scores_that_are_probabilities_are_parts_of_a_win_and_others_are_compared(answer, share):
    assert told((0, 1), answer) == {(0, 1): pytest.approx(share, abs=1e-8)}


def test_three_probabilities_are_an_order():
    assert told((0, 1, 2), [0.2, 0.5, 0.3]) == {(0, 1): 0.0, (0, 2): 0.0, (1, 2): 1.0}


def test_documents_without_a_score_lose_and_say_nothing_of_each_other():
    assert told((0, 1, 2), [NAN, 0.1, NAN]) == {(0, 1): 0.0, (1, 2): 1.0}
    assert told((0, 1), [NAN, NAN]) == {}
    assert told((4,), [1.0]) == {}


def test_wins_and_losses_of_two_documents_add_up_to_their_comparisons():
    groups = [(0, 1), (1, 0), (0, 1, 2)]
    won = wins(4, groups, [np.array([0.9, 0.1]), np.array([0.4, 0.6]), np.array([1.0, 1.0, 0.0])])
    np.testing.assert_array_equal(won, [[0, 2, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_two_orders_of_a_pair_that_contradict_each_other_are_even_to_the_last_digit():
    for p in np.random.default_rng(0).random(200):
        won = wins(2, [(0, 1), (1, 0)], [np.array([p, 1 - p])] * 2)
        assert won[0, 1] == won[1, 0]


def test_mean_shares_are_unknown_where_nothing_was_compared():
    shares = mean_shares(3, [(0, 1), (0, 1)], [np.array([0.9, 0.1]), np.array([0.5, 0.5])])
    np.testing.assert_allclose(shares, [[NAN, 0.7, NAN], [0.3, NAN, NAN], [NAN, NAN, NAN]])


@pytest.mark.parametrize("size", [1e-200, 1e-5, 1.0, 1e5, 1e200])
def test_settled_scores_are_the_same_but_for_noise(size):
    scores = np.array([1.0, 0.25, 1 / 3, -2.0]) * size
    np.testing.assert_allclose(settled(scores), scores, rtol=1e-10)
    assert len(set(settled(np.array([0.1 + 0.2, 0.3])))) == 1
    assert settled(np.empty(0)).shape == (0,)


def test_an_order_leaves_the_never_compared_at_their_places():
    scores = in_order(6, [(1, 3), (3, 4)], [np.array([0.0, 1.0])] * 2, lambda won: [2, 1, 0])
    assert descending(range(6), scores) == [0, 4, 2, 3, 1, 5]


def test_noise_below_the_unit_of_scores_goes():
    assert settled(np.array([3e-17, -5e-17, 1e-13]), unit=1.0).tolist() == [0.0, 0.0, 0.0]
    np.testing.assert_array_equal(settled(np.array([2.5, 1e-13]), unit=1.0), settled(np.array([2.5, 1e-13])))
