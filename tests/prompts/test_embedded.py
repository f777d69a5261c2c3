"""Prompts that go with vectors are those of the official code, to the byte."""

from __future__ import annotations

import hashlib
import json

import pytest
from shared_data import parity, shared

from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.prompts.embedded import EmbeddedPrompt, PseudoQuery


def turns(prompt):
    return [{"role": turn.role, "content": turn.content} for turn in prompt.messages]


def test_pe_rank_is_asked_as_its_authors_ask_it():
    recorded = parity("checkpoint_prompts_sha256")
    expected = recorded["prompts"]["pe-rank embedding-only"]
    prompt = EmbeddedPrompt().render(recorded["_meta"]["query"], recorded["_meta"]["passages"])
    told = json.dumps(turns(prompt), ensure_ascii=False, separators=(",", ":"))
    assert hashlib.sha256(told.encode()).hexdigest() == expected["sha256"] and len(told) == expected["chars"]


@pytest.mark.parametrize("kind", ["listwise-embedding", "listwise-text-embedding"])
def test_both_kinds_of_pe_rank_are_those_of_the_fixture(kind):
    cases = json.loads(shared("fixtures", "pe_rank", "expected.json").read_text())["cases"]
    own = [case for case in cases if case["ranker"] == kind]
    assert own
    for case in own:
        prompt = EmbeddedPrompt(texts=kind == "listwise-text-embedding").render(case["query"], case["docs"])
        assert turns(prompt) == case["messages"]


def test_texts_beside_vectors_are_stripped_and_hold_no_numbers_in_brackets():
    user = EmbeddedPrompt(texts=True, m=2).render("why", ["  a [12] b\n", ""]).messages[0].content
    assert "Passage 1: [<PLACEHOLDER><PLACEHOLDER>] a (12) b\n\nPassage 2: [<PLACEHOLDER><PLACEHOLDER>] \n\n" in user


def test_a_pseudo_query_is_that_of_the_evaluation_code():
    """Not that of the model card, which lacks the line break before "Search Query"; without end tokens in the list."""
    [turn] = PseudoQuery(max_words=3).render("who sat", ["the  cat\nsat on", "x"]).messages
    assert turn == (
        "user",
        "Given a web search query and some relevant documents, rerank the documents that answer the query:\n"
        "Documents:\n[1] the cat sat\n[2] x\nSearch Query: who sat",
    )


def test_a_template_without_its_fields_is_refused():
    with pytest.raises(ConfigurationError, match=r"lacks \{documents\}"):
        PseudoQuery("Search Query: {query}")
