"""Scorers around scorers: both orders, shuffled, repeated, several."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np
import pytest
from fake_models import HashModel
from fakes import FirstBiasedScorer, PerfectScorer, SilentScorer
from shared_data import parity

from pyterrier_llmrank.aggregates import additive
from pyterrier_llmrank.core import Answer, Doc, Evidence, Question, Usage, descending, silence
from pyterrier_llmrank.designs import all_pairs
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.flow import run
from pyterrier_llmrank.models import Sampling
from pyterrier_llmrank.prompts import ListPrompt
from pyterrier_llmrank.scorers import BothOrders, Ensemble, Prompted, Repeated, Shuffled
from pyterrier_llmrank.scorers.combining import agree, borda, mean, votes
from pyterrier_llmrank.strategies import Heapsort, Sampled, SlidingWindow

NAN = np.nan


def question(*relevance, qid="q"):
    """Documents d0, d1, … whose texts are their relevance."""
    return Question("why", tuple(Doc(f"d{i}", str(value)) for i, value in enumerate(relevance)), qid)


@dataclass
class Told:
    """Answers by what it is told: a function from the docnos shown to their scores."""

    says: object
    gives: Evidence = Evidence.ORDER
    max_docs: int | None = None
    rounds: list = field(default_factory=list, compare=False, repr=False)

    def __call__(self, questions):
        self.rounds.append([[doc.docno for doc in q.docs] for q in questions])
        scores = [self.says([doc.docno for doc in q.docs]) for q in questions]
        return [Answer(np.array(s, float), Usage(1, failures=int(np.isnan(s).all()))) for s in scores]


# The rules


def answers_of(*rows):
    n = len(rows[0])
    return n, [tuple(range(n))] * len(rows), [np.array(row, float) for row in rows]


def test_the_mean_leaves_out_documents_without_an_answer():
    assert mean(*answers_of([1, NAN, NAN], [3, 4, NAN])).tolist() == pytest.approx([2, 4, NAN], nan_ok=True)


def test_borda_counts_those_below_and_has_what_was_left_out_last_together():
    """Of [5, NaN, 7, NaN] the third is above 3, the first above 2, the others share 1 point between them."""
    assert borda(*answers_of([5, NAN, 7, NAN])).tolist() == [2, 0.5, 3, 0.5]
    assert borda(*answers_of([1, 1, 0], [0, 1, 2])).tolist() == [0.75, 1.25, 1.0]


@pytest.mark.parametrize("rule", [mean, borda, votes])
def test_an_unread_answer_counts_for_nothing(rule):
    read = answers_of([3, 1, 2], [1, 3, 2])
    both = answers_of([3, 1, 2], [NAN] * 3, [1, 3, 2])
    np.testing.assert_array_equal(rule(*read), rule(*both))


@pytest.mark.parametrize("rule", [mean, borda, votes, agree])
def test_nothing_but_silence_stays_silence(rule):
    assert np.isnan(rule(*answers_of([NAN, NAN], [NAN, NAN]))).all()
    assert rule(0, [()], [silence(0)]).shape == (0,)


def test_votes_are_shares_of_the_answers_and_a_tie_at_the_top_splits_one():
    assert votes(*answers_of([0, 9, 3], [0, 9, 3], [5, 5, NAN])).tolist() == pytest.approx([1 / 6, 5 / 6, 0])


@pytest.mark.parametrize("rule", [mean, borda, votes, agree])
def test_rules_follow_documents_whatever_the_order_they_were_shown_in(rule):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 4, (3, 5)).astype(float)
    shown = [tuple(rng.permutation(5).tolist()) for _ in rows]
    moved = [row[list(order)] for row, order in zip(rows, shown, strict=True)]
    np.testing.assert_allclose(rule(5, shown, moved), rule(*answers_of(*rows)))


# Both orders


def test_a_pair_has_a_winner_where_both_orders_agree():
    [answer] = BothOrders(PerfectScorer())([question(1, 2)])
    assert answer.scores.tolist() == [0, 1] and answer.usage == Usage(2, 40)


@pytest.mark.parametrize(
    "says",
    [
        lambda shown: [1, 0],
        lambda shown: [0, 1],
        lambda shown: [1, 1],
        lambda shown: [1, 0] if shown[0] == "d0" else [NAN, NAN],
    ],
    ids=["first", "last", "ties", "half silent"],
)
def test_a_contradiction_a_tie_or_half_an_answer_is_a_tie(says):
    [answer] = BothOrders(Told(says))([question(0, 0)])
    assert answer.scores.tolist() == [0.5, 0.5]


def test_a_document_named_in_both_orders_wins_though_the_other_has_no_score():
    [answer] = BothOrders(Told(lambda shown: [1 if name == "d1" else NAN for name in shown]))([question(0, 0)])
    assert answer.scores.tolist() == [0, 1]


def test_no_answer_in_either_order_is_no_answer():
    [answer] = BothOrders(SilentScorer())([question(1, 2)])
    assert np.isnan(answer.scores).all() and answer.usage == Usage(2, failures=2)


def test_shares_of_a_larger_group_add_up_to_one_and_keep_only_what_both_orders_say():
    """d2 is above the others both ways; d0 and d1 are ordered by their place."""

    def says(shown):
        return [9 if name == "d2" else -place for place, name in enumerate(shown)]

    [answer] = BothOrders(Told(says))([question(0, 0, 0)])
    assert answer.scores.tolist() == pytest.approx([0.5 / 3, 0.5 / 3, 2 / 3])


@pytest.mark.parametrize("n", [2, 3, 7])
def test_one_sided_answers_keep_the_order_of_any_group(n):
    [answer] = BothOrders(FirstBiasedScorer())([question(*range(n))])
    assert descending(range(n), answer.scores) == list(range(n))
    assert answer.scores.sum() == pytest.approx(1)


@pytest.mark.parametrize("combine", ["agree", "mean", "borda"])
def test_perfect_answers_keep_their_order(combine):
    [answer] = BothOrders(PerfectScorer(), combine)([question(3, 1, 4, 2)])
    assert descending(range(4), answer.scores) == [2, 0, 3, 1]


def test_the_mean_of_both_orders_is_the_mean_of_their_scores():
    """A bonus for the first place goes away."""
    biased = Told(lambda shown: [{"d0": 1.0, "d1": 3.0}[name] + 8 * (place == 0) for place, name in enumerate(shown)])
    [answer] = BothOrders(biased, "mean")([question(0, 0)])
    assert answer.scores.tolist() == [5, 7]


def test_all_questions_go_to_the_scorer_in_one_call_and_one_document_is_asked_about_once():
    inner = PerfectScorer()
    answers = BothOrders(inner)([question(5, 6), question(7), question(8, 9, 1)])
    assert [len(q.docs) for [*asked] in inner.rounds for q in asked] == [2, 2, 1, 3, 3] and len(inner.rounds) == 1
    assert answers[1].scores.tolist() == [7] and answers[1].usage.calls == 1


def test_an_aggregate_combines_the_answers_too():
    [answer] = BothOrders(PerfectScorer(), additive)([question(3, 1)])
    np.testing.assert_allclose(answer.scores, additive(2, [(0, 1), (1, 0)], [np.array([3.0, 1]), np.array([1.0, 3])]))


# Both orders against recorded runs of llm-rankers


@dataclass
class Peer:
    """Chooses of two as the recorded comparators do, one order at a time."""

    mode: str
    rel: list
    prompts: int = 0
    gives: Evidence = Evidence.CHOICE
    max_docs: int | None = 2

    def __call__(self, questions):
        self.prompts += len(questions)
        return [Answer(np.array(self._says(*(int(doc.docno) for doc in q.docs)), float)) for q in questions]

    def _says(self, a, b):
        if self.mode in ("malformed", "junk"):
            return [NAN, NAN]
        if self.mode == "cyclic":
            return [0, 1] if (b - a) % 3 == 1 else [1, 0]
        return [1, 0] if self.mode == "always_first" or self.rel[a] >= self.rel[b] else [0, 1]


def settled(strategy, case):
    """The scores that a strategy comes to with the case's comparator, and the prompts it took."""
    peer = Peer(case["mode"], case["rel"])
    scorer = BothOrders(peer)
    n, k = case["n"], min(case["k"], case["n"])

    def ask(groups):
        asked = [Question("why", tuple(Doc(str(i), "") for i in group)) for group in groups]
        return [answer.scores for answer in scorer(asked)]

    return run(strategy(n, k), ask), peer.prompts


