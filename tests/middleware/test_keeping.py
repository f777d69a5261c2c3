"""What is kept while a call is under way."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest
from fake_models import HashModel
from fake_server import VLLM, Random, Server, chat_answer
from fakes import PerfectScorer
from tiny import CHATML, ask, byte_tokenizer

from pyterrier_llmrank.core import Doc, Question
from pyterrier_llmrank.middleware import Budgeted, Cached, Recorded, Retrying, StorageError, keeping
from pyterrier_llmrank.middleware.store import Store
from pyterrier_llmrank.models import ChoiceScores, OpenAIModel

LABELS = ("Yes", "No")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.sqlite"


def questions(n):
    return [Question(f"query {i}", (Doc("d", str(i)),), f"q{i}") for i in range(n)]


def test_some_dozens_of_questions_are_one_call(path):
    scorer = PerfectScorer()
    Cached(scorer, path)(questions(keeping.LEAST))
    assert [len(asked) for asked in scorer.rounds] == [keeping.LEAST]


def test_what_is_fast_is_asked_in_ever_larger_chunks_and_answered_in_order(path):
    scorer, asked = PerfectScorer(), questions(5_000)
    answers = Cached(scorer, path)(asked)
    assert [len(one) for one in scorer.rounds] == [64, 256, 1024, 3656]
    bare = PerfectScorer()(asked)
    assert [(one.scores.tolist(), one.usage) for one in answers] == [(one.scores.tolist(), one.usage) for one in bare]


def test_what_is_slow_is_asked_in_chunks_of_some_seconds(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(keeping.time, "perf_counter", lambda: now[0])
    sizes = []
    for chunk in keeping.timed(1_000, PerfectScorer()):
        sizes.append(chunk.stop - chunk.start)
        now[0] += 0.1 * sizes[-1]  # 10 a second
    assert sizes[:3] == [64, 100, 100]


def test_a_server_has_several_requests_for_each_that_it_takes_at_once(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(keeping.time, "perf_counter", lambda: now[0])
    sizes = []
    for chunk in keeping.timed(2_000, Recorded(OpenAIModel("tiny", "http://a/v1", concurrency=100), "log")):
        sizes.append(chunk.stop - chunk.start)
        now[0] += 1e3
    assert sizes[:2] == [400, 400]


class Held(Server):
    """Answers all but what says "last" until it is released."""

    def __init__(self, answer):
        super().__init__(self.hold)
        self.says, self.free = answer, threading.Event()

    def hold(self, path, body):
        status, said = self.says(path, body)

        async def late():
            while "last" in self.texts(body) and not self.free.is_set():
                await asyncio.sleep(0.005)
            return said

        return status, late()

    def texts(self, body):
        return str(body)


def chats(path, body):
    return (200, {"data": [{"id": "tiny"}]}) if path == "/v1/models" else chat_answer("[2] > [1]")


def kept_meanwhile(server, cached, call):
    """Answers in the file before the last one was given."""
    answers = []
    thread = threading.Thread(target=lambda: answers.extend(call(cached)))
    thread.start()
    until, n = time.monotonic() + 10, 0
    while n < 7 and time.monotonic() < until:
        time.sleep(0.02)
        n = len(Store(str(cached.path)))
    time.sleep(2 * keeping.SOON)
    n = len(Store(str(cached.path)))
    server.free.set()
    thread.join()
    return n, answers


PROMPTS = [ask(f"text {i}") for i in range(7)] + [ask("last")]
WRAPS = {
    "bare": lambda model, folder: model,
    "retrying": lambda model, folder: Retrying(model),
    "recorded": lambda model, folder: Recorded(model, folder / "log"),
    "budgeted": lambda model, folder: Budgeted(model, calls=100),
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_what_a_server_has_answered_is_kept_while_it_answers(wrap, path, tmp_path):
    with Held(chats) as server:
        model = OpenAIModel("tiny", server.url, concurrency=4)
        cached = Cached(wrap(model, tmp_path), path)
        cached.load()
        n, answers = kept_meanwhile(server, cached, lambda one: one.generate(PROMPTS, max_tokens=9))
        assert n == 7 and len(answers) == 8 == len(Store(str(path)))
        asked = len(server.asked)
        again = Cached(model, path).generate(PROMPTS, max_tokens=9)
        assert [one.text for one in again] == [one.text for one in answers] and len(server.asked) == asked


def test_what_one_of_several_servers_has_answered_is_kept(path):
    with Held(chats) as one, Held(chats) as other:
        other.free = one.free
        cached = Cached(OpenAIModel("tiny", [one.url, other.url]), path)
        n, answers = kept_meanwhile(one, cached, lambda model: model.generate(PROMPTS, max_tokens=9))
        assert n == 7 and len(answers) == 8


CALLS = {
    "choices": lambda model: model.choices(PROMPTS, [LABELS] * 8),
    "choices of a common beginning": lambda model: model.choices(PROMPTS, [("[A", "[B")] * 8),
    "continuation": lambda model: model.continuation(PROMPTS, [" it"] * 8),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_labels_and_texts_are_kept_as_they_are_told(call, path, tmp_path, monkeypatch):
    monkeypatch.setattr("pyterrier_llmrank.models.http.asking.PER_REQUEST", 1)
    tokenizer = byte_tokenizer(chat=CHATML)
    tokenizer.save_pretrained(tmp_path / "tokens")

    class Tokens(Held):
        def texts(self, body):
            rows = body.get("prompt") if body else None
            return str([tokenizer.decode(ids) for ids in rows if ids] if isinstance(rows, list) else rows)

    engine = VLLM(Random(tokenizer))
    with Tokens(engine) as server:
        model = OpenAIModel("tiny", server.url, tokenizer=str(tmp_path / "tokens"))
        model.load()
        n, answers = kept_meanwhile(server, Cached(model, path), call)
        assert n == 7
        asked = len(server.asked)
        for one, other in zip(call(Cached(model, path)), answers, strict=True):
            assert one.logprobs.tobytes() == other.logprobs.tobytes()
        assert len(server.asked) == asked


@dataclass(frozen=True, repr=False)
class Calibrated(OpenAIModel):
    """Changes what it is told."""

    def choices(self, prompts, labels):
        return [ChoiceScores(one.logprobs + 1, one.missing, one.usage) for one in super().choices(prompts, labels)]


def test_what_a_class_makes_of_answers_is_kept_and_not_what_it_makes_them_of(path, tmp_path):
    tokenizer = byte_tokenizer(chat=CHATML)
    tokenizer.save_pretrained(tmp_path / "tokens")
    with Server(VLLM(Random(tokenizer))) as server:
        model = Calibrated("tiny", server.url, tokenizer=str(tmp_path / "tokens"))
        answers = [Cached(model, path).choices(PROMPTS, [LABELS] * 8) for _ in range(2)]
    for one, other in zip(*answers, strict=True):
        np.testing.assert_array_equal(one.logprobs, other.logprobs)


def test_a_file_that_cannot_be_written_is_told_at_the_end_of_the_call(path):
    with Held(chats) as server:
        server.free.set()
        cached = Cached(OpenAIModel("tiny", server.url), path)
        cached.load()
        cached._store._db.execute("PRAGMA query_only = 1")
        with pytest.raises(StorageError, match="cannot be used"):
            cached.generate(PROMPTS, max_tokens=9)
        cached._store._db.execute("PRAGMA query_only = 0")
        asked = len(server.asked)
        assert len(cached.generate(PROMPTS, max_tokens=9)) == 8 and len(server.asked) == asked


def test_a_model_that_runs_here_tells_of_nothing(path):
    model = HashModel()
    assert len(Cached(model, path).choices(PROMPTS, [LABELS] * 8)) == 8 and len(model.calls("choices")) == 1
