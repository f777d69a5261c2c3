"""Rewards of answers with what they were about: each is the published function's value."""

from __future__ import annotations

import numpy as np
import pytest

from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.prompts import REASONED_CHOICE, ListPrompt, ScorePrompt, SelectPrompt, SetPrompt
from pyterrier_llmrank.training import rewards
from pyterrier_llmrank.training.data import TrainingList
from pyterrier_llmrank.training.rollouts import DynamicRAG, ERank, RankR1, Rearank, ReasonRank, Rollout

DOCS = tuple(Doc(name, f"text {name}") for name in "abcd")
SHOWN = TrainingList("q", "query", DOCS, (0.0, 2.0, 0.0, 3.0))
OTHER = TrainingList("r", "another", DOCS[:2], (1.0, 0.0))


def said(answer):
    return f"<think>so</think> <answer>{answer}</answer>"


def rolled(*answers, shown=SHOWN, place=None, number=0):
    return [Rollout(answer, shown, place, number) for answer in answers]


ANSWERS = [said("[4] > [2] > [1] > [3]"), said("[2] > [1] > [3] > [4]"), "[4]", ""]


@pytest.mark.parametrize("k", [1, 10])
def test_rearank(k):
    expected = [rewards.rearank(answer, SHOWN.targets, k=k) for answer in ANSWERS]
    assert Rearank(k)(rolled(*ANSWERS)) == expected
    assert len(set(expected)) > 2


@pytest.mark.parametrize(
    ("prompt", "right", "first"),
    [
        (SetPrompt("letters", "generate", REASONED_CHOICE), "[D]", "[A]"),
        (SetPrompt("numbers", "generate", REASONED_CHOICE), "[4]", "[1]"),
        (SetPrompt("letters", "generate"), "D", "A"),
    ],
)
def test_rank_r1_asks_for_the_label_as_the_prompt_shows_it(prompt, right, first):
    reward = RankR1(prompt)
    assert reward(rolled(said(right), said(first), right)) == [1, 0, 0]
    assert reward(rolled(said(first), shown=OTHER)) == [1]


def test_rank_r1_favours_no_place_among_equally_good_documents():
    reward, equal = RankR1(SetPrompt()), TrainingList("q", "query", DOCS, (1.0, 0.0, 1.0, 1.0))
    assert reward(rolled(*map(said, "ABCD"), shown=equal)) == [1, 0, 1, 1]


def test_reason_rank_takes_the_teachers_order_from_the_targets():
    expected = [rewards.reason_rank(answer, {1, 3}, [3, 1, 0, 2], k=2) for answer in ANSWERS]
    assert ReasonRank(2)(rolled(*ANSWERS)) == expected
    assert expected[-1] == -1


def test_erank_compares_all_answers_about_a_list():
    written = {1: ["<score>9</score>", "<score>5</score>"], 0: ["<score>7</score>", "<score>2</score>"], 2: ["?", "1"]}
    reference = {("q", "a"): 4.0, ("q", "b"): 8.0, ("q", "c"): 1.0}
    rollouts = [one for place, answers in written.items() for one in rolled(*answers, place=place)]
    expected = rewards.erank([[9, 5], [7, 2], [np.nan, 1]], [True, False, False], [8, 4, 1]).ravel().tolist()
    reward = ERank(ScorePrompt(highest=10), reference)
    assert reward(rollouts) == expected
    assert reward(rollouts[::-1]) == expected[::-1]


def test_erank_keeps_lists_apart_also_of_one_query():
    reward = ERank(ScorePrompt(highest=10), {("r", "a"): 5.0, ("r", "b"): 5.0})
    lists = [
        [Rollout("<score>9</score>", OTHER, 0, number), Rollout(f"<score>{low}</score>", OTHER, 1, number)]
        for number, low in enumerate([5, 9])
    ]
    assert reward(lists[0] + lists[1]) == reward(lists[0]) + reward(lists[1])
    assert reward(lists[0]) == [1.0, 0.0]


def test_erank_pays_samples_of_unequal_number():
    reward = ERank(ScorePrompt(highest=10), {("r", "a"): 5.0, ("r", "b"): 5.0})
    rollouts = [Rollout(f"<score>{score}</score>", OTHER, place, 0) for place, score in [(0, 9), (0, 8), (1, 5)]]
    assert reward(rollouts) == [1.0, 0.5, 0.0]


def test_erank_names_what_it_misses():
    with pytest.raises(ConfigurationError, match="shows several"):
        ERank(ListPrompt(), {})
    with pytest.raises(InputError, match="no reference score of document 'a' for query 'q'"):
        ERank(ScorePrompt(), {})(rolled("<score>1</score>", place=0))


def test_dynamic_rag_reads_the_selection_and_asks_the_generator():
    asked = []

    def respond(query, docs):
        asked.append((query, [doc.docno for doc in docs]))
        return "It was a cat"

    reward = DynamicRAG(SelectPrompt(), respond, {"q": "cat"}, lambda a, e: 0.5, lambda q, a, e: 0.25)
    earned = reward(rolled("[4] > [2]", "None"))
    assert asked == [("query", ["d", "b"]), ("query", [])]
    expected = [
        rewards.dynamic_rag("It was a cat", "cat", selected=selected, semantic=0.5, judged=0.25) for selected in (2, 0)
    ]
    assert earned == expected
    with pytest.raises(InputError, match="does not know what query 'r' should be answered"):
        reward(rolled("[1]", shown=OTHER))


def test_no_answers_earn_nothing():
    for reward in (Rearank(), RankR1(SetPrompt()), ReasonRank(), ERank(ScorePrompt(), {})):
        assert reward([]) == []
