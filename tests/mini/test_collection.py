"""The mini collection: what it holds, and how PyTerrier reads it."""

from __future__ import annotations

from importlib.metadata import entry_points

import pandas as pd
import pyterrier as pt
import pytest

from pyterrier_llmrank.mini import MiniCollection, MiniProvider

COLLECTION = MiniCollection()
TEXTS = {doc["docno"]: doc["text"] for doc in COLLECTION.get_corpus_iter()}
TOPICS = COLLECTION.get_topics()
QRELS = COLLECTION.get_qrels()


def labels_of(qid):
    judged = QRELS[QRELS["qid"] == qid]
    return dict(zip(judged["docno"], judged["label"], strict=True))


def test_there_are_enough_passages_and_queries():
    assert len(TEXTS) >= 150
    assert len(TOPICS) == TOPICS["qid"].nunique() == TOPICS["query"].nunique() >= 20


def test_texts_are_distinct_plain_and_short():
    assert len(set(TEXTS.values())) == len(TEXTS)
    for docno, text in TEXTS.items():
        assert text.isascii() and text.isprintable() and text == " ".join(text.split()), docno
        assert 25 <= len(text.split()) <= 110, docno


def test_every_judgment_is_of_a_known_query_and_passage():
    assert set(QRELS["qid"]) == set(TOPICS["qid"])
    assert set(QRELS["docno"]) <= set(TEXTS)
    assert not QRELS.duplicated(["qid", "docno"]).any()
    assert set(QRELS["label"]) == {0, 1, 2}


@pytest.mark.parametrize("qid", TOPICS["qid"])
def test_every_query_has_answers_relatives_and_near_misses(qid):
    labels = list(labels_of(qid).values())
    assert 1 <= labels.count(2) <= 4
    assert 2 <= labels.count(1) <= 5
    assert labels.count(0) >= 4


def test_docnos_do_not_reveal_the_topic():
    places = {docno: place for place, docno in enumerate(TEXTS)}
    for qid in TOPICS["qid"]:
        relevant = sorted(places[docno] for docno, label in labels_of(qid).items() if label > 0)
        assert relevant[-1] - relevant[0] > 2 * len(relevant), qid


def test_near_misses_share_as_many_words_with_the_query_as_answers_do():
    bm25s, stemmer = pytest.importorskip("bm25s"), pytest.importorskip("Stemmer").Stemmer("english")

    def stems(text):
        return set(
            bm25s.tokenize(text, stopwords="english_plus", stemmer=stemmer, return_ids=False, show_progress=False)[0]
        )

    misleading = 0
    for qid, query in TOPICS[["qid", "query"]].itertuples(index=False):
        words = stems(query)
        shared = [(label, len(words & stems(TEXTS[docno]))) for docno, label in labels_of(qid).items()]
        misleading += max(n for label, n in shared if label == 0) >= min(n for label, n in shared if label == 2)
    assert misleading >= 15


def test_topics_and_qrels_have_pyterriers_columns():
    assert list(TOPICS.columns) == ["qid", "query"]
    assert list(QRELS.columns) == ["qid", "docno", "label"]
    assert QRELS["label"].dtype == "int64"
    assert COLLECTION.get_corpus_lang() == COLLECTION.get_topics_lang() == "en"


def test_corpus_is_dicts_of_docno_and_text():
    assert next(iter(COLLECTION.get_corpus_iter())).keys() == {"docno", "text"}


@pytest.mark.parametrize("part", ["get_topics", "get_qrels", "get_topicsqrels"])
def test_a_variant_is_refused(part):
    with pytest.raises(ValueError, match=r"no variants.*'test'"):
        getattr(COLLECTION, part)("test")


def test_text_loader_adds_texts_in_row_order_and_leaves_its_input_alone():
    docnos = ["p003", "p001", "p003"]
    frame = pd.DataFrame({"qid": "q01", "docno": docnos, "text": "old", "score": [1.0, 2.0, 3.0]}, index=[7, 7, 2])
    before = frame.copy(deep=True)
    out = pt.text.get_text(COLLECTION, "text")(frame)
    pd.testing.assert_frame_equal(frame, before)
    assert out["docno"].tolist() == docnos
    assert out["text"].tolist() == [TEXTS[docno] for docno in docnos]
    assert out["score"].tolist() == [1.0, 2.0, 3.0]
    assert out.index.tolist() == [0, 1, 2]


@pytest.mark.parametrize("fields", ["*", "text", ["text"]])
def test_text_is_the_only_field(fields):
    assert list(pt.text.get_text(COLLECTION, fields)(pd.DataFrame({"docno": ["p001"]})).columns) == ["docno", "text"]


def test_an_unknown_field_is_refused():
    with pytest.raises(ValueError, match="no field 'title', only 'text'"):
        COLLECTION.text_loader(["text", "title"])


def test_an_unknown_docno_is_named():
    with pytest.raises(ValueError, match="no document 'd9'"):
        COLLECTION.text_loader()(pd.DataFrame({"docno": ["p001", "d9"]}))


def test_text_loader_can_be_inspected():
    columns = ["qid", "query", "docno", "score", "rank"]
    loader = COLLECTION.text_loader()
    assert pt.inspect.transformer_outputs(loader, columns) == [*columns, "text"]
    assert pt.inspect.transformer_inputs(loader) == [["docno"]]
    assert loader == MiniCollection().text_loader("text") and hash(loader) == hash(MiniCollection().text_loader())


def test_a_cutoff_moves_before_the_text_loader():
    assert repr((COLLECTION.text_loader() % 5).compile()) == "(RankCutoff(5) >> MiniText())"


def test_provider_names_what_it_has():
    provider = MiniProvider()
    assert list(provider.list_dataset_names()) == ["mini"]
    assert provider.get_dataset("mini") == COLLECTION
    with pytest.raises(KeyError, match=r"'maxi'.*mini"):
        provider.get_dataset("maxi")


def test_pyterrier_finds_the_collection_by_name():
    if not any(point.name == "llmrank" for point in entry_points(group="pyterrier.dataset_provider")):
        pytest.skip("pyterrier-llmrank is not installed, so that its entry point is unknown")
    dataset = pt.get_dataset("llmrank:mini")
    assert dataset == COLLECTION
    pd.testing.assert_frame_equal(dataset.get_topics(), TOPICS)
