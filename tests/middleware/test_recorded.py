"""``Recorded``: a log that people, and ``Replay``, can read."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from fake_models import HashModel
from fakes import PerfectScorer
from tiny import CHATML, byte_tokenizer, decoder, local

from pyterrier_llmrank import Rerank
from pyterrier_llmrank.core import Answer, Doc, Evidence, Message, Prompt, Question, Usage
from pyterrier_llmrank.errors import ConfigurationError, LLMRankWarning, ReplayMiss
from pyterrier_llmrank.middleware import Cached, Recorded, StorageError
from pyterrier_llmrank.models import ReplayedModel, Sampling
from pyterrier_llmrank.parts import is_model
from pyterrier_llmrank.prompts import LabelLogit, ListPrompt, YesNo
from pyterrier_llmrank.scorers import Prompted, QueryLikelihood, Replay
from pyterrier_llmrank.strategies import SlidingWindow

pytestmark = pytest.mark.filterwarnings("ignore::pyterrier_llmrank.errors.LLMRankWarning")
NAN = float("nan")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.jsonl"


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def frame(n=12):
    texts = [str((i * 7) % 11) for i in range(n)]
    return pd.DataFrame(
        {"qid": "q1", "query": "why é?", "docno": [f"d{i}" for i in range(n)], "text": texts, "rank": range(n)}
    )


def question(qid="q1", texts="12"):
    return Question("why", tuple(Doc(f"d{i}", text) for i, text in enumerate(texts)), qid)


def asked(text, answer=""):
    return Prompt((Message("system", "Be brief."), Message("user", text)), answer=answer)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_recorded_run_is_replayed(path, legacy):
    scorer = Prompted(ListPrompt(), HashModel(), max_tokens=12)  # whose answers leave documents out
    run = Rerank(SlidingWindow(4, 2), Recorded(scorer, path))
    first = run(frame())
    again = Rerank(SlidingWindow(4, 2), Replay.read(path, gives=scorer.gives, legacy=legacy))
    pd.testing.assert_frame_equal(again(frame()), first)
    usage, total = again.ledger.total.usage, run.ledger.total.usage
    assert (usage.calls, usage.prompt_tokens, usage.output_tokens) == (
        total.calls,
        total.prompt_tokens,
        total.output_tokens,
    )


def test_a_line_tells_question_answer_and_cost(path):
    Recorded(PerfectScorer(), path)([question(), question("q2", "7")])
    first, second = lines(path)
    assert first.pop("seconds") > second.pop("seconds") > 0  # shared out by tokens
    assert first == {
        "qid": "q1",
        "query": "why",
        "docnos": ["d0", "d1"],
        "scores": [1.0, 2.0],
        "calls": 1,
        "prompt_tokens": 20,
        "cached_tokens": 0,
        "output_tokens": 0,
        "failures": 0,
        "repaired": 0,
        "truncated_tokens": 0,
        "cached_calls": 0,
    }
    assert (second["qid"], second["scores"], second["prompt_tokens"]) == ("q2", [7.0], 10)


def test_no_answer_is_null(path):
    @dataclass(frozen=True)
    class Half:
        gives, max_docs = Evidence.SCORE, None

        def __call__(self, questions):
            return [Answer(np.array([0.5, NAN]), Usage(1)) for _ in questions]

    Recorded(Half(), path)([question()])
    [line] = lines(path)
    assert line["scores"] == [0.5, None]
    [again] = Replay.read(path)([question()])
    assert again.scores[0] == 0.5 and np.isnan(again.scores[1])


def test_a_model_is_recorded_with_prompt_and_answer(path):
    model = Recorded(HashModel(), path)
    [choice] = model.choices([asked("is it?", "So")], [("Yes", "No")])
    [read] = model.continuation([asked("d")], ["abc"])
    [text] = model.generate([asked("list")], max_tokens=9, sampling=Sampling(0.5), seeds=[7])
    first, second, third = lines(path)
    assert first["prompt"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "is it?"}]
    assert (first["primitive"], first["begins"], first["raw"]) == ("choices", "So", False)
    assert first["answer"] == dict(zip(("Yes", "No"), choice.logprobs, strict=True)) and first["missing"] == []
    assert (second["text"], second["answer"]) == ("abc", read.logprobs.tolist())
    assert (third["answer"], third["finish"], third["seed"]) == (text.text, "stop", 7)
    assert (third["max_tokens"], third["sampling"]) == (9, "Sampling(temperature=0.5, top_p=1.0, top_k=None)")
    assert (third["calls"], third["output_tokens"]) == (1, text.usage.output_tokens) and third["seconds"] > 0


def test_calls_add_to_the_log(path):
    for qid in ("q1", "q2"):
        Recorded(PerfectScorer(), path)([question(qid)])
    assert [line["qid"] for line in lines(path)] == ["q1", "q2"]


def test_any_text_is_one_line(path):
    text = "two\nlines \u2028 é \U0001f431 \ud800 \x85"
    Recorded(PerfectScorer(), path)([question(text)])
    [line] = lines(path)
    assert line["qid"] == text


@dataclass(frozen=True)
class Breaking:
    gives = Evidence.SCORE
    max_docs = None

    def __call__(self, questions):
        error = ConnectionError("the server went away")
        error.finished = (questions, {0: Answer(np.array([1.0, 2.0]), Usage(1))})
        raise error


def test_answers_that_a_failure_carries_are_recorded(path):
    with pytest.raises(ConnectionError):
        Recorded(Breaking(), path)([question(), question("q2")])
    assert [line["qid"] for line in lines(path)] == ["q1"]


def test_what_came_from_a_cache_is_recorded_outside_of_it_only(path, tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    scorer = Recorded(Cached(Recorded(PerfectScorer(), inside), tmp_path / "answers"), outside)
    for _ in range(2):
        scorer([question()])
    assert [line["calls"] for line in lines(inside)] == [1]
    assert [line["calls"] for line in lines(outside)] == [1, 0]


MODELS = {
    "labels": lambda model: Prompted(YesNo(), model),
    "labels by logits": lambda model: Prompted(LabelLogit("Query: {query}\nDocument: {text}\nRelevant:", "Yes"), model),
    "written": lambda model: Prompted(ListPrompt(), model),
    "held": lambda model: Prompted(ListPrompt(decode="constrained"), model),
    "drawn": lambda model: Prompted(ListPrompt(), model, max_tokens=12, sampling=Sampling(0.7), seed=3),
    "read": lambda model: QueryLikelihood(model),
}


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_a_recorded_model_is_replayed_in_its_place(build, path):
    asked = [question(f"q{i}", "1234") for i in range(3)]
    first = build(Recorded(HashModel(), path))(asked)
    replay = Replay.read(path)
    assert isinstance(replay, ReplayedModel) and is_model(replay)
    for one, again in zip(first, build(replay)(asked), strict=True):
        assert (again.scores.tobytes(), again.usage) == (one.scores.tobytes(), one.usage)


def test_what_a_model_said_is_replayed_exactly(path):
    model, prompts = Recorded(HashModel(), path), [asked("a"), asked("b", "So")]
    calls = [
        lambda one: one.choices(prompts, [("Yes", "No"), ("A", "B", "C")]),
        lambda one: one.continuation(prompts, ["x", "yz"]),
        lambda one: one.generate(prompts, max_tokens=9, stop=("]",)),
        lambda one: one.generate(prompts, max_tokens=9, sampling=Sampling(0.5), seeds=[1, 2]),
    ]
    told = [call(model) for call in calls]
    replay = pickle.loads(pickle.dumps(replace(Replay.read(path))))
    assert repr([call(replay) for call in calls]) == repr(told)
    assert replay.can == {"choices", "continuation", "generate"}


def test_of_limits_the_same_is_replayed_and_else_the_last(path):
    for limit in (3, 9):
        Recorded(HashModel(), path).generate([asked("a")], max_tokens=limit)
    replay = Replay.read(path)
    assert [len(replay.generate([asked("a")], max_tokens=n)[0].text) for n in (3, 9, 5)] == [3, 9, 9]


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda one: one.choices([asked("why not")], [("Yes", "No")]), "'why not'"),
        (lambda one: one.choices([asked("why")], [("A", "B")]), r"\('A', 'B'\); it was with other arguments"),
        (lambda one: one.generate([asked("why")], max_tokens=3), "'generate'"),
    ],
)
def test_a_prompt_that_was_not_recorded_is_a_miss_that_names_it(ask, told, path):
    Recorded(HashModel(), path).choices([asked("why")], [("Yes", "No")])
    with pytest.raises(ReplayMiss, match=told):
        ask(Replay.read(path))


def test_a_replayed_model_shortens_documents_as_the_recorded_one_did(path, tmp_path):
    model = local(decoder(tmp_path / "tiny", byte_tokenizer(chat=CHATML)))
    questions = [question(texts=["the cat " * 200, "short"])]
    [first] = Prompted(ListPrompt(), Recorded(model, path), max_tokens=8)(questions)
    with pytest.raises(ReplayMiss, match="shortened, give the model"):
        Prompted(ListPrompt(), Replay.read(path), max_tokens=8)(questions)
    [again] = Prompted(ListPrompt(), Replay.read(path, model=model), max_tokens=8)(questions)
    assert repr(again) == repr(first) and first.usage.truncated_tokens


def test_a_log_of_a_model_that_is_mixed_with_another_is_refused(path):
    Recorded(HashModel(), path).choices([asked("why")], [("Yes", "No")])
    Recorded(PerfectScorer(), path)([question()])
    with pytest.raises(ConfigurationError, match=r"record 2 of .* is not of a model"):
        Replay.read(path)


def test_a_log_that_went_on_after_a_torn_line_is_replayed(path):
    path.write_text('{"qid": "q0", "doc')
    Recorded(PerfectScorer(), path)([question()])
    with pytest.warns(LLMRankWarning, match="1 of 2 lines"):
        [again] = Replay.read(path)([question()])
    assert again.scores.tolist() == [1.0, 2.0]


def test_after_a_torn_line_the_log_goes_on_with_a_new_one(path):
    path.write_text('{"qid": "q0", "doc')
    Recorded(PerfectScorer(), path)([question()])
    torn, whole = path.read_text().splitlines()
    assert torn == '{"qid": "q0", "doc' and json.loads(whole)["qid"] == "q1"


@pytest.mark.parametrize("place", [".", "file/log.jsonl"])
def test_a_log_that_cannot_be_written_is_told_and_costs_no_answer(tmp_path, place):
    (tmp_path / "file").write_text("x")
    scorer = PerfectScorer()
    with pytest.raises(StorageError, match=r"the log .* cannot be written .* give another path"):
        Cached(Recorded(scorer, tmp_path / place), tmp_path / "answers")([question()])
    [kept] = Cached(scorer, tmp_path / "answers")([question()])
    assert kept.scores.tolist() == [1.0, 2.0] and scorer.calls == 1
