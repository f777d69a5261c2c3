"""Each kind of server is asked in the best way that it has, found out by asking; the numbers are those of its model."""

from __future__ import annotations

import numpy as np
import pytest
from fake_server import VLLM, Hosted, LlamaServer, Mute, Server, SGLang, Writing
from tiny import ask

from pyterrier_llmrank.errors import LabelError, ServerError, SeveralTokens, Unsupported
from pyterrier_llmrank.models import OpenAIModel
from pyterrier_llmrank.models.http.dialects import TopById, score_endpoint, token_ids

LABELS = ("Yes", "No", "A")
PROMPTS = [ask(f"Is the cat number {i} on the mat?", system="Be brief." if i % 2 else "") for i in range(7)]
BEGUN = [ask(f"Which is best, {i}?", answer="Label: (") for i in range(3)]
RAW = [ask(f"the cat {i}", raw=True) for i in range(3)]


@pytest.fixture
def serve():
    """Starts servers, and ends them."""
    running = []

    def start(answer):
        running.append(Server(answer).__enter__())
        return running[-1]

    yield start
    for server in running:
        server.__exit__()


def expected(language, prompt, labels):
    """Log-probabilities of labels that are single tokens after a prompt."""
    turns = [turn._asdict() for turn in prompt.messages]
    text = prompt.messages[-1].content if prompt.raw else language.chat(turns) + prompt.answer
    told = language.logprobs(language.ids(text, special=False))
    return [told[language.ids(label, special=False)[0]] for label in labels]


@pytest.mark.parametrize(
    ("kind", "by_id"),
    [(VLLM, token_ids), (LlamaServer, TopById), (SGLang, score_endpoint)],
    ids=["vllm", "llama", "sglang"],
)
@pytest.mark.parametrize("here", [True, False], ids=["tokenizer here", "the server's"])
def test_servers_that_know_token_ids_give_exact_values(serve, language, tokenizer, kind, by_id, here):
    if kind is SGLang and not here:
        pytest.skip("its tokenizer cannot be asked about chats")
    model = OpenAIModel("tiny", serve(kind(language)).url, tokenizer=tokenizer if here else None)
    assert {"choices", "generate"} <= model.can
    found = model._facts.by_id
    assert found is by_id or type(found) is by_id
    for prompts in (PROMPTS, BEGUN, RAW):
        for prompt, read in zip(prompts, model.choices(prompts, [LABELS] * len(prompts)), strict=True):
            np.testing.assert_allclose(read.logprobs, expected(language, prompt, LABELS), atol=1e-5)
            assert not read.missing.any()


def test_a_server_that_tells_nothing_after_half_of_a_character_does_not_write_one(serve, language, tokenizer):
    """llama-server, which otherwise leaves a whole request of many prompts without answers."""
    prompts = [ask(f"the cat {i}") for i in range(40)]
    chat = language.chat([turn._asdict() for turn in prompts[17].messages])
    half = int(np.argmax(language.logprobs(language.ids(chat, special=False))))
    server = serve(LlamaServer(language, halves=frozenset({half})))
    model = OpenAIModel("tiny", server.url, tokenizer=tokenizer)
    for prompt, read in zip(prompts, model.choices(prompts, [LABELS] * 40), strict=True):
        np.testing.assert_allclose(read.logprobs, expected(language, prompt, LABELS), atol=1e-5)
        assert not read.missing.any()


def test_many_prompts_travel_in_one_request_and_come_back_in_order(serve, language, tokenizer):
    server = serve(VLLM(language))
    model = OpenAIModel("tiny", server.url, tokenizer=tokenizer)
    model.load()
    before = server.count("/v1/completions")
    prompts = [ask(f"the cat {i}") for i in range(130)]
    read = model.choices(prompts, [LABELS] * 130)
    assert server.count("/v1/completions") - before == 3
    for prompt, one in zip(prompts, read, strict=True):
        np.testing.assert_allclose(one.logprobs, expected(language, prompt, LABELS), atol=1e-9)


def test_prompts_with_other_labels_are_read_with_their_own(serve, language, tokenizer):
    model = OpenAIModel("tiny", serve(VLLM(language)).url, tokenizer=tokenizer)
    labels = [LABELS[: 2 + i % 2] for i in range(len(PROMPTS))]
    for prompt, names, read in zip(PROMPTS, labels, model.choices(PROMPTS, labels), strict=True):
        np.testing.assert_allclose(read.logprobs, expected(language, prompt, names), atol=1e-9)


