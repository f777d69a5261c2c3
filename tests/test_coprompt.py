"""Co-Prompt: the beam finds what was planted, and costs what it says."""

from __future__ import annotations

import numpy as np
import pytest
from fake_models import HashModel
from fake_models import shown as shown_to
from tiny import decoder, full_logprobs, local

from pyterrier_llmrank.coprompt import co_prompt, likelihood, most_probable
from pyterrier_llmrank.errors import ConfigurationError

WORDS = [" write", " a", " question", " about", " this", " passage", " now", " please"]
PLANTED = ["Please", " write", " a", " question", " about", " this", " passage"]


class Planted:
    """Rewards each word that stands where it was planted. Keeps what it scored."""

    def __init__(self):
        self.scored = []

    def __call__(self, texts):
        self.scored += texts
        return [self.value(text) for text in texts]

    def value(self, text):
        words = ["Please", *(" " + word for word in text.split()[1:])]
        same = [one == other for one, other in zip(words, PLANTED, strict=False)]
        return float(sum(same) - (len(same) - sum(same)))


def propose(texts, k):
    """The same words after any text, in an order that depends on it; those planted are not first."""
    return [[WORDS[(len(text) + i) % len(WORDS)] for i in range(k)] for text in texts]


@pytest.mark.parametrize("beam", [1, 3, 10])
def test_the_beam_finds_a_planted_instruction(beam):
    found = co_prompt(propose, Planted(), beam=beam, top_k=len(WORDS), length=len(PLANTED) - 1)
    assert found[0] == ("".join(PLANTED), len(PLANTED))
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True) and len(found) == beam


def test_a_shorter_instruction_wins_where_every_more_word_harms():
    found = co_prompt(propose, Planted(), beam=2, top_k=len(WORDS), length=9)
    assert found[0][0] == "".join(PLANTED)


def test_a_wide_beam_finds_what_a_narrow_one_gives_up():
    """The way to the best begins with the worse word."""
    values = {"P a": 2.0, "P b": 1.0, "P a a": 2.5, "P a b": 2.0, "P b a": 1.0, "P b b": 9.0}
    best = {
        beam: co_prompt(
            lambda texts, k: [[" a", " b"][:k] for _ in texts],
            lambda texts: [values[text] for text in texts],
            start="P",
            beam=beam,
            top_k=2,
            length=2,
        )[0]
        for beam in (1, 2)
    }
    assert best == {1: ("P a a", 2.5), 2: ("P b b", 9.0)}


@pytest.mark.parametrize(("beam", "top_k", "length"), [(1, 1, 1), (3, 2, 4), (2, 8, 3)])
def test_it_costs_no_more_than_it_says_and_scores_nothing_twice(beam, top_k, length):
    scorer, continued = Planted(), []

    def listen(texts, k):
        continued.extend(texts)
        assert k == top_k
        return propose(texts, k)

    co_prompt(listen, scorer, beam=beam, top_k=top_k, length=length)
    assert len(scorer.scored) == len(set(scorer.scored)) <= top_k * (1 + beam * (length - 1))
    assert len(continued) <= 1 + beam * (length - 1)


def test_texts_that_come_about_in_two_ways_are_scored_once():
    scorer = Planted()
    co_prompt(lambda texts, k: [[" a", " b", " a b", ""] for _ in texts], scorer, start="x", beam=9, top_k=4, length=3)
    assert len(scorer.scored) == len(set(scorer.scored)) and "x" not in scorer.scored


def test_it_ends_where_nothing_is_proposed():
    assert co_prompt(lambda texts, k: [[] for _ in texts], Planted()) == []


def test_an_instruction_that_cannot_be_scored_is_last():
    found = co_prompt(lambda texts, k: [[" a", " b"]] * len(texts), lambda texts: [np.nan, 1.0], length=1)
    assert [text for text, _ in found] == ["Please b", "Please a"]


@pytest.mark.parametrize("told", [{"beam": 0}, {"top_k": 0}, {"length": 0}])
def test_a_search_of_nothing_is_refused(told):
    with pytest.raises(ConfigurationError, match="must be at least 1, got 0"):
        co_prompt(propose, Planted(), **told)


# With models


def test_an_instruction_is_worth_the_mean_log_probability_of_queries_after_their_documents():
    model = HashModel()
    score = likelihood(model, [("a cat", "the  mat"), ("a dog", "the log")])
    assert model.asked == [], "nothing is asked before it is needed"
    values = score(["Please {write}", "Please"])
    assert len(values) == 2 and values[0] != values[1]
    prompts = [prompt for call in model.calls("continuation") for prompt in call[1]]
    assert [shown_to(prompt) for prompt in prompts[:2]] == [
        "Passage: the mat\nPlease {write}\n",
        "Passage: the log\nPlease {write}\n",
    ]
    queries = [one.logprobs.mean() for one in model.continuation(prompts[:2], ["a cat", "a dog"])]
    assert values[0] == pytest.approx(np.mean(queries))


def test_pairs_whose_query_is_empty_count_for_nothing():
    both, one = ([("a cat", "mat"), ("", "log")], [("a cat", "mat")])
    assert likelihood(HashModel(), both)(["P"]) == likelihood(HashModel(), one)(["P"])
    assert np.isnan(likelihood(HashModel(), [("", "log")])(["P"])[0])


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"pairs": []}, "one pair"),
        ({"pairs": [("q", "d")], "template": "{text}"}, "lacks {instruction}"),
        ({"pairs": [("q", "d")], "template": "{instruction}"}, "lacks {text}"),
    ],
)
def test_what_cannot_be_scored_is_refused_at_once(told, message):
    with pytest.raises(ConfigurationError, match=message):
        likelihood(HashModel(), **told)


def test_a_real_model_searches_and_judges(tmp_path):
    folder = decoder(tmp_path)
    model = local(folder)
    found = co_prompt(
        most_probable(model), likelihood(model, [("the cat", "a mat"), ("No", "Yes")]), beam=2, top_k=3, length=2
    )
    assert len(found) == 2 and all(text.startswith("Please") and text != "Please" for text, _ in found)
    text, value = found[0]
    tokenizer = model._loaded.tokenizer
    means = []
    for query, doc in [("the cat", "a mat"), ("No", "Yes")]:
        before = tokenizer(f"Passage: {doc}\n{text}\n")["input_ids"]
        whole = tokenizer(f"Passage: {doc}\n{text}\n{query}")["input_ids"]
        logprobs = full_logprobs(folder, whole)
        means.append(np.mean([logprobs[i - 1, whole[i]] for i in range(len(before), len(whole))]))
    assert value == pytest.approx(np.mean(means), abs=1e-4)


def test_control_tokens_and_parts_of_characters_are_not_proposed():
    class Proposer(HashModel):
        def next_tokens(self, prompts, k):
            return [[("<|x|>", -0.1), (" é", -1.0), ("\ufffd", -2.0), (" b", -3.0)][:k] for _ in prompts]

    assert most_probable(Proposer())(["P", "Q"], 4) == [[" é", " b"]] * 2
