"""A dense retriever over pyterrier_dr: what it finds is what brute force finds, and it uses no index of others."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from dense_checkpoints import WIDTH, bert

from pyterrier_llmrank import BiEncoder, QueryFeedback
from pyterrier_llmrank.dense import DenseEncoder, DistilledRetriever
from pyterrier_llmrank.errors import ConfigurationError, InputError, LLMRankWarning
from pyterrier_llmrank.mini import MiniCollection

pytest.importorskip("pyterrier_dr")
MINI = MiniCollection()
TOPICS = MINI.get_topics().head(6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def built(folder, tmp_path_factory):
    """A retriever of the mini collection; do not change it."""
    path = tmp_path_factory.mktemp("index") / "mini.flex"
    retriever = DistilledRetriever(folder, index=path, texts=MINI.text_loader(), num_results=20, device="cpu")
    assert retriever.index(MINI.get_corpus_iter(), chunk=64) is retriever
    return retriever


def brute_force(folder, k):
    """The first k docnos of each query, and their scores, by the scorer of the same checkpoint."""
    encoder = BiEncoder(folder, normalize=False, max_length=64, device="cpu")
    docs = [*MINI.get_corpus_iter()]
    queries, _ = encoder.encode(TOPICS["query"].tolist(), "q: ")
    vectors, _ = encoder.encode([doc["text"] for doc in docs], "d: ")
    products = queries @ vectors.T
    best = np.argsort(-products, axis=1, kind="stable")[:, :k]
    return [[docs[i]["docno"] for i in row] for row in best], np.take_along_axis(products, best, axis=1)


def by_query(frame, column):
    return [group[column].tolist() for _, group in frame.groupby("qid", sort=False)]


@pytest.mark.parametrize("searcher", ["np", "torch", lambda index, num_results: index.np_retriever(num_results=20)])
def test_it_finds_what_brute_force_finds(built, folder, searcher):
    retriever = built.apply_attributes(searcher=searcher)
    out = retriever(TOPICS)
    docnos, scores = brute_force(folder, 20)
    assert by_query(out, "docno") == docnos
    np.testing.assert_allclose(by_query(out, "score"), scores, rtol=1e-5)
    assert by_query(out, "rank") == [[*range(20)]] * 6
    assert out.columns.tolist() == ["qid", "query", "docno", "score", "rank", "text"]
    assert out["text"].iloc[0] == dict((d["docno"], d["text"]) for d in MINI.get_corpus_iter())[out["docno"].iloc[0]]


def test_a_cutoff_becomes_fewer_results(built):
    fused = (built % 5).compile()
    assert fused == built.apply_attributes(num_results=5) and fused.opened() is built.opened()
    pd.testing.assert_frame_equal(fused(TOPICS), (built % 5)(TOPICS))
    assert built.fuse_rank_cutoff(50) is built


def test_it_is_measured_by_an_experiment_and_drawn_offline(built):
    table = pt.Experiment([built], MINI.get_topics(), MINI.get_qrels(), ["ndcg_cut_10"], names=["dense"])
    assert 0 < table["ndcg_cut_10"].iloc[0] < 1
    assert "DistilledRetriever" in pt.schematic.draw(built)


def test_its_repr_builds_an_equal_one(built, folder):
    other = DistilledRetriever(folder, index=str(built.path), num_results=20, device="cpu")
    assert eval(repr(other)) == other and hash(eval(repr(other))) == hash(other)
    assert other != built and other != other.apply_attributes(num_results=7)
    with pytest.raises(pt.inspect.InspectError, match="has no argument depth"):
        other.apply_attributes(depth=3)


def test_results_are_reranked_by_vectors_of_the_index_or_by_texts(built, folder):
    found = built(TOPICS)
    shuffled = found.sample(frac=1, random_state=0).drop(columns=["score", "rank"])
    by_vectors = built(shuffled.drop(columns="text"))
    by_texts = DistilledRetriever(folder, device="cpu")(shuffled)
    for out in (by_vectors, by_texts):
        found_again = out.set_index(["qid", "docno"]).loc[found.set_index(["qid", "docno"]).index]
        np.testing.assert_allclose(found_again["score"], found["score"], rtol=1e-5)
        assert found_again["rank"].tolist() == found["rank"].tolist()
    short = built.apply_attributes(num_results=3)(shuffled)
    assert short.groupby("qid").size().tolist() == [3] * 6


def test_a_searcher_that_takes_no_number_of_results_is_cut(built, monkeypatch):
    index = built.flex()
    monkeypatch.setattr(type(index), "all_retriever", lambda self, *, ef: self.np_retriever(), raising=False)
    cut = built.apply_attributes(searcher="all", searcher_options={"ef": 1})
    pd.testing.assert_frame_equal(cut(TOPICS), built(TOPICS))


def test_it_is_the_end_of_an_indexing_pipeline(folder, tmp_path):
    retriever = DistilledRetriever(folder, index=tmp_path / "titles", device="cpu")
    docs = [{"docno": f"d{i}", "title": f"title {i}", "body": "the cat"} for i in range(5)]
    joined = pt.apply.text(lambda doc: f"{doc['title']} {doc['body']}")
    (joined >> retriever).index(docs)
    texts = [f"title {i} the cat" for i in range(5)]
    np.testing.assert_allclose(retriever.flex().np_vecs(), retriever.encoder.encode_docs(texts), atol=1e-5)


def test_equal_documents_keep_their_order():
    frame = pd.DataFrame({"qid": "1", "docno": list("abcd"), "query_vec": [np.ones(3)] * 4})
    frame["doc_vec"] = [np.ones(3) * value for value in (1, 2, 1, 2)]
    out = DistilledRetriever("no-such-model")(frame.assign(query="x"))
    assert out["docno"].tolist() == list("bdac") and out["score"].tolist() == [6, 6, 3, 3]


def test_feedback_moves_the_query_and_it_is_searched_again(built):
    first = built.apply_attributes(vectors=True, num_results=10)
    again = (first >> QueryFeedback() >> built)(TOPICS.head(2))
    assert again.groupby("qid").size().tolist() == [20, 20] and "query_vec" not in again


@pytest.mark.parametrize("vectors", [False, True])
def test_empty_frames_load_no_model_and_have_the_same_columns(built, vectors, monkeypatch):
    retriever = built.apply_attributes(vectors=vectors)
    frames = [TOPICS, retriever(TOPICS)]
    wanted = [retriever(frame).columns.tolist() for frame in frames]
    unloaded = DistilledRetriever("no/such-model", index="nowhere", texts=MINI.text_loader(), vectors=vectors)
    for frame, columns in zip(frames, wanted, strict=True):
        assert unloaded(frame.head(0)).columns.tolist() == columns
        assert pt.inspect.transformer_outputs(unloaded, frame.columns.tolist()) == columns
    assert ["qid", "query"] in pt.inspect.transformer_inputs(unloaded)


def test_parts_make_the_columns_of_pyterrier_dr(built, folder, tmp_path):
    from pyterrier_dr import FlexIndex

    encoder = DenseEncoder(folder, device="cpu")
    index = FlexIndex(str(tmp_path / "theirs"), verbose=False)
    (encoder.doc_encoder() >> index).index(MINI.get_corpus_iter())
    found = (encoder.query_encoder() >> index.retriever(num_results=20))(TOPICS)
    assert found["query_vec"].iloc[0].dtype == np.float32
    assert by_query(found, "docno") == by_query(built(TOPICS), "docno")
    unknown = DistilledRetriever(encoder, index=str(tmp_path / "theirs"))
    with pytest.raises(ConfigurationError, match=r"does not say which encoder .* say reuse_index=True"):
        unknown(TOPICS)
    reused = unknown.apply_attributes(reuse_index=True, index=index, num_results=20)
    assert by_query(reused(TOPICS), "docno") == by_query(found, "docno")


def test_an_encoder_does_what_the_columns_ask_for(folder):
    encoder = DenseEncoder(folder, device="cpu")
    queries, docs = TOPICS.head(2), pd.DataFrame([*MINI.get_corpus_iter()][:3])
    assert encoder(queries)["query_vec"].iloc[0].shape == (WIDTH,)
    assert encoder(docs)["doc_vec"].iloc[0].dtype == np.float32
    scored = encoder(queries.merge(docs, how="cross"))
    again = encoder(encoder(queries).drop(columns="query").merge(encoder(docs).drop(columns="text"), how="cross"))
    pd.testing.assert_frame_equal(scored[["docno", "score", "rank"]], again[["docno", "score", "rank"]])
    assert (encoder.text_scorer() % 1).compile()(queries.merge(docs, how="cross"))["rank"].tolist() == [0, 0]
    with pytest.warns(LLMRankWarning, match="1 of 3 documents have no 'text'"):
        empty = encoder(docs.assign(text=[None, "", "a"]))["doc_vec"].tolist()
    np.testing.assert_array_equal(empty[0], empty[1])


def test_weights_that_were_saved_are_loaded_with_their_settings(folder, built, tmp_path):
    first = DistilledRetriever(folder, doc_prefix="p: ", max_length=32, device="cpu")
    first.save(tmp_path / "copy")
    again = DistilledRetriever(tmp_path / "copy", device="cpu")
    texts = ["the cat", "Yes " * 40]
    np.testing.assert_allclose(again.encoder.encode_docs(texts), first.encoder.encode_docs(texts), atol=1e-5)
    assert again.encoder.bi_encoder.doc_prefix == "p: "
    with pytest.raises(ConfigurationError, match="is where this encoder comes from"):
        again.save(tmp_path / "copy")


def test_an_index_of_other_weights_or_settings_is_refused(built, tmp_path):
    other = bert(tmp_path / "other", seed=2)
    for changed in (built.apply_attributes(model=other), built.apply_attributes(doc_prefix="")):
        with pytest.raises(ConfigurationError, match=r"made with other weights .*overwrite=True.* reuse_index=True"):
            changed(TOPICS)
        assert len(changed.apply_attributes(reuse_index=True)(TOPICS)) == 120
    moved = shutil.copytree(built.model, tmp_path / "moved")
    for same in (built.apply_attributes(model=moved), built.apply_attributes(query_prefix="")):
        assert len(same(TOPICS)) == 120


def test_documents_that_the_index_lacks_are_named(built):
    frame = pd.DataFrame({"qid": "1", "query": "x", "docno": ["p001", "p200", "p201", "px"]})
    with pytest.raises(InputError, match=r"2 of 4 documents are not in the index .* the first is 'p201'"):
        built(frame)
    assert sorted(built(frame.head(2))["docno"]) == ["p001", "p200"]


@pytest.mark.parametrize(
    ("vector", "told"),
    [(np.ones(5, np.float32), r"have the shape \(5,\)"), (np.full(WIDTH, np.nan), "not finite"), (0.5, "the shape")],
)
def test_a_vector_that_does_not_fit_is_refused(built, vector, told):
    with pytest.raises(InputError, match=told):
        built(pd.DataFrame({"qid": ["1"], "query_vec": [vector]}))


def test_vectors_of_a_frame_that_do_not_fit_are_refused():
    frame = pd.DataFrame({"qid": "1", "docno": ["a", "b"], "query_vec": [np.ones(3)] * 2})
    retriever = DistilledRetriever("no-such-model")
    for docs, told in [
        ([np.ones(2)] * 2, r"the shape \(3,\) and document vectors \(2,\)"),
        ([np.ones(3), np.full(3, np.inf)], "1 of 2 rows have vectors with numbers that are not finite"),
        ([np.ones(3), None], "need a vector of one width on every row"),
    ]:
        with pytest.raises(InputError, match=told):
            retriever(frame.assign(doc_vec=docs))


def test_what_is_missing_is_said_with_the_remedy(built, folder, tmp_path):
    with pytest.raises(ConfigurationError, match=r"has no index; give it the folder of one: index=path"):
        DistilledRetriever(folder, device="cpu")(TOPICS)
    nowhere = built.apply_attributes(index=str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match=r"there is no index at .*none; build it with retriever\.index"):
        nowhere(TOPICS)
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigurationError, match=r"is no whole index .* overwrite=True"):
        nowhere(TOPICS)
    with pytest.raises(ConfigurationError, match=r"is something at .* overwrite=True"):
        nowhere.index(MINI.get_corpus_iter())
    (tmp_path / "none" / "pt_meta.json").write_text(json.dumps({"type": "sparse_index", "format": "pisa"}))
    with pytest.raises(ConfigurationError, match="holds a sparse_index of the format pisa, no FlexIndex"):
        nowhere(TOPICS)
    with pytest.raises(ConfigurationError, match=r"searcher must be one of .*np, .*torch"):
        built.apply_attributes(searcher="magic")(TOPICS)
    with pytest.raises(ConfigurationError, match=r"does not take \{'ef': 3\}"):
        built.apply_attributes(searcher_options={"ef": 3})(TOPICS)
    with pytest.raises(ConfigurationError, match="num_results must be at least 1"):
        DistilledRetriever(folder, num_results=0)
    with pytest.raises(pt.validate.InputValidationError):
        built(pd.DataFrame({"qid": ["1"]}))