def test_what_all_labels_begin_with_is_a_part_of_their_probability(serve, language, tokenizer):
    model = OpenAIModel("tiny", serve(VLLM(language)).url, tokenizer=tokenizer)
    [prompt] = [ask("Which?")]
    [read] = model.choices([prompt], [("(A", "(B")])
    start = language.ids(language.chat([{"role": "user", "content": "Which?"}]), special=False)
    [bracket], [a], [b] = (language.ids(text, special=False) for text in ("(", "A", "B"))
    first, second = language.logprobs(start), language.logprobs([*start, bracket])
    np.testing.assert_allclose(read.logprobs, first[bracket] + second[[a, b]])
    assert read.usage.calls == 2


def test_more_labels_than_a_server_tells_of_at_once_are_asked_in_parts(serve, language, tokenizer):
    model = OpenAIModel("tiny", serve(VLLM(language)).url, tokenizer=tokenizer)
    ids = tuple(range(200))
    from pyterrier_llmrank.models.http.loop import run

    [read] = run(token_ids(model._wire, "tiny", [[5, 6, 7]], ids))
    np.testing.assert_allclose(read.logprobs, language.logprobs([5, 6, 7])[:200])


def test_llama_server_is_asked_for_its_whole_vocabulary_only_where_a_label_is_rare(serve, language, tokenizer):
    server = serve(LlamaServer(language))
    model = OpenAIModel("tiny", server.url, tokenizer=tokenizer)
    prompts = [ask(f"the cat {i}") for i in range(20)]
    read = model.choices(prompts, [LABELS] * 20)
    again = sum(one.usage.calls == 2 for one in read)
    assert 0 < again < 20 and all(one.usage.calls in (1, 2) for one in read)


def test_without_token_ids_an_absent_label_is_bounded_and_flagged(serve, language):
    model = OpenAIModel("tiny", serve(Hosted(language, top=5)).url)
    assert model.can == {"choices", "generate"} and model._facts.top == 5
    prompts = [ask(f"the cat {i}?") for i in range(60)]
    absent = 0
    for prompt, read in zip(prompts, model.choices(prompts, [LABELS] * 60), strict=True):
        told = np.array(expected(language, prompt, LABELS))
        np.testing.assert_allclose(read.logprobs[~read.missing], told[~read.missing])
        assert (read.logprobs[read.missing] >= told[read.missing]).all()
        absent += read.missing.sum()
    assert absent > 60  # of a random model, most are


def test_a_server_without_log_probabilities_says_so_before_anything_is_scored(serve, language):
    server = serve(Mute(language))
    model = OpenAIModel("tiny", server.url)
    assert model.can == {"generate"}
    with pytest.raises(Unsupported, match=r"tiny at http.*log-probabilities of its next token.*vLLM"):
        model.choices([ask("x")], [LABELS])
    with pytest.raises(Unsupported, match="echo"):
        model.continuation([ask("x")], ["y"])


def test_an_echo_that_is_off_by_one_is_found_out(serve, language, tokenizer):
    assert "continuation" in OpenAIModel("tiny", serve(VLLM(language)).url, tokenizer=tokenizer).can
    assert "continuation" not in OpenAIModel("tiny", serve(VLLM(language, echo_shift=1)).url, tokenizer=tokenizer).can


def test_continuations_are_read_token_by_token(serve, language, tokenizer):
    model = OpenAIModel("tiny", serve(VLLM(language)).url, tokenizer=tokenizer)
    texts = [f"the cat {i}" for i in range(len(PROMPTS))]
    for prompt, text, read in zip(PROMPTS, texts, model.continuation(PROMPTS, texts), strict=True):
        start = language.ids(language.chat([turn._asdict() for turn in prompt.messages]), special=False)
        own = language.ids(text, special=False)
        wanted = [language.logprobs(start + own[:i])[token] for i, token in enumerate(own)]
        np.testing.assert_allclose(read.logprobs, wanted)


def test_labels_of_several_tokens_and_equal_labels_are_told_apart(serve, language, tokenizer):
    model = OpenAIModel("tiny", serve(VLLM(language)).url, tokenizer=tokenizer)
    with pytest.raises(SeveralTokens, match="'relevant'"):
        model.choices([ask("x")], [("relevant", "No")])
    with pytest.raises(LabelError, match="the same"):
        model.choices([ask("x")], [("Yes", "Yes")])


def test_a_begun_answer_is_refused_where_the_server_might_begin_another(serve, language):
    model = OpenAIModel("tiny", serve(Hosted(language)).url)
    with pytest.raises(Unsupported, match=r"go on from the beginning of an answer.*tokenizer="):
        model.choices(BEGUN, [LABELS] * len(BEGUN))


def test_a_server_is_asked_once_what_it_can_do(serve, language, tokenizer):
    server = serve(VLLM(language))
    model = OpenAIModel("tiny", server.url, tokenizer=tokenizer)
    model.load()
    asked = len(server.asked)
    OpenAIModel("tiny", server.url, tokenizer=tokenizer).load()
    assert model.can and model.context == 1024 and len(server.asked) == asked < 30


