"""Answers that four real servers gave, recorded; and answers that no server should give."""

from __future__ import annotations

import json
import math
from functools import cache

import httpx2
import numpy as np
import openai
import pytest
from shared_data import shared

from pyterrier_llmrank.core import Usage
from pyterrier_llmrank.errors import AccessDenied, ModelNotFound, PromptTooLong
from pyterrier_llmrank.models.http.dialects import bounded
from pyterrier_llmrank.models.http.failures import Address, Failed, told
from pyterrier_llmrank.models.http.reading import Candidate, candidates, costs, echoed, entries, requested, written

VLLM, LLAMA, LLAMA_PYTHON, TRANSFORMERS = SERVERS = (
    "vllm_0.32",
    "llama_server",
    "llama_cpp_python_0.3.36",
    "transformers_serve_5.23",
)
TELLING = SERVERS[:3]
YES, NO = 834, 414  # token ids of the model behind all four
HERE = Address("http://localhost:8000/v1", "nope", "SOME_KEY", "sk-secret-123456")


@cache
def recorded(server):
    path = shared("fixtures", "cassettes", f"{server}.json")
    return {record["name"]: record for record in json.loads(path.read_text(encoding="utf-8"))["records"]}


def answer(server, name):
    return recorded(server)[name]["response"]


def only(server, name):
    return entries(answer(server, name), 1)[0]


def refused(status, said):
    """What a refusal becomes."""
    response = httpx2.Response(status, json=said, request=httpx2.Request("POST", HERE.url))
    return told(openai.APIStatusError("refused", response=response, body=said.get("error", said)), HERE)


def refusal(server, name):
    """What a recorded refusal becomes."""
    return refused(recorded(server)[name]["status"], answer(server, name))


@pytest.mark.parametrize("server", TELLING)
@pytest.mark.parametrize("name", ["chat_top5", "completions_top5"])
def test_the_likeliest_tokens_are_read_from_each_shape(server, name):
    found = candidates(only(server, name))
    assert [one.text for one in found[:2]] == [b"\n", b" StopIteration"] and len(found) == 5
    expected = {"chat_top5": [-3.3828, -5.8353], "completions_top5": [-3.7017, -6.0997]}[name]
    np.testing.assert_allclose([one.logprob for one in found[:2]], expected, atol=1e-3)
    assert (found[0].id == 201) is (server == LLAMA)


@pytest.mark.parametrize("name", ["chat_top5", "completions_top5", "completions_ids"])
def test_a_200_without_log_probabilities_tells_none(name):
    entry = recorded(TRANSFORMERS)[name]["response"].get("choices")
    if entry is not None:
        assert candidates(entry[0]) == []
    with pytest.raises(Failed):
        bounded(candidates(entry[0] if entry else {}), [YES], Usage())


def test_requested_ids_come_back_by_id():
    keys = [f"token_id:{YES}", f"token_id:{NO}"]
    read = requested(only(VLLM, "completions_ids"), keys)
    np.testing.assert_allclose(read, [-6.692127, -11.536900], atol=1e-5)
    for entry in (
        only(LLAMA_PYTHON, "completions_ids"),
        only(LLAMA, "completions_ids"),
        only(VLLM, "completions_top5"),
    ):
        with pytest.raises(Failed):
            requested(entry, keys)


@pytest.mark.parametrize("server", [LLAMA, LLAMA_PYTHON])
def test_requested_ids_that_are_ignored_are_missing_and_bounded(server):
    read = bounded(candidates(only(server, "completions_ids")), [YES, NO], Usage())
    assert read.missing.all()
    assert (read.logprobs >= [-6.693, -11.537]).all()


def test_allowed_tokens_do_not_bring_absent_labels_back():
    """The server constrains what it writes, but tells of the unconstrained tokens: "no" is not among them."""
    read = bounded(candidates(only(VLLM, "chat_allowed_ids_top20")), [b"yes", b"no"], Usage(), by_text=True)
    assert read.missing.tolist() == [False, True]
    assert read.logprobs[0] == pytest.approx(-6.89998, abs=1e-4) and read.logprobs[1] > -11.56206


def test_an_echo_is_read_by_token_and_compared_with_what_was_sent():
    entry = only(VLLM, "completions_echo")
    ids = [next(iter(place)) for place in entry["prompt_logprobs"][1:]]  # each place lists its own token first
    entry["logprobs"]["tokens"] = [f"token_id:{token}" for token in ["1", *ids]] + ["token_id:201"]
    values = echoed(entry, [1, *map(int, ids)])
    assert math.isnan(values[0]) and len(values) == 32
    np.testing.assert_allclose(values[[1, -1]], [-9.642076, -9.572097], atol=1e-5)
    with pytest.raises(Failed, match="other tokens"):
        echoed(entry, [2, *map(int, ids)])
    with pytest.raises(Failed, match="no log-probabilities"):
        echoed(only(TRANSFORMERS, "completions_echo"), [1])


def test_prompts_of_one_request_are_told_apart():
    for server in (VLLM, LLAMA):
        both = entries(answer(server, "completions_batch"), 2)
        assert [written(entry)[0] for entry in both] == ["\n", " "]
        with pytest.raises(Failed, match="2 answers to 3"):
            entries(answer(server, "completions_batch"), 3)


