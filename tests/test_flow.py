"""The combinators: one flow driven, many in lockstep, documents renamed."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import intransitive, oracle

from pyterrier_llmrank.core import Strategy, descending, from_order
from pyterrier_llmrank.flow import once, relabel, run, together
from pyterrier_llmrank.strategies import Heapsort, OneShot, SlidingWindow


def asks(*rounds, gives=None):
    """Asks the rounds, one after another, and returns ``gives`` or the answers it got."""
    answers = []
    for groups in rounds:
        answers.append((yield groups))
    return answers if gives is None else gives


def nothing(gives=None):
    """A flow that is done before it asks."""
    return gives
    yield


class Echo:
    """Answers each group with its own documents, and keeps the rounds."""

    def __init__(self):
        self.rounds = []

    def __call__(self, groups):
        self.rounds.append(list(groups))
        return [np.array(group, dtype=float) for group in groups]


def told(answers):
    """Answers as lists, round by round."""
    return [[scores.tolist() for scores in part] for part in answers]


class Broken(Exception):
    """What a flow or a scorer may raise."""


def breaks(*rounds):
    """Asks the rounds, then fails."""
    yield from asks(*rounds)
    raise Broken


# -- run --------------------------------------------------------------------------------------------------------------


def test_run_answers_each_round_and_returns_the_result():
    echo = Echo()
    assert told(run(asks([(0, 1)], [(2,), (3, 4)]), echo)) == [[[0, 1]], [[2], [3, 4]]]
    assert echo.rounds == [[(0, 1)], [(2,), (3, 4)]]


def test_run_asks_nothing_for_a_flow_that_asks_nothing():
    echo = Echo()
    assert run(nothing("done"), echo) == "done"
    assert run(nothing(), echo) is None
    assert echo.rounds == []


@pytest.mark.parametrize("rounds", [[], [[(0,)]], [[(0,)], [(1,)]]], ids=len)
def test_an_error_of_the_flow_comes_out_of_run(rounds):
    echo = Echo()
    with pytest.raises(Broken):
        run(breaks(*rounds), echo)
    assert echo.rounds == rounds


def test_an_error_of_the_scorer_comes_out_of_run():
    def ask(groups):
        raise Broken

    with pytest.raises(Broken):
        run(together([asks([(0,)]), relabel(asks([(0,)]), [5])]), ask)


# -- together ---------------------------------------------------------------------------------------------------------


def test_a_round_holds_the_groups_of_all_flows_in_the_order_of_the_flows():
    echo = Echo()
    run(together([asks([(0,), (1,)], [(2,)]), asks([(3, 4)], [(5,), (6,)])]), echo)
    assert echo.rounds == [[(0,), (1,), (3, 4)], [(2,), (5,), (6,)]]


def test_each_flow_gets_its_own_answers_also_after_others_have_ended():
    echo = Echo()
    flows = [asks([(0,)]), asks([(1,)], [(2,), (3,)], [(4,)]), asks([(5,)], [(6,)])]
    results = run(together(flows), echo)
    assert echo.rounds == [[(0,), (1,), (5,)], [(2,), (3,), (6,)], [(4,)]]
    assert [told(result) for result in results] == [[[[0]]], [[[1]], [[2], [3]], [[4]]], [[[5]], [[6]]]]


def test_results_come_in_the_order_of_the_flows_whoever_ends_first():
    flows = [asks([(0,)], [(1,)], gives="slow"), nothing("none"), asks([(2,)], gives="fast")]
    assert run(together(flows), Echo()) == ["slow", "none", "fast"]


def test_no_flows_ask_nothing_and_give_no_results():
    echo = Echo()
    assert run(together([]), echo) == []
    assert run(together([nothing(1), nothing(None)]), echo) == [1, None]
    assert echo.rounds == []


@pytest.mark.parametrize(
    ("flows", "rounds"),
    [
        ([[[]]], []),
        ([[[], []], [[]]], []),
        ([[[], [(0,)]], [[(1,)]]], [[(0,), (1,)]]),
        ([[[(0,)], [], [(1,)]], [[(2,)]]], [[(0,), (2,)], [(1,)]]),
        ([[[(0,)], []], [[(1,)], []]], [[(0,), (1,)]]),
    ],
    ids=["one", "all", "at the start", "in the middle", "at the end"],
)
def test_a_round_in_which_nobody_asks_is_never_yielded(flows, rounds):
    echo = Echo()
    results = run(together([asks(*flow) for flow in flows]), echo)
    assert echo.rounds == rounds
    for flow, result in zip(flows, results, strict=True):
        assert told(result) == [[list(group) for group in groups] for groups in flow]


def test_together_nests():
    def flows():
        return [asks([(0,)], [(1,)]), asks([(2,)]), nothing("none"), asks([(3,)], [(4,)], [(5,)])]

    flat, nested = Echo(), Echo()
    a, b, c, d = run(together(flows()), flat)
    parts = flows()
    (e, f), [(g, h)] = run(together([together(parts[:2]), together([together(parts[2:])])]), nested)
    assert nested.rounds == flat.rounds
    assert (told(a), told(b), c, told(d)) == (told(e), told(f), g, told(h))


@pytest.mark.parametrize("rounds", [[], [[(1,)]], [[(1,)], [(2,)]]], ids=len)
def test_an_error_in_one_flow_comes_out_of_all(rounds):
    echo = Echo()
    with pytest.raises(Broken):
        run(together([asks([(0,)], [(0,)], [(0,)]), breaks(*rounds)]), echo)
    assert len(echo.rounds) == len(rounds)


def test_a_flow_may_ask_parts_of_itself_at_once():
    def halves(n):
        """Orders each half by itself, both in the same round."""
        middle = n // 2
        parts = [range(0, middle), range(middle, n)]
        scores = yield from together([relabel(OneShot()(len(part), len(part)), part) for part in parts])
        return [i for part, s in zip(parts, scores, strict=True) for i in descending(part, s)]

    rounds = []
    assert run(halves(6), oracle([1, 3, 2, 9, 7, 8], rounds)) == [1, 2, 0, 3, 5, 4]
    assert rounds == [[(0, 1, 2), (3, 4, 5)]]


# -- relabel ----------------------------------------------------------------------------------------------------------


def test_relabel_renames_the_documents_and_nothing_else():
    echo = Echo()
    answers = run(relabel(asks([(0, 2), (1,)], [(2, 0)]), [10, 30, 20]), echo)
    assert echo.rounds == [[(10, 20), (30,)], [(20, 10)]]
    assert told(answers) == [[[10, 20], [30]], [[20, 10]]]


@pytest.mark.parametrize("items", [range(5, 8), [5, 6, 7], (5, 6, 7), np.arange(5, 8)], ids=lambda i: type(i).__name__)
def test_relabel_takes_any_sequence(items):
    echo = Echo()
    run(relabel(asks([(2, 0)]), items), echo)
    assert echo.rounds == [[(7, 5)]]


def test_relabelled_twice_is_relabelled_by_both():
    echo = Echo()
    run(relabel(relabel(asks([(0, 1)]), [2, 0]), [7, 8, 9]), echo)
    assert echo.rounds == [[(9, 7)]]


def test_relabel_passes_on_a_flow_that_asks_nothing_and_its_result():
    assert run(relabel(nothing("done"), []), Echo()) == "done"


def test_an_error_comes_out_of_relabel():
    with pytest.raises(Broken):
        run(relabel(breaks([(0,)]), [3]), Echo())


@pytest.mark.parametrize("strategy", [SlidingWindow(4, 2), Heapsort(3)], ids=repr)
def test_a_strategy_ranks_a_part_of_a_list_as_it_ranks_the_part_alone(strategy):
    relevance = np.random.default_rng(0).permutation(30).tolist()
    part = relevance[10:22]
    inside = run(relabel(strategy(12, 12), range(10, 22)), oracle(relevance))
    np.testing.assert_array_equal(inside, run(strategy(12, 12), oracle(part)))


# -- once -------------------------------------------------------------------------------------------------------------


def test_a_set_that_was_asked_about_is_answered_from_memory_in_its_new_order():
    echo = Echo()
    answers = run(once(asks([(0, 1, 2)], [(3, 4)], [(2, 0, 1), (1, 0)], [(0, 1)])), echo)
    assert echo.rounds == [[(0, 1, 2)], [(3, 4)], [(1, 0)]]
    assert told(answers) == [[[0, 1, 2]], [[3, 4]], [[2, 0, 1], [1, 0]], [[0, 1]]]


def test_a_set_that_comes_up_twice_in_a_round_is_asked_about_once_as_it_came_first():
    echo = Echo()
    answers = run(once(asks([(1, 0), (2,), (0, 1), (2,)])), echo)
    assert echo.rounds == [[(1, 0), (2,)]]
    assert told(answers) == [[[1, 0], [2], [0, 1], [2]]]


def test_a_round_in_which_everything_is_known_is_not_yielded():
    echo = Echo()
    answers = run(once(asks([(0, 1)], [(1, 0)], [], [(0, 1), (1, 0)], [(2,)])), echo)
    assert echo.rounds == [[(0, 1)], [(2,)]]
    assert told(answers) == [[[0, 1]], [[1, 0]], [], [[0, 1], [1, 0]], [[2]]]


def test_no_answer_is_an_answer_that_is_remembered():
    rounds = []

    def hush(groups):
        rounds.append(groups)
        return [np.full(len(group), np.nan) for group in groups]

    answers = run(once(asks([(0, 1)], [(1, 0)])), hush)
    assert rounds == [[(0, 1)]] and np.isnan(answers[1][0]).all()


def test_memory_covers_what_a_flow_asks_together_and_nothing_outside_it():
    def flows():
        return [asks([(0, 1)], [(2, 3)]), asks([(1, 0)], [(3, 2)], [(4,)])]

    inside, outside = Echo(), Echo()
    assert [told(part) for part in run(once(together(flows())), inside)] == [
        [[[0, 1]], [[2, 3]]],
        [[[1, 0]], [[3, 2]], [[4]]],
    ]
    assert inside.rounds == [[(0, 1)], [(2, 3)], [(4,)]]
    run(together([once(flow) for flow in flows()]), outside)
    assert outside.rounds == [[(0, 1), (1, 0)], [(2, 3), (3, 2)], [(4,)]]


def test_once_passes_on_a_flow_that_asks_nothing_its_result_and_its_errors():
    assert run(once(nothing("done")), Echo()) == "done"
    with pytest.raises(Broken):
        run(once(breaks([(0,)], [(0,)])), Echo())


@pytest.mark.parametrize("strategy", [SlidingWindow(3, 1, passes=4), SlidingWindow(2, 1, passes=9)], ids=repr)
def test_memory_changes_no_result_where_answers_depend_on_the_documents_alone(strategy):
    plain, remembered = [], []
    for ask in (oracle([3, 1, 4, 1, 5, 9, 2, 6, 5], plain), intransitive):
        expected = run(strategy(9, 9), ask)
        ask = oracle([3, 1, 4, 1, 5, 9, 2, 6, 5], remembered) if ask is not intransitive else ask
        np.testing.assert_array_equal(run(once(strategy(9, 9)), ask), expected)
    asked = [frozenset(group) for groups in remembered for group in groups]
    assert len(asked) == len(set(asked)) < sum(map(len, plain))


# -- plain generator functions ----------------------------------------------------------------------------------------


def best_then_rest(n, k):
    """A strategy as a newcomer writes it in a notebook: the best of all first, the others as they came."""
    if n < 2:
        return from_order(range(n))
    [scores] = yield [tuple(range(n))]
    best = descending(range(n), scores)[0]
    return from_order([best, *(i for i in range(n) if i != best)])


@pytest.mark.parametrize(("n", "order"), [(0, []), (1, [0]), (2, [1, 0]), (4, [2, 0, 1, 3])])
def test_a_plain_generator_function_is_a_strategy(n, order):
    assert descending(range(n), run(best_then_rest(n, n), oracle([1, 2, 9, 4]))) == order


def test_a_plain_generator_function_combines_with_the_others():
    rounds = []
    flows = [relabel(best_then_rest(2, 2), [4, 5]), relabel(SlidingWindow(2, 1)(3, 3), [1, 2, 3])]
    first, second = run(together(flows), oracle([0, 1, 2, 3, 4, 5], rounds))
    assert (descending(range(2), first), descending(range(3), second)) == ([1, 0], [2, 0, 1])
    assert rounds == [[(4, 5), (2, 3)], [(1, 3)]]


def test_a_plain_generator_function_claims_no_evidence():
    assert not isinstance(best_then_rest, Strategy)
