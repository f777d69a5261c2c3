"""``Rerank`` as PyTerrier sees it (specs of the plugin contract)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from fake_models import HashModel
from fakes import FirstBiasedScorer, PerfectScorer, SilentScorer, UnreachableScorer

from pyterrier_llmrank.aggregates import additive
from pyterrier_llmrank.core import Answer, Evidence, Message, Prompt, Usage, descending, from_order
from pyterrier_llmrank.costs import costs
from pyterrier_llmrank.cutoff import FirstCandidates
from pyterrier_llmrank.designs import all_pairs
from pyterrier_llmrank.errors import (
    ConfigurationError,
    InputError,
    LLMRankWarning,
    PromptTooLong,
    ScoringError,
    ServerError,
)
from pyterrier_llmrank.frames import RAW_SCORE
from pyterrier_llmrank.ledger import COLUMNS
from pyterrier_llmrank.middleware import Budgeted, Cached
from pyterrier_llmrank.mini import MiniCollection, first_stage
from pyterrier_llmrank.prompts import YesNo
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import Prompted
from pyterrier_llmrank.strategies import Heapsort, OneShot, Pointwise, Sampled, SlidingWindow

STRATEGIES = [OneShot(), Pointwise(), SlidingWindow(4, 2), Heapsort(2), Heapsort(4), Sampled(all_pairs, additive)]
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)


def candidates(queries=3, n=12, seed=0):
    """A first stage's result; a document's text is its relevance, for PerfectScorer to read."""
    random = np.random.default_rng(seed)
    rows = [
        {
            "qid": f"q{q}",
            "query": f"query {q}",
            "docno": f"d{q}-{i:02}",
            "text": str(value),
            "score": 50.0 - i,
            "rank": i,
        }
        for q in range(queries)
        for i, value in enumerate(random.permutation(n))
    ]
    return pd.DataFrame(rows)


def docnos(frame, qid="q0"):
    return frame[frame.qid == qid].sort_values("rank")["docno"].tolist()


def ideal(frame, qid="q0"):
    own = frame[frame.qid == qid]
    return own.assign(relevance=own.text.astype(float)).sort_values("relevance", ascending=False)["docno"].tolist()


# --- what comes out -------------------------------------------------------------------------------------------------


@each_strategy
def test_every_row_and_column_comes_back_in_the_new_order(strategy):
    frame = candidates().assign(extra="kept")
    out = Rerank(strategy, PerfectScorer())(frame)
    assert set(out.columns) == {*frame.columns, RAW_SCORE}
    assert (out["extra"] == "kept").all() and len(out) == len(frame)
    assert out["qid"].drop_duplicates().tolist() == ["q0", "q1", "q2"]
    if not isinstance(strategy, SlidingWindow):  # which settles two documents here
        assert docnos(out) == ideal(frame)
    assert docnos(out)[:2] == ideal(frame)[:2]


@each_strategy
def test_scores_are_finite_and_strictly_decreasing_in_float32(strategy):
    out = Rerank(strategy, PerfectScorer(), depth=7)(candidates())
    for _, group in out.groupby("qid", sort=False):
        scores = group["score"].to_numpy(dtype=np.float32)
        assert np.isfinite(scores).all() and (np.diff(scores) < 0).all()
        assert group["rank"].tolist() == list(range(len(group)))
    assert out["score"].dtype == np.float64 and out["rank"].dtype == np.int64


def test_scores_that_collapse_in_float32_are_kept_apart():
    frame = candidates(1, 4).assign(text=["1.0", "1.000000001", "16777217", "16777216"])
    out = Rerank(Pointwise(), PerfectScorer())(frame)
    assert out["text"].tolist() == ["16777217", "16777216", "1.000000001", "1.0"]
    assert out["score"].astype("float32").nunique() == 4
    assert out[RAW_SCORE].tolist() == [16777217.0, 16777216.0, 1.000000001, 1.0]


def test_infinite_scores_become_finite_ones():
    frame = candidates(1, 3).assign(text=["-inf", "inf", "0"])
    out = Rerank(Pointwise(), PerfectScorer())(frame)
    assert out["text"].tolist() == ["inf", "0", "-inf"] and np.isfinite(out["score"].astype("float32")).all()


def test_raw_scores_are_the_scorers_own():
    out = Rerank(Pointwise(), PerfectScorer(), depth=5)(candidates(1))
    head, tail = out[:5], out[5:]
    assert head[RAW_SCORE].tolist() == head["text"].astype(float).tolist() == head["score"].tolist()
    assert tail[RAW_SCORE].isna().all()


def test_input_frame_is_never_changed():
    frame = candidates()
    frame.index = [7] * len(frame)
    before = frame.copy(deep=True)
    Rerank(SlidingWindow(4, 2), PerfectScorer())(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_unreranked_tail_stays_below_in_its_order():
    frame = candidates(1)
    scorer = PerfectScorer()
    out = Rerank(Pointwise(), scorer, depth=5)(frame)
    assert docnos(out)[:5] == ideal(frame[:5]) and docnos(out)[5:] == docnos(frame)[5:]
    assert scorer.calls == 5


def test_num_results_cuts_rows_of_each_query():
    out = Rerank(Pointwise(), PerfectScorer(), num_results=3)(candidates())
    assert out.groupby("qid").size().tolist() == [3, 3, 3] and out["rank"].max() == 2


def test_top_k_settles_that_many_with_fewer_calls():
    frame, cheap, whole = candidates(1, 40), PerfectScorer(), PerfectScorer()
    out = Rerank(Heapsort(2), cheap, top_k=5)(frame)
    Rerank(Heapsort(2), whole)(frame)
    assert docnos(out)[:5] == ideal(frame)[:5] and len(out) == 40
    assert cheap.calls < whole.calls


# --- what goes in ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropped", [["rank"], ["score"], ["rank", "score"]], ids=str)
def test_rank_and_score_may_be_missing(dropped):
    frame = candidates(2)
    out = Rerank(SlidingWindow(4, 2), FirstBiasedScorer())(frame.drop(columns=dropped))
    assert out["docno"].tolist() == frame["docno"].tolist()


def test_candidates_go_by_rank_then_score_then_row():
    frame = candidates(1, 3)
    keep = Rerank(SlidingWindow(4, 2), FirstBiasedScorer())
    assert docnos(keep(frame.assign(rank=[2, 0, 1]))) == ["d0-01", "d0-02", "d0-00"]
    assert docnos(keep(frame.drop(columns="rank").assign(score=[1.0, 3.0, 2.0]))) == ["d0-01", "d0-02", "d0-00"]
    assert docnos(keep(frame.assign(rank=np.nan, score=[1.0, 3.0, 2.0]))) == ["d0-01", "d0-02", "d0-00"]


def test_rows_of_a_query_need_not_be_together():
    frame = candidates(3).sample(frac=1, random_state=1)
    out = Rerank(Pointwise(), PerfectScorer())(frame)
    assert out["qid"].drop_duplicates().tolist() == frame["qid"].drop_duplicates().tolist()
    assert all(docnos(out, qid) == ideal(frame, qid) for qid in ["q0", "q1", "q2"])


def test_numeric_query_ids_keep_their_order_and_type():
    frame = candidates(3)
    frame["qid"] = frame["qid"].map({"q0": 10, "q1": 2, "q2": 9})
    reranker = Rerank(Pointwise(), PerfectScorer())
    assert reranker(frame)["qid"].drop_duplicates().tolist() == [10, 2, 9]
    assert list(reranker.ledger) == ["10", "2", "9"]


def test_query_text_may_stand_on_one_row_only():
    frame = candidates(2)
    frame.loc[frame["rank"] != 3, "query"] = np.nan
    scorer = PerfectScorer()
    Rerank(Pointwise(), scorer)(frame)
    assert {question.query for question in scorer.rounds[0]} == {"query 0", "query 1"}


def test_a_query_without_text_is_named():
    frame = candidates(2)
    frame.loc[frame.qid == "q1", "query"] = None
    with pytest.raises(InputError, match=r"query 'q1' has no text in the column 'query'.*join the topics"):
        Rerank(Pointwise(), PerfectScorer())(frame)


def test_rows_without_qid_are_refused():
    frame = candidates(2)
    frame.loc[3, "qid"] = None
    with pytest.raises(InputError, match="1 of 24 rows have no qid"):
        Rerank(Pointwise(), PerfectScorer())(frame)


@pytest.mark.parametrize("column", ["rank", "score"])
def test_ranks_that_are_no_numbers_are_refused(column):
    frame = candidates(1, 3).drop(columns="rank").assign(**{column: ["1", "a", "2"]})
    with pytest.raises(InputError, match=rf"'{column}' holds something else than numbers \(.*'a'.*\); mend or drop it"):
        Rerank(Pointwise(), PerfectScorer())(frame)


@pytest.mark.parametrize("column", ["qid", "query", "docno", "text", "score", "rank"])
def test_a_column_that_comes_twice_is_named(column):
    frame = candidates(1, 3).assign(extra=1)
    frame = pd.concat([frame, frame[[column, "extra"]]], axis=1)
    with pytest.raises(InputError, match=rf"^'{column}' comes more than once .*; drop or rename"):
        Rerank(Pointwise(), PerfectScorer())(frame)


def test_a_ledger_joins_a_frame_whose_qids_are_numbers_as_text():
    frame = candidates(2, 3).assign(qid=[7] * 3 + [8] * 3)
    reranker = Rerank(Pointwise(), PerfectScorer())
    out = reranker(frame)
    joined = out.assign(qid=out["qid"].astype(str)).merge(reranker.ledger.frame(), on="qid")
    assert joined["calls"].tolist() == [3] * 6


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
@pytest.mark.parametrize("kind", [object, "category"])
def test_missing_texts_are_empty_and_said_once(missing, kind):
    frame = candidates(1)
    frame["text"] = frame["text"].astype(object)
    frame.loc[[1, 4], "text"] = missing
    frame["text"] = frame["text"].astype(kind)
    with pytest.warns(LLMRankWarning, match="2 of 12 documents have no 'text'") as caught:
        out = Rerank(SlidingWindow(4, 2), FirstBiasedScorer())(frame)
    assert len(caught) == 1 and out["docno"].tolist() == frame["docno"].tolist()


def test_duplicate_docnos_are_rows_of_their_own():
    frame = candidates(1, 6).assign(docno=["a", "b", "a", "c", "a", "b"])
    out = Rerank(Heapsort(2), PerfectScorer())(frame)
    assert out["text"].astype(float).is_monotonic_decreasing and sorted(out["docno"]) == sorted(frame["docno"])


def test_nan_everywhere_keeps_the_order():
    frame = candidates(1).assign(rank=np.nan, score=np.nan)
    with pytest.warns(LLMRankWarning, match=r"12 of 12 answers to Rerank could not be read \(100.0%\)"):
        out = Rerank(Pointwise(), SilentScorer())(frame)
    assert out["docno"].tolist() == frame["docno"].tolist()


def test_one_document_is_ranked_first():
    out = Rerank(SlidingWindow(4, 2), UnreachableScorer())(candidates(1, 1))
    assert out["rank"].tolist() == [0] and len(out) == 1


def test_own_text_field_is_read():
    frame = candidates(1).rename(columns={"text": "body"})
    assert docnos(Rerank(Pointwise(), PerfectScorer(), text_field="body")(frame))


def test_a_missing_text_column_is_named_with_its_remedy():
    with pytest.raises(pt.validate.InputValidationError, match=r"column 'text'.*pt\.text\.get_text"):
        Rerank(Pointwise(), PerfectScorer())(candidates().drop(columns="text"))


def test_a_missing_query_column_is_named():
    with pytest.raises(pt.validate.InputValidationError, match="query"):
        Rerank(Pointwise(), PerfectScorer())(candidates().drop(columns="query"))


def test_records_go_in_and_out_too():
    reranker = Rerank(Pointwise(), PerfectScorer())
    records = candidates(1).to_dict(orient="records")
    assert [row["docno"] for row in reranker(records)] == ideal(candidates(1))
    assert reranker([]) == []


def test_ranking_twice_in_a_pipeline_works():
    pipeline = Rerank(Pointwise(), PerfectScorer()) >> Rerank(SlidingWindow(4, 2), FirstBiasedScorer())
    assert docnos(pipeline(candidates(1))) == ideal(candidates(1))


# --- the empty path and inspection ----------------------------------------------------------------------------------

COLUMN_SETS = [
    ["qid", "query", "docno", "text"],
    ["qid", "query", "docno", "text", "score", "rank"],
    ["qid", "docno", "text", "extra", "score", "query", RAW_SCORE],
]


@pytest.mark.parametrize("columns", COLUMN_SETS, ids=str)
def test_inspected_columns_equal_real_ones(columns):
    frame = candidates(2).assign(extra=1, **{RAW_SCORE: 0.5})[columns]
    reranker = Rerank(SlidingWindow(4, 2), FirstBiasedScorer())
    assert pt.inspect.transformer_outputs(reranker, columns) == reranker(frame).columns.tolist()


class NeedsLoading(UnreachableScorer):
    def load(self):
        raise AssertionError("an empty frame needs no model")


def test_an_empty_frame_loads_no_model_and_has_the_right_types():
    empty = candidates()[:0]
    out = Rerank(Pointwise(), NeedsLoading(), verbose=True)(empty)
    assert len(out) == 0 and out["score"].dtype == np.float64 and out["rank"].dtype == np.int64


def test_inputs_are_known_without_running():
    assert pt.inspect.transformer_inputs(Rerank(Pointwise(), NeedsLoading(), text_field="body")) == [
        ["qid", "query", "docno", "body"]
    ]


def test_attributes_are_the_arguments_it_was_built_with():
    attributes = pt.inspect.transformer_attributes(Rerank(Pointwise(), PerfectScorer(), depth=5))
    assert {a.name: a.value for a in attributes}["depth"] == 5
    again = pt.inspect.transformer_apply_attributes(Rerank(Pointwise(), PerfectScorer()), strategy=OneShot(), depth=3)
    assert again == Rerank(OneShot(), PerfectScorer(), depth=3)


def test_schematic_draws_offline_and_tells_the_settings(monkeypatch):
    monkeypatch.setattr(pt.documentation, "_cached_objects_inv", {})
    reranker = Rerank(SlidingWindow(4, 2), PerfectScorer(), depth=5)
    told = pt.schematic.transformer_schematic(reranker, input_columns=COLUMN_SETS[1])
    assert told["settings"] == {"strategy": repr(SlidingWindow(4, 2)), "scorer": repr(PerfectScorer()), "depth": "5"}
    assert len(told["label"]) <= 20
    assert "Rerank" in pt.schematic.draw(pt.Transformer.from_df(candidates()) >> reranker)


class TestPyTerriersOwnSuite(pt.testing.transformer_test_class(lambda: Rerank(Pointwise(), PerfectScorer()))):
    @pytest.fixture(autouse=True)
    def quiet(self, monkeypatch):
        monkeypatch.setenv("PT_TEST_TRANSFORMER_REPORTS", "0")

    @classmethod
    def tearDownClass(cls):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            super().tearDownClass()


def test_repr_rebuilds_an_equal_transformer():
    reranker = Rerank(SlidingWindow(4, 2), PerfectScorer(Evidence.ORDER, 4), top_k=3, text_field="body")
    again = eval(repr(reranker), globals().copy())
    assert again == reranker and hash(again) == hash(reranker) and len({again, reranker}) == 1
    assert again != Rerank(SlidingWindow(4, 2), PerfectScorer(Evidence.ORDER, 4))
    assert reranker != "Rerank"


# --- cutoffs --------------------------------------------------------------------------------------------------------


@each_strategy
@pytest.mark.parametrize("k", [1, 3, 10])
def test_a_fused_cutoff_gives_the_same_rows(strategy, k):
    frame = candidates(3, 30)
    source = pt.Transformer.from_df(frame)
    topics = frame[["qid", "query"]].drop_duplicates()
    pipeline = (source >> Rerank(strategy, PerfectScorer())) % k
    fused = pipeline.compile()
    assert "RankCutoff" not in repr(fused)
    whole, cut = pipeline(topics), fused(topics)
    for qid in ["q0", "q1", "q2"]:
        assert docnos(cut, qid) == docnos(whole, qid)


def test_a_fused_cutoff_asks_less():
    frame = candidates(2, 50)
    topics = frame[["qid", "query"]].drop_duplicates()
    whole, cut = Rerank(Heapsort(2), PerfectScorer()), Rerank(Heapsort(2), PerfectScorer())
    (pt.Transformer.from_df(frame) >> whole)(topics)
    fused = (pt.Transformer.from_df(frame) >> cut % 10).compile()
    fused(topics)
    assert sum(e.usage.calls for e in fused[-1].ledger.values()) < 0.6 * whole.ledger.total.usage.calls


def test_fusing_shares_the_scorer_but_not_the_ledger():
    reranker = Rerank(Heapsort(2), PerfectScorer())
    clone = reranker.fuse_rank_cutoff(5)
    assert clone.scorer is reranker.scorer and clone.ledger is not reranker.ledger
    assert clone.num_results == 5 and reranker.num_results is None


def test_a_stricter_cutoff_stays():
    reranker = Rerank(Heapsort(2), PerfectScorer(), num_results=3)
    assert reranker.fuse_rank_cutoff(5) is reranker
    assert reranker.fuse_rank_cutoff(2).num_results == 2


def test_a_cutoff_within_depth_reaches_the_first_stage():
    frame = candidates(2, 30)
    topics = frame[["qid", "query"]].drop_duplicates()
    pipeline = (pt.Transformer.from_df(frame) >> Rerank(SlidingWindow(4, 2), PerfectScorer(), depth=8)) % 5
    fused = pipeline.compile()
    assert "FirstCandidates(8)" in repr(fused) and "num_results=5" in repr(fused)
    pd.testing.assert_frame_equal(fused(topics), pipeline(topics))


def test_a_cutoff_within_depth_is_an_argument_of_a_retriever_and_passes_by_a_text_loader():
    pytest.importorskip("bm25s")
    pytest.importorskip("Stemmer")
    first, texts = first_stage(MiniCollection(), engine="bm25s"), MiniCollection().text_loader()
    reranker = Rerank(SlidingWindow(4, 2), FirstBiasedScorer(), depth=8)
    fused = ((first >> texts >> reranker) % 5).compile()
    assert list(fused)[:2] == [first.fuse_rank_cutoff(8), texts]
    assert list(((texts >> reranker) % 5).compile())[:2] == [FirstCandidates(8), texts]


@pytest.mark.parametrize("kind", ["from 1", "with gaps", "by score", "by row", "shuffled", "query on one row"])
def test_a_fused_cutoff_goes_by_the_order_of_candidates_whatever_their_ranks(kind):
    frame = candidates(3, 12)
    if kind == "from 1":
        frame = frame.assign(rank=frame["rank"] + 1)
    elif kind == "with gaps":
        frame = frame[frame["rank"] % 3 == 2]
    elif kind in ("by score", "by row"):
        frame = frame.drop(columns=["rank", "score"][: 1 if kind == "by score" else 2])
    elif kind == "shuffled":
        frame = frame.sample(frac=1, random_state=3)
    else:
        frame = frame.assign(query=frame["query"].where(frame["rank"] == 11))
    pipeline = Rerank(Pointwise(), PerfectScorer(), depth=4) % 3
    fused = pipeline.compile()
    assert "RankCutoff" not in repr(fused)
    pd.testing.assert_frame_equal(fused(frame), pipeline(frame))
    assert pt.inspect.transformer_outputs(fused, list(frame)) == fused(frame).columns.tolist()


def test_a_cutoff_beyond_depth_stays_behind():
    fused = Rerank(Pointwise(), PerfectScorer(), depth=8).fuse_rank_cutoff(9)
    assert isinstance(fused, Rerank) and fused.num_results == 9
    assert len(fused(candidates(1, 30))) == 9


# --- experiments ----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:There are shared pipeline components")
@pytest.mark.parametrize("plan", ["linear", "tree"])
def test_experiment_runs_under_both_plans(plan):
    frame = candidates(3, 10)
    topics = frame[["qid", "query"]].drop_duplicates()
    qrels = frame.assign(label=(frame.text.astype(int) >= 8).astype(int))[["qid", "docno", "label"]]
    source = pt.Transformer.from_df(frame)
    good, bad = Rerank(Pointwise(), PerfectScorer()), Rerank(SlidingWindow(4, 2), FirstBiasedScorer())
    table = pt.Experiment(
        {"first": source, "good": source >> good, "same": source >> bad, "both": source >> bad >> good},
        topics,
        qrels,
        [pt.measures.nDCG @ 10],
        plan=plan,
    ).set_index("name")["nDCG@10"]
    assert table["good"] == table["both"] == 1.0 and table["same"] == table["first"] < 1.0


def test_costs_join_the_experiments_table():
    frame = candidates(3, 10)
    topics, source = frame[["qid", "query"]].drop_duplicates(), pt.Transformer.from_df(frame)
    systems = {"first": source, "windows": source >> Rerank(SlidingWindow(4, 2), PerfectScorer(Evidence.ORDER))}
    qrels = frame.assign(label=1)[["qid", "docno", "label"]]
    table = pt.Experiment(systems, topics, qrels, [pt.measures.nDCG @ 10], plan="tree").merge(costs(systems), on="name")
    assert table["calls"].tolist() == [0.0, 4.0] and table["rounds"].tolist() == [0.0, 4.0]
    assert table["prompt_tokens"].tolist() == [0.0, 160.0]
    assert list(table.columns) == ["name", "nDCG@10", *COLUMNS]


def test_costs_of_several_rerankers_add_up_over_the_queries_of_each():
    first, second = Rerank(Pointwise(), PerfectScorer()), Rerank(Pointwise(), PerfectScorer())
    first(candidates(3, 10))
    second(candidates(1, 4))  # a later stage that got nothing to rerank for two of the queries
    [row] = costs({"both": first >> second}).to_dict(orient="records")
    assert row["calls"] == (10 + 10 + 14) / 3 and row["rounds"] == (1 + 1 + 2) / 3


def evaluate(systems, frame, **plan):
    """Runs an experiment, and returns what each system cost."""
    topics, qrels = frame[["qid", "query"]].drop_duplicates(), frame.assign(label=1)[["qid", "docno", "label"]]
    pt.Experiment(systems, topics, qrels, [pt.measures.nDCG @ 10], **plan)
    return costs(systems).set_index("name")["calls"].to_dict()


@pytest.mark.filterwarnings("ignore:There are shared pipeline components", "ignore:precompute_prefix")
@pytest.mark.parametrize("plan", [{"plan": "tree"}, {"precompute_prefix": True}, {}], ids=str)
def test_costs_count_a_run_for_every_pipeline_that_it_was_part_of(plan):
    def reranker(**told):
        return Rerank(Pointwise(), PerfectScorer(), **told)

    frame = candidates(3, 10)
    source = pt.Transformer.from_df(frame)
    alone = reranker()
    alone(candidates(1, 4))  # tried by itself before
    systems = {
        "whole": source >> reranker(),
        "cut": source >> alone % 3,
        "two": source >> reranker() >> reranker(top_k=2),
    }
    assert evaluate(systems, frame, **plan) == {"whole": 10.0, "cut": 10.0, "two": 20.0}


@pytest.mark.filterwarnings("ignore:There are shared pipeline components")
def test_costs_of_equal_rerankers_that_all_ran_are_their_own():
    answered = set()

    class Remembering(PerfectScorer):
        def __call__(self, questions):
            usages = [Usage(int((q.qid, q.docs) not in answered)) for q in questions]
            answered.update((q.qid, q.docs) for q in questions)
            return [a._replace(usage=u) for a, u in zip(super().__call__(questions), usages, strict=True)]

    frame, scorer = candidates(3, 10), Remembering()
    source = pt.Transformer.from_df(frame)
    systems = {name: source >> Rerank(Pointwise(), scorer) for name in "ab"}
    assert evaluate(systems, frame) == {"a": 10.0, "b": 0.0}


def test_costs_of_an_equal_reranker_after_other_stages_are_not_taken_for_ones_own():
    frame = candidates(3, 10)
    source, few = pt.Transformer.from_df(frame), pt.Transformer.from_df(frame[frame["rank"] < 4])
    systems = {
        "all": source >> Rerank(Pointwise(), PerfectScorer()),
        "few": few >> Rerank(Pointwise(), PerfectScorer()),
    }
    systems["all"](frame[["qid", "query"]].drop_duplicates())
    assert costs(systems).set_index("name")["calls"].to_dict() == {"all": 10.0, "few": 0.0}


def test_one_reranker_object_at_different_places_is_warned_about():
    frame, reranker = candidates(3, 10), Rerank(Pointwise(), PerfectScorer())
    source = pt.Transformer.from_df(frame)
    systems = {"few": source % 5 >> reranker, "all": source >> reranker, "cut": source >> reranker % 2}
    costs(systems)  # nothing was run, nothing is wrong
    with pytest.warns(LLMRankWarning, match=r"Rerank.* at 3 places, in 'few', 'all', 'cut'; .*Build a reranker for"):
        assert evaluate(systems, frame, plan="tree")["few"] == 10.0
    del systems["few"]
    assert evaluate(systems, frame, plan="tree") == {"all": 10.0, "cut": 10.0}


def test_ledger_joins_a_per_query_experiment():
    frame = candidates(3, 10)
    topics, source = frame[["qid", "query"]].drop_duplicates(), pt.Transformer.from_df(frame)
    reranker = Rerank(Pointwise(), PerfectScorer())
    qrels = frame.assign(label=1)[["qid", "docno", "label"]]
    results = pt.Experiment([source >> reranker], topics, qrels, [pt.measures.nDCG @ 10], perquery=True)
    joined = results.merge(reranker.ledger.frame(), on="qid")
    assert joined["calls"].tolist() == [10] * 3 and (joined["seconds"] >= 0).all()


def test_ledger_tells_the_latest_run_of_a_query():
    reranker = Rerank(Pointwise(), PerfectScorer())
    reranker(candidates(2, 10))
    reranker(candidates(1, 4))
    assert {qid: entry.usage.calls for qid, entry in reranker.ledger.items()} == {"q0": 4, "q1": 10}
    assert reranker.ledger.total.usage.calls == 24


# --- together, apart, and going wrong -------------------------------------------------------------------------------


@each_strategy
def test_queries_together_equal_queries_apart(strategy):
    frame = candidates(4, 15)
    reranker = Rerank(strategy, PerfectScorer())
    apart = pd.concat([reranker(frame[frame.qid == qid]) for qid in frame.qid.unique()], ignore_index=True)
    pd.testing.assert_frame_equal(reranker(frame), apart)


def test_a_round_of_all_queries_is_one_call_of_the_scorer():
    scorer = PerfectScorer(Evidence.ORDER)
    Rerank(SlidingWindow(4, 2), scorer)(candidates(5, 12))
    assert [len(asked) for asked in scorer.rounds] == [5] * 5


def test_a_failure_names_the_queries():
    with pytest.raises(ScoringError, match=r"Rerank failed on the queries q0, q1, q2: the server went away"):
        Rerank(Pointwise(), UnreachableScorer())(candidates(3))


def test_what_was_spent_before_a_failure_stays_booked():
    class Tiring(PerfectScorer):
        def __call__(self, questions):
            if len(self.rounds) == 2:
                raise ConnectionError("enough")
            return super().__call__(questions)

    reranker = Rerank(SlidingWindow(4, 2), Tiring(Evidence.ORDER))
    with pytest.raises(ScoringError):
        reranker(candidates(3, 12))
    assert reranker.ledger.total.usage.calls == 6


@pytest.mark.parametrize("kept", ["model", "scorer", "partial"])
def test_what_was_spent_within_a_round_that_failed_is_booked(tmp_path, kept):
    @dataclass
    class Breaking(HashModel):
        def choices(self, prompts, labels):
            error = ServerError("the server went away")
            error.partial = [*super().choices(prompts[:4], labels[:4]), *[None] * (len(prompts) - 4)]
            raise error

    if kept == "partial":
        scorer = Prompted(YesNo(), Breaking())
    elif kept == "scorer":
        scorer = Cached(Budgeted(Prompted(YesNo(), HashModel()), calls=5), tmp_path / "a.sqlite", chunk=2)
    else:
        scorer = Prompted(YesNo(), Cached(Budgeted(HashModel(), calls=5), tmp_path / "b.sqlite", chunk=2))
    reranker = Rerank(Pointwise(), scorer)
    with pytest.raises(ScoringError):
        reranker(candidates(3, 6))
    assert reranker.ledger.total.usage.calls == 4 and reranker.ledger.total.usage.prompt_tokens > 0
    assert reranker.ledger["q0"].usage.calls == 4


def test_of_prompts_it_is_not_known_whose_they_were():
    class Lost(PerfectScorer):
        def __call__(self, questions):
            error = ServerError("the server went away")
            error.partial = HashModel().choices([Prompt((Message("user", "a"),))] * 4, [("Yes", "No")] * 4)
            raise error

    reranker = Rerank(Pointwise(), Lost())
    with pytest.raises(ScoringError):
        reranker(candidates(3, 6))
    assert reranker.ledger.total.usage.calls == 4 and reranker.ledger["q0"].usage.calls == 0


def test_a_prompt_that_is_too_long_names_its_query():
    frame = candidates(9, 2)
    frame["query"] = frame["query"].mask(frame["qid"] == "q7", "why " * 2000)
    scorer = Prompted(YesNo(), HashModel(context=1000))
    with pytest.raises(ScoringError, match=r"Rerank failed on the query q7: .* leave no room"):
        Rerank(Pointwise(), scorer)(frame)


def test_where_it_is_not_known_whose_prompt_is_too_long_the_longest_query_is_named():
    class Short(PerfectScorer):
        def __call__(self, questions):
            raise PromptTooLong("a query leaves no room for a document")

    frame = candidates(9, 2)
    frame["query"] = frame["query"].mask(frame["qid"] == "q7", "why " * 2000)
    with pytest.raises(ScoringError, match=r"queries q0, .* and 4 more \(the longest query is that of q7\): a query"):
        Rerank(Pointwise(), Short())(frame)


def test_whatever_a_scorer_raises_names_it_and_the_queries():
    class Careless(PerfectScorer):
        def __call__(self, questions):
            return [{}["score"] for _ in questions]

    with pytest.raises(
        ScoringError, match=r"on the queries q0, q1: .*Careless.* raised KeyError: 'score'; mend"
    ) as caught:
        Rerank(Pointwise(), Careless())(candidates(2))
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (lambda questions: None, "gave None; return a list with an Answer for each question"),
        (lambda questions: [None for _ in questions], "gave None for a question of query q0; give an Answer with"),
        (lambda questions: [Answer(1.0) for _ in questions], r"gave Answer\(.* for a question of query q0; give an"),
    ],
    ids=["nothing", "no answers", "a number"],
)
def test_a_scorer_that_gives_something_else_is_named(given, told):
    class Odd(PerfectScorer):
        def __call__(self, questions):
            return given(questions)

    with pytest.raises(ScoringError, match=rf"Odd.* {told}"):
        Rerank(Pointwise(), Odd())(candidates(1))


@pytest.mark.parametrize("scores", [[1.0], [1.0, 2.0, 3.0]], ids=len)
def test_a_scorer_with_the_wrong_number_of_scores_is_named(scores):
    class Wrong(PerfectScorer):
        def __call__(self, questions):
            return [Answer(np.array(scores), Usage(1)) for _ in questions]

    with pytest.raises(ScoringError, match=rf"gave {len(scores)} scores for 2 documents of query q0"):
        Rerank(SlidingWindow(2, 1), Wrong())(candidates(1, 4))


def test_a_scorer_that_skips_a_question_is_named():
    class Lazy(PerfectScorer):
        def __call__(self, questions):
            return super().__call__(questions)[1:]

    with pytest.raises(ScoringError, match="gave 11 answers to 12 questions"):
        Rerank(Pointwise(), Lazy())(candidates(1))


def test_failures_are_warned_about_once_with_their_rate():
    class HalfSilent(PerfectScorer):
        def __call__(self, questions):
            answers = super().__call__(questions)
            return [
                SilentScorer()([q])[0] if i % 2 else a for i, (q, a) in enumerate(zip(questions, answers, strict=True))
            ]

    with pytest.warns(LLMRankWarning, match=r"18 of 36 answers .* \(50.0%\)") as caught:
        Rerank(Pointwise(), HalfSilent())(candidates(3))
    assert len(caught) == 1


def test_progress_counts_every_question(monkeypatch):
    moved = []

    class Bar:
        def __init__(self, total, **_):
            moved.append(total)

        def update(self, n):
            moved.append(n)

        def close(self):
            moved.append("closed")

    monkeypatch.setattr(pt, "tqdm", Bar)
    Rerank(Pointwise(), PerfectScorer(), verbose=True)(candidates(3, 50))
    assert moved == [150, 64, 64, 22, "closed"]


# --- pairing --------------------------------------------------------------------------------------------------------


def test_too_little_evidence_is_refused_with_what_would_work():
    with pytest.raises(
        ConfigurationError, match=r"Pointwise\(\) needs scores that hold .* \(ORDER\); use SlidingWindow"
    ):
        Rerank(Pointwise(), FirstBiasedScorer())
    with pytest.raises(ConfigurationError, match=r"SlidingWindow.* needs the order .* \(CHOICE\); use Heapsort"):
        Rerank(SlidingWindow(20, 10), FirstBiasedScorer(Evidence.CHOICE))


def test_a_bubble_of_best_documents_needs_only_the_best():
    assert Rerank(SlidingWindow(2, 1, passes=3), FirstBiasedScorer(Evidence.CHOICE))


def test_groups_larger_than_the_scorer_takes_are_refused():
    with pytest.raises(
        ConfigurationError, match=r"20 documents at once, but .* at most 5; use .*SlidingWindow\(5, 2\)"
    ):
        Rerank(SlidingWindow(20, 10), FirstBiasedScorer(max_docs=5))
    with pytest.raises(ConfigurationError, match="the whole list at once"):
        Rerank(OneShot(), FirstBiasedScorer(max_docs=5))
    assert Rerank(OneShot(), FirstBiasedScorer(max_docs=5), depth=5)


@pytest.mark.parametrize("name", ["top_k", "depth", "num_results"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(ConfigurationError, match=f"{name} must be at least 1"):
        Rerank(Pointwise(), PerfectScorer(), **{name: 0})


def test_what_is_no_strategy_or_scorer_is_refused():
    with pytest.raises(ConfigurationError, match="'sliding' is not a strategy: pass one such as"):
        Rerank("sliding", PerfectScorer())
    with pytest.raises(ConfigurationError, match="'gpt' is not a scorer: pass one such as"):
        Rerank(Pointwise(), "gpt")


def test_a_plain_generator_function_is_a_strategy():
    def last_first(n, k):
        [scores] = yield [tuple(reversed(range(n)))]
        return from_order(descending(list(reversed(range(n))), scores))

    reranker = Rerank(last_first, FirstBiasedScorer())
    frame = candidates(1, 5)
    assert docnos(reranker(frame)) == docnos(frame)[::-1]
    assert "last_first" in repr(reranker)


@pytest.mark.parametrize("count", [1, 20])
def test_a_plain_function_returning_too_few_or_many_scores_is_told_so(count):
    def some(n, k):
        yield [tuple(range(n))]
        return np.zeros(count)

    with pytest.raises(ConfigurationError, match=rf"some returned {count} scores for 12 documents"):
        Rerank(some, FirstBiasedScorer())(candidates(1))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ([(0, 12)], r"the group \(0, 12\) of 12 documents; .* from 0 to 11"),
        ([(0, -1)], r"the group \(0, -1\) of 12"),
        ([(3, 3)], r"the group \(3, 3\) of 12"),
        ([(0, 1), ()], r"the group \(\) of 12"),
        ((0, 1), r"\(0, 1\); a strategy yields lists of groups"),
        (None, "None; a strategy yields lists of groups"),
    ],
    ids=str,
)
@pytest.mark.parametrize("eager", [None, True])
def test_a_plain_function_asking_about_no_group_is_told_so(asked, told, eager):
    def odd(n, k):
        [scores] = yield asked
        return scores

    scorer = PerfectScorer()
    scorer.eager = True
    with pytest.raises(ConfigurationError, match=rf"odd asked (about )?{told}"):
        Rerank(odd, scorer, eager=eager)(candidates(2))
    assert not scorer.rounds


@pytest.mark.parametrize("result", [None, "scores", [[1.0] * 12], [None, {}]], ids=str)
def test_a_plain_function_returning_no_scores_is_told_so(result):
    def odd(n, k):
        yield [(0,)]
        return result

    with pytest.raises(ConfigurationError, match=r"odd returned .* for 12 documents; a strategy returns one score per"):
        Rerank(odd, PerfectScorer())(candidates(1))


def test_a_function_that_is_no_generator_is_told_so():
    with pytest.raises(ConfigurationError, match=r"lambda> returned array.* no generator; .* write `answers = yield"):
        Rerank(lambda n, k: np.zeros(n), PerfectScorer())(candidates(1))


def test_a_plain_function_asking_too_much_is_told_so():
    def everything(n, k):
        [scores] = yield [tuple(range(n))]
        return scores

    with pytest.raises(ConfigurationError, match="takes at most 3 documents, but the strategy asked about 12"):
        Rerank(everything, FirstBiasedScorer(max_docs=3))(candidates(1))
