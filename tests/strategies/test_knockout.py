"""Knockout: who goes on, who is ranked where, and what it costs."""

from __future__ import annotations

from math import ceil, log2

import numpy as np
import pytest
from fakes import first, last, oracle, silent

from pyterrier_llmrank.core import Evidence, descending
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.flow import run
from pyterrier_llmrank.seeds import reseeded
from pyterrier_llmrank.strategies import Knockout

SHAPES = [Knockout(), Knockout(seed=7), Knockout(3), Knockout(4, seed=1), Knockout(20)]
each_shape = pytest.mark.parametrize("strategy", SHAPES, ids=repr)


def played(strategy, n, ask):
    """Order, and the matches, round by round."""
    rounds = []

    def listen(groups):
        rounds.append(groups)
        return ask(groups)

    return descending(range(n), run(strategy(n, n), listen)), rounds


@each_shape
@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 8, 21, 64, 101])
def test_the_best_comes_first_and_the_others_by_the_round_in_which_they_were_beaten(strategy, n):
    relevance = np.random.default_rng(n).permutation(n).tolist()
    order, rounds = played(strategy, n, oracle(relevance))
    beaten = dict.fromkeys(range(n), len(rounds) + 1)
    for number, matches in enumerate(rounds, 1):
        for match in matches:
            beaten |= {i: number for i in match if i != max(match, key=lambda i: relevance[i])}
    assert order == sorted(range(n), key=lambda i: (-beaten[i], i))
    assert not n or order[0] == int(np.argmax(relevance))


@pytest.mark.parametrize("n", range(0, 102))
def test_pairs_cost_one_match_for_every_document_but_one(n):
    for ask in (oracle(range(n)), silent, first, last):
        _, rounds = played(Knockout(), n, ask)
        assert sum(map(len, rounds)) == max(0, n - 1)
        assert len(rounds) == (ceil(log2(n)) if n else 0)


@each_shape
def test_every_match_loses_all_but_one_and_who_is_out_plays_no_more(strategy):
    for n in (2, 5, 21, 50):
        relevance = np.random.default_rng(n).permutation(n).tolist()
        alive = set(range(n))
        for matches in played(strategy, n, oracle(relevance))[1]:
            playing = [i for match in matches for i in match]
            assert len(playing) == len(set(playing)) and set(playing) <= alive
            assert len(alive) - len(playing) <= 1, "more than one without an opponent"
            for match in matches:
                alive -= set(match) - {max(match, key=lambda i: relevance[i])}
        assert len(alive) == 1


@pytest.mark.parametrize("n", [3, 5, 9, 11, 33])
def test_who_had_no_opponent_plays_in_the_next_round(n):
    alive, rested = set(range(n)), set()
    for matches in played(Knockout(), n, silent)[1]:
        playing = {i for match in matches for i in match}
        assert rested <= playing
        rested = alive - playing
        alive = rested | {min(match) for match in matches}


@pytest.mark.parametrize(
    ("final", "standing"), [((1, 0), (3, 1, 2, 1)), ((0, 1), (2, 1, 3, 1)), ((np.nan, np.nan), (1, 1, 2, 1))]
)
def test_a_match_without_an_answer_beats_nobody(final, standing):
    """The document first on input goes on from it; both are ranked by what they win elsewhere."""
    unanswered, answered = (sorted(match) for match in played(Knockout(), 4, silent)[1][0])
    semifinals = dict.fromkeys(unanswered, np.nan) | dict(zip(answered, (1, 0), strict=True))
    finalists = dict(zip((unanswered[0], answered[0]), final, strict=True))

    def ask(groups):
        known = semifinals if len(groups) == 2 else finalists
        return [np.array([known[i] for i in match], dtype=float) for match in groups]

    scores = run(Knockout()(4, 4), ask)
    assert tuple(scores[[*unanswered, *answered]]) == standing


def test_a_tie_is_no_defeat_and_whoever_shares_the_lead_beat_the_others():
    def ask(groups):
        return [np.array([float(i < 4) for i in group]) for group in groups]

    scores = run(Knockout(8)(8, 8), ask)
    assert scores.tolist() == [2, 2, 2, 2, 1, 1, 1, 1]
    assert run(Knockout(4)(4, 4), ask).tolist() == [1, 1, 1, 1]


def test_the_bracket_follows_from_the_seed_and_is_another_for_another_query():
    def bracket(strategy):
        return played(strategy, 20, silent)[1][0]

    assert bracket(Knockout(seed=3)) == bracket(Knockout(seed=3)) != bracket(Knockout(seed=4))
    queries = [reseeded(Knockout(), qid) for qid in ("q1", "q2")]
    assert bracket(queries[0]) != bracket(queries[1])
    opponents = {frozenset(bracket(Knockout(seed=seed))[0]) for seed in range(50)}
    assert len(opponents) > 40


def test_it_needs_the_best_of_a_group_of_its_size():
    assert (Knockout(4).needs, Knockout(4).group_size) == (Evidence.CHOICE, 4)


def test_a_match_of_one_is_refused_with_a_remedy():
    with pytest.raises(ConfigurationError, match=r"at least 2 documents, got group_size=1"):
        Knockout(1)


@each_shape
def test_repr_rebuilds_the_strategy(strategy):
    assert eval(repr(strategy)) == strategy
