"""Heapsort against recorded runs of llm-rankers, and against what its docstring promises.

The sort is the same machine as the official ones: fed with answers read as they read them, it asks the same sets and
gives the same orders, in every recorded case, as long as it forgets. Two things differ. The official sorts ask some
sets more than once; ours remembers, so official logs are compared without their repeats, and official orders where the
answer to a set does not depend on when and how it is asked. And answers are read differently where there is none, or a
tie; ``READINGS`` says how.
"""

from __future__ import annotations

import random
import zlib
from collections import Counter, defaultdict, deque

import numpy as np
import pytest
from fakes import first, last, oracle, silent
from shared_data import parity

from pyterrier_llmrank.core import Evidence, descending
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.flow import relabel, run, together
from pyterrier_llmrank.strategies import Heapsort

# (method, mode) -> (how llm-rankers reads such answers, how we do, why theirs is wrong where they differ)
READINGS = {
    ("setwise", "malformed"): (
        "the root of the set wins",
        "no answer: the first on input stays ahead",
        "the root of an extraction is the heap's last leaf, so the last document of the list is lifted to second place",
    ),
    ("setwise", "out_of_set"): ("as malformed", "as malformed", "as malformed"),
    ("setwise", "oracle, graded"): (
        "the earliest of the set wins a tie",
        "the first on input wins a tie",
        "places in a heap say nothing: equals come out shuffled; ours is a stable sort",
    ),
    ("pairwise", "always_first"): (
        "a contradiction leaves the parent up",
        "a contradiction is a tie: the first on input wins",
        "it turns position bias into [0, n-1, n-2, ...], though the comparator never preferred any document",
    ),
    ("pairwise", "malformed"): ("as always_first", "no answer: the first on input stays ahead", "as always_first"),
    ("pairwise", "oracle, ties"): ("as always_first", "the first on input wins", "equals come out shuffled"),
    ("pairwise", "cyclic"): ("as always_first where neither wins", "the first on input wins", "as always_first"),
}


def driven(flow, n, ask):
    """Order and the groups asked, in order."""
    asked = []

    def listen(groups):
        asked.extend(groups)
        return ask(groups)

    return descending(range(n), run(flow, listen)), asked


def heapsort(strategy, n, k, ask):
    """The sort as it is."""
    return driven(strategy(n, min(k, n)), n, ask)


def forgetting(strategy, n, k, ask):
    """The sort without its memory: it asks again what it asked before, as the official ones do."""
    return driven(strategy._extracted(n, min(k, n)), n, ask)


def firsts(asked):
    """Groups without those whose documents were asked about before."""
    spelled = {}
    for group in asked:
        spelled.setdefault(frozenset(group), group)
    return list(spelled.values())


def remembering(ask):
    """Answers a set that was asked before as it was answered then."""
    known = {}

    def recall(groups):
        for group in groups:
            if frozenset(group) not in known:
                known[frozenset(group)] = dict(zip(group, ask([group])[0], strict=True))
        return [np.array([known[frozenset(group)][i] for i in group]) for group in groups]

    return recall


def choosing(choose):
    """Answers that know only one winner: ``choose`` gives its place in the group."""
    return lambda groups: [np.eye(len(group))[choose(group)] for group in groups]


def best_of(relevance):
    """Place of the most relevant of a group, the earliest of equals."""
    return lambda group: max(range(len(group)), key=lambda place: (relevance[group[place]], -place))


def stable(relevance, k):
    """The first ``k`` by relevance, equals in input order; the others in input order."""
    top = sorted(range(len(relevance)), key=lambda i: -relevance[i])[:k]
    return top + [i for i in range(len(relevance)) if i not in top]


