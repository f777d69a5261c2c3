"""What every aggregate keeps, whatever its method. A new aggregate is one more line in ``AGGREGATES``."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pytest

from pyterrier_llmrank import aggregates
from pyterrier_llmrank.aggregates import (
    additive,
    binary,
    borda,
    bradley_terry,
    copeland,
    elo,
    greedy,
    kemeny,
    kwiksort,
    maximum,
    mean,
    minimum,
    page_rank,
    plackett_luce,
    thurstone,
    tsp,
    win_rate,
)
from pyterrier_llmrank.core import Evidence, descending, silence, spelled
from pyterrier_llmrank.designs import cycles, equi_replicate, random_pairs, shuffled_groups
from pyterrier_llmrank.errors import ConfigurationError


class Kept(NamedTuple):
    """An aggregate, and what it does not promise."""

    aggregate: object
    sorts: bool = True  # orders documents that a perfect ranker compared with each other
    graded: bool = True  # gives scores that can be equal, not only an order
    exposure: bool = False  # being in more groups moves a document, even if nothing is said there
    seeded: bool = False  # contradictory answers are settled at random
    shares: bool = True  # reads who won, not values that hold between groups


AGGREGATES = [
    Kept(additive),
    Kept(binary),
    Kept(borda),
    Kept(bradley_terry),
    Kept(partial(bradley_terry, prior=0.0)),
    Kept(copeland),
    Kept(elo),
    Kept(partial(elo, ties=0.0)),
    Kept(greedy, graded=False),
    Kept(kemeny, graded=False),
    Kept(partial(kemeny, exact=0), graded=False),
    Kept(kwiksort, graded=False, seeded=True),
    Kept(partial(kwiksort, seed=7), graded=False, seeded=True),
    Kept(maximum, sorts=False),
    Kept(mean, shares=False),
    Kept(minimum, sorts=False),
    Kept(page_rank, exposure=True),
    Kept(plackett_luce),
    Kept(thurstone),
    Kept(tsp, graded=False),
    Kept(partial(tsp, exact=0), graded=False),
    Kept(win_rate),
]
each = pytest.mark.parametrize("kept", AGGREGATES, ids=lambda kept: spelled(kept.aggregate))
each_of_shares = pytest.mark.parametrize(
    "kept", [kept for kept in AGGREGATES if kept.shares], ids=lambda kept: spelled(kept.aggregate)
)


def assert_all_equal(kept, scores):
    """Nobody moves, and where there are grades, nobody is better than another."""
    assert np.isfinite(scores).all()
    assert order_of(scores) == list(range(len(scores)))
    assert len(set(scores)) <= 1 or not kept.graded


def order_of(scores):
    return descending(range(len(scores)), scores)


def all_pairs(n):
    return list(combinations(range(n), 2))


def beliefs(groups, rng):
    """Answers of pairs, no two alike: probabilities that contradict each other."""
    return [np.array([p, 1 - p]) for p in rng.random(len(groups))]


def certain(groups, relevance):
    """The answers of a perfect ranker that gives the order of a group and nothing else."""
    return [-np.argsort(np.argsort([-relevance[i] for i in group])).astype(float) for group in groups]


def sure(groups, relevance):
    """The answers of a perfect comparator of pairs."""
    return [np.array([float(relevance[i] > relevance[j]), float(relevance[j] > relevance[i])]) for i, j in groups]


def test_no_aggregate_is_left_out():
    tested = {getattr(kept.aggregate, "func", kept.aggregate).__name__ for kept in AGGREGATES}
    of_both_orders = {"shown_first"}  # what was shown second does not count, which is what these tests vary
    assert tested == set(aggregates.__all__) - {"heaviest_path"} - of_both_orders


def test_only_means_of_scores_need_scores_that_hold_between_groups():
    for kept in AGGREGATES:
        needs = getattr(getattr(kept.aggregate, "func", kept.aggregate), "needs", Evidence.CHOICE)
        assert needs == (Evidence.CHOICE if kept.shares else Evidence.SCORE)


@each
@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_without_questions_all_documents_are_equal(kept, n):
    scores = kept.aggregate(n, [], [])
    assert scores.shape == (n,) and scores.dtype == np.float64
    assert_all_equal(kept, scores)


@each
@pytest.mark.parametrize("groups", [all_pairs(6), [(4, 2, 0), (5, 4)], [(3,)]], ids=["pairs", "unequal", "alone"])
def test_silence_keeps_the_input_order(kept, groups):
    assert_all_equal(kept, kept.aggregate(6, groups, [silence(len(group)) for group in groups]))


@each
@pytest.mark.parametrize("n", [2, 5, 12, 40])
@pytest.mark.parametrize(
    "design", [cycles(4), random_pairs(8), shuffled_groups(5, epochs=3), equi_replicate(4)], ids=repr
)
def test_ties_all_over_move_nobody_by_rounding_noise(kept, n, design):
    groups = design(n)
    sizes = {i: sum(i in group for group in groups) for i in range(n)}
    if kept.exposure and len(set(sizes.values())) > 1:
        pytest.skip("who is in more groups moves")
    assert_all_equal(kept, kept.aggregate(n, groups, [np.full(len(group), 1 / len(group)) for group in groups]))


@each_of_shares
def test_what_cancels_out_moves_nobody_by_rounding_noise(kept):
    groups = [pair for a, b in combinations(range(6), 2) for pair in ((a, b), (b, a))] * 3
    beliefs = np.repeat([0.3, 0.1, 0.7], 30)  # whoever is shown first
    answers = [np.array([belief, 1 - belief]) for belief in beliefs]
    assert_all_equal(kept, kept.aggregate(6, groups, answers))


@each
def test_even_answers_about_all_pairs_keep_the_input_order(kept):
    groups = all_pairs(7)
    assert_all_equal(kept, kept.aggregate(7, groups, [np.array([0.5, 0.5])] * len(groups)))


@each_of_shares
def test_even_answers_move_nobody_however_unequal_the_groups(kept):
    groups = [(5, 0), (5, 1), (5, 2), (4, 5), (6, 2)]  # and 3 is in none
    scores = kept.aggregate(7, groups, [np.array([0.5, 0.5])] * len(groups))
    if kept.exposure:
        assert scores.argmax() == 5, "in most groups"
    else:
        assert_all_equal(kept, scores)


@each
@pytest.mark.parametrize("n", [2, 3, 7, 12, 13, 30])
def test_a_perfect_comparator_of_all_pairs_gives_the_true_order(kept, n):
    relevance = np.random.default_rng(n).permutation(n)
    groups = all_pairs(n)
    order = order_of(kept.aggregate(n, groups, sure(groups, relevance)))
    if kept.sorts:
        assert order == descending(range(n), relevance.astype(float))
    elif kept.aggregate is minimum:
        assert order[0] == relevance.argmax()
    else:
        assert order[-1] == relevance.argmin()


@each_of_shares
@pytest.mark.parametrize("n", [2, 5, 20])
def test_one_ranking_of_everything_is_the_order(kept, n):
    relevance = np.random.default_rng(n).permutation(n)
    group = tuple(np.random.default_rng(0).permutation(n).tolist())
    order = order_of(kept.aggregate(n, [group], certain([group], relevance)))
    if kept.sorts:
        assert order == descending(range(n), relevance.astype(float))


@each
def test_scores_are_finite_for_documents_that_never_lost_or_never_won(kept):
    groups = [(0, 1), (0, 2), (1, 2), (3, 2), (2, 4)]  # 0 and 3 never lost, 4 never won, 5 was never compared
    scores = kept.aggregate(6, groups, [np.array([1.0, 0.0])] * len(groups))
    assert np.isfinite(scores).all()
    assert scores[0] >= scores[1], "never lost, and lost to it"


@each
def test_a_document_that_was_never_compared_comes_out_in_the_middle_or_stays_where_it_was(kept):
    n, relevance = 9, [8, 3, 6, 1, 0, 5, 2, 7, 4]
    groups = [group for group in all_pairs(n) if 5 not in group]
    scores = kept.aggregate(n, groups, sure(groups, relevance))
    if not kept.graded:
        assert order_of(scores)[5] == 5
    elif kept.sorts:
        others = np.delete(scores, 5)
        assert (others > scores[5]).sum() == (others < scores[5]).sum() == 4
    else:
        assert scores[5] == 0.5


@each
def test_a_group_without_an_answer_counts_as_not_asked(kept):
    rng = np.random.default_rng(3)
    groups = all_pairs(6)
    answers = beliefs(groups, rng)
    more = kept.aggregate(6, [*groups, (0, 3), (1, 2, 4)], [*answers, silence(2), silence(3)])
    less = kept.aggregate(6, groups, answers)
    np.testing.assert_allclose(more - more.mean(), less - less.mean(), atol=1e-9)


@each_of_shares
@pytest.mark.parametrize("group", [(0, 1), (0, 1, 2, 3)])
def test_a_document_left_out_of_an_answer_is_below_those_in_it(kept, group):
    answer = silence(len(group))
    answer[1] = 1.0
    scores = kept.aggregate(len(group), [group], [answer])
    assert order_of(scores) == [1, *(i for i in group if i != 1)]


@each
@pytest.mark.parametrize("n", [4, 9, 15])
def test_renaming_the_documents_renames_their_scores(kept, n):
    rng = np.random.default_rng(n)
    groups = all_pairs(n)
    answers = sure(groups, rng.permutation(n)) if kept.seeded else beliefs(groups, rng)
    names = rng.permutation(n)
    renamed = kept.aggregate(n, [(int(names[i]), int(names[j])) for i, j in groups], answers)
    np.testing.assert_allclose(renamed[names], kept.aggregate(n, groups, answers), atol=1e-7)


@each
def test_it_does_not_matter_which_document_of_a_group_was_shown_first_or_which_group_was_asked_first(kept):
    rng = np.random.default_rng(5)
    groups = [tuple(rng.permutation(8)[: rng.integers(2, 5)].tolist()) for _ in range(20)]
    answers = [rng.random(len(group)) for group in groups]
    scores = kept.aggregate(8, groups, answers)
    shuffled = [int(i) for i in rng.permutation(len(groups))]
    turned = kept.aggregate(8, [groups[i][::-1] for i in shuffled], [answers[i][::-1] for i in shuffled])
    np.testing.assert_allclose(turned, scores, atol=1e-9)
    assert order_of(turned) == order_of(scores)


@each_of_shares
@pytest.mark.parametrize("answer", [[3.0, 3.0, 1.0], [0.0, 0.0, -9.0]])
def test_equals_of_a_group_keep_their_order(kept, answer):
    order = order_of(kept.aggregate(3, [(2, 0, 1)], [np.array(answer)]))
    assert order.index(0) < order.index(2)


@each
def test_answers_are_left_as_they_were_and_the_result_is_the_same_again(kept):
    groups = [(0, 1), (1, 2, 3), (3, 0)]
    answers = [np.array([0.2, 0.8]), np.array([np.nan, 2.0, 1.0]), silence(2)]
    before = [answer.copy() for answer in answers]
    scores = kept.aggregate(4, groups, answers)
    np.testing.assert_array_equal(scores, kept.aggregate(4, groups, answers))
    for was, answer in zip(before, answers, strict=True):
        np.testing.assert_array_equal(was, answer)


@each
def test_too_few_answers_or_scores_are_told(kept):
    with pytest.raises(ValueError, match="argument"):
        kept.aggregate(3, [(0, 1), (1, 2)], [np.array([1.0, 0.0])])
    with pytest.raises(ConfigurationError, match="3 documents, but its answer 2 scores"):
        kept.aggregate(3, [(0, 1, 2)], [np.array([1.0, 0.0])])


@each
def test_any_answers_at_all_give_finite_scores(kept):
    rng = np.random.default_rng(0)
    for n in (2, 3, 8, 14):
        for _ in range(5):
            groups = [tuple(rng.permutation(n)[: rng.integers(1, n + 1)].tolist()) for _ in range(3 * n)]
            answers = [rng.integers(-3, 3, len(group)).astype(float) for group in groups]
            for answer in answers:
                answer[answer == -3] = np.nan
            scores = kept.aggregate(n, groups, answers)
            assert scores.shape == (n,) and np.isfinite(scores).all()
