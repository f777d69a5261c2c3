"""What prompts show, ask for and read."""

from __future__ import annotations

import itertools
import string

import numpy as np
import pytest

from pyterrier_llmrank.core import Evidence
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.prompts import ListPrompt, QueryPrompt, YesNo
from pyterrier_llmrank.prompts.base import one_line, without_markers

HOSTILE = "a {brace} {0} {{double}} {query} %s %(x)s \\n $y"
FIRST = {"labels": "letters", "decode": "first"}


def user(prompt):
    return prompt.messages[-1].content


# Texts


def test_white_space_is_folded():
    assert one_line("  a\n\nb\t c\u00a0d\r\n") == "a b c d"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("as shown [3]", "as shown (3)"),
        ("[12][7]", "(12)(7)"),
        ("[A] and [Z]", "(A) and (Z)"),
        ("[AB] [a] [] [see 3] x[i]", "[AB] [a] [] [see 3] x[i]"),
        ("array[0]", "array(0)"),
    ],
)
def test_citations_are_no_identifiers(text, shown):
    assert without_markers(text) == shown


# YesNo


def test_yes_no_shows_query_and_document_once():
    prompt = YesNo().render("why the query", ["the  text\nof it"])
    assert user(prompt).count("why the query") == 1 and user(prompt).count("the text of it") == 1
    assert user(prompt).endswith("Answer with Yes or No only.")
    assert [message.role for message in prompt.messages] == ["user"] and prompt.answer == "" and not prompt.raw


def test_yes_no_takes_other_words_and_a_system_message():
    prompt = YesNo("{query}|{text}|{yes}/{no}", yes="true", no="false", system="Judge.")
    shown = prompt.render("q", ["d"])
    assert [tuple(message) for message in shown.messages] == [("system", "Judge."), ("user", "q|d|true/false")]
    assert prompt.options(1) == ("true", "false")


def test_yes_no_is_asked_about_one_document_and_gives_scores():
    assert (YesNo().max_docs, YesNo().asks, YesNo().gives) == (1, "choices", Evidence.SCORE)


def test_yes_no_reads_log_odds():
    scores = YesNo().read(np.log([0.3, 0.1]), 1)
    assert scores.tolist() == pytest.approx([np.log(3)])


@pytest.mark.parametrize("prompt", [YesNo(), QueryPrompt(), ListPrompt(), ListPrompt(**FIRST)], ids=repr)
def test_braces_and_percent_signs_in_texts_survive(prompt):
    assert user(prompt.render("q", [HOSTILE])).count(HOSTILE) == 1
    if not isinstance(prompt, QueryPrompt):
        assert HOSTILE in user(prompt.render(HOSTILE, ["d"]))


# QueryPrompt


def test_query_prompt_shows_the_document_and_not_the_query():
    prompt = QueryPrompt(template="Document: {text} Query:", raw=True).render("secret", [" a\nb "])
    assert user(prompt) == "Document: a b Query:" and prompt.raw and prompt.answer == ""
    assert "secret" not in user(QueryPrompt().render("secret", ["text"])) and not QueryPrompt().render("q", ["t"]).raw


# ListPrompt


@pytest.mark.parametrize("labels", ["numbers", "letters"])
@pytest.mark.parametrize("n", [1, 2, 3, 9, 20, 26])
def test_each_document_is_shown_once_in_order_after_its_identifier(labels, n):
    prompt = ListPrompt(labels, "generate")
    texts = [f"text-{i}-end" for i in range(n)]
    shown = user(prompt.render("why", texts))
    names = [str(i) for i in range(1, n + 1)] if labels == "numbers" else list(string.ascii_uppercase[:n])
    assert prompt.names(n) == names
    places = [shown.index(f"[{name}] {text}\n") for name, text in zip(names, texts, strict=True)]
    assert places == sorted(places)
    assert all(shown.count(text) == 1 for text in texts)
    assert shown.count("Query: why") == 2 and f"{n} passages" in shown


def test_texts_and_query_cannot_spell_identifiers():
    shown = user(ListPrompt().render("see [2]", ["first [2] is\n\n[2] worst", "second [A]"]))
    assert "first (2) is (2) worst" in shown and "second (A)" in shown and "see (2)" in shown
    assert shown.count("[2]") == 2, "its own, and the one of the example"


@pytest.mark.parametrize("n", [1, 2, 3, 10])
@pytest.mark.parametrize("labels", ["numbers", "letters"])
def test_the_example_names_documents_that_are_there(labels, n):
    prompt = ListPrompt(labels)
    example = user(prompt.render("q", ["d"] * n)).rpartition("in the form ")[2].partition(", and without")[0]
    *named, dots = example.split(" > ")
    assert dots == "..." and len(named) == min(n, 3)
    assert {name.strip("[]") for name in named} <= set(prompt.names(n))