def one_by_one(n, k, children, choose):
    """Heapsort as llm-rankers walks through it, node by node from the last parent; its order and its sets.

    Written anew from the recorded logs. Needed for answers that depend on when they were asked for.
    """
    heap, asked = list(range(n)), []

    def sift(root, size):
        while root * children + 1 < size:
            places = [root, *range(root * children + 1, min(root * children + 1 + children, size))]
            asked.append(tuple(heap[place] for place in places))
            best = places[choose(asked[-1])]
            if best == root:
                return
            heap[root], heap[best], root = heap[best], heap[root], best

    for root in range(n - 1, -1, -1):
        sift(root, n)
    out = 0
    for size in range(n - 1, 0, -1):
        heap[0], heap[size], out = heap[size], heap[0], out + 1
        if out == k:
            break
        sift(0, size)
    top = heap[::-1][:k]
    return top + [i for i in range(n) if i not in top], asked


def one_fifth_random(relevance):
    """The recorded noise: a generator of its own for each case, 20% of the answers any document of the set."""
    draw, best = random.Random(11), best_of(relevance)
    return lambda group: draw.randrange(len(group)) if draw.random() < 0.2 else best(group)


def setwise_cases():
    return [case for case in parity("llmrankers_setwise_sort")["cases"] if case["method"] == "heapsort"]


def pairwise_cases():
    return [case for case in parity("llmrankers_pairwise_sort")["cases"] if case["method"] == "heapsort"]


def setwise(case):
    return Heapsort(group_size=case["num_child"] + 1, children=case["num_child"])


# -- setwise ----------------------------------------------------------------------------------------------------------


def test_setwise_heapsort_asks_and_orders_like_the_official_one_when_answers_are_read_like_there():
    """All 408 cases that do not draw at random, the unreadable ones with the official reading: the root wins."""
    compared, logs = Counter(), 0
    for case in setwise_cases():
        if case["mode"] == "noisy":
            continue  # see the next test
        choose = {
            "oracle": best_of(case["rel"]),
            "always_last": lambda group: len(group) - 1,
            "always_first": lambda group: 0,
            "malformed": lambda group: 0,
            "out_of_set": lambda group: 0,
        }[case["mode"]]
        order, asked = forgetting(setwise(case), case["n"], case["k"], choosing(choose))
        assert order == case["order0"], case
        assert len(asked) == case["n_comparisons"], case
        if case["n"] <= 10:  # multisets: nodes of one level are asked about together, not one by one
            assert Counter(asked) == Counter(map(tuple, case["comparisons"])), case
            logs += 1
        compared[case["mode"]] += 1
    assert compared == {"oracle": 300, "always_first": 27, "always_last": 27, "malformed": 27, "out_of_set": 27}
    assert logs == 264


def test_setwise_heapsort_equals_the_official_one_under_recorded_noise():
    """Random answers were drawn node by node and we ask level by level, so each set is replayed with its own answer.

    Sets of one level are disjoint, so no set is asked twice while its level is sifted, and the replay is exact.
    """
    compared = Counter()
    for case in setwise_cases():
        if case["mode"] != "noisy":
            continue
        answers, noisy = defaultdict(deque), one_fifth_random(case["rel"])

        def recorded(group, answers=answers, noisy=noisy):
            answers[group].append(noisy(group))
            return answers[group][-1]

        order, asked = one_by_one(case["n"], case["k"], case["num_child"], recorded)
        assert order == case["order0"] and len(asked) == case["n_comparisons"], "the noise is not the recorded one"
        if case["n"] <= 10:
            assert asked == list(map(tuple, case["comparisons"]))
            compared["logs"] += 1

        def replay(group, answers=answers):
            return answers[group].popleft()

        ours, ours_asked = forgetting(setwise(case), case["n"], case["k"], choosing(replay))
        assert (ours, Counter(ours_asked)) == (order, Counter(asked))
        assert not any(answers.values())
        compared["orders"] += 1
    assert compared == {"orders": 27, "logs": 18}


