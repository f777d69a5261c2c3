"""The reading of answers: parity with RankLLM in legacy mode, and good sense in robust mode."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from pyterrier_llmrank.prompts.parsing import answer_text, parse_permutation

SHARED = Path(__file__).resolve().parents[2].parent / "shared"

# Tags of recorded cases in which RankLLM takes something for an identifier that a reader would not.
OFFICIAL_IS_WRONG = {
    "prose": "numbers of the sentence count (rank 1: [3], Top 2: …)",
    "prose_n10": "numbers of the sentence count (the 3 passages)",
    "json_rank_keys": "the digits of the keys rank_1, rank_2 … count",
    "numbered_list": "the list numbers count",
    "numbered_list_scores": "the list numbers and the scores count",
    "scores_inline": "the scores count",
    "float": "both halves of a decimal count",
    "range": "both halves of a decimal count",
    "thousands": "the parts of 1,000 count",
    "sci": "the digits glued to letters count",
    "range_bigint_4400": "one endless number voids the whole answer",
    "think": "only </think> in lower case ends the reasoning",
    "unicode": "superscripts and circled digits count, or void the whole answer",
    "unicode_n12": "superscripts and circled digits count and join their neighbours",
    "alpha": "every letter counts, words are long numbers, and neighbours join",
    "alpha_n26": "neighbouring letters join: AA is 11",
}


@cache
def parity_cases() -> list[dict]:
    path = SHARED / "parity" / "rank_llm_permutation_parse.json"
    if not path.is_file():
        pytest.skip(f"the recorded results {path} are not here")
    return json.loads(path.read_text(encoding="utf-8"))["cases"]


@cache
def logged_windows() -> list[dict]:
    path = SHARED / "data" / "llm_logs_listwise" / "windows.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"the recorded answers {path} are not here")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def total(order: tuple[int, ...], n: int) -> list[int]:
    return list(dict.fromkeys([*order, *range(n)]))


def read_case(case: dict, legacy: bool) -> list[int]:
    labels = "letters" if case["use_alpha"] else "numbers"
    return total(parse_permutation(case["response"], case["n"], labels=labels, legacy=legacy).order, case["n"])


def ids(text: str, n: int, **options) -> list[int]:
    """The identifiers read, from 1."""
    return [place + 1 for place in parse_permutation(text, n, **options).order]


# Recorded results


def test_legacy_mode_equals_rank_llm_on_every_recorded_case():
    assert [case["id"] for case in parity_cases() if read_case(case, legacy=True) != case["order0"]] == []


def test_robust_mode_equals_rank_llm_where_rank_llm_is_right():
    cases = [case for case in parity_cases() if case["tag"] not in OFFICIAL_IS_WRONG]
    assert [case["response"] for case in cases if read_case(case, legacy=False) != case["order0"]] == []


def test_legacy_mode_replays_every_logged_window():
    for call in logged_windows():
        order = parse_permutation(call["response"], len(call["window"]), legacy=True).order
        assert [call["window"][place] for place in total(order, len(call["window"]))] == call["ranking"]


def test_robust_mode_agrees_on_every_clean_logged_permutation():
    clean = 0
    for call in logged_windows():
        n = len(call["window"])
        legacy = parse_permutation(call["response"], n, legacy=True)
        if legacy.status == "ok":
            assert parse_permutation(call["response"], n) == legacy
            clean += 1
    assert clean > 1000


def test_robust_mode_differs_only_in_logs_of_untuned_models():
    differing = Counter()
    for call in logged_windows():
        n = len(call["window"])
        legacy, robust = (parse_permutation(call["response"], n, legacy=legacy).order for legacy in (True, False))
        differing[call["log"]] += total(legacy, n) != total(robust, n)
    assert differing["dl19.bm25.vicuna13b-v1.5-zeroshot"] == 384  # nearly all say "20 passages are provided."
    assert differing["dl19.bm25.vicuna7b-v1.5-zeroshot"] == 20  # "1. [14] > [15] > …"
    assert not any(count for log, count in differing.items() if "zeroshot" not in log)


# Formats: what is rendered is read back


def bullets(marks, items) -> str:
    return "\n".join(f"{mark} {item}" for mark, item in zip(marks, items, strict=False))


NUMBER_FORMATS = {
    "rankgpt": lambda p: " > ".join(f"[{i}]" for i in p),
    "no space": lambda p: ">".join(f"[{i}]" for i in p),
    "ties": lambda p: " = ".join(f"[{i}]" for i in p),
    "brackets and commas": lambda p: ", ".join(f"[{i}]" for i in p),
    "brackets and spaces": lambda p: " ".join(f"[{i}]" for i in p),
    "brackets and and": lambda p: ", ".join(f"[{i}]" for i in p[:-1]) + f" and [{p[-1]}]",
    "vertical": lambda p: "\n".join(f"[{i}]" for i in p),
    "vertical, spaced": lambda p: "\n\n".join(f"[{i}]" for i in p) + "\n",
    "vertical, bare": lambda p: "\n".join(map(str, p)),
    "wrapped": lambda p: " > ".join(f"[{i}]" if at % 7 else f"\n[{i}]" for at, i in enumerate(p)),
    "bullets": lambda p: bullets("-" * len(p), [f"[{i}]" for i in p]),
    "numbered": lambda p: bullets((f"{i}." for i in range(1, 999)), [f"[{i}]" for i in p]),
    "numbered, with remarks": lambda p: bullets((f"{i})" for i in range(1, 999)), [f"[{i}]: has 3 facts" for i in p]),
    "numbered, bare": lambda p: bullets((f"{i}." for i in range(1, 999)), p),
    "numbered, names": lambda p: bullets((f"{i}." for i in range(1, 999)), [f"**Passage {i}**" for i in p]),
    "bare": lambda p: " > ".join(map(str, p)),
    "bare spaces": lambda p: " ".join(map(str, p)),
    "bare commas": lambda p: ",".join(map(str, p)),
    "round brackets": lambda p: " > ".join(f"({i})" for i in p),
    "first bracket lost": lambda p: " > ".join(f"[{i}]" for i in p)[1:],
    "last bracket lost": lambda p: " > ".join(f"[{i}]" for i in p)[:-1],
    "glued names": lambda p: "SORTED_PASSAGES = [" + ", ".join(f"PASSAGE{i}" for i in p) + "]",
    "names": lambda p: " > ".join(f"Document {i}" for i in p),
    "json": lambda p: json.dumps({"ranking": p}),
    "json, indented": lambda p: "```json\n" + json.dumps({"ranking": p}, indent=2) + "\n```",
    "json strings": lambda p: json.dumps([f"[{i}]" for i in p]),
    "json ranks": lambda p: json.dumps({f"rank_{rank}": i for rank, i in enumerate(p, 1)}),
    "json numbers as keys": lambda p: json.dumps(dict(enumerate(p, 1))),
    "answer tags": lambda p: "So [1] and [2]:\n<answer>" + " > ".join(f"[{i}]" for i in p) + "</answer>",
    "answer cut at its end": lambda p: "<think>1 > 2</think><answer>\n" + "\n".join(f"[{i}]" for i in p),
    "after a sentence": lambda p: f"Here are the {len(p)} passages ranked: " + " > ".join(f"[{i}]" for i in p),
    "bare after a sentence": lambda p: f"The {len(p)} passages in order: " + " > ".join(map(str, p)),
    "before remarks": lambda p: (
        " > ".join(f"[{i}]" for i in p) + "\n\nNote that [1] and [2] say the same.\n[1]: 3 facts"
    ),
    "full width": lambda p: "\uff1e".join(f"\uff3b{i}\uff3d" for i in p),
    "decimal digits of another script": lambda p: " > ".join(f"[{i}]" for i in p).translate(
        {ord("0") + i: chr(0x966 + i) for i in range(10)}
    ),
}
LETTER_FORMATS = {
    "rankgpt": lambda p: " > ".join(f"[{i}]" for i in p),
    "vertical": lambda p: "\n".join(f"[{i}]" for i in p),
    "small": lambda p: " > ".join(f"[{i.lower()}]" for i in p),
    "bare": lambda p: " > ".join(p),
    "bare commas": lambda p: ", ".join(p),
    "bare vertical": lambda p: "\n".join(p),
    "names": lambda p: " > ".join(f"Passage {i}" for i in p),
    "json": lambda p: json.dumps({"ranking": p}),
    "first bracket lost": lambda p: " > ".join(f"[{i}]" for i in p)[1:],
    "prose": lambda p: "I think: " + " > ".join(f"[{i}]" for i in p) + " because A is a fact and B isn't",
}


@pytest.mark.parametrize("render", NUMBER_FORMATS.values(), ids=NUMBER_FORMATS.keys())
@pytest.mark.parametrize("n", [2, 3, 10, 20, 100])
def test_numbers_are_read_back_from_every_format(render, n):
    shuffled = random.Random(n)
    for _ in range(20):
        order = shuffled.sample(range(n), n)
        assert parse_permutation(render([place + 1 for place in order]), n) == (tuple(order), "ok")


@pytest.mark.parametrize("render", LETTER_FORMATS.values(), ids=LETTER_FORMATS.keys())
@pytest.mark.parametrize("n", [2, 3, 10, 26])
def test_letters_are_read_back_from_every_format(render, n):
    shuffled = random.Random(n)
    for _ in range(20):
        order = shuffled.sample(range(n), n)
        answer = render([chr(ord("A") + place) for place in order])
        assert parse_permutation(answer, n, labels="letters") == (tuple(order), "ok")


@pytest.mark.parametrize("labels", ["numbers", "letters"])
@pytest.mark.parametrize("legacy", [False, True])
def test_garbage_gives_distinct_places_in_range(labels, legacy):
    chance = random.Random(0)
    alphabet = [
        *"0123456789[](){}<>,.;:=|-_'\"`*\\#\n\r\t AaBbİﬀ²①\uff11३🄃\ud800\x00",
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
    ]
    alphabet += ["[1]", "[2] > ", "Passage 3", "1. ", "rank_1", " and ", "word ", "1,000", "0.5", "\u2028"]
    for _ in range(3000):
        n = chance.choice([0, 1, 3, 20, 1000])
        text = "".join(chance.choices(alphabet, k=chance.randrange(60)))
        order, status = parse_permutation(text, n, labels=labels, legacy=legacy)
        assert len(set(order)) == len(order) and all(0 <= place < n for place in order), text
        assert (status == "empty") == (not order) and (status != "ok" or len(order) == n), text


# Reasoning


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("<think>[1] > [2] > [3]</think>\n[3] > [1] > [2]", [3, 1, 2]),
        ("[1] > [2], no:</think>[3] > [2] > [1]", [3, 2, 1]),
        ("<think>1</think>[1] > [2] > [3]<think>2</think>[2] > [1] > [3]", [2, 1, 3]),
        ("<THINK>[1]</THINK>[2] > [1] > [3]", [2, 1, 3]),
        ("<reasoning>[1] > [3]</reasoning>[2] > [3] > [1]", [2, 3, 1]),
        ("<think>[1]</think>", []),
        ("[1] > [2] > [3] <think>x</think>", []),
        ("<think>compare [3] and [2] but cut", []),
        ("<think>a</think>[1] > [2] <think>[3] wait", []),
        ("<think>1 2</think><answer>[3] > [1]</answer> [2] [1]", [3, 1]),
        ("<answer>[1]</answer> or <answer>[3] > [2] > [1]</answer>", [3, 2, 1]),
        ("<answer>[3] > [1]</answer> <answer>[2]", [3, 1]),
        ("<answer></answer> [1] > [2]", []),
        ("[1] > [2]</answer>", [1, 2]),
    ],
)
def test_reasoning_is_never_harvested(answer, expected):
    assert ids(answer, 3) == expected


def test_answer_text_is_none_only_when_the_reasoning_never_ends():
    assert answer_text("<think>[1]") is None
    assert answer_text("<think>a</think> b <think>") is None
    assert answer_text("<think>a</think> b") == " b"
    assert answer_text("<think>a</think>x<answer>b</answer>y") == "b"
    assert answer_text("<answer>b") == "<answer>b"
    assert answer_text("") == ""


# Answers that are malformed, and what a person would read


@pytest.mark.parametrize(
    ("answer", "n", "expected"),
    [
        ("12 passages were given.", 20, []),  # an untuned model that ranks nothing
        ("12 passages were given, so the order is from 1 to 12.", 20, []),
        ("1. [7] > [3] > [5]", 20, [7, 3, 5]),  # a list number before a single line
        ("1. [9] > 2. [4] > 3. [6]", 20, [9, 4, 6]),
        ("4] > [2] > [4] > [1]", 4, [4, 2, 1]),  # the prompt ended in "["
        ("4 > [2] > [1]", 4, [4, 2, 1]),
        ("90% of them matter. [2] > [1]", 100, [2, 1]),
        ("[2] > Passage 3 > 1] > [4", 4, [2, 3, 1, 4]),
        ("[2] > [3]. Passage 1 is best because it mentions 4 facts", 9, [2, 3]),
        ("[3] - good\n[1] - better than [2] and [4]\n[2] - bad\n[4]", 4, [3, 1, 2, 4]),
        ("I looked at [4] and [5].\n[2] > [3] > [1]", 5, [2, 3, 1]),
        ("Draft: [1] > [2] > [3]\nFinal: [3] > [2]", 3, [3, 2]),
        ("[1] > [2] > [3]\n[3] > [2] > [1]", 3, [3, 2, 1]),
        ("Ranking: [2], [3],\n[1], [4]", 4, [2, 3, 1, 4]),
        ("Most relevant is [2], followed by [3] and finally [1].", 3, [2, 3, 1]),
        ("[2]: 0.9\n[1]: 0.5", 9, [2, 1]),
        ("[2] (9) > [1] (3)", 9, [2, 1]),
        ("2: 0.9, 1: 0.5", 9, [2, 1]),
        ("Documents 1 to 3 were read. 3 > 1 > 2", 3, [3, 1, 2]),
        ("Passages 2, 3, 1", 3, [2, 3, 1]),
        ("1,000 > 2,000", 4, []),
        ("[1.5] > [2.5] > [3]", 4, [3]),
        ("[-1] > [2]", 3, [2]),
        ("3rd 1st doc2x", 3, []),
        ("132", 3, []),
        ("[0] > [2] > [9] > [2]", 3, [2]),
        ("[00] > [001] > [0002]", 3, [1, 2]),
        ("[2023] 3 > 1 > 2", 3, [3, 1, 2]),
    ],
)
def test_malformed_answers_are_read_as_a_person_would(answer, n, expected):
    read = parse_permutation(answer, n)
    assert [place + 1 for place in read.order] == expected
    assert read.status == ("empty" if not expected else "repaired" if len(expected) < n else read.status)


@pytest.mark.parametrize(
    "answer", ["²", "[③] > [①]", "[🄃]", "[➂]", "[1²]", "[三] > [一]", "", "\n", "[] > []", "[x] > [y]"]
)
def test_what_is_no_decimal_digit_is_no_identifier(answer):
    assert parse_permutation(answer, 3) == ((), "empty")


@pytest.mark.parametrize(
    "answer",
    ["ACB", "[AB] > [C1]", "A passage I'd like", "I don't know", "[\uff21] > [\uff23]", "[^] > [_]", "[1] > [2]"],
)
def test_words_and_signs_are_no_letters(answer):
    assert parse_permutation(answer, 9, labels="letters") == ((), "empty")


@pytest.mark.parametrize(
    "answer", ["[1]", "1", "1.", " [1]\n", "Passage 1", '{"ranking": [1]}', "1. [1]", "<answer>1</answer>"]
)
def test_a_window_of_one_is_read(answer):
    assert parse_permutation(answer, 1) == ((0,), "ok")


def test_status_tells_clean_from_repaired():
    assert parse_permutation("[2] > [1]", 2).status == "ok"
    assert parse_permutation("[2] > [1] > [2]", 2).status == "repaired"
    assert parse_permutation("[2] > [1] > [3]", 2).status == "repaired"
    assert parse_permutation("[2]", 2).status == "repaired"
    assert parse_permutation("nothing", 2).status == "empty"
    assert parse_permutation("[1]", 0).status == "empty"


def test_legacy_mode_counts_every_digit_and_gives_up_on_odd_ones():
    assert ids("the 3 best: [2] > [1]", 3, legacy=True) == [3, 2, 1]
    assert ids("[²] > [\uff11]", 3, legacy=True) == [2, 1]
    assert ids("[2] > [➀]", 3, legacy=True) == []
    assert ids("[2] > [" + "9" * 4301 + "]", 3, legacy=True) == []
    assert ids("[2] > [" + "9" * 4300 + "]", 3, legacy=True) == [2]
    assert ids("AA > b > B", 26, labels="letters", legacy=True) == [11, 2]
    assert ids("<think>1</think>2<think>3", 3, legacy=True) == [2, 3]


MEGABYTES = 3_000_000


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("labels", ["numbers", "letters"])
@pytest.mark.parametrize(
    "piece",
    ["x", "9", " ", "\n", "[", "]", "[1", "1,", "1.", "1\n", "passage", "and ", '"', "<think></think>", "<answer>"],
)
def test_megabytes_of_one_piece_are_read(piece, labels, legacy):
    assert len(parse_permutation(piece * (MEGABYTES // len(piece)), 3, labels=labels, legacy=legacy).order) <= 1


def test_an_answer_behind_or_before_megabytes_is_found():
    answer = "[2] > [3] > [1]"
    words = "so passage 1 and the 2 others " * (MEGABYTES // 30)
    assert ids(f"<think>[1] > [2] {words}</think>{answer}", 3) == [2, 3, 1]
    assert ids(f"{words}\n{answer}", 3) == [2, 3, 1]
    assert ids(f"{answer}\n{words}", 3) == [2, 3, 1]
    assert parse_permutation("9" * 5000, 3) == ((), "empty")
    assert ids("[" + "9" * 5000 + "] > [2]", 3) == [2]
