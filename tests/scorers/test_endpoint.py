"""Hosted rerankers: scores of every document in order, or none."""

from __future__ import annotations

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


@pytest.mark.parametrize("wrong", [{"api": "other"}, {"docs_per_request": 0}])
def test_arguments_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        RerankEndpoint("m", "http://h", **wrong)


def test_it_is_a_value():
    scorer = RerankEndpoint("m", "http://h", api="score")
    assert eval(repr(scorer)) == scorer and hash(scorer) == hash(RerankEndpoint("m", "http://h/v1", api="score"))
    assert scorer([]) == []
