"""Written answers other than a bare order: what is read of them, in good order and in bad, beside the official code."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from shared_data import parity

from pyterrier_llmrank.core import descending
from pyterrier_llmrank.prompts.answers import parse_choice, parse_ranking, parse_scores, parse_selection
from pyterrier_llmrank.prompts.parsing import answer_text, parse_permutation


def ranked(parsed):
    """Places from best to worst, those without an answer last."""
    return descending(range(len(parsed.scores)), parsed.scores)


def rounded(parsed):
    return [None if np.isnan(score) else float(score) for score in parsed.scores]


# Rankings with ties


@pytest.mark.parametrize(
    ("answer", "n", "scores", "status"),
    [
        ("[3] > [2] > [4] = [1] > [5]", 5, [-2, -1, 0, -2, -3], "ok"),
        ("[1] = [2] = [3]", 3, [0, 0, 0], "ok"),
        ("[2] > [1]", 3, [-1, 0, None], "repaired"),
        ("[2]=[9] > [1]", 3, [-1, 0, None], "repaired"),
        ("2 = 1 > 3", 3, [0, 0, -1], "ok"),
        ("Passage 2 = Passage 1 > Passage 3", 3, [0, 0, -1], "ok"),
        ("`[2]` = `[1]` > `[3]`", 3, [0, 0, -1], "ok"),
        ("[1] = [2] > [3], no:\n[1] > [2] > [3]", 3, [0, -1, -2], "ok"),
        ("<think>[1] = [2]</think>[1] > [2] > [3]", 3, [0, -1, -2], "ok"),
        ("<answer>[1] > [2] = [3]</answer>", 3, [0, -1, -1], "ok"),
        ("nothing", 3, [None, None, None], "empty"),
        ("<think>[1] = [2]", 2, [None, None], "empty"),
    ],
)
def test_documents_called_equal_get_equal_scores(answer, n, scores, status):
    parsed = parse_ranking(answer, n)
    assert (rounded(parsed), parsed.status) == (scores, status)


def test_letters_tie_too():
    assert rounded(parse_ranking("[B] = [A] > [C]", 3, labels="letters")) == [0, 0, -1]


def test_any_ranking_with_ties_is_read_back():
    chance = random.Random(0)
    for n in (2, 5, 20, 100):
        for _ in range(50):
            order = chance.sample(range(n), n)
            signs = [chance.choice("=>") for _ in order[1:]]
            text = f"[{order[0] + 1}]" + "".join(f" {s} [{p + 1}]" for s, p in zip(signs, order[1:], strict=True))
            levels = [0, *np.cumsum([-(sign == ">") for sign in signs]).tolist()]
            scores = dict(zip(order, levels, strict=True))
            assert rounded(parse_ranking(text, n)) == [scores[place] for place in range(n)]


def test_without_ties_a_ranking_is_the_permutation():
    for answer in ("[3] > [1]", "3, 1, 2", "1. [2]\n2. [3]", "", "Document 2 > Document 1"):
        order = parse_permutation(answer, 3).order
        assert ranked(parse_ranking(answer, 3))[: len(order)] == list(order)


RANK_K_IS_WRONG = {
    "[0] > [1]": ([0], "0 is taken for the last document"),
    "[-1] > [2]": ([1], "-1 is taken for the document before the last"),
    "[2] > [2] > [1]": ([1, 0], "reading stops where a document is named twice"),
    "ranking: [3] > [1]": ([2, 0], "words before the first identifier hide it"),
}


def test_rank_k_answers_are_read_as_its_authors_do_where_they_are_right():
    recorded = parity("reasoning_parsers")["rank_k"]
    places = {doc: place for place, doc in enumerate(recorded["doc_ids"])}
    for case in recorded["cases"]:
        parsed = parse_ranking(case["last_line"], len(places))
        if case["last_line"] in RANK_K_IS_WRONG:
            order = RANK_K_IS_WRONG[case["last_line"]][0]
            assert ranked(parsed)[: len(order)] == order and np.isfinite(parsed.scores).sum() == len(order)
            continue
        official = {places[doc]: score for doc, score in case["scores"].items()}
        assert set(np.flatnonzero(np.isfinite(parsed.scores)).tolist()) == set(official)
        for one in official:
            for other in official:
                assert np.sign(official[one] - official[other]) == np.sign(parsed.scores[one] - parsed.scores[other])


# Orders after reasoning: identifiers that the official code harvests from reasoning that never ends are left alone

HARVESTED = {
    "<think>passage 4 ...": "REARANK takes the digits of the reasoning",
    "<think>compare [4] and [5] but cut off": "ReasonRank takes the digits of the reasoning",
}


@pytest.mark.parametrize("system", ["rearank", "reasonrank"])
def test_reasoning_answers_are_read_as_their_authors_do_unless_they_are_cut_off(system):
    for case in parity("reasoning_parsers")[system]["cases"]:
        expected = [int(number) - 1 for number in case["clean"].split()]
        if case["response"] in HARVESTED:
            expected = []
        assert list(parse_permutation(case["response"], 5).order) == expected, case


DEAR_IS_WRONG = {"### Reasoning: Step 1 ... passage 2\n[4] > [1]": [3, 0, 1, 2]}  # the digits of its steps count there


def test_dear_answers_are_read_as_its_authors_do_but_for_the_digits_of_its_steps():
    for case in parity("reasoning_parsers")["dear_listwise"]["cases"]:
        expected = DEAR_IS_WRONG.get(case["response"], case["indices"])
        assert ranked(parse_ranking(case["response"], case["n"])) == expected, case


# Choices

RANK_R1_IS_WRONG = {
    "<think>x</think><answer>3</answer>": 2,  # brackets or not, it says which
    "<answer>[3]</answer>": 2,  # the answer stands, though nothing was thought
}


def test_rank_r1_answers_are_read_where_they_name_one_document():
    for case in parity("reasoning_parsers")["rank_r1"]["cases"]:
        parsed = parse_choice(case["response"], 20, labels="numbers")
        place = int(case["label"].strip("[]")) - 1 if case["accepted"] else RANK_R1_IS_WRONG.get(case["response"])
        if place is None:
            assert np.isnan(parsed.scores).all() and parsed.status == "empty", case
        else:
            assert np.flatnonzero(parsed.scores).tolist() == [place] and parsed.scores.sum() == 1.0, case


@pytest.mark.parametrize(
    ("answer", "best", "status"),
    [
        ("C", 2, "ok"),
        ("[C]", 2, "ok"),
        ("Passage C", 2, "ok"),
        ("**Passage C**.", 2, "ok"),
        ("Answer: [B]", 1, "ok"),
        ("The best is [B].", 1, "repaired"),
        ("B\n\nPassage A only names the topic, and passage C is about another.", 1, "repaired"),
        ("Passage A names the topic. Passage B answers.\nB", 1, "repaired"),
        ("<think>[A] or [B]?</think> [D]", 3, "ok"),
        ("<think>[A] or [B]?</think><answer>Passage D</answer>", 3, "ok"),
        ("E", None, "empty"),
        ("[A], [B]", None, "empty"),
        ("A\nB", None, "empty"),
        ("<think>[A]", None, "empty"),
        ("I cannot tell.", None, "empty"),
        ("", None, "empty"),
    ],
)
def test_a_choice_is_one_document_or_none(answer, best, status):
    parsed = parse_choice(answer, 4)
    assert parsed.status == status
    assert rounded(parsed) == [None] * 4 if best is None else rounded(parsed) == [float(i == best) for i in range(4)]


# Selections

TOUR_RANK_IS_WRONG = {
    "Document 3, ..., Document 1": [2, 0],  # it stops at the first full stop
    "Document 11, Document 2": [1],  # it fails on a number beyond the group
    "Document 0, Document 2": [1],  # 0 becomes the last document
    "Document 3 > Document 1": [2, 0],  # of a chain it takes the last
}


def test_tour_rank_answers_are_read_as_its_authors_do_where_they_are_right():
    for case in parity("tourrank")["parser"]:
        chosen = [int(doc[1:]) for doc in case.get("result", [])]
        expected = TOUR_RANK_IS_WRONG.get(case["answer"], chosen)
        assert ranked(parse_selection(case["answer"], 10, most=5))[: len(expected)] == expected
        assert np.flatnonzero(parse_selection(case["answer"], 10, most=5).scores).tolist() == sorted(expected)


DYNAMIC_RAG_IS_WRONG = {
    "[2], [2]": [1],  # a document is shown twice
    "2, 5": [1, 4],  # without brackets nothing is read, as if no document were needed
    "[99]": None,  # a document that is not there
}


def test_dynamic_rag_answers_are_read_as_its_authors_do_where_they_are_right():
    for case in parity("reasoning_parsers")["dynamicrag"]["cases"]:
        expected = DYNAMIC_RAG_IS_WRONG.get(case["response"], [number - 1 for number in case["ids"]])
        parsed = parse_selection(case["response"], 40, none=True)
        if expected is None:
            assert parsed.status == "empty" and np.isnan(parsed.scores).all()
        else:
            assert np.flatnonzero(parsed.scores).tolist() == sorted(expected)
            assert ranked(parsed)[: len(expected)] == expected


@pytest.mark.parametrize(
    ("answer", "scores", "status"),
    [
        ("[2], [4]", [0, 2, 0, 1], "ok"),
        ("[2], [4], [1]", [0, 2, 0, 1], "repaired"),
        ("[2]", [0, 1, 0, 0], "repaired"),
        ("[2], [2], [9], [4]", [0, 2, 0, 1], "repaired"),
        ("<think>[1]</think>Document 3, Document 2", [0, 1, 2, 0], "ok"),
        ("1. Document 3\n2. Document 4", [0, 0, 2, 1], "ok"),
        ("none of them", [None] * 4, "empty"),
        ("", [None] * 4, "empty"),
    ],
)
def test_the_first_documents_named_are_selected(answer, scores, status):
    parsed = parse_selection(answer, 4, most=2)
    assert (rounded(parsed), parsed.status) == (scores, status)


@pytest.mark.parametrize(
    "answer", ["None", "none.", '"None"', "None of the passages is of use.", "<think>[1]</think>\nNone"]
)
def test_none_is_an_answer_where_it_may_be(answer):
    parsed = parse_selection(answer, 3, none=True)
    assert (rounded(parsed), parsed.status) == ([0] * 3, "ok")
    assert parse_selection(answer, 3).status == "empty"


# Scores


@pytest.mark.parametrize(
    ("answer", "scores", "status"),
    [
        ('{"[1]": 5, "[2]": 3, "[3]": 8}', [5, 3, 8], "ok"),
        ('```json\n{"[1]": 5, "[2]": 3, "[3]": 8}\n```', [5, 3, 8], "ok"),
        ('{"1": 5, "2": 3.5, "3": 8,}', [5, 3.5, 8], "ok"),
        ("{'[1]': 5, '[2]': 3, '[3]': 8}", [5, 3, 8], "ok"),
        ('{"Document 1": 5, "doc_2": "3", "D3": 8}', [5, 3, 8], "ok"),
        ('{"[1]": 5, "[2]": 3, "[3]": 8', [5, 3, 8], "ok"),
        ('{"[1]": 5, "[2]]": 3, "[3]": 8}', [5, 3, 8], "ok"),
        ("[1]: 5\n[2]: 3\n[3]: 8", [5, 3, 8], "ok"),
        ('{"[1]": 5, "[3]": 8}', [5, None, 8], "repaired"),
        ('{"[1]": 5, "[2]": 30, "[3]": -1}', [5, 10, 0], "repaired"),
        ('{"[1]": 5, "[1]": 6, "[2]": 3, "[3]": 8}', [6, 3, 8], "repaired"),
        ('{"[1]": 5, "[2]": 3, "[3]": 8, "[4]": 1}', [5, 3, 8], "repaired"),
        ('{"[1]": "high", "[2]": 3, "[3]": 8}', [None, 3, 8], "repaired"),
        ('Draft {"[1]": 1, "[2]": 1, "[3]": 1}, final {"[1]": 5, "[2]": 3, "[3]": 8}', [5, 3, 8], "ok"),
        ('<reason>{"[1]": 0}</reason><answer>{"[1]": 5, "[2]": 3, "[3]": 8}</answer>', [5, 3, 8], "ok"),
        ("<reason>[1]: 5", [None] * 3, "empty"),
        ("no json", [None] * 3, "empty"),
        ('{"[9]": 5}', [None] * 3, "empty"),
        ("{}", [None] * 3, "empty"),
        ("", [None] * 3, "empty"),
    ],
)
def test_scores_are_read_from_json_and_what_is_nearly_json(answer, scores, status):
    parsed = parse_scores(answer, 3)
    assert (rounded(parsed), parsed.status) == (scores, status)


def test_group_rank_answers_are_read_as_its_authors_do_and_a_failure_is_no_score():
    for case in parity("reasoning_parsers")["grouprank"]["cases"]:
        official = {int(name.strip("[]")) - 1: score for name, score in case.get("parsed", {}).items()}
        scores = parse_scores(case["response"], 3).scores
        assert {place: score for place, score in enumerate(scores) if not np.isnan(score)} == official, case


def test_scores_in_digits_of_another_script_are_read():
    text = json.dumps({f"[{i}]": i for i in (1, 2, 3)}).translate({ord("0") + i: chr(0x966 + i) for i in range(10)})
    assert rounded(parse_scores(text, 3)) == [1, 2, 3]
    assert parse_scores('{"[²]": ³}', 3).status == "empty"


# Whatever the text

READERS = {
    "ranking": parse_ranking,
    "ranking of letters": lambda text, n: parse_ranking(text, n, labels="letters"),
    "choice": parse_choice,
    "choice of numbers": lambda text, n: parse_choice(text, n, labels="numbers"),
    "selection": lambda text, n: parse_selection(text, n, most=2, none=True),
    "scores": parse_scores,
}
each_reader = pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
PIECES = [
    *"0123456789[](){}<>,.;:=|-_'\"`*\\#\n\r\t AaBbİﬀ²①\uff11३🄃\ud800\x00",
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "[1]",
    '"[1]": 3, ',
    "[2] = ",
    "Passage 3",
    "None",
    "0.5",
    "\u2028",
]


@each_reader
def test_garbage_gives_one_score_a_document_and_a_status(read):
    chance = random.Random(0)
    for _ in range(2000):
        n = chance.choice([0, 1, 3, 20, 1000])
        scores, status = read("".join(chance.choices(PIECES, k=chance.randrange(60))), n)
        assert scores.shape == (n,) and not np.isinf(scores).any()
        assert (status == "empty") == (np.isnan(scores).all() and n > 0) or n == 0


@each_reader
@pytest.mark.parametrize(
    "piece",
    ["x", "9", " ", "\n", "{", "[1", "[1] = ", '{"[1]": 5, ', "passage"],
)
def test_five_megabytes_of_one_piece_are_read(read, piece):
    scores, _ = read(piece * (5_000_000 // len(piece)), 3)
    assert scores.shape == (3,)


def test_an_answer_behind_megabytes_of_reasoning_is_found():
    words = "so passage 1 and the 2 others " * 160_000
    assert rounded(parse_ranking(f"<think>{words}</think>[2] = [1] > [3]", 3)) == [0, 0, -1]
    assert rounded(parse_choice(f"<think>{words}</think>B", 3)) == [0, 1, 0]
    assert rounded(parse_scores(f'{words}\n{{"1": 2, "2": 3, "3": 4}}', 3)) == [2, 3, 4]
    assert answer_text(f"<think>{words}") is None
