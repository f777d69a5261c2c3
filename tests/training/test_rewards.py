"""Rewards: formats, ties, empty answers, orders that are best already; and what GRPO makes of them."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from pyterrier_llmrank.errors import InputError
from pyterrier_llmrank.training.rewards import (
    advantages,
    average_overlap,
    dynamic_rag,
    erank,
    ndcg,
    rank_r1,
    rearank,
    reason_rank,
    rouge_l,
)

GRADES = [0, 2, 0, 3]


def said(answer):
    return f"<think>[1] is about something else.</think> <answer>{answer}</answer>"


def test_the_best_order_earns_everything():
    assert rearank(said("[4] > [2] > [1] > [3]"), GRADES) == pytest.approx(1.0)


def test_the_shown_order_earns_its_format_only():
    assert rearank(said("[1] > [2] > [3] > [4]"), GRADES) == pytest.approx(0.2)


def test_a_worse_order_loses():
    assert rearank(said("[3] > [1] > [2] > [4]"), GRADES) < 0.2


def test_between_both_the_gain_is_a_part_of_the_possible():
    """nDCG of the shown order is a, of the answer's b, of the best 1: (b - a) / (1 - a)."""
    shown, answered = ndcg([0, 1, 2, 3], GRADES), ndcg([1, 3, 0, 2], GRADES)
    expected = 0.8 * (answered - shown) / (1 - shown) + 0.2
    assert rearank(said("[2] > [4] > [1] > [3]"), GRADES) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "earned"),
    [
        (said("4 and 2 and 1 and 3"), 0.9),
        ("[4] > [2] > [1] > [3]", 0.8),
        ("<answer>[4] > [2] > [1] > [3]</answer>", 0.9),
        (said("[4] > [2]"), 1.0),  # the others follow in order
        (said(""), 0.1),
        ("", 0.0),
        ("<think>[4] > [2] > [1] > [3]", 0.0),  # cut off while it thought
    ],
)
def test_rearanks_formats(text, earned):
    assert rearank(text, GRADES) == pytest.approx(earned)


def test_where_nothing_is_to_be_gained_only_losses_count():
    best = [3, 2, 0, 0]
    assert rearank(said("[1] > [2] > [3] > [4]"), best) == pytest.approx(0.2)
    assert rearank(said("[1] > [2] > [4] > [3]"), best) == pytest.approx(0.2)  # equals may change places
    assert rearank(said("[2] > [1] > [3] > [4]"), best) < 0.2
    assert rearank(said("[2] > [1] > [3] > [4]"), [0] * 4) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("text", "earned"),
    [
        (said(" [3]\n"), 1),
        (said("[4]"), 0),
        (said("[3], of course"), 0),
        ("<answer>[3]</answer>", 0),
        ("", 0),
    ],
)
def test_rank_r1(text, earned):
    assert rank_r1(text, "[3]") == earned


def test_reason_rank_sees_three_views():
    text = said("[2] > [1] > [3]")
    views = 1 / math.log2(3) / (1 + 1 / math.log2(3)) + 0  # relevant are the first, at place 2, and the third, after k
    expected = views + 0.2 * 1 / 2 + 0.1 * (0 + 1 / 2 + 1) / 3
    assert reason_rank(text, {0, 2}, [2, 1, 0], k=2) == pytest.approx(expected)


def test_the_teachers_order_earns_most():
    assert reason_rank(said("[3] > [1] > [2]"), {2}, [2, 0, 1]) == pytest.approx(1.3)


@pytest.mark.parametrize("answer", ["[1] > [2]", "[1] > [2] > [2]", "[1] > [2] > [4]", "[0] > [1] > [2]", ""])
def test_reason_rank_pays_nothing_for_what_is_no_permutation(answer):
    assert reason_rank(said(answer), {0}, [0, 1, 2]) == 0


def test_reason_rank_punishes_an_answer_without_reasoning():
    assert reason_rank("[1] > [2] > [3]", {0}, [0, 1, 2]) == -1


def test_erank_pays_by_the_place_among_all_samples():
    """Three documents, two samples of each; the first is relevant."""
    rewards = erank([[9, 5], [7, 2], [1, np.nan]], [True, False, False], [8, 4, 1])
    assert rewards[0].tolist() == [1.0, pytest.approx(1 / 3)]
    assert rewards[1].tolist() == [-1.0, pytest.approx(-((2 / 10) ** 2))]  # 7 stands above the 5 of a relevant one
    assert rewards[2].tolist() == [0.0, -1.0]


def test_eranks_equals_share_the_best_rank_and_an_irrelevant_one_is_not_below():
    rewards = erank([[6], [6]], [True, False], [5, 5])
    assert rewards.tolist() == [[1.0], [-1.0]]


def test_a_query_without_relevant_documents_keeps_to_its_reference():
    assert erank([[3], [9]], [False, False], [3, 4]).tolist() == [[0.0], [pytest.approx(-0.25)]]


def test_erank_names_shapes_that_differ():
    with pytest.raises(InputError, match=r"got \(2, 1\), 1 and 2"):
        erank([[1], [2]], [True], [1, 1])


def test_dynamic_rag_is_a_mean_of_five():
    value = dynamic_rag("It was Jane Austen.", "Jane Austen", selected=3, semantic=0.8, judged=0.5)
    assert value == pytest.approx((1 + 0.8 + 2 * 2 / 6 + 1 / 4 + 0.5) / 5)
    assert dynamic_rag("", "Jane Austen", selected=0, semantic=0, judged=0) == pytest.approx(1 / 5)


def test_dynamic_rag_refuses_marks_of_another_scale():
    with pytest.raises(InputError, match="judged from 0 to 1, got 90"):
        dynamic_rag("a", "a", selected=1, semantic=1, judged=90)


def test_a_text_inside_the_expected_answer_is_no_match():
    """The authors' code takes either in the other, so that any letter of the answer matches."""
    assert dynamic_rag("a", "Jane Austen", selected=0, semantic=0, judged=0) == pytest.approx(1 / 5)


@pytest.mark.parametrize(
    ("text", "expected", "f1"),
    [("a b c d", "a c d", 6 / 7), ("d c b a", "a b c d", 1 / 4), ("", "a", 0), ("x", "a", 0)],
)
def test_rouge_l(text, expected, f1):
    assert rouge_l(text, expected) == pytest.approx(f1)


def test_average_overlap():
    assert average_overlap([1, 2, 3], [1, 2, 3]) == 1
    assert average_overlap([1, 2], [2, 1]) == 0.5
    assert average_overlap([], []) == 0


def test_advantages_are_nought_where_all_rewards_tie():
    assert advantages([0.1] * 7).tolist() == [0.0] * 7
    assert advantages([[1, 1], [0, 1]]).tolist() == [[0, 0], [-1, 1]]


@pytest.mark.parametrize("room", ["rewards", "data"])
def test_rewards_and_data_need_no_torch(room):
    script = f"import sys, pyterrier_llmrank.training.{room}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
