"""``plan`` against what runs really cost, as their ledgers say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from fake_models import HashModel
from fakes import PerfectScorer, UnreachableScorer
from laws import LAWS
from test_rerank import candidates

from pyterrier_llmrank.adaptive import SlideGAR
from pyterrier_llmrank.core import Cost, Evidence, Usage
from pyterrier_llmrank.designs import all_pairs
from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.ledger import Ledger
from pyterrier_llmrank.planning import plan
from pyterrier_llmrank.prompts import ListPrompt, PairPrompt, YesNo
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import BothOrders, Prompted, Reasoned
from pyterrier_llmrank.strategies import Heapsort, OneShot, Pointwise, Sampled, SlidingWindow

pytestmark = pytest.mark.filterwarnings("ignore::pyterrier_llmrank.errors.LLMRankWarning")


@dataclass
class Countable(HashModel):
    """A model that counts its tokens without being loaded."""

    def ruler(self):
        return self


class FirstStage(pt.Transformer):
    """Finds the same documents for every query, and notes the queries."""

    def __init__(self, n=100):
        self.n = n
        self.asked = []

    def transform(self, inp):
        self.asked += inp["qid"].tolist()
        docs = pd.DataFrame({"docno": [f"d{i}" for i in range(self.n)], "text": "a short text", "rank": range(self.n)})
        return inp[["qid", "query"]].merge(docs.assign(score=-docs["rank"].astype(float)), how="cross")


class Counting(pt.Transformer):
    """Counts how often it runs."""

    def __init__(self):
        self.runs = 0

    def transform(self, inp):
        self.runs += 1
        return inp


class Store(pt.Transformer):
    """A cache around a scorer, as other libraries have them."""

    def __init__(self, scorer):
        self.scorer = scorer

    def transform(self, inp):
        raise AssertionError("made-up scores would be kept")


class Either(pt.Transformer):
    """Does something unknown with two transformers."""

    def __init__(self, one, other):
        self.one = one
        self.other = other

    def transform(self, inp):
        raise AssertionError("would be run with made-up scores")


def topics(n=5):
    return pd.DataFrame({"qid": [f"q{i}" for i in range(n)], "query": [f"query {i}" for i in range(n)]})


def passages(queries=3, n=12):
    """Candidates whose texts differ in length."""
    frame = candidates(queries, n)
    return frame.assign(text=["a passage about cats. " * (1 + i % 7) for i in range(len(frame))])


def pairs(model):
    return BothOrders(Prompted(PairPrompt(), model))


def only(pipeline, *args, **options):
    """The row of the only reranker."""
    table = plan(pipeline, *args, **options)
    assert len(table) == 2
    return table.iloc[0]


# -- calls and rounds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS, ids=lambda law: repr(law.strategy))
def test_exact_numbers_are_those_of_a_run_and_bounds_hold(law):
    reranker, frame = Rerank(law.strategy, PerfectScorer(), top_k=5), candidates(queries=3, n=25)
    reranker(frame)
    spent, row = reranker.ledger.total, only(reranker, frame)
    if row["exact"]:
        assert (row["calls"], row["rounds"]) == (spent.usage.calls, spent.rounds)
        assert (row["calls_at_most"], row["rounds_at_most"]) == (row["calls"], row["rounds"])
    else:
        assert max(spent.usage.calls, row["calls"]) <= row["calls_at_most"]
        assert max(spent.rounds, row["rounds"]) <= row["rounds_at_most"]
    assert row["exact"] == law.strategy.cost(25, 5).exact


@pytest.mark.parametrize("strategy", [Heapsort(2), Heapsort(4)], ids=repr)
def test_the_expectation_is_what_random_lists_take(strategy):
    reranker, frame = Rerank(strategy, PerfectScorer(), top_k=10), candidates(queries=30, n=60, seed=5)
    reranker(frame)
    row = only(reranker, frame)
    assert row["calls"] == pytest.approx(reranker.ledger.total.usage.calls, rel=0.03)
    assert row["calls"] < 0.95 * row["calls_at_most"]


def test_the_same_seed_gives_the_same_plan():
    reranker, frame = Rerank(Heapsort(2), pairs(Countable())), passages()
    pd.testing.assert_frame_equal(plan(reranker, frame), plan(reranker, frame))
    assert only(reranker, frame)["calls"] != only(reranker, frame, seed=1)["calls"]


def test_a_generator_function_is_simulated_and_has_no_bound():
    def twice(n, k):
        yield [tuple(range(n))]
        [scores] = yield [tuple(range(n))]
        return scores

    row = only(Rerank(twice, PerfectScorer()), candidates(queries=4))
    assert (row["calls"], row["rounds"], row["exact"]) == (8, 2, False)
    assert np.isnan(row["calls_at_most"]) and np.isnan(row["rounds_at_most"])


def test_nothing_is_made_of_the_last_answers_of_a_strategy_that_knows_its_cost():
    def slow(n, groups, answers):
        raise AssertionError("takes seconds, and asks nothing")

    assert only(Rerank(Sampled(all_pairs, slow), PerfectScorer()), candidates(queries=2, n=10))["calls"] == 90


def test_a_strategy_that_ends_before_its_cost_says_is_counted_as_it_is():
    @dataclass(frozen=True)
    class Modest(OneShot):
        def cost(self, n, k):
            return Cost(5, 5)

    assert only(Rerank(Modest(), PerfectScorer()), candidates(queries=2))["calls"] == 2


def test_what_a_run_settles_is_what_is_planned():
    model, frame = Countable(), passages(2, 30)
    for options in ({}, {"top_k": 3}, {"depth": 10}, {"num_results": 4}, {"top_k": 9, "num_results": 2, "depth": 20}):
        reranker = Rerank(SlidingWindow(6, 3), Prompted(ListPrompt(), model, max_tokens=9), **options)
        row = only(reranker, frame)
        reranker(frame)
        assert row["calls"] == reranker.ledger.total.usage.calls
        assert row["docs"] == options.get("depth", 30)


# -- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("strategy", "prompt"), [(Pointwise(), YesNo()), (OneShot(), ListPrompt())], ids=repr)
def test_prompt_tokens_are_exact_where_every_question_is_rendered(strategy, prompt):
    reranker, frame = Rerank(strategy, Prompted(prompt, Countable())), passages()
    row = only(reranker, frame)
    reranker(frame)
    assert row["prompt_tokens"] == reranker.ledger.total.usage.prompt_tokens
    assert row["output_tokens"] >= reranker.ledger.total.usage.output_tokens
    assert row["counted"] == "tokenizer"


def test_a_sample_of_the_questions_is_close():
    reranker, frame = Rerank(Pointwise(), Prompted(YesNo(), Countable())), passages(10, 60)
    row = only(reranker, frame, questions=100)
    reranker(frame)
    assert row["calls"] == 600
    assert row["prompt_tokens"] == pytest.approx(reranker.ledger.total.usage.prompt_tokens, rel=0.05)


def test_documents_that_do_not_fit_are_told_before_the_run():
    reranker, frame = Rerank(Pointwise(), Prompted(YesNo(), Countable(), max_doc_tokens=40)), passages()
    row = only(reranker, frame)
    reranker(frame)
    assert row["truncated_tokens"] == reranker.ledger.total.usage.truncated_tokens > 0


def adaptive(scorer, frame, loaded):
    """SlideGAR over three neighbours of each document, whose texts a loader adds."""
    graph = {docno: [f"{docno}-{near}" for near in range(3)] for docno in frame["docno"]}
    texts = pt.apply.generic(lambda frame: loaded.append(len(frame)) or frame.assign(text="a new one"))
    return SlideGAR(scorer, graph, texts, budget=9, window=4, step=2)


def test_slidegar_is_planned_and_not_asked():
    model, loaded = Countable(), []
    frame = passages()
    slide = adaptive(Prompted(ListPrompt(), model), frame, loaded)
    first, last, whole = plan(slide >> Rerank(Pointwise(), Prompted(YesNo(), model)), frame).to_dict(orient="records")
    assert model.asked == [] and sum(loaded) > 0
    assert first["reranker"].startswith("SlideGAR(") and not first["exact"] and np.isnan(first["calls_at_most"])
    assert first["prompt_tokens"] > 0 and whole["calls"] == first["calls"] + last["calls"]
    [alone, _] = plan(slide, frame).to_dict(orient="records")
    assert alone["calls"] == first["calls"] and alone["docs"] == 9


def test_no_model_is_loaded_or_asked():
    model = Countable()
    plan(Rerank(Heapsort(2), pairs(model)) % 5 >> Rerank(OneShot(), Prompted(ListPrompt(), model)), passages())
    assert model.asked == []


def test_tokens_of_a_model_without_a_ruler_are_estimated():
    told = {}
    for model in (HashModel(), Countable()):  # a token is four characters, or one
        row = only(Rerank(Pointwise(), Prompted(YesNo(), model)), passages())
        told[row["counted"]] = row["prompt_tokens"]
    assert told["estimate"] == pytest.approx(told["tokenizer"] / 4, rel=0.02)


def test_tokens_of_an_unknown_scorer_are_unknown():
    row = only(Rerank(Pointwise(), UnreachableScorer()), candidates())
    assert (row["calls"], row["counted"]) == (36, "unknown")
    assert np.isnan(row["prompt_tokens"]) and np.isnan(row["output_tokens"])


def test_a_scorer_may_say_what_questions_cost():
    @dataclass(frozen=True)
    class Endpoint(UnreachableScorer):
        def planned(self, questions):
            return [Usage(1, prompt_tokens=7 * len(question.docs)) for question in questions]

    row = only(Rerank(SlidingWindow(4, 2), BothOrders(Endpoint(), "mean")), candidates(queries=2, n=8))
    assert (row["calls"], row["prompt_tokens"]) == (2 * 2 * 3, 2 * 2 * 3 * 4 * 7)


def test_answers_are_as_long_as_they_may_be_unless_told():
    reranker, frame = Rerank(Pointwise(), Reasoned(YesNo(), HashModel(), max_tokens=500)), passages()
    longest, told = only(reranker, frame), only(reranker, frame, answer_tokens=80)
    assert longest["output_tokens"] == 36 * 500
    assert told["output_tokens"] == 36 * 80
    assert told["calls"] == 72
    assert longest["prompt_tokens"] - told["prompt_tokens"] == pytest.approx(36 * 420, rel=0.02)


# -- pipelines --------------------------------------------------------------------------------------------------------


def test_a_row_per_reranker_and_their_total():
    model, first = Countable(), FirstStage(100)
    long, short = (
        Rerank(SlidingWindow(20, 10), Prompted(ListPrompt(), model)),
        Rerank(OneShot(), Prompted(ListPrompt(), model)),
    )
    table = plan(first >> long % 20 >> Counting() >> short, topics(5))
    assert table["reranker"].tolist() == [repr(long), repr(short), "total"]
    assert table["docs"].tolist()[:2] == [100, 20]
    assert table["calls"].tolist() == [45, 5, 50]
    assert table["rounds"].tolist() == [9, 1, 10]
    assert table["exact"].tolist() == [True] * 3
    assert table["prompt_tokens"].iloc[2] == table["prompt_tokens"].iloc[:2].sum()


def test_a_cutoff_saves_where_the_pipeline_is_compiled():
    pipeline = FirstStage(50) >> Rerank(Heapsort(2), pairs(Countable())) % 3
    assert only(pipeline.compile(), topics())["calls"] < 0.7 * only(pipeline, topics())["calls"]


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of operators of PyTerrier
def test_rerankers_side_by_side_are_all_found():
    model = Countable()
    one, two = Rerank(Pointwise(), Prompted(YesNo(), model)), Rerank(OneShot(), Prompted(ListPrompt(), model))
    first = FirstStage(10)
    for pipeline in (first >> (one + two), first >> (one**two), (first >> one) + (first >> two)):
        table = plan(pipeline, topics(2))
        assert table["calls"].tolist() == [20, 2, 22], pipeline


def test_stages_after_the_last_reranker_are_not_run():
    after, before = Counting(), Counting()
    plan(before >> Rerank(Pointwise(), PerfectScorer()) >> after, candidates())
    assert (before.runs, after.runs) == (1, 0)


def test_the_first_stage_runs_over_a_sample_of_the_topics():
    first = FirstStage(20)
    row = only(first >> Rerank(SlidingWindow(6, 3), PerfectScorer()), topics(50), queries=8)
    assert len(first.asked) == len(set(first.asked)) == 8
    assert (row["queries"], row["calls"], row["calls_at_most"]) == (50, 50 * 6, 50 * 6)
    assert not row["exact"]  # other topics might find fewer documents


def test_a_cache_around_a_reranker_is_left_out():
    row = only(FirstStage(10) >> Store(Rerank(Pointwise(), PerfectScorer())), topics(3))
    assert row["calls"] == 30


def test_what_holds_several_rerankers_must_be_known():
    reranker = Rerank(Pointwise(), PerfectScorer())
    with pytest.raises(ConfigurationError, match="Either holds several"):
        plan(FirstStage() >> Either(reranker, reranker), topics())


def test_the_pipeline_and_its_ledgers_stay_as_they_were():
    reranker, frame = Rerank(Heapsort(2), PerfectScorer()), candidates()
    before = frame.copy()
    plan(reranker, frame)
    assert len(reranker.ledger) == 0 and reranker.scorer.rounds == []
    pd.testing.assert_frame_equal(frame, before)


# -- candidates -------------------------------------------------------------------------------------------------------


def test_candidates_stand_for_the_stages_before():
    first = FirstStage(100)
    pipeline = first >> Counting() >> Rerank(Pointwise(), Prompted(YesNo(), Countable()))
    row = only(pipeline, topics(3), candidates=passages(3, 7))
    assert (row["calls"], row["docs"], first.asked) == (21, 7, [])
    assert row["prompt_tokens"] > 0


def test_a_number_of_candidates_gives_calls_without_tokens():
    pipeline = FirstStage(5) >> Rerank(SlidingWindow(20, 10), Prompted(ListPrompt(), Countable()))
    row = only(pipeline, topics(1000), candidates=100, price=(1.0, 1.0))
    assert (row["calls"], row["rounds"], row["exact"]) == (9000, 9, True)
    assert np.isnan(row["prompt_tokens"]) and np.isnan(row["money"])


def test_queries_without_candidates_cost_nothing():
    row = only(Rerank(Pointwise(), PerfectScorer()), topics(6), candidates=candidates(queries=3))
    assert (row["calls"], row["docs"]) == (36, 6)


# -- seconds and money ------------------------------------------------------------------------------------------------


def test_money_follows_the_price_of_each_kind_of_token():
    reranker = Rerank(OneShot(), Prompted(ListPrompt(), Countable()))
    row = only(reranker, passages(), price=(2.0, 10.0))
    assert row["money"] == pytest.approx((2 * row["prompt_tokens"] + 10 * row["output_tokens"]) / 1e6)
    assert row["money_at_most"] == row["money"]


def test_money_is_bounded_where_calls_are():
    reranker = Rerank(Heapsort(2), pairs(Countable()))
    row = only(reranker, passages(), price=(2.0, 10.0))
    more = row["calls_at_most"] / row["calls"]
    assert more > 1
    assert row["money_at_most"] == pytest.approx(more * row["money"])


def test_seconds_follow_the_speed():
    reranker = Rerank(OneShot(), Prompted(ListPrompt(), Countable()))
    row = only(reranker, passages(), speed=100.0)
    assert row["seconds"] == pytest.approx((row["prompt_tokens"] + row["output_tokens"]) / 100)
    row = only(reranker, passages(), speed=(1000.0, 10.0))
    assert row["seconds"] == pytest.approx(row["prompt_tokens"] / 1000 + row["output_tokens"] / 10)


def earlier(**usage):
    ledger = Ledger()
    ledger.open(["1"])
    ledger.add_round([("1", Usage(**usage))], seconds=5.0)
    return ledger


def test_an_earlier_run_tells_how_long_answers_are_and_how_fast():
    reranker = Rerank(Pointwise(), Reasoned(YesNo(), Countable(), max_tokens=500))
    before = earlier(calls=10, prompt_tokens=1000, cached_tokens=250, output_tokens=300)
    row = only(reranker, passages(), earlier=before, price=(4.0, 8.0, 1.0))
    assert row["output_tokens"] == 72 * 30
    assert row["cached_tokens"] == row["prompt_tokens"] / 4
    assert row["seconds"] == pytest.approx(5.0 * (row["prompt_tokens"] + row["output_tokens"]) / 1300)
    assert row["money"] == pytest.approx((3.25 * row["prompt_tokens"] + 8 * row["output_tokens"]) / 1e6)
    assert row["money_at_most"] > row["money"]  # an answer may be longer than those before


def test_an_earlier_run_tells_what_an_unknown_scorer_reads():
    row = only(Rerank(Pointwise(), PerfectScorer()), candidates(), earlier=earlier(calls=10, prompt_tokens=70))
    assert (row["prompt_tokens"], row["seconds"], row["counted"]) == (36 * 7, 36 * 7 * 5 / 70, "earlier run")
    row = only(Rerank(Pointwise(), PerfectScorer()), candidates(), earlier=earlier(calls=10))
    assert row["seconds"] == 36 / 10 * 5


def test_a_reranker_plans_a_long_run_from_a_short_one():
    reranker, frame = Rerank(OneShot(), Prompted(ListPrompt(), Countable())), passages(6)
    reranker(frame[frame["qid"].isin(["q0", "q1"])])
    spent = reranker.ledger.total
    row = only(reranker, frame, earlier=reranker.ledger)
    assert row["output_tokens"] == 3 * spent.usage.output_tokens
    assert row["seconds"] == pytest.approx(3 * spent.seconds, rel=0.5)  # the other texts are a little longer


def test_each_reranker_may_have_a_price_of_its_own():
    one = Rerank(Pointwise(), Prompted(YesNo(), Countable()))
    two = Rerank(OneShot(), Prompted(ListPrompt(), Countable()))
    table = plan(one >> two, passages(), price=[(0.0, 0.0), (1.0, 0.0)], speed=[10.0, None])
    assert table["money"].tolist()[:2] == [0.0, table["prompt_tokens"].iloc[1] / 1e6]
    assert table["money"].iloc[2] == table["money"].iloc[1]
    assert np.isnan(table["seconds"].iloc[1:]).all()  # of the second it is not known, so neither is the sum


# -- bad input --------------------------------------------------------------------------------------------------------


def test_a_pipeline_without_rerankers_is_said():
    with pytest.raises(ConfigurationError, match="no reranker"):
        plan(FirstStage(), topics())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queries": 0}, "queries must be at least 1"),
        ({"questions": 0}, "questions must be at least 1"),
        ({"candidates": 0}, "candidates must be at least 1"),
        ({"answer_tokens": 0}, "answer_tokens must be at least 1"),
        ({"price": 3.0}, r"price must be \(prompt, output\)"),
        ({"price": (-1.0, 0.0)}, "none below 0"),
        ({"price": [(1.0, 2.0)] * 3}, "price lists 3 values for 1 reranker"),
        ({"speed": 0.0}, "above 0"),
        ({"speed": (5.0, -1.0)}, "above 0"),
        ({"earlier": Ledger()}, "earlier= holds no run"),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_said(options, message):
    with pytest.raises(ConfigurationError, match=message):
        plan(Rerank(Pointwise(), PerfectScorer()), candidates(), **options)


def test_topics_and_candidates_need_their_columns():
    reranker = Rerank(Pointwise(), PerfectScorer())
    with pytest.raises(InputError, match="qid and query"):
        plan(reranker, pd.DataFrame({"query": ["x"]}))
    with pytest.raises(InputError, match="candidates need the column qid"):
        plan(reranker, topics(), candidates=pd.DataFrame({"docno": ["d"]}))
    with pytest.raises(InputError, match="no qid of the topics"):
        plan(reranker, topics(), candidates=candidates().assign(qid="other"))


def test_no_topics_cost_nothing():
    reranker = Rerank(Heapsort(2), pairs(Countable()))
    table = plan(reranker, candidates().iloc[:0], price=(1.0, 1.0))
    assert table["calls"].tolist() == table["money"].tolist() == [0, 0]


def test_choices_are_enough_for_a_strategy_that_needs_no_more():
    @dataclass(frozen=True)
    class Chooser(UnreachableScorer):
        gives: Evidence = Evidence.CHOICE

    assert only(Rerank(Heapsort(4), Chooser(max_docs=4), top_k=10), candidates(n=30))["calls"] > 30
