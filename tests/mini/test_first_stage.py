"""BM25 in memory, and first stages over a collection."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pandas as pd
import pyterrier as pt
import pytest

from pyterrier_llmrank.mini import BM25, MiniCollection, first_stage

pytest.importorskip("bm25s")
pytest.importorskip("Stemmer")

DOCS = [
    {"docno": "d1", "text": "The cat sat on the mat."},
    {"docno": "d2", "text": "Cats chase mice, and cats sleep."},
    {"docno": "d3", "text": "A train leaves the station."},
    {"docno": "d4", "text": "The cat sat on the mat."},
    {"docno": "d5", "text": ""},
]
COLUMNS = ["qid", "query", "docno", "text", "score", "rank"]
COLLECTION = MiniCollection()
ENGINES = ["bm25s", "pisa"]


@pytest.fixture(scope="module")
def bm25():
    return BM25(DOCS)


@pytest.fixture(scope="module", params=ENGINES)
def retrieve(request):
    if request.param == "pisa":
        pytest.importorskip("pyterrier_pisa")
    return first_stage(COLLECTION, engine=request.param)


def queries(*texts):
    return pd.DataFrame({"qid": [str(n) for n in range(len(texts))], "query": list(texts)})


def test_best_match_comes_first_and_strangers_do_not_come(bm25):
    out = bm25.search("sleeping cats")
    assert list(out.columns) == COLUMNS
    assert out["docno"].tolist() == ["d2", "d4", "d1"]  # equals by docno, the last first, as they are evaluated
    assert out["rank"].tolist() == [0, 1, 2]
    assert out["score"].is_monotonic_decreasing and (out["score"] > 0).all()
    assert out["text"].tolist() == [DOCS[1]["text"], DOCS[0]["text"], DOCS[0]["text"]]


def test_equal_scores_keep_the_order_of_documents():
    assert BM25(DOCS[::-1]).search("mat")["docno"].tolist() == ["d4", "d1"]


def test_results_follow_the_rows_of_queries_and_keep_other_columns(bm25):
    frame = pd.DataFrame({"qid": ["10", "2", "9"], "query": ["train", "mouse cat", "train"], "lang": "en"}, [3, 3, 1])
    before = frame.copy(deep=True)
    out = bm25(frame)
    pd.testing.assert_frame_equal(frame, before)
    assert list(out.columns) == ["qid", "query", "lang", "docno", "text", "score", "rank"]
    assert out["qid"].tolist() == ["10", "2", "2", "2", "9"]
    assert out["rank"].tolist() == [0, 0, 1, 2, 0]
    assert out.index.tolist() == list(range(5))


@pytest.mark.parametrize("texts", [[], [""], ["the of and"], ["zebra"], [None], [float("nan"), "zebra"]])
def test_queries_without_a_match_give_no_rows_but_the_same_frame(bm25, texts):
    out, real = bm25(queries(*texts)), bm25.search("cat")
    assert len(out) == 0
    assert list(out.columns) == COLUMNS
    assert out[["docno", "text", "score", "rank"]].dtypes.equals(real[["docno", "text", "score", "rank"]].dtypes)


def test_a_query_without_a_match_takes_nothing_from_its_neighbours(bm25):
    assert bm25(queries("zebra", "train", "the"))["qid"].tolist() == ["1"]


def test_missing_columns_are_named(bm25):
    with pytest.raises(pt.validate.InputValidationError, match="query"):
        bm25(pd.DataFrame({"qid": ["1"]}))


def test_rows_in_rows_out(bm25):
    assert list(bm25.transform_iter([])) == []
    assert [row["docno"] for row in bm25.transform_iter([{"qid": "1", "query": "train"}])] == ["d3"]


def test_a_cutoff_becomes_an_argument_and_shares_the_index(bm25):
    fused = (bm25 % 2).compile()
    assert isinstance(fused, BM25) and fused.num_results == 2
    assert fused._index is bm25._index and bm25.num_results == 100
    pd.testing.assert_frame_equal(fused.search("cat"), (bm25 % 2).search("cat"))
    assert fused.fuse_rank_cutoff(3) is fused


def test_equality_is_of_documents_and_parameters(bm25):
    assert bm25 == BM25(DOCS) and hash(bm25) == hash(BM25(DOCS))
    assert bm25 != BM25(DOCS[:4]) and bm25 != BM25(DOCS, k1=1.2) and bm25 != bm25.fuse_rank_cutoff(3)
    assert repr(bm25) == "BM25(<5 documents>, num_results=100, k1=0.9, b=0.4)"


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="num_results must be at least 1, got 0"):
        BM25(DOCS, num_results=0)
    with pytest.raises(ValueError, match="'d1' comes twice"):
        BM25([*DOCS, DOCS[0]])
    for docs in ([], [{"docno": "d1", "text": "of the"}]):
        with pytest.raises(ValueError, match="no word to index"):
            BM25(docs)


@pytest.mark.parametrize("library", ["bm25s", "Stemmer"])
def test_a_missing_library_ends_with_its_install(monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=r"pip install 'pyterrier-llmrank\[demo\]'$"):
        BM25(DOCS)


def test_it_draws_without_network_and_without_its_documents(bm25):
    drawn = str(pt.schematic.draw(bm25))
    assert "BM25" in drawn and "num_results" in drawn and "mat." not in drawn


def test_inspected_columns_are_the_real_ones(retrieve):
    topics = COLLECTION.get_topics()
    assert pt.inspect.transformer_outputs(retrieve, ["qid", "query"]) == list(retrieve(topics).columns)
    assert ["qid", "query"] in pt.inspect.transformer_inputs(retrieve)
    assert set(retrieve(topics).columns) == set(COLUMNS)


def test_both_engines_run_in_an_experiment_and_leave_room_above_them(retrieve):
    topics, qrels = COLLECTION.get_topicsqrels()
    row = pt.Experiment([retrieve], topics, qrels, [pt.measures.nDCG @ 10, pt.measures.R(rel=2) @ 100]).iloc[0]
    assert 0.45 < row["nDCG@10"] < 0.75
    assert row["R(rel=2)@100"] > 0.9


@pytest.mark.parametrize("engine", ENGINES)
def test_first_stage_gives_num_results_at_most(engine):
    if engine == "pisa":
        pytest.importorskip("pyterrier_pisa")
    assert first_stage(COLLECTION, num_results=3, engine=engine)(COLLECTION.get_topics())["rank"].max() == 2


def test_auto_falls_back_to_memory_without_pisa(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyterrier_pisa", None)
    assert isinstance(first_stage(COLLECTION), BM25)
    with pytest.raises(ImportError, match="pip install"):
        first_stage(COLLECTION, engine="pisa")


def test_an_unknown_engine_is_told_the_choices():
    with pytest.raises(ValueError, match="'lucene'; use one of 'auto', 'pisa', 'bm25s'"):
        first_stage(COLLECTION, engine="lucene")


@pytest.mark.parametrize("engine", ENGINES)
def test_building_and_searching_is_silent(engine, capfd):
    if engine == "pisa":
        pytest.importorskip("pyterrier_pisa")
    first_stage(COLLECTION, engine=engine).search("moon")
    assert capfd.readouterr() == ("", "")


def test_pisa_index_lives_exactly_as_long_as_a_pipeline_needs_it():
    pytest.importorskip("pyterrier_pisa")
    pipeline = first_stage(COLLECTION, engine="pisa")
    folder = Path(pipeline[0].index.path)
    fused = (pipeline % 2).compile()
    del pipeline
    gc.collect()
    assert len(fused.search("moon tides")) == 2 and folder.exists()
    del fused
    gc.collect()
    assert not folder.parent.exists()
