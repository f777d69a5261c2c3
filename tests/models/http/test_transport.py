"""Servers that fail, stall, drop connections and limit rates: everything is answered, and nothing is asked in vain."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
import zlib

import numpy as np
import pandas as pd
import pytest
from fake_server import VLLM, Hosted, Server, chat_answer, chatty
from tiny import ask

from pyterrier_llmrank import ListPrompt, Prompted, Rerank, SlidingWindow
from pyterrier_llmrank.core import Usage
from pyterrier_llmrank.errors import BudgetSpent, ServerError
from pyterrier_llmrank.middleware import Budgeted
from pyterrier_llmrank.models import OpenAIModel, Sampling
from pyterrier_llmrank.models.http.limits import duration, held

QUICK = {"timeout": 0.5, "deadline": 20.0, "retries": 6}
SOON = {"retry-after-ms": "20"}


def backwards(text):
    """An answer that depends on the prompt."""
    return f"{zlib.crc32(text.encode())}"


def prompts(n):
    return [ask(f"prompt {i}") for i in range(n)]


def chance(key):
    """A number from 0 to 1 that depends on a text alone."""
    return zlib.crc32(key.encode()) / 2**32


def unlucky(path, body, times):
    """Fails a tenth of all requests, stalls one in fifty, and drops some connections, all at the first attempt."""
    draw = chance(str(body))
    if "zebra" not in str(body):  # not while the server is got to know
        return None
    if times == 0:
        faults = [(0.06, (500, SOON)), (0.10, (429, SOON)), (0.12, "stall"), (0.15, "drop"), (0.16, "half")]
        return next((fault for below, fault in faults if draw < below), None)
    return (503, SOON) if times == 1 and draw < 0.02 else None


def window(text):
    """A ranking of twenty passages."""
    order = np.random.default_rng(zlib.crc32(text.encode())).permutation(20) + 1
    return " > ".join(f"[{i}]" for i in order)


def test_a_thousand_windows_survive_a_bad_server_in_the_undisturbed_order():
    frame = pd.DataFrame(
        [
            {"qid": str(q), "query": f"query {q}", "docno": f"{q}-{i}", "text": f"zebra {i} of {q}", "score": 50.0 - i}
            for q in range(250)
            for i in range(50)
        ]
    )
    runs = []
    for fault in (lambda *_: None, unlucky):
        with Server(chatty(window), fault) as server:
            # a busy machine answers late, too: what is answered within the time must not look like a stall
            model = OpenAIModel("tiny", server.url, **(QUICK | {"timeout": 2.0, "deadline": 60.0}))
            reranker = Rerank(SlidingWindow(20, 10), Prompted(ListPrompt(), model))
            runs.append(reranker(frame))
            ledger = reranker.ledger.frame()
            windows = [key for key in server.answered if "zebra" in key]
            assert len(windows) == 1000 and all(server.answered[key] == 1 for key in windows)
            assert ledger["calls"].sum() == 1000 and not ledger["failures"].sum()
            assert server.most <= 64
            asked = sum("zebra" in key for key in server.asked)
            assert asked == 1000 if fault is not unlucky else 1100 < asked < 1300
    pd.testing.assert_frame_equal(*runs)


def test_answers_come_in_the_order_of_the_prompts_however_late():
    def answer(path, body):
        async def late():
            await asyncio.sleep(chance(str(body)) / 20)
            return chat_answer(backwards(body["messages"][-1]["content"]))[1]

        return (200, late()) if path.endswith("/completions") else (404, {})

    with Server(answer) as server:
        written = OpenAIModel("tiny", server.url).generate(prompts(100), max_tokens=4)
    assert [one.text for one in written] == [backwards(f"prompt {i}") for i in range(100)]


def test_no_more_requests_are_under_way_than_allowed():
    def answer(path, body):
        async def late():
            await asyncio.sleep(0.02)
            return chat_answer("x")[1]

        return (200, late()) if path.endswith("/completions") else (404, {})

    with Server(answer) as server:
        OpenAIModel("tiny", server.url, concurrency=3).generate(prompts(30), max_tokens=4)
        assert server.most == 3


def test_it_works_where_a_loop_runs_already_and_from_many_threads():
    with Server(chatty(backwards)) as server:
        model = OpenAIModel("tiny", server.url)

        async def notebook():
            return model.generate(prompts(3), max_tokens=4)

        assert len(asyncio.run(notebook())) == 3
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(model.generate(prompts(20), max_tokens=4))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8 and all(one == found[0] for one in found)


def test_a_request_that_always_fails_leaves_its_prompt_without_an_answer():
    def fault(path, body, times):
        return (500, SOON) if body and "prompt 7" in str(body) else None

    with Server(chatty(backwards), fault) as server:
        written = OpenAIModel("tiny", server.url, retries=2).generate(prompts(12), max_tokens=4)
    assert [one.usage.failures for one in written] == [int(i == 7) for i in range(12)]
    assert written[7].text == "" and all(one.text for i, one in enumerate(written) if i != 7)


def test_what_a_server_refuses_in_a_batch_is_asked_prompt_by_prompt(language, tokenizer):
    [bad] = language.tokenizer([language.chat([{"role": "user", "content": "prompt 7"}])])["input_ids"]
    refuse = lambda ids: 400 if ids == bad else None  # noqa: E731
    with Server(VLLM(language, refuse=refuse)) as server:
        model = OpenAIModel("tiny", server.url, tokenizer=tokenizer)
        read = model.choices(prompts(12), [("Yes", "No")] * 12)
    assert [one.missing.all() for one in read] == [i == 7 for i in range(12)]
    assert [one.usage.failures for one in read] == [int(i == 7) for i in range(12)]


def test_an_answer_that_is_no_json_is_no_answer():
    def fault(path, body, times):
        return "html" if body and "prompt 1" in str(body) else None

    with Server(chatty(backwards), fault) as server:
        written = OpenAIModel("tiny", server.url).generate(prompts(3), max_tokens=4)
    assert [one.usage.failures for one in written] == [0, 1, 0]


def test_too_many_failures_in_a_row_end_the_run_and_nothing_answered_is_lost():
    def fault(path, body, times):
        late = body and any(f"prompt {i}'" in str(body) for i in range(20, 200))
        return (500, SOON) if late else None

    with Server(chatty(backwards), fault) as server:
        model = OpenAIModel("tiny", server.url, retries=1, max_failures=4, concurrency=2)
        with pytest.raises(ServerError, match=r"4 requests in a row failed.*500: go away") as caught:
            model.generate(prompts(200), max_tokens=4)
        assert caught.value.retryable
        assert [one.text for one in caught.value.partial[:20]] == [backwards(f"prompt {i}") for i in range(20)]
        assert caught.value.partial[20:] == [None] * 180
        assert server.count("/v1/chat/completions") < 60


def test_a_stalled_server_ends_in_an_error_within_the_deadline():
    def fault(path, body, times):
        return "stall" if body and "prompt" in str(body) else None

    with Server(chatty(backwards), fault) as server:
        model = OpenAIModel("tiny", server.url, timeout=30.0, deadline=0.3, max_failures=1)
        began = time.perf_counter()
        with pytest.raises(ServerError, match=r"deadline=0.3 s"):
            model.generate(prompts(1), max_tokens=4)
        assert time.perf_counter() - began < 5


def test_the_budget_is_never_passed():
    with Server(chatty(backwards)) as server:
        model = OpenAIModel("tiny", server.url, budget=1000, concurrency=8)
        model.load()
        probed = model.spent
        with pytest.raises(BudgetSpent, match=r"budget of 1000 tokens .* was not sent") as caught:
            model.generate(prompts(200), max_tokens=4)  # at most 44 tokens each, 12 in truth
        assert model.spent == 12 * server.count("/v1/chat/completions") <= 1000 < model.spent + 44
        assert sum(one is not None for one in caught.value.partial) == (model.spent - probed) / 12 > 60

    with Server(chatty(backwards)) as server, pytest.raises(BudgetSpent):
        OpenAIModel("tiny", server.url, budget=9).load()
    assert not server.count("/v1/chat/completions")


def silent(path, body):
    """A server that says nothing of what answers cost."""
    status, said = chatty(backwards)(path, body)
    return status, {name: told for name, told in said.items() if name != "usage"}


def test_the_budget_holds_where_the_server_does_not_say_what_answers_cost():
    with Server(silent) as server:
        model = OpenAIModel("tiny", server.url, budget=4000, concurrency=8)
        model.load()
        probed, before = model.spent, server.count("/v1/chat/completions")
        with pytest.raises(BudgetSpent, match="budget of 4000 tokens"):
            model.generate(prompts(200), max_tokens=4)  # at most 45 tokens each
        asked = server.count("/v1/chat/completions") - before
    assert 0 < probed < model.spent <= 4000 < model.spent + 46 and asked == pytest.approx((4000 - probed) / 45, abs=3)


def test_an_answer_costs_what_is_estimated_where_the_server_does_not_say():
    with Server(silent) as server:
        model = OpenAIModel("tiny", server.url)
        written = model.generate(prompts(3), max_tokens=4)
        lengths = model.lengths(prompts(3))
        budgeted = Budgeted(model, tokens=400)
        with pytest.raises(BudgetSpent):
            for _ in range(20):
                budgeted.generate(prompts(1), max_tokens=4)
    assert [one.usage for one in written] == [Usage(1, length, 0, 4) for length in lengths]
    assert 300 < budgeted.spent.tokens <= 400


def test_an_answer_that_cannot_be_used_is_a_failure_that_cost_what_it_did():
    def filtered(path, body):
        return chat_answer(None, "content_filter", prompt_tokens=300, completion_tokens=10)

    with Server(filtered) as server:
        model = OpenAIModel("tiny", server.url, max_failures=9)
        written = model.generate(prompts(3), max_tokens=40)
        with pytest.raises(ServerError, match="9 requests in a row failed"):
            model.generate(prompts(30), max_tokens=40)
    assert {one.usage for one in written} == {Usage(1, 300, 0, 10, failures=1)}


def test_labels_that_are_not_told_cost_what_they_did(language):
    answer = Hosted(language)

    def forgetful(path, body):
        status, said = answer(path, body)
        if "forget" in str(body):
            said["choices"][0]["logprobs"] = None
        return status, said

    with Server(forgetful) as server:
        [one, other] = OpenAIModel("tiny", server.url).choices([ask("x"), ask("forget")], [("Yes", "No")] * 2)
    assert one.usage.failures == 0 and other.usage.failures == 1 and other.missing.all()
    assert other.usage.calls == 1 and other.usage.prompt_tokens > one.usage.prompt_tokens > 0


def test_a_used_up_rate_limit_holds_back_every_request():
    limit = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "400ms", "retry-after-ms": "400"}

    def fault(path, body, times):
        return (429, limit) if body and "prompt 0" in str(body) and not times else None

    with Server(chatty(backwards), fault) as server:
        model = OpenAIModel("tiny", server.url, concurrency=2)
        written = model.generate(prompts(20), max_tokens=4)
        assert all(one.text for one in written)
        limited = server.times[next(i for i, one in enumerate(server.asked) if "prompt 0" in one)]
        held_back = [time for time in server.times if time > limited + 0.1]  # all but the one that was under way
        assert len(held_back) >= 18 and min(held_back) > limited + 0.3


def test_how_long_a_rate_limit_lasts_is_read_from_headers():
    assert held({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2.5s"}) == 62.5
    assert held({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}) == 0.02
    assert held({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "9s"}) == 0
    assert held({}) == 0
    assert [duration(text) for text in ("6m0s", "2", "", "tomorrow")] == [360, 2, 0, 0]


def test_sampling_sends_a_seed_of_each_prompts_own():
    bodies = []

    def answer(path, body):
        bodies.append(body)
        return chatty(backwards)(path, body)

    with Server(answer) as server:
        model = OpenAIModel("tiny", server.url)
        model.load()
        bodies.clear()
        model.generate(
            prompts(3), max_tokens=9, stop=["\n", "###"], sampling=Sampling(0.7, 0.9, 5), seeds=[5, 2**62, 7]
        )
    assert sorted(body["seed"] for body in bodies) == [2**62 % 2**31, 5, 7]
    for body in bodies:
        assert (body["temperature"], body["top_p"], body["top_k"]) == (0.7, 0.9, 5)
        assert (body["max_tokens"], body["stop"]) == (9, ["\n", "###"])


def test_a_stop_text_ends_an_answer_also_where_the_server_ignores_it():
    with Server(chatty(lambda text: "one two three")) as server:
        [one] = OpenAIModel("tiny", server.url).generate(prompts(1), max_tokens=9, stop=["two"])
    assert (one.text, one.finish) == ("one ", "stop")


def test_it_travels_without_its_connections(monkeypatch):
    with Server(chatty(backwards)) as server:
        monkeypatch.setenv("SOME_KEY", "sk-secret-123456")
        model = OpenAIModel("tiny", server.url, key_env="SOME_KEY", extra={"reasoning_effort": "low"})
        model.load()
        assert b"secret" not in pickle.dumps(model) and "secret" not in repr(model)
        again = pickle.loads(pickle.dumps(model))
        assert again == model and eval(repr(model)) == model and hash(again) == hash(model)
        assert again.generate(prompts(1), max_tokens=4)[0].text == backwards("prompt 0")
        assert {one["Authorization"] for one in server.headers} == {"Bearer sk-secret-123456"}


def test_extra_fields_are_sent_with_every_completion():
    bodies = []

    def answer(path, body):
        bodies.append(body)
        return chatty(backwards)(path, body)

    with Server(answer) as server:
        OpenAIModel("tiny", server.url, extra={"reasoning_effort": "low"}).generate(prompts(1), max_tokens=4)
    asked = [body for body in bodies if body and "messages" in body]
    assert asked and all(body["reasoning_effort"] == "low" for body in asked)
