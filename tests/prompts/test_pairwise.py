"""Prompts about two documents: shares of two labels, and written answers."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pyterrier_llmrank.core import Evidence
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.prompts import PairPrompt

WRITTEN = PairPrompt("generate")


def user(prompt):
    return prompt.messages[-1].content


def test_both_documents_are_shown_in_order_after_their_labels():
    shown = user(PairPrompt().render("why", ["one\n{x}", "two"]))
    assert shown.index("why") < shown.index("Passage A: one {x}\n") < shown.index("Passage B: two\n")
    assert shown.endswith("Answer with A or B only.")


@pytest.mark.parametrize("decode", ["choices", "generate"])
def test_a_pair_gives_a_choice_between_two(decode):
    prompt = PairPrompt(decode)
    assert (prompt.asks, prompt.gives, prompt.max_docs) == (decode, Evidence.CHOICE, 2)


def test_shares_sum_to_one_whatever_else_the_model_would_say():
    shares = PairPrompt().read(np.log([0.03, 0.01]), 2)
    assert shares.tolist() == pytest.approx([0.75, 0.25])
    assert np.isnan(PairPrompt().read(np.full(2, -np.inf), 2)).all()


def test_labels_that_say_whether_the_first_wins_give_its_probability():
    prompt = PairPrompt(template="{query} {first} {second}", labels=("true", "false"))
    assert prompt.options(2) == ("true", "false")
    assert prompt.read(np.log([0.6, 0.2]), 2).tolist() == pytest.approx([0.75, 0.25])


def test_a_document_without_another_can_be_asked_about():
    assert "alone" in user(PairPrompt().render("q", ["alone"]))
    assert PairPrompt().options(1) == ("A",) and PairPrompt().read(np.array([-3.0]), 1).tolist() == [1.0]
    assert WRITTEN.parse("A", 1).scores.tolist() == [1.0] and WRITTEN.parse("B", 1).scores.tolist() == [0.0]


@pytest.mark.parametrize(
    ("answer", "winner", "status"),
    [
        ("A", 0, "ok"),
        (" b.", None, "empty"),
        ("Passage B", 1, "ok"),
        ("**Passage B**", 1, "ok"),
        ("[A]", 0, "ok"),
        ("<think>B, or A?</think>\n\nA", 0, "ok"),
        ("<answer>B</answer>", 1, "ok"),
        ("A. It is shorter.", 0, "repaired"),
        ("B: it answers the question", 1, "repaired"),
        ("Passage A is more relevant to the query than Passage B.", 0, "repaired"),
        ("Passage A is about a cat. Passage B is about a mat. B is better.", 1, "repaired"),
        ("The more relevant passage is B.", 1, "repaired"),
        ("The answer is: Passage A", 0, "repaired"),
        ("I would choose (B), as a cat is an animal.", 1, "repaired"),
        ("Only Passage B names a year.", 1, "repaired"),
        ("A cat is mentioned in Passage B.", 1, "repaired"),
    ],
)
def test_a_written_choice_is_read(answer, winner, status):
    parsed = WRITTEN.parse(answer, 2)
    assert parsed.status == status
    if winner is None:
        assert np.isnan(parsed.scores).all()
    else:
        assert parsed.scores.tolist() == [1.0 - winner, float(winner)]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Neither.",
        "Both passages are equally relevant.",
        "A cat sat on a mat.",
        "Passage C",
        "[A] [B]",
        "Passage A and Passage B are equally relevant.",
        "Passage A is less relevant than Passage B",
        "<think>Passage A",
        "AB",
        "Apple",
        "\ufffd",
    ],
)
def test_an_answer_that_names_neither_or_both_is_not_read(answer):
    parsed = WRITTEN.parse(answer, 2)
    assert np.isnan(parsed.scores).all() and parsed.status == "empty"


def test_the_longest_answer_can_be_read():
    assert WRITTEN.parse(WRITTEN.longest(2), 2).status == "ok"
    words = PairPrompt("generate", labels=("first", "second"))
    assert words.parse(words.longest(2), 2).scores.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("piece", ["A", "A ", "Passage A ", "is ", "**", " ", "answer is ", "\n", "<think>"])
def test_five_megabytes_are_read_in_no_time(piece):
    start = time.perf_counter()
    WRITTEN.parse(piece * (5_000_000 // len(piece)), 2)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: PairPrompt("sample"), "decode must be 'choices' or 'generate', got 'sample'"),
        (lambda: PairPrompt(template="{query} {first}"), "lacks {second}"),
        (lambda: PairPrompt(template="{query} {first} {second} {text}"), "has {text}"),
        (lambda: PairPrompt(labels=("A", " A")), "two different words, got ('A', ' A')"),
        (lambda: PairPrompt(labels=("A", "B", "C")), "two different words"),
        (lambda: PairPrompt(labels=("A", "")), "two different words"),
    ],
)
def test_arguments_out_of_range_are_refused(build, told):
    with pytest.raises(ConfigurationError) as caught:
        build()
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "prompt",
    [PairPrompt(), PairPrompt("generate", labels=("1", "2")), PairPrompt(raw=True, answer="Passage")],
    ids=repr,
)
def test_prompts_are_values(prompt):
    rebuilt = eval(repr(prompt))
    assert rebuilt == prompt and hash(rebuilt) == hash(prompt)