SOON = {"retry-after-ms": "10"}
REQUESTS = {
    "list": lambda path, body: path == "/v1/models",
    "chat": lambda path, body: "/chat/" in path,
    "ids": lambda path, body: body and "logprob_token_ids" in body,
    "chosen": lambda path, body: body and type(body.get("prompt")) is list and type(body["prompt"][0]) is int,
    "many": lambda path, body: body and type(body.get("prompt")) is list and len(body["prompt"]) == 2,
    "echo": lambda path, body: body and body.get("echo"),
    "tokenizer": lambda path, body: path.endswith("tokenize"),
}


def ill(which, status, times):
    """A fault: the server fails so often at some of what it is asked."""
    left = [times]

    def fault(path, body, _):
        if not which(path, body) or left[0] <= 0:
            return None
        left[0] -= 1
        return (status, SOON)

    return fault


@pytest.fixture
def healthy(serve, language):
    """What is found out about a server that does not fail."""
    return OpenAIModel("tiny", serve(VLLM(language)).url)._facts


@pytest.mark.parametrize("which", REQUESTS)
@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_goes_wrong_for_a_moment_is_no_fact_about_a_server(language, healthy, which, status):
    with Server(VLLM(language), ill(REQUESTS[which], status, 3)) as server:
        _same(OpenAIModel("tiny", server.url)._facts, healthy)


@pytest.mark.parametrize("which", REQUESTS)
def test_what_goes_wrong_for_longer_is_an_error_and_is_found_out_later(language, healthy, which):
    with Server(VLLM(language), ill(REQUESTS[which], 503, 2)) as server:
        model = OpenAIModel("tiny", server.url, retries=0)
        with pytest.raises(ServerError, match=r"'tiny' can do is not known yet.*answered 503: go away.*later") as error:
            model.load()
        assert error.value.retryable
        for _ in range(2):
            try:
                model.load()
            except ServerError:
                continue
        _same(model._facts, healthy)


def test_a_server_that_fails_where_it_should_refuse_is_asked_for_what_it_can(language, tokenizer):
    class Odd(Hosted):
        def on_chat_completions(self, body):
            status, said = super().on_chat_completions(body)
            return (500 if status == 400 else status), said

    with Server(Odd(language, top=5)) as server:
        model = OpenAIModel("tiny", server.url, retries=1)
        assert model.can == {"choices", "generate"} and model._facts.top == 5
        assert dict(model._facts.chat.fields) == {"temperature": 0}


@pytest.mark.parametrize("name", ["repetition_penalty", "repeat_penalty"])
@pytest.mark.parametrize("here", [True, False], ids=["token ids", "chats and texts"])
def test_nothing_is_held_against_an_answer_that_repeats_itself(serve, language, tokenizer, name, here):
    """An order is full of brackets; llama-cpp-python holds 1.1 against them, vLLM what the checkpoint says."""

    class Reading(Writing):
        on_tokenize = on_detokenize = None

    def asked(server):
        model = OpenAIModel("tiny", server.url, tokenizer=tokenizer if here else None)
        return [one.text for one in model.generate([*PROMPTS, *RAW], max_tokens=8)]

    even, uneven = (serve(Reading(language, penalty=penalty, penalised=name)) for penalty in (1.0, 2.0))
    body = {"prompt": RAW[0].messages[0].content, "max_tokens": 8}
    said = [server.answer("/v1/completions", body)[1]["choices"][0]["text"] for server in (even, uneven)]
    assert said[0] != said[1]
    assert asked(even) == asked(uneven)


def test_a_server_that_refuses_what_it_does_not_know_is_told_no_more_than_it_takes(serve, language):
    class Strict(Writing):
        def __call__(self, path, body):
            if body and {"repeat_penalty", "chat_template_kwargs"} & body.keys():
                return 422, {"error": {"message": "extra fields are not permitted"}}
            return super().__call__(path, body)

    model = OpenAIModel("tiny", serve(Strict(language)).url, chat=True)
    assert dict(model._facts.chat.fields) == {"temperature": 0} and not model._facts.fields
    assert len(model.generate([*PROMPTS, *RAW], max_tokens=3)) == len(PROMPTS) + len(RAW)


def _same(facts, healthy):
    """Whether a server is known for the same, which has another tokenizer of its own."""
    own = {"text": None, "tokenizer": None}
    assert facts._replace(**own) == healthy._replace(**own) and (facts.text is None) == (healthy.text is None)


def test_nothing_asked_contacts_nobody():
    model = OpenAIModel("tiny", "http://127.0.0.1:9")
    assert model.choices([], []) == model.continuation([], []) == model.generate([], max_tokens=1) == []