@pytest.mark.parametrize("mode", ["malformed", "out_of_set"])
def test_unreadable_sets_keep_the_order_though_the_official_sort_lifts_the_last_document(mode):
    assert ("setwise", mode) in READINGS
    compared = Counter()
    for case in setwise_cases():
        if case["mode"] != mode:
            continue
        n, k = case["n"], case["k"]
        order, _ = heapsort(setwise(case), n, k, silent)
        assert order == list(range(n))
        if k == 1:
            compared["same"] += 1
            assert case["order0"] == order
        else:
            compared["official lifts the last"] += 1
            assert case["order0"][:2] == [0, n - 1]
    assert compared == {"same": 9, "official lifts the last": 18}


def test_graded_sets_are_sorted_stably_with_the_relevance_of_the_official_order():
    assert ("setwise", "oracle, graded") in READINGS
    compared = Counter()
    for case in setwise_cases():
        if case["mode"] != "oracle":
            continue
        order, asked = heapsort(setwise(case), case["n"], case["k"], oracle(case["rel"]))
        k = min(case["k"], case["n"])
        assert order == stable(case["rel"], k)
        assert [case["rel"][i] for i in order[:k]] == [case["rel"][i] for i in case["order0"][:k]]
        if len(set(case["rel"])) == case["n"]:
            assert order == case["order0"] and len(asked) <= case["n_comparisons"]
            if case["n"] <= 10:
                log = firsts(list(map(tuple, case["comparisons"])))
                assert Counter(asked) == Counter(log), case
                compared["fewer calls"] += len(asked) < case["n_comparisons"]
                compared["logs"] += 1
            compared["exact"] += 1
        else:
            compared["ties, same order" if order == case["order0"] else "ties, official unstable"] += 1
    repeats = {"logs": 174, "fewer calls": 22}
    assert compared == {"exact": 273, "ties, same order": 13, "ties, official unstable": 14} | repeats


# -- pairwise ---------------------------------------------------------------------------------------------------------


def child_wins(case):
    """Whether a recorded comparator prefers the child, in both orders, to the best so far."""
    relevance = case["rel"]
    return {
        "oracle": lambda best, child: relevance[child] > relevance[best],
        "always_first": lambda best, child: False,
        "malformed": lambda best, child: False,
        "cyclic": lambda best, child: (child - best) % 3 == 1,
    }[case["mode"]]


def test_pairwise_heapsort_asks_and_orders_like_the_official_one_when_answers_are_read_like_there():
    """All 100 cases, with the official reading of a contradiction: the parent stays up."""
    compared, logs = Counter(), 0
    for case in pairwise_cases():
        wins = child_wins(case)
        ask = choosing(lambda group, wins=wins: int(wins(*group)))
        order, asked = forgetting(Heapsort(group_size=2), case["n"], case["k"], ask)
        assert order == case["order0"], case
        assert len(asked) == case["n_comparisons"], case
        if case["n"] <= 10:  # recorded as (child, best so far)
            assert Counter(asked) == Counter((best, child) for child, best in case["comparisons"]), case
            logs += 1
        compared[case["mode"]] += 1
    assert compared == {"oracle": 64, "always_first": 12, "malformed": 12, "cyclic": 12}
    assert logs == 70


def both_orders(case):
    """Answers of a pair asked in both orders: 1 and 0 where they agree, a tie where they contradict, NaN for junk."""

    def ask(groups):
        if case["mode"] == "malformed":
            return silent(groups)
        return [np.array(shares(*group)) for group in groups]

    def shares(a, b):
        if case["mode"] == "oracle":
            better = case["rel"][a] - case["rel"][b]
        else:
            better = {0: 0, 1: 1, 2: -1}[(a - b) % 3] if case["mode"] == "cyclic" else 0
        return (0.5 + np.sign(better) / 2, 0.5 - np.sign(better) / 2)

    return ask