def ranked(strategy, case):
    """The first k documents."""
    scores, _ = settled(strategy, case)
    return descending(range(case["n"]), scores)[: case["k"]]


def test_all_pairs_come_out_as_in_llm_rankers():
    """But for ties of intransitive answers, which it orders by who won first: ours stay in input order."""
    for case in parity("llmrankers_allpair")["cases"]:
        scores, prompts = settled(Sampled(all_pairs, additive), case)
        assert prompts == case["n_prompts"]
        official = scores[case["order0"][: case["k"]]]
        np.testing.assert_allclose(official, np.sort(scores)[::-1][: case["k"]])
        if case["mode"] != "cyclic":
            assert descending(range(case["n"]), scores)[: case["k"]] == case["order0"][: case["k"]]


def test_sorting_by_neighbours_comes_out_as_in_llm_rankers():
    """Whatever the comparator says: a contradiction or an unread answer never swaps two documents."""
    for case in parity("llmrankers_pairwise_sort")["cases"]:
        if case["method"] == "bubblesort":
            passes = max(1, min(case["k"], case["n"] - 1))
            assert ranked(SlidingWindow(2, 1, passes), case) == case["order0"][: case["k"]], case["mode"]


def test_heapsort_comes_out_as_in_llm_rankers_where_its_comparator_is_an_order():
    for case in parity("llmrankers_pairwise_sort")["cases"]:
        if case["method"] == "heapsort" and case["mode"] == "oracle" and case["kind"] != "ties":
            assert ranked(Heapsort(2), case) == case["order0"][: case["k"]]


