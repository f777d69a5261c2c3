"""Prompts about one document: what they show, and what is read of the answers."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from shared_data import parity

from pyterrier_llmrank.core import Evidence
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.prompts import LabelLogit, ScorePrompt, VerdictPrompt, YesNo
from pyterrier_llmrank.prompts.passages import VERBATIM, Preparation
from pyterrier_llmrank.prompts.pointwise import UTILITY
from pyterrier_llmrank.prompts.scored import REASONED_SCORE
from pyterrier_llmrank.prompts.turn import literal

ODD = " two  spaces,\na line break "
LOGIT = LabelLogit("Query: {query} Document: {text}", "<extra_id_10>")


def user(prompt):
    return prompt.messages[-1].content


# How texts are shown


def test_texts_are_one_line_unless_they_are_shown_verbatim():
    assert user(YesNo("{query}|{text}").render(ODD, [ODD])) == "two spaces, a line break|two spaces, a line break"
    prompt = YesNo("{query}|{text}", passage=VERBATIM, question=VERBATIM)
    assert user(prompt.render(ODD, [ODD])) == f"{ODD}|{ODD}"


def test_a_citation_stays_as_there_are_no_identifiers_that_it_could_spell():
    assert user(YesNo("{query}|{text}").render("[1]", ["as in [2]"])) == "[1]|as in [2]"


def test_a_document_can_be_cut_after_its_first_words():
    prompt = YesNo("{query}|{text}", passage=Preparation(max_words=2))
    assert user(prompt.render("a b  c", ["one  two\nthree"])) == "a b c|one two"


def test_a_raw_prompt_has_no_chat_template_and_can_begin_the_answer():
    prompt = YesNo("{query} {text}", raw=True, answer="Passage", system="Judge.").render("q", ["d"])
    assert (prompt.raw, prompt.answer) == (True, "Passage")
    assert [tuple(message) for message in prompt.messages] == [("system", "Judge."), ("user", "q d")]


def test_a_literal_fills_in_as_it_is():
    odd = 'as {{"json": 1}} {query}'
    assert user(YesNo("{query} {text} " + literal(odd)).render("q", ["d"])) == f"q d {odd}"


def test_utility_is_asked_for_with_the_same_answers():
    shown = user(YesNo(UTILITY).render("why", ["because"]))
    assert "why" in shown and "because" in shown and shown.endswith("Answer with Yes or No only.")


# YesNo


def test_spellings_of_one_answer_count_together():
    prompt = YesNo(yes=("Yes", "yes", "YES"), no=("No", "no"))
    assert prompt.options(1) == ("Yes", "yes", "YES", "No", "no")
    scores = prompt.read(np.log([0.2, 0.1, 0.1, 0.1, 0.1]), 1)
    assert scores.tolist() == pytest.approx([math.log(2)])
    assert user(prompt.render("q", ["d"])).endswith("Answer with Yes or No only.")


def test_one_spelling_is_read_exactly():
    logprobs = np.array([-1.2345678901234567, -7.654321])
    assert YesNo().read(logprobs, 1)[0] == logprobs[0] - logprobs[1]


def test_an_answer_of_which_nothing_is_seen_decides():
    nothing = -np.inf
    assert YesNo().read(np.array([-0.01, nothing]), 1)[0] == np.inf
    assert YesNo().read(np.array([nothing, -0.01]), 1)[0] == -np.inf
    assert np.isnan(YesNo().read(np.array([nothing, nothing]), 1)).all()


def test_summed_spellings_agree_with_rank_llm():
    for case in parity("rank_llm_yesno_logprobs")["cases"]:
        seen = {"yes": [], "no": []}
        for token, logprob in case["top_logprobs"]:
            seen.get(token.strip().lower(), []).append(logprob)
        yes, no = (seen[name] or [-np.inf] for name in ("yes", "no"))
        prompt = YesNo(yes=tuple(f"y{i}" for i in range(len(yes))), no=tuple(f"n{i}" for i in range(len(no))))
        [score] = prompt.read(np.array([*yes, *no]), 1)
        if not any(seen.values()):
            assert np.isnan(score) and case["score"] == 0.0  # rank_llm scores what it did not see as irrelevant
        else:
            assert 1 / (1 + np.exp(-score)) == pytest.approx(case["score"], abs=1e-12)


# LabelLogit


def test_a_label_logit_is_asked_for_as_such_and_returned_as_it_is():
    assert (LOGIT.unit, LOGIT.options(1), LOGIT.asks, LOGIT.max_docs) == ("logit", ("<extra_id_10>",), "choices", 1)
    assert LOGIT.read(np.array([17.5]), 1).tolist() == [17.5] and LOGIT.gives == Evidence.SCORE
    assert not hasattr(YesNo(), "unit")


# Written scores


@pytest.mark.parametrize(
    ("answer", "score", "status"),
    [
        ("<score>73</score>", 73, "ok"),
        ("Analysis …\n<score>\n 73 \n</score>\n", 73, "ok"),
        ("<SCORE>7.5</SCORE>", 7.5, "ok"),
        ("<score>0</score>", 0, "ok"),
        ("<score>100</score>", 100, "ok"),
        ("<score>85/100</score>", 85, "ok"),
        ("<score>\u0667\u0663</score>", 73, "ok"),
        ("<think>maybe <score>10</score></think><score>90</score>", 90, "ok"),
        ("<answer><score>40</score></answer> not <score>1</score>", 40, "ok"),
        ("First <score>10</score>, no: <score>90</score>", 90, "repaired"),
        ("Score: 73", 73, "repaired"),
        ("Relevance score = 73.", 73, "repaired"),
        ("**Score:** 73", 73, "repaired"),
        ("The score is 73, as said.", 73, "repaired"),
        ("I give it a score of 73/100", 73, "repaired"),
        ("73", 73, "repaired"),
        (" 73.\n", 73, "repaired"),
        ("Score (0-100): 85 and then score: 12", 12, "repaired"),
        ("<score>12", 12, "repaired"),
    ],
)
def test_a_score_is_read(answer, score, status):
    parsed = ScorePrompt().parse(answer, 1)
    assert (parsed.scores.tolist(), parsed.status) == ([score], status)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "It is relevant.",
        "There are 3 reasons and 12 examples.",
        "<score>101</score>",
        "<score>-1</score>",
        "Score: -5",
        "<score>7/10</score>",
        "<score>high</score>",
        "<score></score>",
        "Score (0-100)",
        "<think>the score is 70, <score>70</score>",
        "<score>²</score>",
        "<score>" + "9" * 5000 + "</score>",
        "1234567890123",
    ],
)
def test_a_score_outside_the_scale_or_none_is_no_answer(answer):
    parsed = ScorePrompt().parse(answer, 1)
    assert np.isnan(parsed.scores).all() and parsed.status == "empty"


def test_the_scale_can_be_another():
    prompt = ScorePrompt(lowest=1, highest=5)
    assert "from 1 (not at all) to 5" in user(prompt.render("q", ["d"]))
    assert prompt.parse("score: 5/5", 1).scores.tolist() == [5.0]
    assert np.isnan(prompt.parse("<score>0</score>", 1).scores).all()


@pytest.mark.parametrize("prompt", [ScorePrompt(), ScorePrompt(REASONED_SCORE), VerdictPrompt()], ids=repr)
def test_written_answers_are_asked_for_one_document_each(prompt):
    assert (prompt.asks, prompt.max_docs, prompt.gives) == ("generate", 1, Evidence.SCORE)
    assert prompt.parse(prompt.longest(1), 1).status == "ok"
    shown = user(prompt.render("why", ["because"]))
    assert shown.count("why") == 1 and shown.count("because") == 1


# Written verdicts


@pytest.mark.parametrize(
    ("answer", "score", "status"),
    [
        ("true", 1, "ok"),
        ("False.", 0, "ok"),
        ("<think>false? no</think> true", 1, "ok"),
        ("It does hold the answer.\n**TRUE**", 1, "ok"),
        ("It is true that it names cats, but the verdict is false", 0, "repaired"),
        ("<answer>false</answer> true", 0, "ok"),
    ],
)
def test_the_last_verdict_counts(answer, score, status):
    parsed = VerdictPrompt().parse(answer, 1)
    assert (parsed.scores.tolist(), parsed.status) == ([score], status)


@pytest.mark.parametrize("answer", ["", "untrue", "trueish", "<think>true", "maybe", "yes"])
def test_no_verdict_is_no_answer(answer):
    parsed = VerdictPrompt().parse(answer, 1)
    assert np.isnan(parsed.scores).all() and parsed.status == "empty"


@pytest.mark.parametrize(
    "piece", ["<score>", "<score> ", "score ", "score: (", "true ", "9", " ", "<score>1", "\n", "<think>"]
)
@pytest.mark.parametrize("prompt", [ScorePrompt(), VerdictPrompt()], ids=repr)
def test_five_megabytes_are_read_in_no_time(prompt, piece):
    start = time.perf_counter()
    prompt.parse(piece * (5_000_000 // len(piece)), 1)
    assert time.perf_counter() - start < 5


# Arguments


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: YesNo(yes=()), "at least one spelling"),
        (lambda: YesNo(no=("No", "")), "none of them empty, got ('No', '')"),
        (lambda: LabelLogit("{query}", "x"), "lacks {text}"),
        (lambda: LabelLogit("{query} {text}", ""), "at least one spelling"),
        (lambda: ScorePrompt(lowest=3, highest=3), "lowest < highest, got 3 and 3"),
        (lambda: ScorePrompt("{query} {text} {levels}"), "has {levels}"),
        (lambda: VerdictPrompt(yes="True", no="true"), "two different words, got 'True' and 'true'"),
        (lambda: VerdictPrompt("{text}"), "lacks {query}"),
    ],
)
def test_arguments_out_of_range_are_refused(build, told):
    with pytest.raises(ConfigurationError) as caught:
        build()
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "prompt",
    [LOGIT, YesNo(yes=("Yes", "yes"), raw=True, system="Judge."), ScorePrompt(highest=10), VerdictPrompt(yes="yes")],
    ids=repr,
)
def test_prompts_are_values(prompt):
    rebuilt = eval(repr(prompt))
    assert rebuilt == prompt and hash(rebuilt) == hash(prompt)
