"""Several servers of one model: the same answers as of one, whoever dies."""

from __future__ import annotations

import asyncio
import pickle
import socket
import threading
from contextlib import ExitStack

import numpy as np
import pytest
from fake_server import VLLM, Hosted, Server, chat_answer, chatty
from tiny import ask

from pyterrier_llmrank.core import Doc, Question
from pyterrier_llmrank.errors import (
    AccessDenied,
    BudgetSpent,
    ConfigurationError,
    ModelNotFound,
    PromptTooLong,
    ServerError,
)
from pyterrier_llmrank.models import OpenAIModel, Sampling, as_model
from pyterrier_llmrank.models.http import fleet
from pyterrier_llmrank.scorers import RerankEndpoint

SOON = {"retry-after-ms": "10"}
QUICK = {"retries": 1, "max_failures": 2, "timeout": 5.0}
LABELS = ("Yes", "No")


def prompts(n):
    return [ask(f"{'an instruction ' * 9} query {i // 5} {'and its words ' * 5} passage {i}") for i in range(n)]


def nobody():
    """A server that is not there."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}/v1"


def upper(text):
    return text.upper()[-12:]


@pytest.fixture
def servers():
    """Starts servers: ``servers(answer, …)``, each with a fault of its own where a pair is given."""
    with ExitStack() as stack:
        yield lambda *answers: [
            stack.enter_context(Server(*one) if isinstance(one, tuple) else Server(one)) for one in answers
        ]


def dying(after):
    """A fault: the server answers so many requests about passages, then none of any kind."""
    left = [after]

    def fault(path, body, times):
        if left[0] <= 0:
            return (500, SOON)
        left[0] -= "passage" in str(body)
        return None

    return fault


def chats(server):
    return sum("passage" in one for one in server.asked)


# The same answers


def test_several_servers_answer_as_one_in_every_primitive(language, tokenizer, servers):
    urls = [server.url for server in servers(*[VLLM(language) for _ in range(3)])]
    one, several = (OpenAIModel("tiny", url, tokenizer=tokenizer) for url in (urls[0], urls))
    asked = prompts(60)
    told = []
    for model in (one, several):
        choices = model.choices(asked, [LABELS] * len(asked))
        along = model.continuation(asked, ["the cat"] * len(asked))
        drawn = model.generate(asked, max_tokens=3, sampling=Sampling(), seeds=range(len(asked)))
        told.append((choices, along, [*model.generate(asked, max_tokens=3), *drawn]))
    for kind in (0, 1):
        for left, right in zip(told[0][kind], told[1][kind], strict=True):
            np.testing.assert_array_equal(left.logprobs, right.logprobs)
            assert left.usage == right.usage
    assert told[0][2] == told[1][2]
    assert (several.can, several.context, several.lengths(asked)) == (one.can, one.context, one.lengths(asked))


def test_all_servers_work_and_each_is_probed(servers):
    three = servers(*[chatty(upper)] * 3)
    OpenAIModel("tiny", [server.url for server in three]).generate(prompts(300), max_tokens=4)
    assert sum(map(chats, three)) == 300 and all(chats(server) >= 20 for server in three)
    assert all(server.count("/v1/models") == 1 for server in three)


def test_prompts_of_a_query_go_to_one_server(servers):
    two = servers(*[chatty(upper)] * 2)
    model = OpenAIModel("tiny", [server.url for server in two])
    for _ in range(3):  # however often it is asked
        model.generate(prompts(5), max_tokens=4)
    other, home = sorted(map(chats, two))
    assert other <= 6 and home == 15 - other  # all but what is over its share, which whoever is idle takes


def test_an_idle_server_takes_over_what_waits_for_a_slow_one(servers):
    def slow(path, body):
        async def late():
            await asyncio.sleep(0.1)
            return chat_answer(upper(body["messages"][-1]["content"]))[1]

        return (200, late()) if path.endswith("/completions") else chatty(upper)(path, body)

    late, quick = servers(slow, chatty(upper))
    model = OpenAIModel("tiny", [late.url, quick.url], concurrency=4)
    written = model.generate(prompts(200), max_tokens=4)
    assert [one.text for one in written] == [upper(prompt.messages[0].content) for prompt in prompts(200)]
    assert chats(quick) > 1.5 * chats(late)


# Servers that die


@pytest.mark.parametrize("after", [0, 1, 7, 40])
def test_what_a_dead_server_leaves_the_others_do(servers, after):
    bad, good = servers((chatty(upper), dying(after)), chatty(upper))
    model = OpenAIModel("tiny", [bad.url, good.url], **QUICK)
    model.load()
    written = model.generate(prompts(120), max_tokens=4)
    assert [one.text for one in written] == [upper(prompt.messages[0].content) for prompt in prompts(120)]
    assert not any(one.usage.failures for one in written)
    answered = [key for server in (bad, good) for key in server.answered.elements() if "passage" in key]
    assert len(answered) == len(set(answered)) == 120  # nothing that was answered is asked again


def test_a_server_that_was_never_there_is_left_out(servers, caplog):
    [good] = servers(chatty(upper))
    gone = nobody()
    model = OpenAIModel("tiny", [gone, good.url], **QUICK)
    assert [one.text for one in model.generate(prompts(9), max_tokens=4)] == [
        upper(prompt.messages[0].content) for prompt in prompts(9)
    ]
    assert f"{gone} is left out for 60 s" in caplog.text


def test_a_server_that_is_back_is_asked_again(servers, monkeypatch):
    monkeypatch.setattr(fleet, "AWAY", 0.0)
    state = {"down": True}
    back, good = servers((chatty(upper), lambda *_: (500, SOON) if state["down"] else None), chatty(upper))
    model = OpenAIModel("tiny", [back.url, good.url], **QUICK)
    model.generate(prompts(60), max_tokens=4)
    assert not back.answered
    state["down"] = False
    model.generate(prompts(60), max_tokens=4)
    assert chats(back) > 10


def test_where_all_are_dead_the_error_carries_what_was_answered(servers):
    both = servers((chatty(upper), dying(10)), (chatty(upper), dying(10)))
    model = OpenAIModel("tiny", [server.url for server in both], concurrency=1, **QUICK)
    model.load()
    with pytest.raises(ServerError, match="2 requests in a row failed") as caught:
        model.generate(prompts(200), max_tokens=4)
    told = [one for one in caught.value.partial if one is not None]
    assert len(caught.value.partial) == 200 and len(told) == 20 and all(one.text for one in told)


def test_where_none_was_ever_there_it_is_no_model():
    with pytest.raises(ModelNotFound, match=r"no model 'tiny' to be had: .* cannot be reached"):
        OpenAIModel("tiny", [nobody(), nobody()], **QUICK).load()


def test_what_one_server_fails_to_answer_another_is_asked(servers):
    def fault(path, body, times):
        return (500, SOON) if "passage 7'" in str(body) else None

    odd, good = servers((chatty(upper), fault), chatty(upper))
    written = OpenAIModel("tiny", [odd.url, good.url], retries=0).generate(prompts(40), max_tokens=4)
    assert all(one.text for one in written) and not any(one.usage.failures for one in written)


def test_what_no_server_answers_is_a_failure_and_no_more(servers):
    def fault(path, body, times):
        return (500, SOON) if "passage 7'" in str(body) else None

    both = servers((chatty(upper), fault), (chatty(upper), fault))
    written = OpenAIModel("tiny", [server.url for server in both], retries=0).generate(prompts(40), max_tokens=4)
    assert [one.usage.failures for one in written] == [int(i == 7) for i in range(40)]


def test_many_threads_may_ask_at_once(servers):
    """As the driver does that lets each query go on by itself."""
    both = servers((chatty(upper), dying(30)), chatty(upper))
    model, found = OpenAIModel("tiny", [server.url for server in both], **QUICK), {}

    def run(i):
        found[i] = [one.text for one in model.generate(prompts(60)[5 * i : 5 * i + 5], max_tokens=4)]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [text for i in range(12) for text in found[i]] == [
        upper(prompt.messages[0].content) for prompt in prompts(60)
    ]
    assert model._fleet._loads == [0, 0]


# What must not be hidden


def test_a_wrong_key_at_one_server_is_said(servers):
    both = servers(chatty(upper), lambda path, body: (401, {"error": {"message": "no"}}))
    with pytest.raises(AccessDenied, match="without a key"):
        OpenAIModel("tiny", [server.url for server in both]).load()


def test_a_server_with_another_model_is_said(servers, language):
    other = VLLM(language)
    other.knows_names, other.on_models = False, lambda body: (200, {"data": [{"id": "another"}]})
    both = servers(VLLM(language), other)
    with pytest.raises(ModelNotFound, match=rf"{both[1].url} has no model 'tiny', but 'another'"):
        OpenAIModel("tiny", [server.url for server in both]).load()


def test_servers_that_tell_labels_in_different_ways_are_refused(servers, language, tokenizer):
    both = servers(VLLM(language), Hosted(language))
    with pytest.raises(ConfigurationError, match="tell log-probabilities in different ways"):
        OpenAIModel("tiny", [server.url for server in both], tokenizer=tokenizer).load()


def test_a_prompt_that_is_too_long_is_said_at_once(servers, tokenizer, language):
    both = servers(VLLM(language), VLLM(language))
    model = OpenAIModel("tiny", [server.url for server in both], tokenizer=tokenizer, max_length=200)
    with pytest.raises(PromptTooLong, match="exceeds the 200 tokens"):
        model.choices([*prompts(3), ask("word " * 600)], [LABELS] * 4)


def test_servers_share_one_budget(servers):
    both = servers(chatty(upper), chatty(upper))
    model = OpenAIModel("tiny", [server.url for server in both], budget=4000)
    with pytest.raises(BudgetSpent, match="budget of 4000 tokens"):
        model.generate(prompts(400), max_tokens=4)
    assert model.spent == 12 * sum(server.count("/v1/chat/completions") for server in both) <= 4000


# Arguments


def test_a_list_of_servers_is_a_value(servers):
    urls = ["http://a:1", "http://b:1/v1"]
    model = OpenAIModel("tiny", urls, concurrency=3)
    assert model.base_url == ("http://a:1/v1", "http://b:1/v1")
    assert eval(repr(model)) == model == as_model("openai:tiny base_url=http://a:1,http://b:1 concurrency=3")
    assert OpenAIModel("tiny", urls[:1]) == OpenAIModel("tiny", urls[0])
    [server] = servers(chatty(upper))
    used = OpenAIModel("tiny", [server.url, nobody()], **QUICK)
    used.generate(prompts(3), max_tokens=4)
    assert pickle.loads(pickle.dumps(used)) == used


@pytest.mark.parametrize("urls", [[], (), [1], None, ["http://a", None]])
def test_what_is_no_list_of_servers_is_refused(urls):
    with pytest.raises(ConfigurationError, match="base_url must be a URL, or a list of at least one"):
        OpenAIModel("tiny", urls)


def test_a_server_that_is_named_twice_is_refused():
    with pytest.raises(ConfigurationError, match="names http://a/v1 twice"):
        OpenAIModel("tiny", ["http://a", "http://b", "http://a/v1/"])


# Rerank endpoints


def reranking(path, body):
    scores = [float(sum(map(ord, text)) % 97) for text in body["documents"]]
    return 200, {
        "results": [{"index": i, "relevance_score": score} for i, score in enumerate(scores)],
        "usage": {"total_tokens": 9},
    }


def test_rerank_endpoints_share_out_too(servers):
    asked = [Question(f"query {i}", tuple(Doc(str(j), f"passage {i} {j}") for j in range(i % 7))) for i in range(60)]
    alone, good, bad = servers(reranking, reranking, (reranking, dying(9)))
    wanted = RerankEndpoint("m", alone.url, docs_per_request=2)(asked)
    found = RerankEndpoint("m", [bad.url, good.url], docs_per_request=2, **QUICK)(asked)
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
        assert one.usage == other.usage
    assert good.answered and bad.answered
