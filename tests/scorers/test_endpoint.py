"""Hosted rerankers: scores of every document in order, or none."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("openai", reason="the openai client is not installed")
pytest.importorskip("aiohttp", reason="aiohttp is not installed")

from fake_server import Server

from pyterrier_llmrank import Pointwise, Rerank
from pyterrier_llmrank.core import Doc, Question, Usage
from pyterrier_llmrank.errors import AccessDenied, ConfigurationError, ServerError
from pyterrier_llmrank.scorers import RerankEndpoint

QUESTIONS = [
    Question(f"query {q}", tuple(Doc(f"d{i}", "word " * i) for i in range(n)), str(q)) for q, n in enumerate((5, 0, 40))
]


def results(query, texts, field):
    """Longer documents are better; the best comes first, as servers answer."""
    scored = [{"index": i, field: len(query) + len(text) / 100} for i, text in enumerate(texts)]
    return sorted(scored, key=lambda one: -one[field])


def rerank(path, body):
    """Cohere's, Jina's and vLLM's."""
    found = results(body["query"], body["documents"], "relevance_score")
    return (200, {"results": found, "usage": {"total_tokens": 7}}) if path == "/v1/rerank" else (404, {})


def score(path, body):
    """vLLM's."""
    found = results(body["text_1"], body["text_2"], "score")
    return (200, {"data": found, "usage": {"prompt_tokens": 7}}) if path == "/v1/score" else (404, {})


def tei(path, body):
    """text-embeddings-inference's, which takes 32 documents."""
    if len(body["texts"]) > 32:
        return 413, {"error": "batch size > maximum allowed batch size"}
    return (200, results(body["query"], body["texts"], "score")) if path == "/rerank" else (404, {})


def voyage(path, body):
    return 200, {"data": results(body["query"], body["documents"], "relevance_score"), "usage": {"total_tokens": 7}}


@pytest.mark.parametrize(
    ("api", "answer", "tokens"), [("rerank", rerank, 7), ("score", score, 7), ("tei", tei, 0), ("voyage", voyage, 7)]
)
def test_every_interface_gives_the_documents_their_scores(api, answer, tokens):
    with Server(answer) as server:
        answers = RerankEndpoint("m", server.root, api=api)(QUESTIONS)
    for question, answer in zip(QUESTIONS, answers, strict=True):
        wanted = [len(question.query) + len(doc.text) / 100 for doc in question.docs]
        np.testing.assert_allclose(answer.scores, wanted)
    assert answers[0].usage == Usage(calls=5, prompt_tokens=tokens)
    assert answers[1].usage == Usage()


def test_a_request_holds_no_more_documents_than_allowed():
    with Server(rerank) as server:
        RerankEndpoint("m", server.url, docs_per_request=16)(QUESTIONS)
        assert len(server.asked) == 1 + 3


@pytest.mark.parametrize(
    "spoil",
    [
        lambda found: found[:-1],
        lambda found: found + found[:1],
        lambda found: [one | {"relevance_score": None} for one in found],
        lambda found: [one | {"relevance_score": math.nan} for one in found],
        lambda found: [one | {"index": 0} for one in found],
        lambda found: "none",
    ],
)
def test_an_incomplete_answer_is_none(spoil):
    def answer(path, body):
        status, said = rerank(path, body)
        return status, said | {"results": spoil(said["results"])}

    with Server(answer) as server:
        [answer] = RerankEndpoint("m", server.url)(QUESTIONS[:1])
    assert np.isnan(answer.scores).all() and answer.usage.failures == 5


def test_it_reranks_a_frame():
    rows = [{"qid": "1", "query": "q", "docno": f"d{i}", "text": "x" * i, "score": -i, "rank": i} for i in range(9)]
    with Server(rerank) as server:
        ranked = Rerank(Pointwise(), RerankEndpoint("m", server.url))(pd.DataFrame(rows))
    assert ranked.sort_values("rank")["docno"].tolist() == [f"d{i}" for i in range(8, -1, -1)]


