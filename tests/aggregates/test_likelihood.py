"""Strengths: what they recover, how the prior holds them, and how the models hang together."""

from __future__ import annotations

import ast
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from pyterrier_llmrank import aggregates
from pyterrier_llmrank.aggregates import bradley_terry, elo, plackett_luce, thurstone
from pyterrier_llmrank.aggregates.fitting import logistic, of_wins, probit
from pyterrier_llmrank.aggregates.likelihood import _choices, _of_choices
from pyterrier_llmrank.core import silence
from pyterrier_llmrank.errors import ConfigurationError

FITS = [bradley_terry, plackett_luce, thurstone, elo]


def pairs_of(strengths, win):
    """All pairs, and the exact probabilities of winning them."""
    groups = list(combinations(range(len(strengths)), 2))
    beliefs = [win(strengths[i] - strengths[j]) for i, j in groups]
    return groups, [np.array([p, 1 - p]) for p in beliefs]


def sigmoid(lead):
    return 1 / (1 + np.exp(-lead))


def gauss(lead):
    from scipy.stats import norm

    return norm.cdf(lead)


@pytest.mark.parametrize("n", [2, 5, 40])
@pytest.mark.parametrize(
    ("aggregate", "win"),
    [
        (partial(bradley_terry, prior=0.0), sigmoid),
        (partial(plackett_luce, prior=0.0), sigmoid),
        (partial(elo, ties=0.0), sigmoid),
        (partial(thurstone, prior=0.0), gauss),
    ],
    ids=["bradley_terry", "plackett_luce", "elo", "thurstone"],
)
def test_exact_probabilities_give_back_the_strengths(aggregate, win, n):
    strengths = np.random.default_rng(n).normal(size=n)
    scores = aggregate(n, *pairs_of(strengths, win))
    np.testing.assert_allclose(scores, strengths - strengths.mean(), atol=1e-3)


def test_many_rankings_drawn_from_strengths_give_them_back():
    rng = np.random.default_rng(0)
    strengths = np.array([1.5, 0.5, 0.0, -0.5, -1.5])
    groups = [tuple(rng.permutation(5)[:4].tolist()) for _ in range(4000)]
    # the order of strengths with Gumbel noise is Plackett and Luce's
    answers = [strengths[list(group)] + rng.gumbel(size=4) for group in groups]
    np.testing.assert_allclose(plackett_luce(5, groups, answers), strengths, atol=0.1)


@pytest.mark.parametrize("aggregate", FITS)
def test_strengths_add_up_to_nothing_and_stay_bounded_for_who_never_lost(aggregate):
    groups = [(0, 1), (1, 2), (2, 3), (0, 3)]
    scores = aggregate(5, groups, [np.array([1.0, 0.0])] * 4)
    assert abs(scores.sum()) < 1e-6
    assert 10 > scores[0] > scores[1] > scores[2] > scores[3] > -10
    assert scores[4] == 0, "never compared"


@pytest.mark.parametrize("aggregate", [bradley_terry, plackett_luce, thurstone])
def test_a_stronger_prior_pulls_strengths_together(aggregate):
    groups, answers = pairs_of(np.array([2.0, 0.0, -1.0]), sigmoid)
    spreads = [np.ptp(aggregate(3, groups, answers, prior=prior)) for prior in (0.0, 0.1, 1.0, 10.0)]
    assert spreads == sorted(spreads, reverse=True) and spreads[0] > 2 * spreads[-1]


@pytest.mark.parametrize("prior", [-0.1, float("nan")])
@pytest.mark.parametrize("aggregate", [bradley_terry, plackett_luce, thurstone])
def test_a_prior_that_is_no_precision_is_refused(aggregate, prior):
    with pytest.raises(ConfigurationError, match=f"at least 0, got {prior}; 0.1 is usual"):
        aggregate(2, [(0, 1)], [np.array([1.0, 0.0])], prior=prior)


def test_ties_bound_what_one_certain_answer_is_worth():
    for ties in (0.05, 0.1, 1.0):
        scores = elo(2, [(0, 1)], [np.array([1.0, 0.0])], ties=ties)
        assert np.ptp(scores) == pytest.approx(np.log(1 + 2 / ties), abs=1e-3)
    with pytest.raises(ConfigurationError, match="at least 0 ties"):
        elo(2, [(0, 1)], [np.array([1.0, 0.0])], ties=-1.0)


