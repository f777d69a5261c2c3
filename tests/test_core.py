"""The vocabulary: one function for all orders, usage that adds up, reprs that rebuild."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass, field, fields

import numpy as np
import pytest

from pyterrier_llmrank.core import (
    USAGE_FIELDS,
    Answer,
    Cost,
    Evidence,
    Strategy,
    Usage,
    brief,
    descending,
    from_order,
    silence,
    spelled,
)
from pyterrier_llmrank.strategies import Heapsort, OneShot, Pointwise, SlidingWindow

NAN, INF = np.nan, np.inf

# -- descending and from_order ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "order"),
    [
        pytest.param([1, 3, 2], [1, 2, 0], id="highest first"),
        pytest.param([1, 1, 1], [0, 1, 2], id="ties keep their order"),
        pytest.param([0, 1, 0, 1], [1, 3, 0, 2], id="ties keep their order within the list"),
        pytest.param([NAN, 1, NAN, 2], [3, 1, 0, 2], id="NaN goes last, in order"),
        pytest.param([NAN, NAN, NAN], [0, 1, 2], id="silence keeps the order"),
        pytest.param([-0.0, 0.0, -0.0], [0, 1, 2], id="minus zero is zero"),
        pytest.param([0.0, -0.0, 1.0], [2, 0, 1], id="zero is minus zero"),
        pytest.param([-INF, INF, 0], [1, 2, 0], id="infinities are numbers"),
        pytest.param([NAN, -INF, INF, NAN], [2, 1, 0, 3], id="minus infinity is still an answer"),
        pytest.param([-INF, -INF, INF, INF], [2, 3, 0, 1], id="infinities tie"),
        pytest.param([1.0, np.nextafter(1.0, 2)], [1, 0], id="the smallest difference counts"),
        pytest.param([5], [0], id="one document"),
        pytest.param([], [], id="no document"),
    ],
)
def test_descending_orders_every_float(scores, order):
    assert descending(range(len(scores)), np.array(scores, dtype=float)) == order


def test_descending_takes_any_items_and_leaves_them_alone():
    items, scores = ["c", "a", "b"], np.array([1.0, NAN, 2.0])
    assert descending(items, scores) == ["b", "c", "a"]
    assert items == ["c", "a", "b"]
    np.testing.assert_array_equal(scores, [1.0, NAN, 2.0])


@pytest.mark.parametrize(
    "scores", [[3, 1, 2], np.array([3, 1, 2]), np.array([3, 1, 2], dtype=np.uint8), (3.0, 1.0, 2.0)]
)
def test_descending_takes_scores_of_any_number_type(scores):
    assert descending("xyz", scores) == ["x", "z", "y"]


def test_ties_keep_their_order_in_long_lists():
    scores = np.random.default_rng(0).integers(0, 5, size=2000).astype(float)
    order = descending(range(2000), scores)
    assert order == sorted(range(2000), key=lambda i: (-scores[i], i))


@pytest.mark.parametrize("n", [0, 1, 2, 17, 300])
def test_from_order_is_undone_by_descending(n):
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(n).tolist()
        assert descending(range(n), from_order(order)) == order


@pytest.mark.parametrize("n", [1, 2, 17, 300])
def test_scores_from_an_order_fall_by_one_from_zero(n):
    order = np.random.default_rng(n).permutation(n).tolist()
    scores = from_order(order)
    np.testing.assert_array_equal(scores[order], -np.arange(n))
    assert scores.dtype == np.float64
    assert not np.signbit(scores[order[0]]), "the best score is 0, not -0"


def test_silence_is_all_nan():
    assert np.isnan(silence(3)).all() and silence(3).shape == (3,) and silence(0).shape == (0,)
    assert silence(3).dtype == np.float64


# -- usage, cost, evidence --------------------------------------------------------------------------------------------


def test_usage_adds_field_by_field():
    ones = Usage(1, 2, 3, 4, 5, 6)
    tens = Usage(10, 20, 30, 40, 50, 60)
    assert ones + tens == Usage(11, 22, 33, 44, 55, 66)
    assert Usage(calls=1) + Usage(failures=1) == Usage(calls=1, failures=1)


def test_no_usage_is_neutral_and_usage_sums():
    used = [Usage(i, 2 * i, i, i, i, 7 * i) for i in range(4)]
    assert all(Usage() + usage == usage == usage + Usage() for usage in used)
    assert functools.reduce(operator.add, used) == sum(used, Usage()) == Usage(6, 12, 6, 6, 6, 42)


def test_every_field_of_usage_is_counted():
    assert tuple(f.name for f in fields(Usage)) == USAGE_FIELDS
    assert all(getattr(Usage(**{name: 2}) + Usage(**{name: 3}), name) == 5 for name in USAGE_FIELDS)


def test_an_answer_costs_one_call_unless_told():
    assert Answer(silence(2)).usage == Usage(calls=1)


def test_a_cost_is_exact_unless_told():
    assert Cost(3, 2) == (3, 2, True)


def test_more_evidence_compares_higher():
    assert Evidence.CHOICE < Evidence.ORDER < Evidence.SCORE


@pytest.mark.parametrize("strategy", [OneShot(), Pointwise(), SlidingWindow(), Heapsort()], ids=repr)
def test_strategies_follow_the_protocol(strategy):
    assert isinstance(strategy, Strategy)


# -- reprs that rebuild -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A value with all kinds of fields."""

    first: str
    second: object = None
    size: int = 3
    names: tuple[str, ...] = field(default_factory=tuple)
    named: float = field(default=0.5, kw_only=True)
    needed: str = field(default="x", kw_only=True)

    def __repr__(self):
        return brief(self)