def test_a_wrong_key_is_said_at_once(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-secret-123456")
    with Server(lambda path, body: (401, {"detail": "no"})) as server, pytest.raises(AccessDenied, match="SOME_KEY"):
        RerankEndpoint("m", server.url, key_env="SOME_KEY").load()


def test_an_address_without_reranking_is_an_error_and_no_ranking():
    with Server(lambda path, body: (404, {"detail": "Not Found"})) as server, pytest.raises(ServerError, match="404"):
        RerankEndpoint("m", server.url)(QUESTIONS)


@pytest.mark.parametrize(
    ("status", "said", "quoted"),
    [
        (404, {"detail": "Not Found"}, "answered 404: Not Found"),
        (400, {"error": {"message": "does not support Score API"}}, "answered 400: does not support Score API"),
        (503, {"error": {"message": "loading"}}, "answered 503: loading"),
        (200, {"hello": 1}, "without results"),
    ],
)
def test_loading_says_what_is_wrong(status, said, quoted):
    with Server(lambda path, body: (status, said)) as server, pytest.raises(ServerError, match=quoted) as caught:
        RerankEndpoint("m", server.url, retries=0).load()
    assert caught.value.retryable == (status in (200, 503))


def test_loading_says_that_nobody_is_there():
    with pytest.raises(ServerError, match="cannot be reached"):
        RerankEndpoint("m", "http://127.0.0.1:9", retries=0).load()
    with Server(rerank) as server:
        RerankEndpoint("m", ["http://127.0.0.1:9", server.url], retries=0).load()


@pytest.mark.parametrize("gone", [None, 404, 503])
def test_a_server_that_never_answered_is_an_error_and_no_ranking(gone):
    with Server(lambda path, body: (gone, {"detail": "no"})) as server:
        scorer = RerankEndpoint("m", server.url if gone else "http://127.0.0.1:9", retries=0)
        with pytest.raises(ServerError, match=str(gone or "cannot be reached")):
            scorer(QUESTIONS[:1])


def test_a_server_that_answered_before_may_leave_some_without_an_answer():
    state = {}
    with Server(rerank, lambda path, body, times: state.get("status")) as server:
        scorer = RerankEndpoint("m", server.url, retries=0)
        scorer(QUESTIONS[:1])
        state["status"] = 503
        [answer] = scorer(QUESTIONS[:1])
    assert np.isnan(answer.scores).all() and answer.usage.failures == 5


LONG = {  # what servers say of a document that is too long for their models
    "rerank": (400, {"error": {"message": "This model's maximum context length is 128 tokens. However, your prompt"}}),
    "score": (400, {"error": {"message": "This model's maximum context length is 128 tokens. However, your prompt"}}),
    "tei": (413, {"error": "Input validation error: `inputs` must have less than 512 tokens. Given: 534"}),
}


@pytest.mark.parametrize(
    ("api", "answer", "cut"),
    [
        ("rerank", rerank, {"truncate_prompt_tokens": -1}),
        ("score", score, {"truncate_prompt_tokens": -1}),
        ("tei", tei, {"truncate": True}),
    ],
)
def test_a_server_that_refuses_long_documents_is_told_to_cut_them(api, answer, cut):
    """Once it has refused some; what was never too long is asked without that."""
    [field] = cut

    def refusing(path, body):
        long = any(len(text) > 100 for text in body.get("documents") or body.get("text_2") or body["texts"])
        return LONG[api] if long and field not in body else answer(path, body)

    with Server(refusing) as server:
        scorer = RerankEndpoint("m", server.root, api=api)
        answers = [scorer([one])[0] for one in (QUESTIONS[0], QUESTIONS[2], QUESTIONS[0])]
        told = [json.loads(asked.partition(" ")[2]).get(field) for asked in server.asked]
    assert not any(answer.usage.failures for answer in answers)
    np.testing.assert_array_equal(answers[0].scores, answers[2].scores)
    assert len(answers[1].scores) == 40 and told[0] is None and told[-1] == cut[field]


def test_a_document_that_is_too_long_for_a_server_that_never_cuts_is_none_and_the_others_keep_their_scores():
    def refusing(path, body):
        said = {"code": 400, "message": "input (508 tokens) is larger than the max context size (128 tokens). skipping"}
        return (400, {"error": said}) if any(len(text) > 190 for text in body["documents"]) else rerank(path, body)

    with Server(refusing) as server:
        [answer] = RerankEndpoint("m", server.url)(QUESTIONS[2:])
        with pytest.raises(ServerError, match="shorten their texts"):
            RerankEndpoint("other", server.url)([QUESTIONS[2]._replace(docs=QUESTIONS[2].docs[-1:])])
    assert np.isnan(answer.scores).tolist() == [False] * 39 + [True] and answer.usage.failures == 1


def test_what_one_interface_answered_says_nothing_of_another_one():
    with Server(rerank, lambda path, body, times: 404 if path == "/v1/score" else None) as server:
        RerankEndpoint("m", server.url)(QUESTIONS[:1])
        with pytest.raises(ServerError, match="404"):
            RerankEndpoint("m", server.url, api="score")(QUESTIONS[:1])


def test_documents_of_a_query_travel_together_whatever_groups_they_are_in():
    whole = QUESTIONS[2]
    apart = [Question(one.query, (doc,), one.qid) for doc in whole.docs for one in (whole, QUESTIONS[0])]
    with Server(rerank) as server:
        scorer = RerankEndpoint("m", server.url)
        [wanted] = scorer([whole])
        before = len(server.asked)
        found = scorer(apart)
        assert len(server.asked) - before == 4
    np.testing.assert_array_equal([one.scores[0] for one in found[::2]], wanted.scores)
    assert sum((one.usage for one in found[::2]), Usage()) == wanted.usage
    assert all(len(one.scores) == 1 and one.usage.calls == 1 for one in found)


@pytest.mark.parametrize("wrong", [{"api": "other"}, {"docs_per_request": 0}])
def test_arguments_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        RerankEndpoint("m", "http://h", **wrong)


def test_it_is_a_value():
    scorer = RerankEndpoint("m", "http://h", api="score")
    assert eval(repr(scorer)) == scorer and hash(scorer) == hash(RerankEndpoint("m", "http://h/v1", api="score"))
    assert scorer([]) == []