def test_the_system_message_can_be_left_out():
    assert [message.role for message in ListPrompt().render("q", ["d"]).messages] == ["system", "user"]
    assert [message.role for message in ListPrompt(system="").render("q", ["d"]).messages] == ["user"]


@pytest.mark.parametrize(
    ("labels", "decode", "asks", "most"),
    [
        ("numbers", None, "generate", None),
        ("numbers", "generate", "generate", None),
        ("numbers", "first", "choices", 9),
        ("letters", None, "choices", 26),
        ("letters", "first", "choices", 26),
        ("letters", "generate", "generate", 26),
    ],
)
def test_labels_and_decode_say_what_is_asked_and_of_how_many(labels, decode, asks, most):
    prompt = ListPrompt(labels, decode)
    assert (prompt.asks, prompt.max_docs, prompt.gives) == (asks, most, Evidence.ORDER)
    assert prompt.render("q", ["a", "b"]).answer == ("[" if asks == "choices" else "")


def test_first_token_identifiers_differ_in_their_first_character():
    for prompt in (ListPrompt(**FIRST), ListPrompt("numbers", "first")):
        options = prompt.options(prompt.max_docs)
        assert len({option[0] for option in options}) == len(options) == prompt.max_docs


@pytest.mark.parametrize("labels", ["numbers", "letters"])
@pytest.mark.parametrize("n", [1, 5, 20])
def test_the_longest_answer_is_a_whole_order_and_can_be_read(labels, n):
    prompt = ListPrompt(labels, "generate")
    assert prompt.parse(prompt.longest(n), n).scores.tolist() == [-float(i) for i in range(n)]


def test_every_order_of_three_is_read_back():
    prompt = ListPrompt()
    for order in itertools.permutations(range(3)):
        scores = prompt.parse(" > ".join(f"[{i + 1}]" for i in order), 3).scores
        assert np.argsort(-scores).tolist() == list(order)


def test_what_an_answer_leaves_out_has_no_score():
    scores = ListPrompt().parse("[3] > [1]", 4).scores
    assert scores[[2, 0]].tolist() == [0.0, -1.0] and np.isnan(scores[[1, 3]]).all()


@pytest.mark.parametrize("answer", ["", "I cannot order these.", "[77] > [88]", "\ufffd"])
def test_an_answer_that_cannot_be_read_has_no_scores(answer):
    assert np.isnan(ListPrompt().parse(answer, 4).scores).all()


def test_probabilities_are_read_as_they_are():
    logprobs = np.array([-3.0, -1.0, -2.0])
    assert ListPrompt(**FIRST).read(logprobs, 3).tolist() == logprobs.tolist()


# Arguments


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: ListPrompt("roman"), "labels must be 'numbers' or 'letters', got 'roman'"),
        (lambda: ListPrompt(decode="sample"), "decode must be 'generate', 'first' or 'constrained', got 'sample'"),
        (lambda: ListPrompt(template="{query}"), "lacks {passages}"),
        (lambda: ListPrompt(template="{passages}"), "lacks {query}"),
        (lambda: YesNo("Is {text} good?"), "lacks {query}"),
        (lambda: YesNo("{query}"), "lacks {text}"),
        (lambda: QueryPrompt("Write a query."), "lacks {text}"),
        (lambda: YesNo("{query} {text} {passage}"), "has {passage}"),
        (lambda: ListPrompt(template='{query} {passages} {"json": 1}'), 'has {"json"}'),
        (lambda: QueryPrompt("{text} {"), "brace"),
        (lambda: QueryPrompt("{text} {}"), "has {}"),
    ],
)
def test_arguments_out_of_range_are_refused(build, told):
    with pytest.raises(ConfigurationError) as caught:
        build()
    assert told in str(caught.value)


def test_double_braces_spell_braces():
    assert user(QueryPrompt('{text} as {{"json": 1}}').render("q", ["d"])) == 'd as {"json": 1}'


@pytest.mark.parametrize(
    "prompt",
    [YesNo(), YesNo(yes="true", no="false"), QueryPrompt(raw=True), ListPrompt(), ListPrompt("letters", legacy=True)],
    ids=repr,
)
def test_prompts_are_values(prompt):
    rebuilt = eval(repr(prompt))
    assert rebuilt == prompt and hash(rebuilt) == hash(prompt)