def test_pairwise_heapsort_equals_the_official_one_wherever_every_pair_has_an_answer():
    compared = Counter()
    for case in pairwise_cases():
        distinct = case["mode"] == "oracle" and len(set(case["rel"])) == case["n"]
        order, asked = heapsort(Heapsort(group_size=2), case["n"], case["k"], both_orders(case))
        decided = case["mode"] == "cyclic" and all((a - b) % 3 for a, b in asked)
        if not (distinct or decided):
            compared["a tie or no answer"] += 1  # see the next tests
            continue
        compared["oracle" if distinct else "cyclic"] += 1
        assert order == case["order0"]
        assert len(asked) <= case["n_comparisons"]
        if case["n"] <= 10:
            assert Counter(asked) == Counter(firsts([(best, child) for child, best in case["comparisons"]]))
            compared["fewer calls"] += len(asked) < case["n_comparisons"]
            compared["logs"] += 1
    repeats = {"logs": 40, "fewer calls": 12}
    assert compared == {"oracle": 56, "cyclic": 6, "a tie or no answer": 38} | repeats


def test_ties_of_relevance_keep_the_input_order_and_the_official_relevance_sequence():
    assert ("pairwise", "oracle, ties") in READINGS
    compared = Counter()
    for case in pairwise_cases():
        if case["mode"] != "oracle" or len(set(case["rel"])) == case["n"]:
            continue
        k = min(case["k"], case["n"])
        order, _ = heapsort(Heapsort(group_size=2), case["n"], case["k"], both_orders(case))
        assert order == stable(case["rel"], k)
        assert [case["rel"][i] for i in order[:k]] == [case["rel"][i] for i in case["order0"][:k]]
        compared["same order" if order == case["order0"] else "official unstable"] += 1
    assert compared == {"same order": 4, "official unstable": 4}


@pytest.mark.parametrize(("mode", "same", "reversed_there"), [("always_first", 4, 8), ("malformed", 8, 4)])
def test_pairs_without_a_preference_keep_the_order_though_the_official_sort_reverses_it(mode, same, reversed_there):
    assert ("pairwise", mode) in READINGS
    compared = Counter()
    for case in pairwise_cases():
        if case["mode"] != mode:
            continue
        n, k = case["n"], min(case["k"], case["n"])
        order, _ = heapsort(Heapsort(group_size=2), n, k, both_orders(case))
        assert order == list(range(n))
        if k < 2 or n < 3:
            compared["same"] += 1
            assert case["order0"] == order
        else:
            compared["official reverses"] += 1
            assert case["order0"][:k] == [0, *range(n - 1, 0, -1)][:k]
    assert compared == {"same": same, "official reverses": reversed_there}


def test_in_a_cycle_a_tie_counts_exactly_as_a_win_of_the_first_on_input():
    """All that can be said of a cyclic comparator: no order is right, but ours follows from the pairs alone."""
    assert ("pairwise", "cyclic") in READINGS
    compared = Counter()
    for case in pairwise_cases():
        if case["mode"] != "cyclic":
            continue
        n, k, strategy = case["n"], min(case["k"], case["n"]), Heapsort(group_size=2)
        earlier = choosing(lambda pair: [pair.index(min(pair)), 0, 1][(pair[0] - pair[1]) % 3])
        order, asked = heapsort(strategy, n, k, both_orders(case))
        assert (order, asked) == heapsort(strategy, n, k, earlier)
        assert sorted(order) == list(range(n)) and order[k:] == sorted(order[k:])
        assert len(asked) <= strategy.cost(n, k).calls
        compared["same order" if order == case["order0"] else "other order"] += 1
    assert compared == {"same order": 6, "other order": 6}


# -- memory -----------------------------------------------------------------------------------------------------------


def biased_or_not(case):
    """Answers of a recorded case, read as llm-rankers reads them; some depend on places, some are drawn."""
    if case["mode"] == "noisy":
        return choosing(one_fifth_random(case["rel"]))
    if case["mode"] == "always_last":
        return last
    return choosing(best_of(case["rel"])) if case["mode"] == "oracle" else first