@pytest.mark.parametrize("server", SERVERS)
def test_what_was_written_and_what_it_cost_is_read(server):
    text, finish = written(only(server, "chat_generate"))
    assert finish == "length" and text == ("" if server == TRANSFORMERS else "\n" * 8)
    [cost] = costs(answer(server, "chat_generate"), [None])
    assert (cost.calls, cost.prompt_tokens, cost.output_tokens) == (1, 32, 8)
    assert cost.cached_tokens == (31 if server == LLAMA else 0)


def test_a_sum_is_shared_out_over_the_prompts_of_a_request():
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 3}}
    shares = costs({"usage": usage}, [None, None])
    assert [(one.prompt_tokens, one.cached_tokens, one.output_tokens) for one in shares] == [(4, 2, 2), (3, 1, 1)]
    assert costs({}, [5]) == costs({"usage": None}, [5]) == [Usage(1, 5)]


def test_a_recorded_refusal_of_a_model_names_it():
    for server in (VLLM, TRANSFORMERS):
        error = refusal(server, "err_model")
        assert isinstance(error, ModelNotFound) and "'nope'" in str(error)


def test_a_recorded_refusal_of_a_long_prompt_says_what_would_fit():
    for server in TELLING:
        error = refusal(server, "err_too_long")
        assert isinstance(error, PromptTooLong) and "1024" in str(error) and "max_doc_tokens=" in str(error)


def test_a_recorded_refusal_of_a_field_is_about_that_request_only():
    for server, name in [(VLLM, "chat_top100"), (TRANSFORMERS, "chat_ids"), (TRANSFORMERS, "completions_batch")]:
        error = refusal(server, name)
        assert isinstance(error, Failed) and error.refused
    assert not refusal(LLAMA_PYTHON, "completions_batch").refused  # a 500 may pass


@pytest.mark.parametrize(
    "broken",
    [
        None,
        "busy",
        [],
        {},
        {"choices": None},
        {"choices": []},
        {"choices": ["text"]},
        {"choices": [{"index": 1}]},
        {"choices": [{"index": 0}, {"index": 0}]},
    ],
)
def test_an_answer_without_its_entry_is_none(broken):
    with pytest.raises(Failed):
        entries(broken, 1)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"text": "x", "finish_reason": None},
        {"text": "x", "finish_reason": "content_filter"},
        {"message": {"content": None}, "finish_reason": "stop"},
        {"message": None, "finish_reason": "stop"},
        {"text": 3, "finish_reason": "stop"},
    ],
)
def test_an_answer_that_is_no_text_or_was_filtered_is_none(broken):
    with pytest.raises(Failed):
        written(broken)


def spoiled(node, junk):
    """Every copy of a JSON value that has ``junk`` in one place."""
    yield junk
    if isinstance(node, dict):
        for key, value in node.items():
            yield from ({**node, key: other} for other in spoiled(value, junk))
    elif isinstance(node, list):
        for place, value in enumerate(node[:3]):
            yield from ([*node[:place], other, *node[place + 1 :]] for other in spoiled(value, junk))


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("name", ["chat_top5", "completions_top5", "completions_ids", "completions_echo"])
def test_an_answer_with_anything_wrong_in_it_is_read_right_or_not_at_all(server, name):
    good = answer(server, name)
    for junk in (None, "x", -3, -(10**400), [], {}, [None], {"x": None}, True):
        for bad in spoiled(good, junk):
            for read in (
                candidates,
                written,
                lambda entry: requested(entry, ["token_id:834"]),
                lambda e: echoed(e, [1]),
            ):
                try:
                    read(entries(bad, 1)[0])
                    costs(bad, [None])
                except Failed:
                    continue


@pytest.mark.parametrize("value", [None, "x", math.nan, 0.5, True, -(10**400)])
def test_what_is_no_log_probability_is_refused(value):
    with pytest.raises(Failed, match="log-probability"):
        candidates({"logprobs": {"content": [{"token": "a", "logprob": value}]}})


def test_a_bound_is_no_more_than_what_the_known_tokens_leave_over():
    known = [Candidate(1, b"a", math.log(0.6)), Candidate(2, b"b", math.log(0.3))]
    read = bounded(known, [2, 3], Usage())
    np.testing.assert_allclose(np.exp(read.logprobs), [0.3, 0.1])
    assert read.missing.tolist() == [False, True]


def test_tokens_that_spell_the_same_count_once_and_the_likelier():
    known = [Candidate(None, b"Yes", -1.0), Candidate(None, b"Yes", -3.0)]
    assert bounded(known, [b"Yes"], Usage(), by_text=True).logprobs.tolist() == [-1.0]


@pytest.mark.parametrize("status", [401, 403])
def test_no_key_is_ever_part_of_a_message(status):
    said = {"error": {"message": "Incorrect API key provided: sk-secret-123456, or sk-other-key-789"}}
    error = refused(status, said)
    assert isinstance(error, AccessDenied) and not error.retryable
    assert "secret" not in str(error) and "other-key" not in str(error) and "SOME_KEY" in str(error)
