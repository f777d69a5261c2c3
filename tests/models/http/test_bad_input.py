"""What can be wrong with a server, a key, a model or a prompt: one clear error each."""

from __future__ import annotations

import socket

import pytest
from fake_server import Hosted, LlamaServer, Mute, Server, chatty
from tiny import ask

from pyterrier_llmrank import PairPrompt, Prompted, ScorePrompt, SetPrompt, YesNo
from pyterrier_llmrank.core import Doc, Question
from pyterrier_llmrank.errors import (
    AccessDenied,
    ConfigurationError,
    MissingExtra,
    ModelNotFound,
    PromptTooLong,
    ServerError,
    Unsupported,
)
from pyterrier_llmrank.models import OpenAIModel, Sampling, as_model


def nobody():
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def guarded(path, body):
    return 401, {"error": {"message": "Incorrect API key provided: sk-wrong-123456.", "code": "invalid_api_key"}}


def test_a_wrong_url_says_that_nobody_answers_there():
    url = f"http://127.0.0.1:{nobody()}/v1"
    with pytest.raises(
        ModelNotFound, match=rf"no model 'tiny' to be had: {url} cannot be reached .*running there.*base_url="
    ):
        OpenAIModel("tiny", url).load()


def test_the_url_of_something_else_says_what_is_missing():
    with (
        Server(lambda path, body: (404, {"detail": "Not Found"})) as server,
        pytest.raises(ModelNotFound, match=r"neither chats nor completions of 'tiny'.*often ends in /v1"),
    ):
        OpenAIModel("tiny", f"{server.root}/api").load()


@pytest.mark.parametrize(
    ("status", "said", "quoted"),
    [
        (429, {"error": {"message": "slow down"}}, "answered 429: slow down"),
        (500, {"error": {"message": "out of memory"}}, "answered 500: out of memory"),
        (200, {"error": {"message": "overloaded"}}, "answered 200: overloaded"),
        (200, {"error": {"message": "overloaded", "code": 503}}, "answered 503: overloaded"),
    ],
)
def test_a_server_that_is_only_busy_is_not_called_a_wrong_address(status, said, quoted):
    def answer(path, body):
        return (200, {"data": [{"id": "tiny"}]}) if path == "/v1/models" else (status, said)

    with Server(answer) as server, pytest.raises(ServerError, match=quoted) as caught:
        OpenAIModel("tiny", server.url, retries=0).load()
    assert caught.value.retryable and "is it the address" not in str(caught.value)


def test_a_server_that_stalls_is_not_called_a_wrong_address():
    def stalls(path, body, times):
        return "stall" if "completions" in path else None

    with Server(chatty(str.upper), stalls) as server, pytest.raises(ServerError, match="did not answer in time"):
        OpenAIModel("tiny", server.url, retries=0, timeout=0.2).load()


def test_the_url_of_something_else_quotes_what_it_says():
    with (
        Server(lambda path, body: (404, {"detail": "No such page"})) as server,
        pytest.raises(ModelNotFound, match=r"the last answer: .* answered 404: No such page"),
    ):
        OpenAIModel("tiny", f"{server.root}/api").load()


def test_a_wrong_key_is_named_by_its_variable_and_never_shown(monkeypatch, caplog):
    monkeypatch.setenv("SOME_KEY", "sk-wrong-123456")
    with (
        caplog.at_level("DEBUG"),
        Server(guarded) as server,
        pytest.raises(AccessDenied, match=r"refuses the key of the environment variable SOME_KEY") as caught,
    ):
        OpenAIModel("tiny", server.url, key_env="SOME_KEY").load()
    assert "wrong" not in str(caught.value) + caplog.text
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("key_env", "said"), [("SOME_KEY", "SOME_KEY is not set"), (None, "without a key; name .* with key_env=")]
)
def test_a_missing_key_says_where_it_belongs(monkeypatch, key_env, said):
    monkeypatch.delenv("SOME_KEY", raising=False)
    with Server(guarded) as server, pytest.raises(AccessDenied, match=said):
        OpenAIModel("tiny", server.url, key_env=key_env).load()


