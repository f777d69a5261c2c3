"""Queries that a server's model writes about documents."""

from __future__ import annotations

import json

from fake_server import Server

from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.models import OpenAIModel
from pyterrier_llmrank.training.queries import Asked


def answer(path, body):
    """A chat server without log-probabilities, whose answers name the document they are asked about."""
    if not path.endswith("chat/completions"):
        return 404, {"error": {"message": "not here"}}
    number = body["messages"][-1]["content"].rpartition("number ")[2][:1]
    said = {"role": "assistant", "content": f'Question: "Which has number {number}?"'}
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    choice = {"index": 0, "message": said, "finish_reason": "stop", "logprobs": None}
    return 200, {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }


def test_a_server_is_asked_for_queries_as_a_local_model_is():
    with Server(answer) as server:
        model = OpenAIModel("tiny", server.url)
        asked = Asked(model, kinds=("question",), per_doc=2, seed=1)
        assert not server.asked  # a server is not asked before it is needed
        drafts = asked([Doc(str(i), f"This is number {i}") for i in range(3)])
    assert [[one.query for one in draft.queries] for draft in drafts] == [
        [f"Which has number {i}?"] * 2 for i in range(3)
    ]
    bodies = [json.loads(key.partition(" ")[2]) for key in server.asked if "number" in key]
    assert {body["temperature"] for body in bodies} == {0.8}
    assert len({body["seed"] for body in bodies}) == 6
    assert drafts[0].usage.prompt_tokens == 14