# Shuffled


def test_shuffled_copies_are_different_orders_of_the_same_documents():
    inner = PerfectScorer()
    Shuffled(inner, 6)([question(0, 1, 2)])
    [asked] = inner.rounds
    assert len(asked) == 6 and {tuple(doc.docno for doc in q.docs) for q in asked} == set(
        permutations(["d0", "d1", "d2"])
    )


@pytest.mark.parametrize(("n", "calls"), [(1, 1), (2, 2), (3, 5), (40, 5)])
def test_no_order_is_asked_about_twice(n, calls):
    inner = PerfectScorer()
    [answer] = Shuffled(inner, 5)([question(*range(n))])
    shown = [tuple(doc.docno for doc in q.docs) for q in inner.rounds[0]]
    assert len(shown) == len(set(shown)) == calls == answer.usage.calls


@pytest.mark.parametrize("combine", [None, "mean", "borda", "agree"])
@pytest.mark.parametrize("gives", [Evidence.SCORE, Evidence.ORDER])
def test_perfect_answers_survive_shuffling(combine, gives):
    [answer] = Shuffled(PerfectScorer(gives), 4, combine)([question(3, 1, 4, 2, 0)])
    assert descending(range(5), answer.scores) == [2, 0, 3, 1, 4]


def test_a_scorer_that_prefers_a_place_says_nothing_in_the_end():
    """All orders of four documents: each is first equally often."""
    [answer] = Shuffled(FirstBiasedScorer(), 24)([question(*range(4))])
    assert answer.scores.tolist() == [1.5] * 4


def test_shuffling_once_shows_another_order_and_keeps_the_scores():
    inner = PerfectScorer()
    [answer] = Shuffled(inner, 1)([question(*range(8))])
    assert answer.scores.tolist() == list(range(8))
    assert [doc.docno for doc in inner.rounds[0][0].docs] != [f"d{i}" for i in range(8)]


def test_the_usual_rule_follows_what_the_scorer_gives():
    rows = [{"d0": 5.0, "d1": 1.0, "d2": 0.0}]
    for gives, expected in [
        (Evidence.SCORE, [5, 1, 0]),
        (Evidence.ORDER, [2, 1, 0]),
        (Evidence.CHOICE, [1, 0, 0]),
    ]:
        scorer = Shuffled(Told(lambda shown: [rows[0][name] for name in shown], gives), 3)
        assert scorer.gives == gives
        assert scorer([question(0, 0, 0)])[0].scores.tolist() == expected


def test_orders_depend_on_the_seed_the_query_and_its_documents_alone():
    def orders(seed, *questions):
        inner = PerfectScorer()
        Shuffled(inner, 2, seed=seed)(questions)
        return [[doc.docno for doc in q.docs] for q in inner.rounds[0]]

    one, other = question(*range(9)), question(*range(9), qid="other")
    assert orders(0, one) == orders(0, one) == orders(0, other, one)[2:]
    assert orders(0, one) != orders(1, one)
    assert orders(0, one) != orders(0, other)


# Repeated


