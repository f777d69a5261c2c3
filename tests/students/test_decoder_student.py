"""Decoders as students: taught by labels or a teacher, they answer prompts, and are checkpoints afterwards."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pyterrier as pt
import pytest
from cards import run_card
from tiny import byte_tokenizer, decoder

from pyterrier_llmrank import Heapsort, HFModel, ListPrompt, PairPrompt, Pointwise, PointwiseLLM, SetPrompt, YesNo
from pyterrier_llmrank.errors import ConfigurationError, ModelNotFound
from pyterrier_llmrank.prompts import OneMessage
from pyterrier_llmrank.strategies import SlidingWindow
from pyterrier_llmrank.students import DecoderStudent
from pyterrier_llmrank.training.learners import Lora
from pyterrier_llmrank.training.settings import Training

pytestmark = pytest.mark.filterwarnings("ignore:.*of its probability on the answers")  # random weights
TEXTS = ("wwww", "eeee", "ssss")  # the worst first
YES = YesNo("{query}{text}", raw=True)
LETTERS = ListPrompt(
    "letters", layout=OneMessage("{query}{passages}", document="[{label}]{text}", raw=True, answer="[")
)
PAIRS = PairPrompt(template="{query}{first}{second}", labels=("Yes", "No"), raw=True)
SETS = SetPrompt(layout=OneMessage("{query}{passages}", document="[{label}]{text}", raw=True, answer="["))
TOY = Training(50, batch_size=4, learning_rate=0.02, device="cpu")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    words = ["Ye", "Yes", "No"]
    return decoder(tmp_path_factory.mktemp("start"), byte_tokenizer(words=words), initializer_range=0.1)


def topics(n=4, first=0):
    return pd.DataFrame({"qid": [f"q{i}" for i in range(first, first + n)], "query": "?"})


def candidates(topics):
    rows = [(*row, f"{row[0]}{text}", text, -float(i), i) for row in topics.values for i, text in enumerate(TEXTS)]
    return pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "score", "rank"])


def labels(topics):
    return candidates(topics).assign(label=lambda frame: frame["text"].map(TEXTS.index))[["qid", "docno", "label"]]


def ideal(results):
    return all(rows["text"].tolist() == [*TEXTS[::-1]] for _, rows in results.groupby("qid"))


@pytest.mark.parametrize(("prompt", "learns"), [(YES, None), (LETTERS, "both")], ids=["yes-no", "first"])
def test_a_pipeline_is_fitted_ranks_better_and_leaves_a_checkpoint(start, tmp_path, prompt, learns):
    student = DecoderStudent(tmp_path, start, prompt, learns=learns, shuffled=0.5, training=TOY)
    pipeline = pt.apply.generic(candidates) >> student
    with pytest.raises(ModelNotFound, match="there is no trained model"):
        student(candidates(topics()))
    pipeline.fit(topics(), labels(topics()))
    new = topics(2, first=9)
    assert ideal(pipeline(new)) and len(student.history) == 50
    assert ideal(DecoderStudent(tmp_path, start, prompt)(candidates(new)))
    if prompt is YES:
        assert ideal(PointwiseLLM(HFModel(str(tmp_path), device="cpu"), prompt=YES)(candidates(new)))


def test_another_pipeline_teaches_adapters_and_the_best_weights_are_kept(start, tmp_path):
    pytest.importorskip("peft")
    teacher = pt.apply.generic(lambda queries: candidates(queries).assign(score=lambda f: f["text"].map(TEXTS.index)))
    training = Training(20, batch_size=4, learning_rate=0.02, device="cpu", evaluate_every=10)
    student = DecoderStudent(tmp_path, start, YES, lora=Lora(8, 16), training=training)
    student.distill(teacher, topics(), candidates(topics()), labels(topics()))
    assert ideal(student(candidates(topics(2, first=9))))
    measured = [row["measure"] for row in student.history if "measure" in row]
    assert measured[0] < 1 and max(measured) == pytest.approx(1.0)


@pytest.mark.parametrize("prompt", [YES, LETTERS, PAIRS, SETS], ids=["yes-no", "labels", "pairs", "sets"])
def test_the_best_weights_are_chosen_by_what_the_student_does_with_them(start, tmp_path, prompt):
    training = Training(4, batch_size=4, learning_rate=0.01, device="cpu", evaluate_every=2)
    student = DecoderStudent(tmp_path, start, prompt, training=training, measure="nDCG@3")
    student.fit(*(candidates(topics()), labels(topics())) * 2)
    [found] = pt.Evaluate(student(candidates(topics())), labels(topics()), ["ndcg_cut_3"]).values()
    assert found == pytest.approx(max(row["measure"] for row in student.history if "measure" in row))


@pytest.mark.parametrize(
    ("prompt", "learns"),
    [(LETTERS, None), (LETTERS, "both"), (PAIRS, None), (SETS, None)],
    ids=["labels", "first", "pairs", "sets"],
)
def test_a_teacher_does_not_give_its_answer_away(start, tmp_path, prompt, learns):
    """Its results are best first: a student that sees them so learns to leave everything as it is."""
    teacher = pt.apply.generic(lambda queries: candidates(queries).assign(score=lambda f: f["text"].map(TEXTS.index)))
    student = DecoderStudent(tmp_path, start, prompt, learns=learns, training=replace(TOY, steps=120))
    student.distill(teacher, topics())
    new = candidates(topics(3, first=9))
    assert ideal(student(new)) and ideal(student(new.assign(rank=2 - new["rank"])))


@pytest.mark.parametrize(
    ("prompt", "options"),
    [
        (YES, {"max_doc_tokens": 30}),
        (LETTERS, {"learns": "both", "strategy": SlidingWindow(3, 2)}),
        (PAIRS, {}),
    ],
    ids=["yes-no", "first", "pairs"],
)
def test_the_code_of_the_card_ranks_as_the_student_does(start, tmp_path, monkeypatch, prompt, options):
    student = DecoderStudent(tmp_path, start, prompt, training=Training(1, batch_size=2, device="cpu"), **options)
    student.fit(candidates(topics()), labels(topics()))
    reranker = run_card(tmp_path, monkeypatch)["reranker"]
    assert reranker.strategy == student.strategy
    pd.testing.assert_frame_equal(reranker(candidates(topics())), student(candidates(topics())))


def test_the_strategy_is_that_of_the_prompt():
    def usual(prompt):
        return DecoderStudent("nowhere", "start", prompt).strategy

    assert usual(None) == Pointwise() and usual(ListPrompt()) == SlidingWindow()
    assert usual(PairPrompt()) == Heapsort(2) and usual(SetPrompt()) == Heapsort(4)
    assert DecoderStudent("nowhere", "start", ListPrompt(), strategy=SlidingWindow(4, 2)).strategy == SlidingWindow(
        4, 2
    )
    with pytest.raises(ConfigurationError, match="loss must be one of"):
        DecoderStudent("nowhere", "start", loss="none")


@pytest.mark.parametrize(
    ("prompt", "strategy", "docs"),
    [
        (YES, None, None),
        (PAIRS, None, (2, 2)),
        (SETS, None, (4, 4)),
        (SETS, Heapsort(3), (3, 3)),
        (LETTERS, None, (20, 20)),
        (LETTERS, SlidingWindow(4, 2), (4, 4)),
    ],
)
def test_as_many_documents_are_shown_in_training_as_afterwards(prompt, strategy, docs):
    assert DecoderStudent("nowhere", "start", prompt, strategy=strategy).docs == docs
    assert DecoderStudent("nowhere", "start", prompt, strategy=strategy, docs=(2, 3)).docs == (2, 3)


def test_an_adapter_that_needs_its_base_is_refused_before_it_is_trained():
    with pytest.raises(ConfigurationError, match=r"an adapter that needs its base; leave out merged=False"):
        DecoderStudent("nowhere", "start", lora=Lora(merged=False))
