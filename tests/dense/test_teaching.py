"""A dense retriever learns from a teacher or from judgments, and goes on with what it learnt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from cards import run_card
from dense_checkpoints import bert

from pyterrier_llmrank.dense import DistilledRetriever, Teaching
from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.mini import MiniCollection
from pyterrier_llmrank.models.hf.sentence import Settings
from pyterrier_llmrank.training.learners import BiEncoderLearner
from pyterrier_llmrank.training.settings import Training

pytest.importorskip("pyterrier_dr")
MINI = MiniCollection()
TOPICS, QRELS = MINI.get_topics(), MINI.get_qrels()
DOCS = [*MINI.get_corpus_iter()][:60]
TRAIN, VALID = TOPICS.head(6), TOPICS.iloc[6:9]
QUICK = Training(steps=12, batch_size=4, learning_rate=0.01, warmup=0.0, device="cpu", evaluate_every=4)


class Overlap(pt.Transformer):
    """Scores every document by the words that it shares with the query; counts the queries it was asked."""

    def __init__(self, texts=True):
        self.texts, self.asked = texts, 0

    def transform(self, inp):
        self.asked += len(inp)
        out = inp.merge(pd.DataFrame(DOCS), how="cross")
        pairs = zip(out["query"], out["text"], strict=True)
        scores = [len({*query.lower().split()} & {*text.lower().split()}) for query, text in pairs]
        out = out.assign(score=np.array(scores, dtype=float))
        return out if self.texts else out.drop(columns="text")

    def __repr__(self):
        return f"Overlap({self.texts})"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return bert(tmp_path_factory.mktemp("base"), settings=Settings("cls", True, "q: ", "d: ", 48))


def retriever(base, tmp_path, **options):
    options = {"index": tmp_path / "mini.flex", "folder": tmp_path / "taught", "device": "cpu"} | options
    return DistilledRetriever(base, texts=MINI.text_loader(), **options)


def agreement(dense, teacher=None):
    """The mean correlation of its scores with the teacher's on the training queries."""
    told = (teacher or Overlap())(TRAIN)
    both = told.merge(dense(told), on=["qid", "docno"])
    return both.groupby("qid")[["score_x", "score_y"]].apply(lambda one: one.corr().iloc[0, 1]).mean()


def test_it_learns_to_score_as_its_teacher_does(base, tmp_path):
    teaching = Teaching(depth=60, query_tokens=48, training=replace(QUICK, steps=20), loss="kl_divergence")
    dense = retriever(base, tmp_path, teaching=teaching, index=None)
    teacher, before = Overlap(), agreement(dense)
    assert dense.distill(teacher, TRAIN, VALID) is dense and teacher.asked == 9
    assert dense.model == str(tmp_path / "taught") and agreement(dense) > before + 0.1
    assert dense.encoder.bi_encoder.pooling == "cls" and dense.encoder.bi_encoder.query_prefix == "q: "
    measured = [row["measure"] for row in dense.history if "measure" in row]
    assert len(measured) == 6 and 0 <= measured[0] < max(measured) <= 1
    again = retriever(base, tmp_path, teaching=teaching, index=None)
    again.distill(teacher, TRAIN, VALID)
    assert teacher.asked == 9  # what it said is kept
    vectors = (one.encoder.encode_docs(["a b"]) for one in (again, dense))
    np.testing.assert_allclose(*vectors, atol=1e-6)


def test_the_code_of_the_card_makes_the_same_vectors(base, tmp_path, monkeypatch):
    dense = retriever(base, tmp_path, index=None, teaching=Teaching(depth=10, training=replace(QUICK, steps=1)))
    dense.distill(Overlap(), TRAIN)
    again = run_card(tmp_path / "taught", monkeypatch)["retriever"]
    vectors = (one.encoder.encode_docs(["a b", "c"]) for one in (again, dense))
    np.testing.assert_allclose(*vectors, atol=1e-6)