@dataclass(frozen=True)
class KeywordOnly:
    """A value with a keyword that has no default, a field that is no argument and one that is not told."""

    where: str = field(kw_only=True)
    length: int = field(init=False, default=7)
    secret: str = field(default="", repr=False)

    def __repr__(self):
        return brief(self)


def helper():
    """Something to refer to."""


PARTS = [
    (Part("a"), "Part('a')"),
    (Part("it's"), 'Part("it\'s")'),
    (Part("a", size=4), "Part('a', size=4)"),
    (Part("a", names=("c",)), "Part('a', names=('c',))"),
    (Part("a", "b", 3, ("c",)), "Part('a', second='b', names=('c',))"),
    (Part("a", second=Part("b", named=1.5)), "Part('a', second=Part('b', named=1.5))"),
    (Part("a", second=helper), "Part('a', second=helper)"),
    (Part("a", second=Part), "Part('a', second=Part)"),
    (Part("a", second=0, size=0, named=0.0), "Part('a', second=0, size=0, named=0.0)"),
    (Part("a", needed="y"), "Part('a', needed='y')"),
    (KeywordOnly(where="here"), "KeywordOnly(where='here')"),
]


@pytest.mark.parametrize(("part", "text"), PARTS, ids=[text for _, text in PARTS])
def test_brief_tells_what_is_not_the_default_and_rebuilds_the_value(part, text):
    assert repr(part) == brief(part) == text
    assert eval(text) == part


def test_what_is_not_shown_is_not_told():
    assert brief(KeywordOnly(where="here", secret="password")) == "KeywordOnly(where='here')"


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (helper, "helper"),
        (descending, "descending"),
        (Part, "Part"),
        (len, "len"),
        (Part("a"), "Part('a')"),
        (SlidingWindow(4, 2), "SlidingWindow(window=4, stride=2, passes=1)"),
        (Evidence.ORDER, "Evidence.ORDER"),
        ("text", "'text'"),
        (None, "None"),
        (2.5, "2.5"),
    ],
)
def test_a_part_is_spelled_as_it_is_written_in_code(part, text):
    assert spelled(part) == text
    assert eval(text) == part