@dataclass(frozen=True)
class Drawing:
    """Gives scores that depend on its seed; fails one time in three."""

    seed: int = 0
    gives: Evidence = Evidence.SCORE
    max_docs: int | None = None

    def __call__(self, questions):
        failed = self.seed % 3 == 0
        values = [silence(len(q.docs)) if failed else np.arange(len(q.docs)) + float(self.seed % 7) for q in questions]
        return [Answer(scores, Usage(1, failures=int(failed))) for scores in values]


def test_repetitions_have_seeds_of_their_own_and_failures_are_left_out_of_the_mean():
    """Retro* counts a failure as 0, so that a document loses by a call that broke."""
    scorer = Repeated(Drawing(), 12)
    seeds = [copy.seed for copy in scorer._copies]
    assert len(set(seeds)) == 12
    read = [seed % 7 for seed in seeds if seed % 3]
    [answer] = scorer([question(0, 0)])
    assert 0 < len(read) < 12, "both kinds must occur"
    assert answer.scores.tolist() == pytest.approx([np.mean(read), np.mean(read) + 1])
    assert answer.usage == Usage(12, failures=12 - len(read))


def test_repetitions_differ_by_seed():
    assert [c.seed for c in Repeated(Drawing(), 3)._copies] != [c.seed for c in Repeated(Drawing(), 3, seed=1)._copies]
    assert Repeated(Drawing(), 3)._copies == Repeated(Drawing(), 3)._copies


def test_a_majority_of_written_answers_decides():
    """Three sampled answers in all; what each of them says is known from the model's own record."""
    model = HashModel(writes=lambda number: f"[{1 + number % 2}]")
    scorer = Repeated(Prompted(ListPrompt(), model, sampling=Sampling(0.7)), 3, "votes")
    [answer] = scorer([question("a", "b")])
    seeds = [call[5][0] for call in model.calls("generate")]
    assert len(set(seeds)) == 3
    written = [model.generate(call[1], max_tokens=9, seeds=call[5])[0].text for call in model.calls("generate")[:3]]
    counts = Counter(written)
    assert answer.scores.tolist() == pytest.approx([counts["[1]"] / 3, counts["[2]"] / 3])
    assert answer.usage.calls == 3


def test_what_a_repetition_loads_is_shared():
    model = HashModel()
    copies = Repeated(Prompted(ListPrompt(), model, sampling=Sampling()), 2)._copies
    assert all(copy.model is model for copy in copies)


@pytest.mark.parametrize(
    "scorer", [PerfectScorer(), Prompted(ListPrompt(), HashModel()), BothOrders(Prompted(ListPrompt(), HashModel()))]
)
def test_to_repeat_what_draws_nothing_is_refused(scorer):
    with pytest.raises(ConfigurationError, match="draws nothing at random"):
        Repeated(scorer, 3)


def test_shuffled_orders_can_be_repeated():
    [answer] = Repeated(Shuffled(PerfectScorer(), 1), 3)([question(2, 5)])
    assert answer.scores.tolist() == [2, 5] and answer.usage.calls == 3


# Ensemble


def fixed(*scores, gives=Evidence.SCORE):
    return Told(lambda shown: list(scores), gives)


def test_scores_are_brought_to_one_scale_and_averaged():
    [answer] = Ensemble((fixed(0, 5, 10), fixed(300, 200, 100)))([question(0, 0, 0)])
    assert answer.scores.tolist() == [0.5, 0.5, 0.5] and answer.usage.calls == 2
    [answer] = Ensemble((fixed(0, 5, 10), fixed(300, 200, 100)), weights=(3, 1))([question(0, 0, 0)])
    assert answer.scores.tolist() == [0.25, 0.5, 0.75]


@pytest.mark.parametrize(
    ("normalize", "expected"),
    [
        ("minmax", [0, 0.25, 1]),
        ("rank", [0, 0.5, 1]),
        (None, [2, 3, 6]),
        ("zscore", (np.array([2, 3, 6]) - 11 / 3) / np.std([2, 3, 6])),
    ],
)
def test_each_scale_is_what_it_says(normalize, expected):
    scorer = Ensemble((fixed(2, 3, 6), fixed(2, 3, 6)), normalize=normalize)
    assert scorer([question(0, 0, 0)])[0].scores.tolist() == pytest.approx(list(expected))


def test_a_document_that_one_scorer_leaves_out_has_the_mean_of_the_others():
    scorers = (fixed(0, NAN, 10, NAN), fixed(0, 1, 0, NAN))
    [answer] = Ensemble(scorers, weights=(1, 2))([question(0, 0, 0, 0)])
    assert answer.scores.tolist() == pytest.approx([0, 1, 1 / 3, NAN], nan_ok=True)