def test_numbers_for_qids_and_labels_that_are_none(base, tmp_path):
    dense = retriever(base, tmp_path, index=None, teaching=Teaching(depth=10, training=replace(QUICK, steps=1)))
    found = Overlap()(TRAIN)
    numbers = {qid: place for place, qid in enumerate(found["qid"].unique())}
    told, judged = (
        frame[frame["qid"].isin(numbers)].assign(qid=lambda f: f["qid"].map(numbers)) for frame in (found, QRELS)
    )
    dense.fit(told, judged, told, judged.astype({"qid": str}))
    assert dense.history[-1]["measure"] > 0
    for teaching in (dense.teaching, replace(dense.teaching, query_side=True)):
        with pytest.raises(InputError, match="labels must be numbers"):
            retriever(base, tmp_path, teaching=teaching).fit(found, QRELS.assign(label="good"))


def test_stopped_while_it_learns_it_ends_as_if_it_never_was(base, tmp_path, monkeypatch):
    teaching = Teaching(depth=20, training=replace(QUICK, steps=6, checkpoint_every=2))
    made = {}
    for name, stop in (("whole", None), ("stopped", 5)):
        dense, calls = retriever(base, tmp_path, teaching=teaching, index=None, folder=tmp_path / name), []
        with monkeypatch.context() as broken:
            whole = BiEncoderLearner.learn

            def learn(own, lists, backward, *, stop=stop, calls=calls, whole=whole):
                calls.append(1)
                if len(calls) == stop:
                    raise KeyboardInterrupt
                return whole(own, lists, backward)

            broken.setattr(BiEncoderLearner, "learn", learn)
            if stop:
                with pytest.raises(KeyboardInterrupt):
                    dense.distill(Overlap(), TRAIN)
                assert dense.model == base  # not half taught
        if stop:
            dense = retriever(base, tmp_path, teaching=teaching, index=None, folder=tmp_path / name)
        dense.distill(teacher := Overlap(), TRAIN)
        assert teacher.asked == (0 if stop else 6)
        made[name] = dense.encoder.encode_docs(["the cat", "No"])
    np.testing.assert_array_equal(made["whole"], made["stopped"])


def test_an_index_made_before_is_not_used_with_what_was_learnt(base, tmp_path):
    dense = retriever(base, tmp_path, teaching=Teaching(depth=60, training=QUICK), num_results=10)
    dense.index(DOCS)
    first = dense(TRAIN)
    dense.fit(TRAIN, QRELS, TRAIN)  # finds its own documents
    with pytest.raises(ConfigurationError, match=r"made with other weights .*overwrite=True"):
        dense(TRAIN)
    assert not dense.index(DOCS, overwrite=True)(TRAIN).equals(first)


def test_an_index_that_was_vouched_for_is_so_no_more(base, tmp_path):
    """What is known to fit the weights before does not fit those after."""
    teaching = Teaching(depth=60, training=replace(QUICK, steps=1))
    dense = retriever(base, tmp_path, teaching=teaching, reuse_index=True).index(DOCS)
    dense.fit(TRAIN, QRELS)
    with pytest.raises(ConfigurationError, match="made with other weights"):
        dense(TRAIN)


def test_labels_below_zero_are_as_little_worth_as_zero(base, tmp_path):
    dense, found = retriever(base, tmp_path, index=None, teaching=Teaching(depth=5, training=QUICK)), Overlap()(TRAIN)
    with pytest.raises(InputError, match="none of 6 lists has documents with different labels"):
        dense.fit(found, found.groupby("qid").head(2)[["qid", "docno"]].assign(label=-2))


@pytest.mark.parametrize("query_side", [False, True])
def test_as_much_of_a_text_is_read_in_training_as_afterwards(base, tmp_path, query_side, monkeypatch):
    seen, made = [], BiEncoderLearner.__init__
    monkeypatch.setattr(
        BiEncoderLearner, "__init__", lambda own, *told, **more: seen.append(own) or made(own, *told, **more)
    )
    teaching = Teaching(depth=60, query_side=query_side, training=replace(QUICK, steps=1))
    dense = retriever(base, tmp_path, teaching=teaching).index(DOCS)
    dense.fit(TRAIN, QRELS[QRELS["docno"].isin([doc["docno"] for doc in DOCS])])
    assert (seen[0].query_tokens, seen[0].doc_tokens) == (48, 48)
    assert dense.encoder.bi_encoder.max_length == 48