def test_memory_saves_questions_and_changes_nothing_else_in_any_recorded_case():
    """What a set was answered first counts, however the answers come about."""
    compared = Counter()
    runs = [(setwise(case), case, biased_or_not(case)) for case in setwise_cases()]
    for case in pairwise_cases():
        wins = child_wins(case)
        runs.append((Heapsort(2), case, choosing(lambda group, wins=wins: int(wins(*group)))))
    for strategy, case, ask in runs:
        ask = remembering(ask)
        order, asked = forgetting(strategy, case["n"], case["k"], ask)
        assert heapsort(strategy, case["n"], case["k"], ask) == (order, firsts(asked))
        compared["fewer calls" if len(firsts(asked)) < len(asked) else "nothing repeated"] += 1
    assert compared == {"fewer calls": 95, "nothing repeated": 440}


SORTS = [Heapsort(2), Heapsort(4)]


@pytest.mark.parametrize("strategy", SORTS, ids=["PRP-heapsort", "setwise heapsort"])
def test_43_queries_in_lockstep_need_a_twentieth_of_the_rounds_of_one_query_at_a_time(strategy):
    """With the same orders for the same calls; a round is one batch of the scorer."""
    queries, n, k = 43, 100, 10
    relevance = np.concatenate([np.random.default_rng(query).permutation(n) for query in range(queries)])

    def flows():
        return [relabel(strategy(n, k), range(n * query, n * query + n)) for query in range(queries)]

    joint, apart = [], []
    orders = [descending(range(n), scores) for scores in run(together(flows()), oracle(relevance, joint))]
    assert orders == [descending(range(n), run(flow, oracle(relevance, apart))) for flow in flows()]
    assert Counter(group for asked in joint for group in asked) == Counter(g for asked in apart for g in asked)
    assert 20 * len(joint) <= len(apart)


# -- what the docstring promises --------------------------------------------------------------------------------------

SHAPES = [
    *(Heapsort(size) for size in (2, 3, 4, 5, 10, 20)),
    *(Heapsort(2, children=c) for c in (1, 3, 5)),
    *(Heapsort(4, children=c) for c in (1, 2, 7)),
]
each_shape = pytest.mark.parametrize("strategy", SHAPES, ids=repr)