def test_openais_key_goes_to_nobody_else(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-123456")
    with Server(chatty(str.upper)) as server:
        OpenAIModel("tiny", server.url).load()
    assert not any("secret" in str(headers) for headers in server.headers)
    assert OpenAIModel("gpt").key_env == "OPENAI_API_KEY"


@pytest.mark.parametrize("wrong", ["sk-secret-123456", "", "two words"])
def test_a_key_in_place_of_its_variables_name_is_refused_unseen(wrong):
    with pytest.raises(ConfigurationError, match="not the key") as caught:
        OpenAIModel("tiny", "http://localhost:8000", key_env=wrong)
    assert not wrong or wrong not in str(caught.value)


@pytest.mark.parametrize("url", ["http://user:secret@host/v1", "https://host/v1?key=secret"])
def test_a_url_with_a_secret_in_it_is_refused_unseen(url):
    with pytest.raises(ConfigurationError, match=r"at host.*key_env=") as caught:
        OpenAIModel("tiny", url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "", "http://"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(ConfigurationError, match="base_url must be a URL"):
        OpenAIModel("tiny", url)


@pytest.mark.parametrize(
    ("given", "meant"),
    [("http://h:1", "http://h:1/v1"), ("http://h/v1/", "http://h/v1"), ("https://h/api/v3", "https://h/api/v3")],
)
def test_a_bare_address_gets_its_usual_path(given, meant):
    assert OpenAIModel("tiny", given).base_url == meant


@pytest.mark.parametrize("kind", [LlamaServer, Hosted])
def test_a_model_that_the_server_does_not_have_is_refused_also_where_it_takes_any_name(language, kind):
    with Server(kind(language)) as server, pytest.raises(ModelNotFound, match="no model 'large'"):
        OpenAIModel("large", server.url).load()


@pytest.mark.parametrize(
    ("prompt", "remedy", "instead"),
    [
        (YesNo(), r"a prompt whose answer is written, such as ScorePrompt\(\).*vLLM", ScorePrompt()),
        (PairPrompt(), r"use decode='generate', or .*vLLM", PairPrompt(decode="generate")),
        (SetPrompt(), r"use decode='generate', or .*vLLM", SetPrompt(decode="generate")),
    ],
)
def test_a_scorer_of_labels_refuses_a_server_without_log_probabilities(language, prompt, remedy, instead):
    with Server(Mute(language)) as server:
        model = OpenAIModel("tiny", server.url)
        with pytest.raises(
            Unsupported, match=rf"asks for 'choices' \(log-probabilities of the next token\), .*{remedy}"
        ):
            Prompted(prompt, model).load()
        docs = tuple(Doc(str(i), f"text {i}") for i in range(2))
        [answer] = Prompted(instead, model)([Question("query", docs, "1")])
    assert len(answer.scores) == 2 and answer.usage.calls >= 1


@pytest.mark.parametrize("key", ["sk-secret-123456\n", "geheim-schl\u00fcssel", " sk-secret-123456 "])
def test_a_key_that_cannot_be_sent_is_named_by_its_variable_and_never_shown(monkeypatch, key):
    monkeypatch.setenv("SOME_KEY", key)
    with pytest.raises(AccessDenied, match=r"SOME_KEY holds a space, a line break or .* ASCII") as caught:
        OpenAIModel("tiny", "http://h", key_env="SOME_KEY").load()
    assert "secret" not in str(caught.value) and "geheim" not in str(caught.value)


def test_a_prompt_beyond_the_context_is_refused_by_count(language, tokenizer):
    with Server(LlamaServer(language)) as server:
        model = OpenAIModel("tiny", server.url, tokenizer=tokenizer)
        assert model.context == 512
        with pytest.raises(PromptTooLong, match=r"\d+ tokens .* exceeds the 512 tokens of tiny .*max_doc_tokens="):
            model.choices([ask("word " * 600)], [("Yes", "No")])


def test_a_prompt_beyond_the_context_is_refused_by_the_server():
    def answer(path, body):
        if body and len(str(body)) > 2000:
            said = "This model's maximum context length is 100 tokens. However, your prompt contains 600."
            return 400, {"error": {"message": said, "code": "context_length_exceeded"}}
        return chatty(str.upper)(path, body)

    with Server(answer) as server, pytest.raises(PromptTooLong, match=r"maximum context length is 100.*max_length="):
        OpenAIModel("tiny", server.url).generate([ask("a"), ask("word " * 600)], max_tokens=4)


def test_a_prompt_beyond_the_context_is_refused_where_the_server_would_not(tokenizer):
    with Server(chatty(str.upper)) as server:
        model = OpenAIModel("tiny", server.url, tokenizer=tokenizer, max_length=100)
        with pytest.raises(PromptTooLong, match="exceeds the 100 tokens"):
            model.generate([ask("word " * 600)], max_tokens=4)


def test_a_used_up_account_says_so():
    def answer(path, body):
        return 429, {"error": {"message": "You exceeded your current quota.", "type": "insufficient_quota"}}

    with Server(answer) as server, pytest.raises(AccessDenied, match=r"denies access.*quota"):
        OpenAIModel("tiny", server.url, retries=0).load()


@pytest.mark.parametrize(
    "wrong", [{"concurrency": 0}, {"retries": -1}, {"timeout": 0}, {"budget": 0}, {"max_length": 0}]
)
def test_arguments_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        OpenAIModel("tiny", "http://h", **wrong)


def test_sampling_without_seeds_is_refused():
    with pytest.raises(ConfigurationError, match="one seed per prompt"):
        OpenAIModel("tiny", "http://h").generate([ask("x")], max_tokens=1, sampling=Sampling())


def test_an_unknown_tokenizer_is_named(tmp_path):
    with pytest.raises(ModelNotFound, match=r"tokenizer .*nowhere"):
        OpenAIModel("tiny", "http://h", tokenizer=str(tmp_path / "nowhere")).plain("x")


def test_a_missing_library_says_how_to_install_it(monkeypatch):
    from pyterrier_llmrank.models.http import wire

    monkeypatch.setattr(wire, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'pyterrier-llmrank\[http\]'"):
        OpenAIModel("tiny", "http://nobody-asked-before").load()


def test_a_model_behind_a_server_has_a_name_too():
    model = as_model("openai:Qwen/Qwen3-8B base_url=http://h:8000 concurrency=8 thinking=True", max_length=512)
    assert model == OpenAIModel("Qwen/Qwen3-8B", "http://h:8000/v1", concurrency=8, thinking=True, max_length=512)
    with pytest.raises(ConfigurationError, match="openai:tiny takes no device, oops; it takes name, base_url"):
        as_model("openai:tiny oops=1", device="cpu")