def test_it_is_trained_as_the_end_of_a_pipeline(base, tmp_path):
    dense = retriever(base, tmp_path, index=None, teaching=Teaching(depth=10, training=QUICK))
    (Overlap(texts=False) >> dense).fit(TRAIN, QRELS, VALID, QRELS)
    assert len([row for row in dense.history if "loss" in row]) == 12
    untrained = retriever(base, tmp_path, folder=None)
    untrained.index(DOCS)
    with pytest.raises(ConfigurationError, match=r"no folder for what it learns: .* put retriever\.retriever\(\)"):
        (untrained >> dense).fit(TRAIN, QRELS)
    assert not isinstance(untrained.retriever(), pt.Estimator)
    pd.testing.assert_frame_equal((untrained.retriever() % 4).compile()(TRAIN), (untrained % 4)(TRAIN))


def test_the_query_side_alone_learns_on_the_index_as_it_is(base, tmp_path):
    teaching = Teaching(depth=30, query_side=True, measure="RR@10", training=QUICK)
    dense = retriever(base, tmp_path, teaching=teaching, num_results=60).index(DOCS)
    known = QRELS[QRELS["docno"].isin([doc["docno"] for doc in DOCS])]
    place = known[known["label"] > 0].merge(dense(TOPICS), on=["qid", "docno"])["rank"].mean()
    vectors = dense.flex().np_vecs().copy()
    dense.fit(TOPICS, known, TOPICS, known)
    assert dense.reuse_index and dense.model == str(tmp_path / "taught")
    assert known[known["label"] > 0].merge(dense(TOPICS), on=["qid", "docno"])["rank"].mean() < place - 3
    np.testing.assert_array_equal(dense.flex().np_vecs(), vectors)
    with pytest.raises(InputError, match="none of 6 topics has a relevant document"):
        retriever(base, tmp_path, teaching=teaching).fit(TRAIN, QRELS.assign(label=0))


def test_a_teacher_also_teaches_the_query_side_alone(base, tmp_path):
    training = replace(QUICK, steps=30)
    teaching = Teaching(depth=60, query_side=True, training=training, loss="kl_divergence")
    dense = retriever(base, tmp_path, teaching=teaching, num_results=60).index(DOCS)
    before = agreement(dense)
    dense.distill(Overlap(), TRAIN, VALID)
    assert dense.reuse_index and agreement(dense) > before + 0.1
    assert all(0 <= row["measure"] <= 1 for row in dense.history if "measure" in row)


def test_what_cannot_be_learnt_from_is_said(base, tmp_path):
    dense = retriever(base, tmp_path, index=None, teaching=Teaching(depth=5, training=QUICK))
    found = Overlap()(TRAIN)
    with pytest.raises(InputError, match="none of 6 lists has documents with different labels among its first 5"):
        dense.fit(found, QRELS.assign(qid="other"))
    without = DistilledRetriever(base, folder=tmp_path / "x", teaching=dense.teaching)
    with pytest.raises(InputError, match=r"documents without texts .* texts=dataset\.text_loader\(\)"):
        without.fit(found.drop(columns="text"), QRELS)
    with pytest.raises(InputError, match="said nothing to learn from about 6 queries"):
        dense.distill(Constant(), TRAIN)
    with pytest.raises(ConfigurationError, match="holds the weights that training begins with"):
        retriever(base, tmp_path, folder=base).fit(found, QRELS)
    with pytest.raises(ConfigurationError, match="measure must be one of ir_measures, such as 'nDCG@10', got 'joy'"):
        retriever(base, tmp_path, index=None, teaching=Teaching(measure="joy")).fit(found, QRELS, found, QRELS)
    with pytest.raises(ConfigurationError, match="at least 2 documents, got depth=1"):
        Teaching(depth=1)


class Constant(Overlap):
    """Finds all documents equally good."""

    def transform(self, inp):
        return super().transform(inp).assign(score=1.0)

    def __repr__(self):
        return "Constant()"