@each_shape
def test_a_perfect_scorer_gives_the_exact_order_whatever_the_shape(strategy):
    for n in (0, 1, 2, 3, 5, 8, 13, 34, 70):
        rng = np.random.default_rng(n)
        for relevance in (list(range(n)), list(range(n, 0, -1)), rng.permutation(n).tolist()):
            for k in {0, 1, n // 2, n}:
                order, _ = heapsort(strategy, n, k, oracle(relevance))
                assert order == stable(relevance, k)


@each_shape
def test_equal_grades_keep_the_input_order_whatever_the_shape(strategy):
    relevance = np.random.default_rng(0).integers(0, 4, size=40).tolist()
    for k in (1, 7, 40):
        assert heapsort(strategy, 40, k, oracle(relevance))[0] == stable(relevance, k)


@each_shape
def test_the_first_document_costs_no_more_than_building_the_heap(strategy):
    _, asked = heapsort(strategy, 1, 1, silent)
    assert asked == []
    _, built = heapsort(strategy, 30, 1, oracle(list(range(30))))
    _, extracted = heapsort(strategy, 30, 2, oracle(list(range(30))))
    assert built == extracted[: len(built)]
    assert len(built) < len(extracted) or strategy.arity == 1  # a chain is sorted once it is built


@pytest.mark.parametrize(
    ("group_size", "published", "remembering"),
    [(2, 280, 265), (3, 141, 141), (4, 82, 82), (10, 31, 31), (20, 23.5, 23.5)],
)
def test_ten_of_a_hundred_cost_the_published_number_of_calls(group_size, published, remembering):
    """Measured on llm-rankers under a perfect scorer, mean over random orders; within 5%.

    A new root often meets two children that have met before: of pairs, some were published that need not be asked.
    """
    calls, saved = [], []
    for seed in range(10):
        relevance = np.random.default_rng(seed).permutation(100).tolist()
        calls.append(len(forgetting(Heapsort(group_size), 100, 10, oracle(relevance))[1]))
        saved.append(calls[-1] - len(heapsort(Heapsort(group_size), 100, 10, oracle(relevance))[1]))
    assert np.mean(calls) == pytest.approx(published, rel=0.05)
    assert np.mean(calls) - np.mean(saved) == pytest.approx(remembering, rel=0.02)


@pytest.mark.parametrize("group_size", [2, 4, 10])
def test_a_cutoff_needs_fewer_calls_than_the_whole_order(group_size):
    relevance = np.random.default_rng(3).permutation(100).tolist()
    calls = [len(heapsort(Heapsort(group_size), 100, k, oracle(relevance))[1]) for k in (1, 10, 50, 100)]
    assert calls == sorted(set(calls))


@pytest.mark.parametrize("strategy", [Heapsort(2), Heapsort(4), Heapsort(2, children=3)], ids=repr)
def test_the_top_ten_of_an_intransitive_comparator_equal_those_of_the_whole_sort_for_fewer_calls(strategy):
    for seed in range(200):

        def contradict(groups, seed=seed):
            keys = [f"{seed}/{sorted(group)}/" for group in groups]
            return [
                np.array([zlib.crc32(f"{key}{i}".encode()) % 1000 for i in group], dtype=float)
                for key, group in zip(keys, groups, strict=True)
            ]

        top, asked = heapsort(strategy, 50, 10, contradict)
        whole, asked_for_all = heapsort(strategy, 50, 50, contradict)
        assert top[:10] == whole[:10]
        assert len(asked) < len(asked_for_all)


def test_nodes_of_one_level_are_asked_about_in_one_round():
    rounds = []
    run(Heapsort(4)(100, 1), oracle(np.random.default_rng(0).permutation(100).tolist(), rounds))
    assert len(rounds[0]) == 20  # places 13 to 32 are the parents of the leaves 40 to 99
    assert sum(map(len, rounds)) > 3 * len(rounds)
    for asked in rounds:
        documents = [i for group in asked for i in group]
        assert len(documents) == len(set(documents))


@pytest.mark.parametrize(
    ("group_size", "children", "arity"),
    [(2, None, 2), (3, None, 2), (4, None, 3), (10, None, 9), (2, 1, 1), (2, 5, 5), (4, 2, 2)],
)
def test_one_question_settles_a_node_unless_children_are_given(group_size, children, arity):
    strategy = Heapsort(group_size, children)
    assert strategy.arity == arity
    assert (strategy.needs, strategy.group_size) == (Evidence.CHOICE, group_size)


@pytest.mark.parametrize(
    ("arguments", "found", "remedy"),
    [
        ({"group_size": 1}, "group_size=1", "at least 2 documents"),
        ({"group_size": 0}, "group_size=0", "at least 2 documents"),
        ({"group_size": -3}, "group_size=-3", "at least 2 documents"),
        ({"group_size": 2, "children": 0}, "children=0", "at least one child"),
        ({"group_size": 4, "children": -1}, "children=-1", "at least one child"),
    ],
)
def test_bad_arguments_are_named_with_a_remedy(arguments, found, remedy):
    with pytest.raises(ConfigurationError, match=remedy) as caught:
        Heapsort(**arguments)
    assert found in str(caught.value)


@pytest.mark.parametrize("strategy", SHAPES, ids=repr)
def test_repr_rebuilds_the_strategy(strategy):
    assert eval(repr(strategy)) == strategy
