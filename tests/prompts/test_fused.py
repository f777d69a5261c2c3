"""``FusedPrompt``: what is read of each document, and how written orders are read."""

from __future__ import annotations

import numpy as np
import pytest

from pyterrier_llmrank.core import Evidence, Prompt, descending
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.prompts import FusedPrompt
from pyterrier_llmrank.prompts.fused import LIST_T5, LIT5

NAN = float("nan")


def texts_of(prompt):
    assert isinstance(prompt, Prompt) and prompt.raw and {turn.role for turn in prompt.messages} == {"user"}
    return [turn.content for turn in prompt.messages]


def test_lit5_reads_each_passage_with_its_number_and_the_query():
    assert texts_of(LIT5.render("a {q}", ["one [2]", "two"])) == [
        "Search Query: a {q} Passage: [1] one [2] Relevance Ranking: ",
        "Search Query: a {q} Passage: [2] two Relevance Ranking: ",
    ]


def test_list_t5_reads_the_index_before_the_passage():
    texts = texts_of(LIST_T5.render("q", list("abcde")))
    assert texts == [f"Query: q, Index: {i}, Context: {text}" for i, text in enumerate("abcde", start=1)]


def test_a_small_group_is_shown_again_each_document_beside_itself():
    """As the released code does: the list over and over, then sorted."""
    texts = texts_of(LIST_T5.render("q", ["a", "b", "c"]))
    assert [text[-1] for text in texts] == ["a", "a", "b", "b", "c"] and LIST_T5.shown(1) == [0] * 5
    assert LIST_T5.shown(7) == list(range(7)) and LIST_T5.shown(0) == LIT5.shown(0) == []


@pytest.mark.parametrize(
    ("prompt", "answer", "n", "scores", "status"),
    [
        (LIT5, "[2] > [3] > [1]", 3, [-2, 0, -1], "ok"),
        (LIT5, "2 3 1", 3, [-2, 0, -1], "ok"),
        (LIT5, "[2] > [2] > [9] > [1]", 3, [-1, 0, NAN], "repaired"),
        (LIT5, "[1] > [10] > [2]", 10, [0, -2, *[NAN] * 7, -1], "repaired"),
        (LIT5, "nothing", 2, [NAN, NAN], "empty"),
        (LIT5, "", 1, [NAN], "empty"),
        (LIST_T5, "3 1 4 2 5", 5, [-3, -1, -4, -2, 0], "ok"),
        (LIST_T5, "3 1 3 5 5", 5, [-2, NAN, -1, NAN, 0], "repaired"),
        (LIST_T5, "7 0 -1 x", 5, [0, *[NAN] * 4], "repaired"),
        (LIST_T5, "5 4 3 2 1", 3, [0, -1, -2], "ok"),  # labels 1 and 2 are the first document, 3 and 4 the second
        (LIST_T5, "1 5 3 4 2", 3, [0, -1, -2], "ok"),  # the last of its two places counts
        (LIST_T5, "5 1 4", 2, [-1, 0], "repaired"),
        (LIST_T5, "2 1 3 5 4", 1, [0], "ok"),
    ],
)
def test_orders_are_read_as_the_released_code_reads_them(prompt, answer, n, scores, status):
    parsed = prompt.parse(answer, n)
    np.testing.assert_array_equal(parsed.scores, np.array(scores, dtype=float))
    assert parsed.status == status


@pytest.mark.parametrize("prompt", [LIT5, LIST_T5])
@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_the_longest_answer_reads_back(prompt, n):
    answer = prompt.longest(n)
    order = descending(range(n), prompt.parse(answer, n).scores)
    assert prompt.parse(answer, n).status == "ok" and order == (sorted(order, reverse=prompt.ascending))
    assert prompt.gives is Evidence.ORDER and prompt.asks == "generate" and prompt.max_docs is None


def test_digits_of_any_length_and_script_do_not_raise():
    for answer in ("9" * 5000, "\u0661 > \u0662", "²", "[1" * 9999, "\x00[2]"):
        for prompt in (LIT5, LIST_T5):
            assert len(prompt.parse(answer, 3).scores) == 3


def test_a_constraint_names_every_label_once():
    held = FusedPrompt(LIST_T5.template, "{label}", " ", ascending=True, least=5, decode="constrained")
    assert held.constraint(2) == (("1", "2", "3", "4", "5"), " ", 5) and LIST_T5.constraint(2) is None
    assert FusedPrompt(LIT5.template, decode="constrained").constraint(2) == (("[1]", "[2]"), " > ", 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"template": "{text}"}, "lacks {query}"),
        ({"template": "{query} {text} {rank}"}, "has {rank}"),
        ({"identifier": "[]"}, "lacks {label}"),
        ({"decode": "first"}, "decode must be 'generate' or 'constrained', got 'first'"),
        ({"least": 0}, "least must be at least 1 document, got 0"),
    ],
)
def test_what_means_nothing_is_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message.replace("{", r"\{")):
        FusedPrompt(**{"template": LIT5.template, **arguments})
