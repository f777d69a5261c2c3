"""Narrowing drops what the official iterative inference drops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fakes import oracle, silent

from pyterrier_llmrank.core import descending
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.flow import run
from pyterrier_llmrank.strategies import Narrowing


def contextual(seed):
    """Scores that depend on who else is in the list, 0 to 1."""

    def ask(groups):
        return [np.random.default_rng([seed, *sorted(group)]).random(len(group)) for group in groups]

    return ask


def official(n, ask):
    """The published procedure, written out: the score of the round in which a document left, plus that round."""
    left, final, times = list(range(n)), {}, 0
    while len(left) > 20:
        [scores] = ask([tuple(left)])
        worst = np.argsort(scores, kind="stable")
        gone = {left[place] for place in worst[: max(math.ceil(len(left) * 0.2), 10)]}
        final |= {document: scores[left.index(document)] + times for document in gone}
        # the official list of the next round is in ascending order of score; ours in descending order
        left = [left[place] for place in worst[::-1] if left[place] not in gone]
        times += 1
    [scores] = ask([tuple(left)])
    final |= {document: score + times for document, score in zip(left, scores, strict=True)}
    return sorted(range(n), key=lambda document: -final[document])


@pytest.mark.parametrize("n", [2, 20, 21, 30, 55, 100])
def test_the_order_is_that_of_the_published_procedure(n):
    for seed in range(3):
        got = descending(range(n), run(Narrowing()(n, n), contextual(seed)))
        assert got == official(n, contextual(seed))


def test_a_hundred_documents_take_seven_rounds():
    seen = []
    run(Narrowing()(100, 10), oracle(list(range(100)), seen))
    assert [len(group) for [group] in seen] == [100, 80, 64, 51, 40, 30, 20]
    assert Narrowing().cost(100, 10).calls == 7


def test_equals_of_the_best_document_that_is_dropped_go_with_it():
    seen = []
    relevance = [2.0] * 5 + [1.0] * 18 + [0.0] * 7
    scores = run(Narrowing(keep=20, share=0.2, least=10)(30, 30), oracle(relevance, seen))
    assert [len(group) for [group] in seen] == [30, 5]
    assert descending(range(30), scores) == list(range(30))


def test_a_list_of_equals_is_narrowed_all_the_same():
    seen = []
    run(Narrowing(keep=3, share=0.5, least=1)(8, 8), oracle([1.0] * 8, seen))
    assert [len(group) for [group] in seen] == [8, 4, 2]
    assert descending(range(8), run(Narrowing(keep=3)(8, 8), silent)) == list(range(8))


@pytest.mark.parametrize("change", [{"keep": 0}, {"least": 0}, {"share": 1.5}, {"share": -0.1}])
def test_numbers_out_of_range_are_refused(change):
    with pytest.raises(ConfigurationError, match="keep and least must be at least 1 and share from 0 to 1"):
        Narrowing(**change)
