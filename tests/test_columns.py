"""Columns of a frame reach the scorers that ask for them, and no others."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from fakes import PerfectScorer, UnreachableScorer

from pyterrier_llmrank import Cached, Ensemble, OneShot, Pointwise, Recorded, Rerank, plan
from pyterrier_llmrank.core import Answer, Doc, Evidence, Question
from pyterrier_llmrank.errors import InputError
from pyterrier_llmrank.fields import Vector
from pyterrier_llmrank.parts import reads


@dataclass(frozen=True)
class FieldScorer:
    """Scores a document by the sum of what one of its columns holds."""

    name: str
    gives: Evidence = Evidence.SCORE
    max_docs: int | None = None

    @property
    def reads(self):
        return (self.name,)

    def __call__(self, questions):
        return [Answer(np.array([self.value(doc) for doc in one.docs])) for one in questions]

    def value(self, doc):
        value = dict(doc.fields)[self.name]
        return float(value.values.sum()) if isinstance(value, Vector) else float(value)


def frame(**columns):
    rows = {"qid": ["1", "2", "1", "2"], "query": ["a", "b"] * 2, "docno": ["d1", "d2", "d3", "d4"]}
    return pd.DataFrame(rows | {"score": [1.0, 2.0, 3.0, 4.0]} | columns)


def raw(result):
    return dict(zip(result["docno"], result["llmrank_score"], strict=True))


def test_a_scorer_reads_the_text_unless_it_says_otherwise():
    assert reads(PerfectScorer()) == ("text",) and reads(FieldScorer("score")) == ("score",)
    assert reads(Ensemble((FieldScorer("score"), PerfectScorer(), FieldScorer("features")))) == (
        "score",
        "text",
        "features",
    )
    assert reads(Cached(FieldScorer("score"), "nowhere")) == ("score",)


def test_features_reach_the_scorer_without_any_text():
    features = [np.array([1.0, 5.0]), [0.5, 0.5], np.array([3, 4]), np.float32([9.5, 0.0])]
    out = Rerank(Pointwise(), FieldScorer("features"))(frame(features=features))
    assert raw(out) == {"d1": 6.0, "d2": 1.0, "d3": 7.0, "d4": 9.5}
    assert out["docno"].tolist() == ["d3", "d1", "d4", "d2"]


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # PyTerrier's own
def test_features_of_the_feature_union_are_read():
    union = pt.Transformer.from_df(frame()) >> (
        pt.apply.doc_score(lambda row: 2.0 * row["score"]) ** pt.apply.doc_score(lambda row: -row["score"])
    )
    out = (union >> Rerank(OneShot(), FieldScorer("features")))(frame()[["qid", "query"]].drop_duplicates())
    assert raw(out) == {"d1": 1.0, "d2": 2.0, "d3": 3.0, "d4": 4.0}


def test_the_score_is_the_first_stages_and_the_rank_the_place_among_the_candidates():
    scored = frame(rank=[7, 3, 2, 9])
    assert raw(Rerank(OneShot(), FieldScorer("score"))(scored)) == {"d1": 1.0, "d2": 2.0, "d3": 3.0, "d4": 4.0}
    assert raw(Rerank(OneShot(), FieldScorer("rank"))(scored)) == {"d3": 0.0, "d1": 1.0, "d2": 0.0, "d4": 1.0}
    assert raw(Rerank(OneShot(), FieldScorer("rank"))(frame())) == {"d3": 0.0, "d1": 1.0, "d4": 0.0, "d2": 1.0}


def test_a_missing_column_is_named_with_its_remedy():
    reranker = Rerank(OneShot(), FieldScorer("features"))
    with pytest.raises(pt.validate.InputValidationError, match=r"'features' \(make it with `>> \(a \*\* b\) >>`\)"):
        reranker(frame())
    with pytest.raises(pt.validate.InputValidationError, match=r"'price' \(a stage before must add it\)"):
        Rerank(OneShot(), FieldScorer("price"))(frame())
    with pytest.raises(pt.validate.InputValidationError, match=r"'score' \(it is that of the first stage"):
        Rerank(OneShot(), FieldScorer("score"))(frame().drop(columns="score"))


@pytest.mark.parametrize(
    "value, said",
    [({"a": 1}, "neither text nor numbers"), (["a", "b"], "neither"), (np.ones((2, 2)), r"the shape \(2, 2\)")],
)
def test_values_that_are_no_numbers_are_refused(value, said):
    with pytest.raises(InputError, match=f"'features' of document d3 .*{said}|'features' of document d3 is {said}"):
        Rerank(OneShot(), FieldScorer("features"))(frame(features=[[1.0], [1.0], value, [1.0]]))


def test_a_value_that_is_not_there_is_nan():
    out = Rerank(OneShot(), FieldScorer("price"))(frame(price=[1.0, None, pd.NA, np.nan]))
    assert np.isnan([raw(out)[docno] for docno in ("d2", "d3", "d4")]).all()


def test_the_columns_are_those_that_inspection_finds():
    reranker = Rerank(OneShot(), Ensemble((FieldScorer("features"), FieldScorer("score"))))
    assert pt.inspect.transformer_inputs(reranker) == [["qid", "query", "docno", "features", "score"]]
    empty = pd.DataFrame(columns=["qid", "query", "docno", "features", "score"])
    assert reranker(empty).columns.tolist() == ["qid", "query", "docno", "features", "llmrank_score", "score", "rank"]


def test_a_scorer_of_texts_is_given_no_fields():
    scorer = PerfectScorer()
    Rerank(OneShot(), scorer)(frame(text=list("1234"), features=[[1.0]] * 4))
    assert all(doc.fields == () for one in scorer.rounds[0] for doc in one.docs)


def test_the_frame_of_the_caller_cannot_be_written_through_a_field():
    mine = np.ones(2)
    value = Vector(mine)
    with pytest.raises(ValueError, match="read-only"):
        value.values[0] = 2.0
    assert mine.flags.writeable
    assert value == Vector(np.ones(2)) and hash(value) == hash(Vector(np.ones(2)))
    assert value != Vector(np.ones(2, dtype=np.float32)) and value != Vector(np.array([1.0, 2.0])) and value != 1.0


def test_a_cache_tells_documents_with_other_fields_apart(tmp_path):
    kept = frame(features=[[1.0, 2.0], [3.0], [4.0], [5.0]])
    scorer = FieldScorer("features")
    first = Rerank(OneShot(), Cached(scorer, tmp_path / "answers.sqlite"))(kept)
    cached = Cached(Unreachable("features"), tmp_path / "answers.sqlite")
    object.__setattr__(cached, "_told", Cached(scorer, tmp_path / "answers.sqlite")._told)
    pd.testing.assert_frame_equal(Rerank(OneShot(), cached)(kept), first)
    with pytest.raises(RuntimeError, match="went away"):
        Rerank(OneShot(), cached)(frame(features=[[1.0, 2.5], [3.0], [4.0], [5.0]]))


class Unreachable(FieldScorer):
    def __call__(self, questions):
        return UnreachableScorer()(questions)


def test_a_log_holds_the_fields_that_were_read(tmp_path):
    log = tmp_path / "log.jsonl"
    doc = Doc("d1", "", (("features", Vector(np.array([1.0, np.nan]))), ("title", "a"), ("price", 0.5)))
    Recorded(FieldScorer("price"), log)([Question("a", (doc,), "1")])
    assert json.loads(log.read_text())["fields"] == [{"features": [1.0, None], "title": "a", "price": 0.5}]


def test_a_pipeline_over_fields_can_be_planned():
    pipeline = pt.Transformer.from_df(frame(features=[[1.0]] * 4)) >> Rerank(OneShot(), FieldScorer("features"))
    told = plan(pipeline, frame()[["qid", "query"]].drop_duplicates())
    assert told["calls"].iloc[0] == 2