def test_a_scorer_without_any_answer_changes_nothing():
    for normalize in ("minmax", "zscore", "rank", None):
        alone = Ensemble((fixed(2, 3, 6), fixed(2, 3, 6)), normalize=normalize)
        with_silence = Ensemble((fixed(2, 3, 6), SilentScorer()), normalize=normalize)
        np.testing.assert_allclose(with_silence([question(0, 0, 0)])[0].scores, alone([question(0, 0, 0)])[0].scores)


@pytest.mark.parametrize(("normalize", "middle"), [("minmax", 0.5), ("zscore", 0), ("rank", 0.5)])
def test_equal_scores_say_nothing(normalize, middle):
    [answer] = Ensemble((fixed(4, 4), fixed(4, 4)), normalize=normalize)([question(0, 0)])
    assert answer.scores.tolist() == [middle, middle]


def test_an_impossible_document_is_last_and_leaves_the_others_their_scale():
    [answer] = Ensemble((fixed(-np.inf, 1, 3), fixed(-np.inf, 1, 3)))([question(0, 0, 0)])
    assert answer.scores.tolist() == [0, 0, 1]


def test_an_ensemble_gives_the_least_and_takes_what_all_take():
    small = PerfectScorer(Evidence.SCORE, 5)
    assert Ensemble((small, FirstBiasedScorer())).max_docs == 5
    assert Ensemble((small, small), normalize=None).gives == Evidence.SCORE
    assert Ensemble((small, small)).gives == Evidence.ORDER
    assert Ensemble((small, FirstBiasedScorer(Evidence.CHOICE)), normalize=None).gives == Evidence.CHOICE


# What they refuse, and what they are


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BothOrders("x"), "BothOrders asks a scorer, and 'x' is none"),
        (lambda: BothOrders(PerfectScorer(), ["mean"]), "BothOrders combines answers by"),
        (lambda: BothOrders(PerfectScorer(), "best"), "BothOrders combines answers by 'agree', 'mean'"),
        (lambda: Shuffled(PerfectScorer(), 0), "Shuffled asks at least once, got times=0"),
        (lambda: Shuffled(PerfectScorer(), 2, "best"), "Shuffled combines"),
        (lambda: Repeated(Drawing(), 2, "best"), "Repeated combines"),
        (lambda: Ensemble((PerfectScorer(),)), "two or more scorers"),
        (lambda: Ensemble((PerfectScorer(), "x")), "Ensemble asks a scorer"),
        (lambda: Ensemble((PerfectScorer(), PerfectScorer()), (1,)), "one weight for each of its 2"),
        (lambda: Ensemble((PerfectScorer(), PerfectScorer()), (0, 0)), "not all 0"),
        (lambda: Ensemble((PerfectScorer(), PerfectScorer()), (NAN, 1)), "one weight"),
        (lambda: Ensemble((PerfectScorer(), PerfectScorer()), normalize="max"), "normalize must be"),
    ],
)
def test_what_cannot_work_is_refused_at_once(build, message):
    with pytest.raises(ConfigurationError, match=message):
        build()


def test_combined_answers_tell_no_more_than_they_can():
    score, order = PerfectScorer(), FirstBiasedScorer()
    assert [BothOrders(score).gives, BothOrders(score, "mean").gives] == [Evidence.ORDER, Evidence.SCORE]
    assert [Shuffled(score, 2).gives, Shuffled(order, 2).gives] == [Evidence.SCORE, Evidence.ORDER]
    assert [Shuffled(order, 2, "votes").gives, Shuffled(score, 2, additive).gives] == [Evidence.CHOICE, Evidence.ORDER]


@pytest.mark.parametrize(
    "scorer",
    [
        BothOrders(FirstBiasedScorer(), "mean"),
        Shuffled(FirstBiasedScorer(), 3, additive, seed=4),
        Repeated(Drawing(), 3, "votes"),
        Ensemble((FirstBiasedScorer(), SilentScorer()), weights=(1.0, 2.0)),
    ],
    ids=lambda scorer: type(scorer).__name__,
)
def test_a_wrapper_is_a_value_that_its_repr_rebuilds(scorer):
    names = {t.__name__: t for t in (BothOrders, Shuffled, Repeated, Ensemble)}
    names |= {t.__name__: t for t in (FirstBiasedScorer, SilentScorer, Drawing, Evidence)}
    again = eval(repr(scorer), names | {"additive": additive})
    assert again == scorer and hash(again) == hash(scorer)
