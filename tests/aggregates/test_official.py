"""Aggregates against recorded results of published code, and why they differ where they do."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from itertools import combinations, permutations

import numpy as np
import pytest
from shared_data import SHARED, parity

from pyterrier_llmrank.aggregates import (
    additive,
    binary,
    bradley_terry,
    elo,
    greedy,
    heaviest_path,
    kemeny,
    kwiksort,
    page_rank,
    plackett_luce,
    thurstone,
    win_rate,
)
from pyterrier_llmrank.core import descending


def order_of(scores):
    return descending(range(len(scores)), scores)


# -- ICTIR 2022: Sparse Pairwise Re-ranking ---------------------------------------------------------------------------


class Recorded:
    """One matrix of preferences: its pairs as groups, and what the five official aggregators gave."""

    def __init__(self, case):
        self.name, self.scores = case["name"], case["scores"]
        self.pairs = case["pairs"]
        self.groups = [(i, j) for i, j, _ in self.pairs]
        self.answers = [np.array([p, 1 - p]) for _, _, p in self.pairs]
        self.documents = sorted({i for group in self.groups for i in group})
        self.n = max(self.documents) + 1

    def official(self, key):
        """Recorded scores, in input order."""
        return np.array([self.scores[key][str(i)] for i in self.documents])

    def ours(self, aggregate, **options):
        return aggregate(self.n, self.groups, self.answers, **options)[self.documents]

    @property
    def one_order_each(self):
        """Whether no pair was asked in both orders."""
        return len({frozenset(group) for group in self.groups}) == len(self.groups)

    @property
    def consistent(self):
        """Whether all pairs were asked, and one order agrees with every majority."""
        order = order_of(self.ours(kemeny))
        belief = {(i, j): p for i, j, p in self.pairs}
        agreed = [belief.get((i, j), 0) > 0.5 > belief.get((j, i), 1) for i, j in combinations(order, 2)]
        return all(agreed)

    @property
    def balanced(self):
        """Whether all documents are in equally many pairs."""
        return len(set(Counter(i for group in self.groups for i in group).values())) == 1


def recorded():
    return [Recorded(case) for case in parity("ictir22_aggregation")["cases"]]


def test_additive_sums_probabilities_as_ictir22_meant_to():
    compared = Counter()
    for case in recorded():
        ours, official = case.ours(additive), case.official("additive_on_p")
        compared["balanced" if case.balanced else "not balanced"] += 1
        if case.balanced:  # otherwise theirs prefers what was asked about more often
            np.testing.assert_allclose(ours, official, atol=1e-6)
    assert compared["balanced"] >= 8


def test_additive_as_shipped_sums_logarithms_of_the_first_and_their_complements_of_the_second():
    for case in recorded():
        official = case.official("additive_as_shipped_on_log_p")
        np.testing.assert_allclose(case.ours(additive, legacy=True), official, atol=1e-6, err_msg=case.name)


def test_bradley_terry_as_shipped_lets_the_first_document_win_nearly_always():
    for case in recorded():
        ours = case.ours(bradley_terry, legacy=True)
        for kind in ("python_log10", "cython_ln"):  # the same maximum, as found from different logarithms
            np.testing.assert_allclose(ours, case.official(f"bradley_terry_{kind}"), atol=1e-3, err_msg=case.name)


def test_bradley_terry_as_shipped_is_wrong_where_ours_is_right():
    """Where all pairs are asked in one order each, a cycle of windows for one, theirs does not even read who won."""
    [case] = [case for case in recorded() if case.name == "oracle_09_n10/windowed_w1_d1"]
    assert np.ptp(case.ours(bradley_terry, legacy=True)) < 1e-3
    assert order_of(case.ours(bradley_terry)) == list(range(10))


def test_kwiksort_as_shipped_scores_documents_by_the_permutation_not_its_inverse():
    for case in recorded():
        for seed in (0, 1):
            official = case.official(f"kwiksort_random_npseed{seed}")
            np.testing.assert_array_equal(case.ours(kwiksort, legacy=True, seed=seed), official, err_msg=case.name)


def test_kwiksort_gives_the_order_that_ictir22_finds_but_does_not_return():
    found = [case for case in recorded() if case.consistent]
    assert len(found) >= 2
    for case in found:
        for seed in range(10):
            order = order_of(case.ours(kwiksort, seed=seed))
            assert order == case.scores["kwiksort_rowsum_internal_order"] == order_of(case.ours(additive))


def test_greedy_orders_like_ictir22_where_both_orders_were_asked():
    """With one order a pair theirs is upside down: a lost pair counts for its first document, p, and nothing against.

    Ties are left out: there theirs is decided by what float32 leaves of 0.9 - 0.1.
    """
    compared = Counter()
    for case in recorded():
        both = {(j, i) for i, j in case.groups} == set(case.groups)
        if both and not case.name.startswith("mostly_ties"):
            assert order_of(case.ours(greedy)) == order_of(case.official("greedy")), case.name
        compared["compared" if both else "one order"] += 1
    assert compared["compared"] >= 6 and compared["one order"]
    [case] = [case for case in recorded() if case.name == "oracle_09_n10/windowed_w1_d1"]
    assert order_of(case.official("greedy")) == [0, *range(9, 0, -1)]
    assert order_of(case.ours(greedy)) == list(range(10))


def overwritten(case):
    """The links that official PageRank keeps of ``case``: the last one between two documents, in a direction."""
    return {(i, j) if p >= 0.5 else (j, i): max(p, 1 - p) for i, j, p in case.pairs}


def test_page_rank_is_that_of_ictir22_where_no_link_was_overwritten():
    """Theirs keeps one link per direction, so of two orders that agree only the last counts; ours adds them up."""
    compared = Counter()
    for case in recorded():
        official = case.official("pagerank")
        links = overwritten(case)
        last = page_rank(case.n, list(links), [np.array([p, 1 - p]) for p in links.values()])[case.documents]
        if not any(p == 0.5 for *_, p in case.pairs):  # a tie is one link there, two halves here
            np.testing.assert_allclose(last, official, atol=1e-5, err_msg=case.name)
            compared["overwritten as there"] += 1
        if case.one_order_each:
            np.testing.assert_allclose(case.ours(page_rank), official, atol=1e-5)
            compared["as it is"] += 1
    assert compared["overwritten as there"] >= 6 and compared["as it is"] >= 1


# -- JointRank --------------------------------------------------------------------------------------------------------


def blocks(case):
    groups = [tuple(block) for block in case["ranked_blocks"]]
    return max(map(max, groups)) + 1, groups, [-np.arange(len(group), dtype=float) for group in groups]


@pytest.mark.parametrize(("name", "aggregate"), [("pagerank", page_rank), ("wr", win_rate)])
def test_page_rank_and_win_rate_are_those_of_jointrank(name, aggregate):
    orders = []
    for case in parity("jointrank")["aggregation"]:
        n, groups, answers = blocks(case)
        scores = aggregate(n, groups, answers)
        np.testing.assert_allclose(scores, case["result"][name]["scores"], atol=1e-9)
        orders.append(order_of(scores) == case["result"][name]["order"])
    # "contradictory": 0.22514622694 three times, which theirs orders by what is left in the last digit
    assert orders == [True, True, name == "wr"]


def test_page_rank_is_that_of_networkx():
    networkx = pytest.importorskip("networkx")
    rng = np.random.default_rng(0)
    for n in (5, 20):
        groups = [tuple(rng.permutation(n)[:4].tolist()) for _ in range(2 * n)]
        graph = networkx.MultiDiGraph()
        graph.add_nodes_from(sorted({i for group in groups for i in group}))
        graph.add_edges_from((loser, winner) for group in groups for winner, loser in combinations(group, 2))
        weights = networkx.DiGraph(graph)
        for loser, winner in weights.edges:
            weights[loser][winner]["weight"] = graph.number_of_edges(loser, winner)
        expected = networkx.pagerank(weights, tol=1e-14, max_iter=1000)
        scores = page_rank(n, groups, [-np.arange(4.0)] * len(groups), tolerance=1e-13)
        np.testing.assert_allclose(scores[list(expected)], list(expected.values()), atol=1e-9)


@pytest.mark.parametrize("aggregate", [bradley_terry, plackett_luce, thurstone, elo])
def test_a_consistent_ranker_gives_strengths_where_those_of_jointrank_collapse(aggregate):
    """Bradley-Terry has no finite maximum there, and its library then returns the same tiny score for everyone."""
    for case in parity("jointrank")["aggregation"]:
        if "gold" not in case:
            continue
        assert len(set(case["result"]["bradley"]["scores"])) == 1
        n, groups, answers = blocks(case)
        scores = aggregate(n, groups, answers)
        assert np.isfinite(scores).all()
        pairs = [(i, j) for block in case["ranked_blocks"] for i, j in combinations(block, 2)]
        assert np.mean([scores[i] > scores[j] for i, j in pairs]) > 0.98


def test_with_next_to_no_prior_no_answer_of_a_consistent_ranker_is_contradicted():
    for case in parity("jointrank")["aggregation"][:2]:
        n, groups, answers = blocks(case)
        for scores in (bradley_terry(n, groups, answers, prior=0.0), elo(n, groups, answers, ties=0.0)):
            assert all((np.diff(scores[list(block)]) < 0).all() for block in groups)


# -- PRP, RankLLM, zELO, TSPRank --------------------------------------------------------------------------------------


def test_binary_counts_what_prp_counts_when_both_orders_are_asked():
    """+1 for two wins and +0.5 each for a contradiction; here each order counts, so twice as much."""
    compared = 0
    for case in parity("llmrankers_allpair")["cases"]:
        if case["mode"] not in ("oracle", "ties"):
            continue
        n, relevance = case["n"], case["rel"]
        groups = list(permutations(range(n), 2))
        # of equals, its comparator prefers the one shown first: a contradiction
        answers = [np.array([1.0, 0.0] if relevance[i] >= relevance[j] else [0.0, 1.0]) for i, j in groups]
        points = [sum((relevance[i] > r) + (relevance[i] == r) / 2 for r in relevance) - 0.5 for i in range(n)]
        np.testing.assert_array_equal(binary(n, groups, answers), 2 * np.array(points))
        np.testing.assert_array_equal(additive(n, groups, answers), 2 * np.array(points))
        top = [i for i in order_of(points) if points[i] > 0][: case["k"]]
        official = case["order0"][: len(top)]  # the order of equals there is that of their first point
        assert [points[i] for i in official] == [points[i] for i in top]
        compared += 1
    assert compared >= 12


def test_elo_is_that_of_zelo_where_its_likelihood_has_a_maximum():
    """Theirs stops when the loss changes by less than 1e-4, about 0.005 before the maximum; ours goes all the way."""
    cases = {case["name"]: case for case in parity("zelo_bradley_terry")["cases"]}
    compared = 0
    for case in cases.values():
        won = np.array(case["w"])
        n = len(won)
        groups = list(combinations(range(n), 2))
        answers = [np.array([won[i, j], won[j, i]]) for i, j in groups]
        official = np.array(case["elos"])
        if ((won > 0) | np.eye(n, dtype=bool)).all():
            np.testing.assert_allclose(elo(n, groups, answers, ties=0.0), official, atol=0.01)
            compared += 1
        scores = elo(n, groups, answers)
        assert np.isfinite(scores).all() and abs(scores.mean()) < 1e-6
        assert order_of(scores) == order_of(official), case["name"]
    assert compared >= 1


def test_heaviest_paths_are_those_of_tsprank():
    for case in parity("tsprank")["cases"]:
        weights = np.array(case["adjacency"])
        path = heaviest_path(weights)
        assert path == case["official_path"]
        assert weights[path[:-1], path[1:]].sum() == pytest.approx(case["official_value"])


# -- a real model -----------------------------------------------------------------------------------------------------


def preferences():
    """Per query of TREC DL 2019: GPT-4o's preferences between documents, a tie where its two orders contradict."""
    path = SHARED / "data" / "llm_pairwise_gpt4o" / "pairs_both_orders.dl19.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"the recorded preferences {path} are not here")
    queries = defaultdict(list)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            queries[row["qid"]].append((row["a"], row["b"], {row["a"]: 1.0, None: 0.5}.get(row["preferred"], 0.0)))
    return queries.values()


@pytest.mark.parametrize(
    ("aggregate", "share"),
    [
        (additive, 0.75),
        (win_rate, 0.8),
        (greedy, 0.8),
        (page_rank, 0.8),
        (bradley_terry, 0.85),
        (plackett_luce, 0.85),
        (thurstone, 0.85),
        (elo, 0.85),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_preferences_of_gpt4o_foretell_those_that_were_held_back(aggregate, share):
    right = []
    for rows in preferences():
        names = sorted({name for a, b, _ in rows for name in (a, b)})
        known = [row for place, row in enumerate(rows) if place % 4]
        groups = [(names.index(a), names.index(b)) for a, b, _ in known]
        scores = aggregate(len(names), groups, [np.array([p, 1 - p]) for *_, p in known])
        for a, b, p in rows[::4]:
            lead = scores[names.index(a)] - scores[names.index(b)]
            right += [(np.sign(lead) * np.sign(p - 0.5) + 1) / 2] if p != 0.5 else []
    assert len(right) > 300
    assert np.mean(right) > share