def test_a_second_opinion_of_the_same_kind_makes_no_difference_to_a_fit_without_prior():
    groups, answers = pairs_of(np.array([1.0, 0.0, -0.5]), sigmoid)
    once, twice = (bradley_terry(3, groups * k, answers * k, prior=0.0) for k in (1, 2))
    np.testing.assert_allclose(once, twice, atol=1e-4)


def test_plackett_luce_of_pairs_is_bradley_terry():
    rng = np.random.default_rng(1)
    groups = [tuple(rng.permutation(9)[:2].tolist()) for _ in range(40)]
    answers = [np.array([p, 1 - p]) if p < 0.6 else rng.integers(0, 3, 2).astype(float) for p in rng.random(40)]
    answers[3] = silence(2)
    answers[4] = np.array([np.nan, 0.2])
    ours = plackett_luce(9, groups, answers)
    np.testing.assert_allclose(ours, bradley_terry(9, groups, answers), atol=1e-7)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([3.0, 1.0, 2.0], [([4, 6, 5], {4: 1.0}, 1), ([6, 5], {6: 1.0}, 1)]),
        ([np.nan, 1.0, 2.0], [([6, 5, 4], {6: 1.0}, 1), ([5, 4], {5: 1.0}, 1)]),
        ([np.nan, 1.0, np.nan], [([5, 4, 6], {5: 1.0}, 1)]),
        ([1.0, 1.0, 0.0], [([4, 5, 6], {4: 1.0, 5: 1.0}, 2)]),
        ([2.0, 1.0, 1.0], [([4, 5, 6], {4: 1.0}, 1), ([5, 6], {5: 0.5, 6: 0.5}, 1)]),
        ([1.0, 1.0, 1.0], [([4, 5, 6], {4: 2 / 3, 5: 2 / 3, 6: 2 / 3}, 2)]),
    ],
)
def test_a_ranking_is_read_as_choices(answer, expected):
    assert [tuple(choice) for choice in _choices((4, 5, 6), np.array(answer))] == expected


@pytest.mark.parametrize(
    "likelihood",
    [
        of_wins(np.array([[0, 2, 0.4], [1, 0, 3], [0.6, 0, 0]]), logistic),
        of_wins(np.array([[0, 2, 0.4], [1, 0, 3], [0.6, 0, 0]]), probit),
        of_wins(np.array([[0, 2, 0.4], [1, 0, 3], [0.6, 0, 0]]), logistic, threshold=0.3),
        _of_choices(3, list(_choices((0, 1, 2), np.array([1.0, 3.0, 2.0])))),
        _of_choices(3, list(_choices((0, 1, 2), np.array([1.0, 1.0, np.nan])))),
    ],
)
def test_slopes_and_curvatures_are_the_derivatives_of_the_likelihood(likelihood):
    strengths, step = np.array([0.7, -1.2, 0.4]), 1e-5
    here = likelihood(strengths)
    for i, unit in enumerate(np.eye(3) * step):
        ahead, behind = likelihood(strengths + unit), likelihood(strengths - unit)
        assert (ahead.value - behind.value) / (2 * step) == pytest.approx(here.gradient[i], abs=1e-8)
        np.testing.assert_allclose((behind.gradient - ahead.gradient) / (2 * step), here.curvature[i], atol=1e-8)


@pytest.mark.parametrize("link", [logistic, probit])
@pytest.mark.parametrize("lead", [-800.0, -40.0, 0.0, 40.0, 800.0])
def test_links_do_not_overflow(link, lead):
    winning, slope, bend = (float(value[0]) for value in link(np.array([lead])))
    assert np.isfinite([winning, slope, bend]).all()
    assert winning <= 0 and slope >= 0 and bend >= 0


def test_no_library_but_numpy_is_loaded_with_the_aggregates():
    for path in Path(aggregates.__file__).parent.glob("*.py"):
        imports = [node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.Import)]
        assert {alias.name for node in imports for alias in node.names} <= {"numpy"}, path.name
        froms = [node.module for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.ImportFrom)]
        assert not [name for name in froms if name and name.split(".")[0] in ("scipy", "networkx")], path.name
