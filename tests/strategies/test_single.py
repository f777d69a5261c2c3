"""OneShot and Pointwise: strategies of one round."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import oracle, silent

from pyterrier_llmrank.core import Cost, Evidence, descending
from pyterrier_llmrank.flow import run
from pyterrier_llmrank.strategies import OneShot, Pointwise

BOTH = [OneShot(), Pointwise()]
each = pytest.mark.parametrize("strategy", BOTH, ids=repr)
RELEVANCE = [2, 0, 3, 1]


@each
def test_an_empty_list_is_not_asked_about(strategy):
    rounds = []
    assert run(strategy(0, 0), oracle([], rounds)).shape == (0,)
    assert rounds == []
    assert strategy.cost(0, 0) == Cost(0, 0)


@each
def test_a_single_document_is_scored_in_one_call(strategy):
    rounds = []
    np.testing.assert_array_equal(run(strategy(1, 1), oracle([7], rounds)), [7.0])
    assert rounds == [[(0,)]]
    assert strategy.cost(1, 1) == Cost(1, 1)


def test_one_shot_shows_the_whole_list_in_input_order():
    rounds = []
    run(OneShot()(4, 4), oracle(RELEVANCE, rounds))
    assert rounds == [[(0, 1, 2, 3)]]


def test_pointwise_asks_about_each_document_alone_in_one_round():
    rounds = []
    run(Pointwise()(4, 4), oracle(RELEVANCE, rounds))
    assert rounds == [[(0,), (1,), (2,), (3,)]]


@each
@pytest.mark.parametrize("k", [1, 4])
def test_the_scores_are_the_answers_whatever_the_cutoff(strategy, k):
    scores = run(strategy(4, k), oracle(RELEVANCE))
    np.testing.assert_array_equal(scores, RELEVANCE)
    assert descending(range(4), scores) == [2, 0, 3, 1]


@each
@pytest.mark.parametrize("n", [2, 20, 100])
@pytest.mark.parametrize("k", [1, 100])
def test_costs_are_one_round_whatever_the_cutoff(strategy, n, k):
    assert strategy.cost(n, k) == Cost(1 if strategy == OneShot() else n, 1)


@each
def test_silence_is_handed_on_and_keeps_the_order(strategy):
    scores = run(strategy(5, 5), silent)
    assert np.isnan(scores).all() and descending(range(5), scores) == list(range(5))


def test_a_document_without_an_answer_goes_last():
    def ask(groups):
        return [np.array([np.nan if i == 1 else float(i) for i in group]) for group in groups]

    for strategy in BOTH:
        assert descending(range(4), run(strategy(4, 4), ask)) == [3, 2, 0, 1]


def test_one_shot_needs_an_order_of_everything_and_pointwise_comparable_scores_of_one():
    assert (OneShot().needs, OneShot().group_size) == (Evidence.ORDER, None)
    assert (Pointwise().needs, Pointwise().group_size) == (Evidence.SCORE, 1)


@each
def test_repr_rebuilds_the_strategy(strategy):
    assert eval(repr(strategy)) == strategy
