"""Prompts about several documents: how they are shown, what is asked, and how answers become scores."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pyterrier_llmrank.core import Evidence
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.prompts import (
    Dialogue,
    GroupPrompt,
    ListPrompt,
    OneMessage,
    Preparation,
    SelectPrompt,
    SetPrompt,
    groupwise,
    listwise,
    setwise,
)
from pyterrier_llmrank.prompts.passages import VERBATIM

HOSTILE = "a {brace} {0} {{double}} {query} %s %(x)s \\n $y"
PLAIN = OneMessage("{query}|{passages}|{n}|{labels}")
TALK = Dialogue(
    "{n} about {query}", "Which of {labels}?", reply="Go on.", received="Seen {label}.", document="{label}: {text}"
)
OURS = [
    ListPrompt(),
    ListPrompt("letters"),
    ListPrompt(template=listwise.REASONED),
    SetPrompt(),
    SetPrompt("numbers", "generate"),
    SetPrompt(decode="generate", layout=setwise.REASONED_CHOICE),
    GroupPrompt(),
    GroupPrompt(layout=groupwise.REASONED_SCORES),
    SelectPrompt(),
    SelectPrompt(3),
    SelectPrompt(0.5, "letters"),
    SelectPrompt({20: 10, 5: 2}),
]
each_of_ours = pytest.mark.parametrize("prompt", OURS, ids=repr)


def user(prompt):
    return prompt.messages[-1].content


def told(prompt):
    return [tuple(turn) for turn in prompt.messages]


# How documents are shown


def test_one_message_shows_all_documents():
    shown = ListPrompt(layout=PLAIN).render("why [1]", ["a\nb", "c [2]"])
    assert told(shown) == [("user", "why (1)|[1] a b\n\n[2] c (2)|2|[1], [2]")]


def test_a_dialogue_shows_each_document_in_a_turn_of_its_own():
    shown = ListPrompt(layout=TALK).render("why", ["a", "b"])
    assert told(shown) == [
        ("user", "2 about why"),
        ("assistant", "Go on."),
        ("user", "1: a"),
        ("assistant", "Seen 1."),
        ("user", "2: b"),
        ("assistant", "Seen 2."),
        ("user", "Which of [1], [2]?"),
    ]


def test_turns_of_a_dialogue_that_say_nothing_are_left_out():
    shown = ListPrompt("letters", "generate", layout=Dialogue("{query}", "Which?", system="S")).render("why", ["a"])
    assert told(shown) == [("system", "S"), ("user", "why"), ("user", "[A] a"), ("user", "Which?")]


def test_a_layout_says_how_the_answer_begins():
    layout = OneMessage("{query}{passages}", answer="Best: ", raw=True)
    shown = SetPrompt(layout=layout).render("why", ["a"])
    assert shown.answer == "Best: " and shown.raw
    assert ListPrompt(layout=Dialogue("{query}", "?", answer="[")).render("why", ["a"]).answer == "["


def test_the_first_line_is_the_title_where_a_layout_shows_titles():
    layout = OneMessage("{query}{passages}", document="{title}/{text}", passage=VERBATIM)
    with pytest.raises(ConfigurationError, match=r"lacks \{label\}"):
        SetPrompt(layout=layout)
    layout = OneMessage("{query} {passages}", document="{label} {title}/{text}", between=";", passage=VERBATIM)
    assert user(SetPrompt(layout=layout).render("why", ["T\nx\ny", "z"])) == "why A T/x\ny;B /z"


@pytest.mark.parametrize("layout", [PLAIN, TALK], ids=["message", "dialogue"])
def test_braces_and_percent_signs_in_texts_survive(layout):
    shown = "\n".join(turn.content for turn in ListPrompt(layout=layout).render(HOSTILE, [HOSTILE]).messages)
    assert shown.count(HOSTILE) == 2


@each_of_ours
def test_our_own_prompts_show_query_and_documents_and_no_stray_field(prompt):
    texts = [f"text-{i}-end" for i in range(5)]
    for n in range(1, 6):
        shown = "\n".join(turn.content for turn in prompt.render("why the query", texts[:n]).messages)
        assert "why the query" in shown and all(shown.count(text) == 1 for text in texts[:n])
        assert not {"{query}", "{passages}", "{n}", "{example}", "{keep}", "{highest}", "{labels}"} & set(shown.split())
        assert "{query}" not in shown and "{n}" not in shown and "{keep}" not in shown
    hostile = "\n".join(turn.content for turn in prompt.render(HOSTILE, [HOSTILE]).messages)
    assert hostile.count(HOSTILE) >= 2


@each_of_ours
def test_the_example_of_an_answer_and_the_longest_answer_can_be_read(prompt):
    for n in (1, 2, 3, 5, 8):
        if prompt.asks == "choices":
            assert len(set(prompt.options(n))) == n
            continue
        parsed = prompt.parse(prompt.longest(n), n)
        assert parsed.status == "ok" and np.isfinite(parsed.scores).all(), n


@each_of_ours
def test_an_answer_that_cannot_be_read_has_no_scores(prompt):
    if prompt.asks == "generate":
        for answer in ("", "I cannot tell.", "<think>[1] > [2]", "[99]"):
            parsed = prompt.parse(answer, 4)
            assert np.isnan(parsed.scores).all() and parsed.status == "empty"


@each_of_ours
def test_prompts_are_values(prompt):
    rebuilt = eval(repr(prompt))
    assert rebuilt == prompt and hash(rebuilt) == hash(prompt) and repr(rebuilt) == repr(prompt)


# Lists


def test_a_reasoning_prompt_asks_for_tags_and_reads_ties():
    prompt = ListPrompt(template=listwise.REASONED)
    assert "<answer>[2] > [1] > [3] > ...</answer>" in user(prompt.render("why", ["a", "b", "c"]))
    parsed = prompt.parse("<think>[1] is best</think>\n<answer>[3] > [1] = [2]</answer>", 3)
    assert parsed.scores.tolist() == [-1.0, -1.0, 0.0] and parsed.status == "ok"


def test_names_of_documents_are_those_of_the_layout():
    prompt = ListPrompt(layout=OneMessage("{query}{passages}{labels}{example}", identifier="PASSAGE{label}"))
    assert prompt.longest(3) == "PASSAGE1 > PASSAGE2 > PASSAGE3"
    assert user(prompt.render("q", ["a", "b"])).endswith("PASSAGE1, PASSAGE2PASSAGE2 > PASSAGE1 > ...")
    assert prompt.parse("[PASSAGE2, PASSAGE1]", 2).scores.tolist() == [-1.0, 0.0]


def test_legacy_reading_knows_no_ties():
    assert ListPrompt(legacy=True).parse("[1] = [2]", 2).scores.tolist() == [0.0, -1.0]


def test_a_layout_of_letters_is_read_from_probabilities():
    prompt = ListPrompt("letters", layout=PLAIN)
    assert prompt.asks == "choices" and prompt.options(3) == ("A", "B", "C") and prompt.max_docs == 26


# Sets


def test_shares_of_a_set_sum_to_one():
    scores = SetPrompt().read(np.log([0.1, 0.3, 0.1]), 3)
    assert scores.tolist() == pytest.approx([0.2, 0.6, 0.2])


def test_a_set_without_any_probability_has_no_answer():
    assert np.isnan(SetPrompt().read(np.full(3, -np.inf), 3)).all()
    shares = SetPrompt().read(np.array([-np.inf, -1.0]), 2)
    assert shares.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("prompt", "asks", "most"),
    [
        (SetPrompt(), "choices", 26),
        (SetPrompt("numbers"), "choices", 9),
        (SetPrompt("numbers", "generate"), "generate", None),
        (SetPrompt("letters", "generate"), "generate", 26),
    ],
    ids=repr,
)
def test_a_set_gives_a_choice_among_as_many_as_can_be_told_apart(prompt, asks, most):
    assert (prompt.asks, prompt.max_docs, prompt.gives) == (asks, most, Evidence.CHOICE)
    assert prompt.render("q", ["a", "b"]).answer == ""


def test_there_are_26_letters():
    with pytest.raises(ConfigurationError, match="26 letters for 27 documents"):
        SetPrompt().render("q", ["d"] * 27)


def test_a_written_choice_is_the_document_it_names():
    prompt = SetPrompt("numbers", "generate", setwise.REASONED_CHOICE)
    assert prompt.parse("<think>[1]?</think><answer>[2]</answer>", 3).scores.tolist() == [0.0, 1.0, 0.0]
    assert "such as <answer>[3]</answer>" in user(prompt.render("q", ["a", "b", "c"]))


# Groups


def test_a_group_is_asked_for_scores_on_a_scale():
    prompt = GroupPrompt(5)
    assert (prompt.gives, prompt.max_docs) == (Evidence.SCORE, None)
    shown = user(prompt.render("q", ["a", "b", "c", "d"]))
    assert "to 5 (" in shown and '{"[1]": 2, "[2]": 0, "[3]": 5}' in shown
    assert json.loads(prompt.longest(12)) == {f"[{i}]": 5 for i in range(1, 13)}


def test_scores_beyond_the_scale_become_its_end_and_what_is_missing_has_none():
    parsed = GroupPrompt(5).parse('{"[1]": 9, "[2]": 3}', 3)
    assert parsed.scores[:2].tolist() == [5.0, 3.0] and np.isnan(parsed.scores[2]) and parsed.status == "repaired"


# Selections


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        (3, {0: 0, 1: 1, 2: 2, 3: 3, 9: 3}),
        (0.5, {1: 1, 2: 1, 3: 2, 10: 5, 20: 10}),
        ({20: 10, 10: 4, 5: 2}, {20: 10, 10: 4, 5: 2, 1: 1, 3: 1, 8: 3, 15: 8, 40: 20}),
        (None, {0: None, 5: None}),
    ],
)
def test_as_many_are_selected_as_told(keep, kept):
    assert {n: SelectPrompt(keep).kept(n) for n in kept} == kept


def test_a_selection_tells_how_many_it_wants():
    prompt = SelectPrompt({20: 10, 5: 2})
    assert "Which 2 of the 5 passages" in user(prompt.render("q", ["d"] * 5))
    assert prompt.longest(5) == "[4], [5]" and prompt.longest(20).count(",") == 9
    parsed = prompt.parse("[4], [1], [3]", 5)
    assert parsed.scores.tolist() == [1.0, 0.0, 0.0, 2.0, 0.0] and parsed.status == "repaired"


def test_a_free_selection_may_be_empty():
    prompt = SelectPrompt()
    assert prompt.gives is Evidence.ORDER and prompt.parse("None", 3).scores.tolist() == [0.0] * 3
    assert prompt.parse("[3], [1]", 3).scores.tolist() == [1.0, 0.0, 2.0]
    assert np.isnan(SelectPrompt(2).parse("None", 3).scores).all()


# Arguments


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: SetPrompt("roman"), "labels must be 'numbers' or 'letters', got 'roman'"),
        (lambda: SetPrompt(decode="first"), "decode must be 'choices' or 'generate', got 'first'"),
        (lambda: SetPrompt(layout=OneMessage("{query}")), "lacks {passages}"),
        (lambda: SetPrompt(layout=OneMessage("{query}{passages}{keep}")), "has {keep}"),
        (lambda: GroupPrompt(0), "highest must be at least 1, got 0"),
        (lambda: GroupPrompt(layout=OneMessage('{query}{passages}{"a": 1}')), 'has {"a"}'),
        (lambda: SelectPrompt(0), "keep must be a number from 1, a share between 0 and 1"),
        (lambda: SelectPrompt(1.5), "got 1.5"),
        (lambda: SelectPrompt({}), "got {}"),
        (lambda: SelectPrompt({5: 6}), "got {5: 6}"),
        (lambda: SelectPrompt("half"), "got 'half'"),
        (lambda: SelectPrompt(layout=OneMessage("{query}{passages}{keep}")), "has {keep}"),
        (lambda: SelectPrompt(labels="roman"), "labels must be"),
        (lambda: ListPrompt(layout=PLAIN, system="S"), "system and template belong to a layout"),
        (lambda: ListPrompt(layout=Dialogue("none", "here")), "lacks {query}"),
        (lambda: ListPrompt(layout=Dialogue("{query}", "?", received="{text}")), "has {text}"),
        (lambda: ListPrompt(layout=OneMessage("{query}{passages}", identifier="it")), "lacks {label}"),
        (lambda: ListPrompt(layout=OneMessage("{query}{passages}", document="{label}")), "lacks {text}"),
    ],
)
def test_arguments_out_of_range_are_refused(build, said):
    with pytest.raises(ConfigurationError) as caught:
        build()
    assert said in str(caught.value)


def test_documents_are_prepared_as_the_layout_says():
    layout = OneMessage("{query} {passages}", passage=Preparation(max_words=2), question=Preparation(max_chars=1))
    prompts = [
        SetPrompt(layout=layout),
        ListPrompt(layout=layout),
        SelectPrompt(layout=layout),
        GroupPrompt(layout=layout),
    ]
    assert user(prompts[0].render("why", ["a b c"])) == "w [A] a b"
    assert all(prompt.passage == Preparation(max_words=2) for prompt in prompts)
