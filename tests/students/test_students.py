"""Students: transformers that labels or another pipeline teach, and that are checkpoints afterwards."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from cards import run_card
from tiny_lists import WORDS, encoder

from pyterrier_llmrank import CrossEncoder, OneShot, Pointwise, Rerank, SetEncoder
from pyterrier_llmrank.errors import ConfigurationError, InputError, LLMRankWarning, ModelNotFound
from pyterrier_llmrank.students import CrossEncoderStudent, SetEncoderStudent
from pyterrier_llmrank.training.data import StoredLists
from pyterrier_llmrank.training.settings import Training

TOY = Training(25, batch_size=4, learning_rate=1e-2, device="cpu")
KINDS = {
    "cross-encoder": (CrossEncoderStudent, CrossEncoder, Pointwise()),
    "set-encoder": (SetEncoderStudent, SetEncoder, OneShot()),
}
NDCG = pt.measures.nDCG @ 10
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return encoder(tmp_path_factory.mktemp("start"))


def made(kind, folder, start, **options):
    return KINDS[kind][0](folder, start, **{"training": TOY, "loss": "rank_net", **options})


def topics(n=4, first=0):
    return pd.DataFrame({"qid": [f"q{i}" for i in range(first, first + n)], "query": "which"})


def candidates(topics):
    """Three documents a query, the worst ones first."""
    rows = [(*row, f"{row[0]}{word}", word, -float(i), i) for row in topics.values for i, word in enumerate(WORDS)]
    return pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "score", "rank"])


def labels(topics):
    return candidates(topics).assign(label=lambda frame: frame["text"].map(WORDS.index))[["qid", "docno", "label"]]


def first_stage():
    return pt.apply.generic(candidates)


def ideal(results):
    return all(rows["text"].tolist() == [*WORDS[::-1]] for _, rows in results.groupby("qid"))


@each_kind
def test_a_pipeline_is_fitted_ranks_better_and_leaves_a_checkpoint(kind, start, tmp_path):
    student = made(kind, tmp_path, start)
    pipeline = first_stage() >> student
    assert not ideal(candidates(topics()))
    pipeline.fit(topics(), labels(topics()))
    new = topics(3, first=9)
    assert ideal(pipeline(new)) and len(student.history) == 25
    assert student.ledger["q9"].usage.calls == 3
    _, scorer, strategy = KINDS[kind]
    assert ideal(Rerank(strategy, scorer(str(tmp_path), device="cpu"))(candidates(new)))
    assert ideal(made(kind, tmp_path, start)(candidates(new)))  # what is in the folder is used
    card = (tmp_path / "README.md").read_text()
    assert "4 lists, targets by labels" in card and f"base_model: {Path(start).name}" in card


@each_kind
def test_another_pipeline_teaches_without_labels(kind, start, tmp_path):
    teacher = Counting()
    student = made(kind, tmp_path, start)
    assert student.distill(teacher, topics(), targets="rank") is student
    assert ideal(student(candidates(topics(3, first=9))))


def test_the_weights_that_are_best_on_the_validation_results_are_kept(start, tmp_path):
    worse = labels(topics()).assign(label=lambda frame: 2 - frame["label"])  # the validation wants the reverse
    training = Training(25, batch_size=4, learning_rate=1e-2, device="cpu", evaluate_every=1, patience=4)
    student = made("cross-encoder", tmp_path, start, training=training, measure=pt.measures.nDCG @ 3)
    student.fit(candidates(topics()), labels(topics()), candidates(topics()), worse)
    measured = [row["measure"] for row in student.history]
    best = int(np.argmax(measured))
    assert len(measured) == best + 4 + 1 < 26 and measured[-1] < measured[best]
    [found] = pt.Evaluate(student(candidates(topics())), worse, metrics=[pt.measures.nDCG @ 3]).values()
    assert found == pytest.approx(measured[best])  # measured on the live network: as the saved one ranks
    assert "| Measure | nDCG@3 |" in (tmp_path / "README.md").read_text()


def test_the_measure_counts_the_queries_of_the_validation_results_alone(start, tmp_path):
    student = made("cross-encoder", tmp_path, start, training=Training(1, device="cpu"))
    both = pd.concat([labels(topics(4)), labels(topics(2, first=50))])
    student.fit(candidates(topics()), both, candidates(topics(2, first=50)))
    [found] = pt.Evaluate(student(candidates(topics(2, first=50))), labels(topics(2, first=50)), [NDCG]).values()
    assert found in [pytest.approx(row["measure"]) for row in student.history if "measure" in row]


def numbered(frame):
    """The frame with whole numbers for qids and docnos."""
    numbers = {f"q{i}{word}": 10 * i + place for i in range(9) for place, word in enumerate(WORDS)}
    return frame.assign(qid=frame["qid"].str[1:].astype(int), docno=frame["docno"].map(numbers))


@pytest.mark.parametrize("texts", [(0, 0, 0, 0), (1, 1, 0, 0), (0, 1, 1, 0), (1, 0, 0, 1)])
def test_qids_and_docnos_may_be_numbers_in_any_of_the_frames(start, tmp_path, texts):
    told = [numbered(frame) for frame in (candidates(topics()), labels(topics())) * 2]
    some = [one.astype({"qid": str, "docno": str}) if text else one for one, text in zip(told, texts, strict=True)]
    student = made("cross-encoder", tmp_path, start, training=Training(1, device="cpu")).fit(*some)
    plain = made("cross-encoder", tmp_path / "texts", start, training=Training(1, device="cpu"))
    plain.fit(*[candidates(topics()), labels(topics())] * 2)
    assert [row["measure"] for row in student.history if "measure" in row] == [
        row["measure"] for row in plain.history if "measure" in row
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame.assign(qid="other"), "none of the 12 validation results is judged; check that qids"),
        (lambda frame: frame.assign(docno="other"), "none of the 12 validation results is judged"),
        (lambda frame: frame.assign(label="good"), r"labels must be numbers.*12 of 12 are none, the first is 'good'"),
        (lambda frame: frame.assign(label=frame["label"] / 2), r"nDCG@10 cannot be had .*integer"),
        (lambda frame: frame.drop(columns="docno"), "missing: docno"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is_learnt(start, tmp_path, change, said):
    student, teacher = made("cross-encoder", tmp_path, start), Counting()
    frame, wrong = candidates(topics()), change(labels(topics()))
    with pytest.raises(InputError, match=said):
        student.fit(frame, labels(topics()), frame, wrong)
    with pytest.raises(InputError, match=said):
        student.distill(teacher, topics(), frame, wrong)
    with pytest.raises(InputError, match=r"validation results need the columns \['text'\]"):
        student.distill(teacher, topics(), frame.drop(columns="text"), labels(topics()))
    assert not teacher.asked and not student.history and not (tmp_path / "config.json").exists()


def test_whole_labels_may_be_written_as_floats_or_be_missing(start, tmp_path):
    student = made("cross-encoder", tmp_path, start, training=Training(1, device="cpu"))
    told = labels(topics()).assign(label=lambda frame: frame["label"].where(frame["label"] > 0))  # NaN: not judged
    student.fit(candidates(topics()), told, candidates(topics()))
    assert all(0 < row["measure"] <= 1 for row in student.history if "measure" in row)


@each_kind
@pytest.mark.parametrize("options", [{}, {"depth": 2, "num_results": 2}])
def test_the_code_of_the_card_ranks_as_the_student_does(kind, options, start, tmp_path, monkeypatch):
    if kind == "cross-encoder":
        options = {**options, "max_length": 20, "reading": {"query_template": "{query}:"}}
    student = made(kind, tmp_path, start, **options)
    student.fit(candidates(topics()), labels(topics()))
    reranker = run_card(tmp_path, monkeypatch)["reranker"]
    pd.testing.assert_frame_equal(reranker(candidates(topics())), student(candidates(topics())))


def test_nothing_trained_is_said_at_the_first_use(start, tmp_path):
    student = made("cross-encoder", tmp_path / "none", start)
    with pytest.raises(ModelNotFound, match=r"no trained model in .*none; train one with fit"):
        student(candidates(topics()))
    assert len(student(candidates(topics()).iloc[:0])) == 0


def test_a_copy_of_before_and_a_second_training_use_the_new_weights(start, tmp_path):
    student = made("cross-encoder", tmp_path, start)
    two = student % 2
    student.fit(candidates(topics()), labels(topics()))
    assert two(candidates(topics())).groupby("qid")["text"].first().eq(WORDS[2]).all()
    held = CrossEncoder(str(tmp_path), device="cpu")
    held.load()  # somebody still has the old weights in memory
    student.fit(candidates(topics()), labels(topics()).assign(label=lambda frame: 2 - frame["label"]))
    for one in (student, two, made("cross-encoder", tmp_path, start)):
        assert one(candidates(topics())).groupby("qid")["text"].first().eq(WORDS[0]).all()


class Counting(pt.Transformer):
    """A teacher that counts the queries it was asked about, and breaks down where told."""

    def __init__(self, rows=3, breaks_at=None):
        self.rows, self.breaks_at, self.asked = rows, breaks_at, []

    def __repr__(self):
        return f"Counting({self.rows}) at {hex(id(self))}"

    def transform(self, inp):
        for qid in inp["qid"]:
            if len(self.asked) == self.breaks_at:
                raise ConnectionError("gone")
            self.asked.append(qid)
        scored = candidates(inp).assign(score=lambda frame: frame["text"].map(WORDS.index).astype(float))
        return scored.groupby("qid").tail(self.rows).drop(columns="rank")


def test_a_teacher_is_asked_about_a_query_once_also_after_it_broke_down(start, tmp_path):
    student, teacher = made("cross-encoder", tmp_path, start), Counting(breaks_at=5)
    with pytest.raises(ConnectionError):
        student.distill(teacher, topics(6), chunk=2)
    teacher.breaks_at = None
    student.distill(teacher, topics(6), chunk=2)
    assert teacher.asked == ["q0", "q1", "q2", "q3", "q4", "q4", "q5"]
    [path] = tmp_path.glob("teacher-*.jsonl")
    assert len(StoredLists(path)) == 6
    student.distill(teacher, topics(3), chunk=2)  # some of them: nothing is asked, and they alone are learnt from
    assert len(teacher.asked) == 7 and "| Data | 3 lists" in (tmp_path / "README.md").read_text()


def test_two_teachers_have_files_of_their_own(start, tmp_path):
    student = made("cross-encoder", tmp_path, start, training=Training(1, device="cpu"))
    for teacher, targets in ((Counting(), "score"), (Counting(), "rank"), (Counting(rows=2), "score")):
        student.distill(teacher, topics(), targets=targets)
    student.distill(Counting(), topics(), answers=tmp_path / "own.jsonl")
    assert len([*tmp_path.glob("teacher-*.jsonl")]) == 3 and (tmp_path / "own.jsonl").is_file()


def test_a_teacher_that_returns_fewer_rows_or_none(start, tmp_path):
    student = made("cross-encoder", tmp_path, start, training=Training(1, device="cpu"))
    student.distill(Counting(rows=2), topics())
    assert "| Data | 4 lists" in (tmp_path / "README.md").read_text()
    with pytest.raises(InputError, match=r"none of the 4 lists.*the teacher returned something"):
        student.distill(Counting(rows=1), topics(), answers=tmp_path / "one.jsonl")
    with pytest.warns(LLMRankWarning, match="returned nothing for 4 of 4"), pytest.raises(InputError, match="of the 0"):
        student.distill(Counting(rows=0), topics(), answers=tmp_path / "none.jsonl")


def test_queries_that_teach_nothing_are_left_out_and_counted(start, tmp_path):
    student = made("cross-encoder", tmp_path, start, training=Training(1, device="cpu"))
    some = labels(topics()).query("qid != 'q1'")
    with pytest.warns(LLMRankWarning, match="1 of 4 queries teach nothing"):
        student.fit(candidates(topics()), some)
    with pytest.raises(InputError, match="check that qids and docnos"):
        student.fit(candidates(topics()), some.assign(qid="other"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pointwise = made(
            "cross-encoder", tmp_path, start, training=Training(1, device="cpu"), loss="binary_cross_entropy"
        )
        pointwise.fit(candidates(topics()), some.assign(label=lambda frame: frame["label"] / 2))


def test_duplicate_documents_are_learnt_once(start, tmp_path):
    student = made("cross-encoder", tmp_path, start, training=Training(1, device="cpu"))
    twice = pd.concat([candidates(topics()), candidates(topics(1))])
    with pytest.warns(LLMRankWarning, match="3 of 15 rows show a document"):
        student.fit(twice, labels(topics()))


def test_labels_below_zero_count_as_not_relevant(start, tmp_path):
    told = labels(topics()).assign(label=lambda frame: frame["label"] - 2)  # -2, -1, 0: nothing is relevant
    student = made("cross-encoder", tmp_path, start, training=Training(1, device="cpu"))
    with pytest.raises(InputError, match="different targets"):
        student.fit(candidates(topics()), told)


def test_what_is_missing_is_named(start, tmp_path):
    student = made("cross-encoder", tmp_path, start)
    frame, told = candidates(topics()), labels(topics())
    with pytest.raises(InputError, match="missing: label"):
        student.fit(frame, told.drop(columns="label"))
    with pytest.raises(InputError, match=r"\['text'\]"):
        student.fit(frame.drop(columns="text"), told)
    with pytest.raises(InputError, match="pass qrels_va"):
        student.distill(Counting(), topics(), frame)
    with pytest.raises(ConfigurationError, match=r"measure must be one of ir_measures.*got 'quality'"):
        made("cross-encoder", tmp_path, start, measure="quality")
    with pytest.raises(ConfigurationError, match="loss must be one of"):
        made("cross-encoder", tmp_path, start, loss="hinge")
    with pytest.raises(ConfigurationError, match="micro"):
        made("cross-encoder", tmp_path, start, micro=0).fit(frame, told)
    assert not (tmp_path / "config.json").exists()


@each_kind
def test_a_student_is_a_value(kind, tmp_path):
    student = made(kind, tmp_path, "org/name", depth=20)
    assert repr(student).startswith(f"{type(student).__name__}('{tmp_path}', 'org/name', ")
    assert student == made(kind, tmp_path, "org/name", depth=20) != made(kind, tmp_path, "org/name")
    assert hash(student) == hash(made(kind, tmp_path, "org/name", depth=20))
    fused = student.fuse_rank_cutoff(10)
    assert isinstance(fused, pt.Transformer) and student.apply_attributes(loss="list_net").loss == "list_net"
    assert pickle.loads(pickle.dumps(student)) == student
    assert pt.inspect.transformer_inputs(student) == [["qid", "query", "docno", "text"]]


def test_options_of_the_scorer_are_those_of_training_and_of_ranking(start, tmp_path):
    reading = {"query_template": "{query}:", "max_doc_tokens": 4}
    student = made("cross-encoder", tmp_path, start, max_length=20, reading=reading)
    student.fit(candidates(topics()), labels(topics()))
    assert student.load().scorer == CrossEncoder(str(tmp_path), max_length=20, **reading)
    assert ideal(student(candidates(topics())))
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["model_max_length"] == 20


def test_the_depth_is_what_is_learnt_from_and_reranked(start, tmp_path):
    student = made("cross-encoder", tmp_path, start, depth=2)
    student.distill(Counting(), topics())
    [path] = tmp_path.glob("teacher-*.jsonl")
    assert {len(one.docs) for one in StoredLists(path)} == {2}
    assert student(candidates(topics()))["text"].tolist()[2::3] == [WORDS[2]] * 4  # the third stays where it was
