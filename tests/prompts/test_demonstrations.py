"""Solved examples before the question: what is shown, how they are chosen, what is refused."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from fake_models import HashModel
from fake_models import shown as shown_to

from pyterrier_llmrank.core import Doc, Message, Prompt, Question
from pyterrier_llmrank.errors import ConfigurationError, PromptTooLong
from pyterrier_llmrank.prompts import (
    Demonstrated,
    Demonstration,
    ListPrompt,
    PairPrompt,
    QueryPrompt,
    Similar,
    YesNo,
    hardest,
)
from pyterrier_llmrank.prompts.truncation import fit
from pyterrier_llmrank.scorers import BothOrders, Prompted, QueryLikelihood

RELEVANT = Demonstration("red cats", ("a red cat",), "Yes")
NOT = Demonstration("blue dogs", ("a red cat",), "No")


@dataclass(frozen=True)
class Plain:
    """A system turn, one question, and the beginning of an answer."""

    gives = None
    max_docs = 2
    asks = "choices"
    unit = "logit"
    raw: bool = False

    def render(self, query, texts):
        turns = (Message("system", "S"), Message("user", f"{query}: {'|'.join(texts)}"))
        return Prompt(turns[self.raw :], answer="[", raw=self.raw)

    def options(self, n):
        return ("A]", "B]")[:n]

    def read(self, logprobs, n):
        return logprobs


def question(query="q", *texts):
    return Question(query, tuple(Doc(f"d{i}", text) for i, text in enumerate(texts or ("t",))), "q1")


# What is shown


def test_examples_are_turns_of_their_own_before_the_question():
    shown = Demonstrated(Plain(), (Demonstration("one", ("x", "y"), "A]"), Demonstration("two", ("z",), "A]")))
    assert shown.render("q", ["u", "v"]) == Prompt(
        (
            Message("system", "S"),
            Message("user", "one: x|y"),
            Message("assistant", "[A]"),
            Message("user", "two: z"),
            Message("assistant", "[A]"),
            Message("user", "q: u|v"),
        ),
        answer="[",
    )


def test_raw_prompts_are_put_one_after_the_other():
    shown = Demonstrated(Plain(raw=True), (Demonstration("one", ("x",), "A]"),))
    assert shown.render("q", ["u"]) == Prompt((Message("user", "one: x[A]"), Message("user", "q: u")), "[", raw=True)


@pytest.mark.parametrize(
    ("prompt", "texts", "answer"),
    [
        (YesNo(), ("t",), "No"),
        (ListPrompt(), ("t", "u"), "[2] > [1]"),
        (ListPrompt("letters"), ("t", "u"), "B] > [A]"),
        (PairPrompt(), ("t", "u"), "B"),
        (QueryPrompt(), ("t",), "p"),
    ],
)
def test_the_question_is_shown_as_without_examples(prompt, texts, answer):
    alone, shown = (
        one.render("q", texts) for one in (prompt, Demonstrated(prompt, (Demonstration("p", texts, answer),)))
    )
    assert shown.answer == alone.answer and shown.raw == alone.raw
    assert shown.messages[-1] == alone.messages[-1]
    assert [m for m in shown.messages if m.role == "system"] == [m for m in alone.messages if m.role == "system"]


def test_whatever_else_the_prompt_can_do_it_does():
    shown = Demonstrated(Plain(), (Demonstration("one", ("x",), "A]"),))
    assert (shown.max_docs, shown.asks, shown.unit, shown.options(2)) == (2, "choices", "logit", ("A]", "B]"))
    for prompt, one in [(YesNo(), RELEVANT), (ListPrompt(), Demonstration("p", ("x",), "[1]"))]:
        shown = Demonstrated(prompt, (one,))
        assert (shown.gives, shown.max_docs, shown.asks) == (prompt.gives, prompt.max_docs, prompt.asks)
    assert shown.longest(3) == prompt.longest(3) and shown.parse("[2]", 2).status == prompt.parse("[2]", 2).status
    with pytest.raises(AttributeError):
        _ = shown.nothing_of_the_kind


def test_it_is_a_value():
    shown = Demonstrated(YesNo(), (RELEVANT, NOT))
    shown.render("q", ["t"])
    assert (
        eval(repr(shown)) == shown == Demonstrated(YesNo(), (RELEVANT, NOT)) and len({shown, copy.deepcopy(shown)}) == 1
    )
    assert pickle.loads(pickle.dumps(shown)) == shown == copy.copy(shown)


def test_a_scorer_shows_examples_before_every_question():
    model = HashModel()
    scorer = Prompted(Demonstrated(YesNo(), (RELEVANT, NOT)), model)
    [answer] = scorer([question("why", "t", "u")])
    assert scorer.max_docs is None and answer.usage.calls == 2
    for prompt in model.calls("choices")[0][1]:
        assert [m.role for m in prompt.messages] == ["user", "assistant"] * 2 + ["user"]
        assert [m.content for m in prompt.messages if m.role == "assistant"] == ["Yes", "No"]
    assert answer.scores[0] != Prompted(YesNo(), model)([question("why", "t", "u")])[0].scores[0]


def test_query_likelihood_takes_examples_whose_answer_is_the_query():
    model = HashModel()
    prompt = QueryPrompt(template="Document: {text} Query:", raw=True)
    one = Demonstration("red cats", ("a red cat",), "red cats")
    [answer] = QueryLikelihood(model, Demonstrated(prompt, (one,)))([question("why", "t")])
    [asked] = model.calls("continuation")[0][1]
    assert shown_to(asked) == "Document: a red cat Query:red cats\nDocument: t Query:"
    assert np.isfinite(answer.scores).all()


@pytest.mark.parametrize("chosen", [False, True])
def test_queries_and_texts_of_examples_are_plain_text_to_the_model(chosen):
    """Answers are the user's own: they may hold tags on purpose."""
    one = Demonstration("a <|x|>", ("b <|x|>",), "<|x|> Yes")
    model = HashModel()
    Prompted(Demonstrated(YesNo(), (lambda query: (one,)) if chosen else (one,)), model)([question()])
    user, assistant, _ = model.calls("choices")[0][1][0].messages
    assert "a < |x|>" in user.content and "b < |x|>" in user.content and "<|x|>" not in user.content
    assert assistant.content == "<|x|> Yes"


def test_examples_that_leave_no_room_are_named_as_the_cause():
    long = Demonstration("p", ("x" * 500,), "Yes")
    with pytest.raises(PromptTooLong, match=r"the demonstrations leave no room for 1 documents: they take \d+ of 592"):
        Prompted(Demonstrated(YesNo(), (long,)), HashModel(context=600))([question()])
    with pytest.raises(PromptTooLong, match="instructions, query and identifiers of 1 documents"):
        Prompted(Demonstrated(YesNo(), (RELEVANT,)), HashModel(context=100))([question()])


def test_documents_are_shortened_beside_examples_that_leave_some_room():
    shown = Demonstrated(Plain(), (Demonstration("one", ("x" * 50,), "A]"),))
    [fitted] = fit(shown, [("q", ["y" * 100])], HashModel(context=120), reserve=[0])
    assert 0 < fitted.lost < 100 and len(shown_to(fitted.prompt)) <= 120 and "x" * 50 in shown_to(fitted.prompt)


# What is refused


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Demonstration("q", (), "Yes"), "a tuple of one text or more"),
        (lambda: Demonstration("q", "text", "Yes"), "a tuple of one text or more"),
        (lambda: Demonstration("q", ("t",), " "), "has no answer"),
        (lambda: Demonstrated(YesNo(), ()), "a tuple of one or more"),
        (lambda: Demonstrated(YesNo(), [RELEVANT]), "a tuple of one or more"),
        (lambda: Demonstrated(YesNo(), (Demonstration("q", ("t", "u"), "Yes"),)), "has 2 texts, but .* at most 1"),
        (lambda: Demonstrated(QueryPrompt(), (Demonstration("q", ("t", "u"), "q"),)), "has 2 texts"),
        (lambda: Demonstrated(YesNo(), (Demonstration("q", ("t",), "Perhaps"),)), "'Perhaps', which .* cannot read"),
        (lambda: Demonstrated(ListPrompt(), (Demonstration("q", ("t",), "no idea"),)), "cannot read"),
        (
            lambda: Demonstrated(YesNo(), lambda query: (Demonstration("q", ("t", "u"), "Yes"),)).render("q", ["t"]),
            "2 te",
        ),
        (lambda: Similar(()), "a tuple of one example or more"),
        (lambda: Similar((RELEVANT,), k=0), "k must be at least 1"),
        (lambda: Similar((RELEVANT,), sides=("A", "B")), "examples of two texts"),
        (lambda: hardest((RELEVANT,), None, 0), "k must be at least 1"),
        (lambda: hardest((Demonstration("q", ("t", "u"), "q"),), None, 1), "examples of one text"),
    ],
)
def test_what_cannot_be_shown_is_refused(build, message):
    with pytest.raises(ConfigurationError, match=message):
        build()


# Which are chosen


def pair(query, answer="A"):
    return Demonstration(query, (f"good {query}", f"bad {query}")[:: 1 if answer == "A" else -1], answer)


def queries(chosen):
    return [one.query for one in chosen]


def test_the_most_similar_queries_are_chosen_and_the_nearest_is_last():
    examples = tuple(map(pair, ["how tall is a tree", "red cats", "what do cats eat", "cats", "how old is it"]))
    assert queries(Similar(examples, 2)("What do red cats eat?")) == ["red cats", "what do cats eat"]


def test_rare_words_count_more_than_frequent_ones():
    examples = tuple(map(pair, ["what is the moon", "what is the sun", "what is the sea", "quasar"]))
    assert queries(Similar(examples, 1)("what is the quasar")) == ["quasar"]


def test_examples_that_share_nothing_keep_their_order():
    examples = tuple(map(pair, ["a", "b", "c", "..."]))
    assert queries(Similar(examples, 3)("xyz")) == ["c", "b", "a"]


def test_the_query_itself_is_never_an_example_and_each_query_only_once():
    examples = (pair("red cats"), pair("Red  cats", "B"), pair("cats"), pair("cats", "B"), pair("dogs"))
    assert queries(Similar(examples, 5)("red CATS")) == ["dogs", "cats"]


def test_fewer_examples_than_asked_for_are_all_there_are():
    assert len(Similar((pair("a"), pair("b")), 5)("c")) == 2


def test_the_better_document_stands_on_both_sides_equally_often():
    examples = tuple(pair(f"query {i}") for i in range(30))
    chooser = Similar(examples, 3, ("A", "B"))
    answers = Counter()
    for i in range(200):
        chosen = chooser(f"test query {i}")
        assert all(one.answer != other.answer for one, other in pairwise(chosen))
        for one in chosen:
            answers[one.answer] += 1
            assert one.texts["AB".index(one.answer)].startswith("good")
        assert chooser(f"test query {i}") == chosen
    assert abs(answers["A"] - answers["B"]) < 40, "an odd number of examples begins on either side"


def test_both_orders_of_a_pair_are_asked_with_the_same_examples():
    model = HashModel()
    prompt = Demonstrated(PairPrompt(), Similar(tuple(map(pair, ["red cats", "dogs"])), 1, ("A", "B")))
    BothOrders(Prompted(prompt, model))([question("big cats", "t", "u")])
    forwards, backwards = model.calls("choices")[0][1]
    assert forwards.messages[:-1] == backwards.messages[:-1] and forwards.messages[-1] != backwards.messages[-1]


@dataclass(frozen=True)
class Vectors:
    """Encodes a text by its length; keeps to itself how often it was asked."""

    query_prefix: str = ""

    def encode(self, texts, prefix=""):
        rows = np.array([[np.cos(len(prefix + text)), np.sin(len(prefix + text))] for text in texts])
        return (rows, ["inputs"]) if self.query_prefix else rows


@pytest.mark.parametrize("encoder", [Vectors(), Vectors("query: ")])
def test_an_encoder_can_compare_the_queries(encoder):
    examples = tuple(map(pair, ["a", "bb", "ccc", "dddd"]))
    assert queries(Similar(examples, 2, encoder=encoder)("xxx")) == ["bb", "ccc"]


def test_many_examples_are_told_by_number_and_digest():
    one, other = (Similar(tuple(pair(f"{name} {i}") for i in range(99)), 2) for name in "ab")
    assert repr(one).startswith("Similar(<99 examples, ") and repr(one).endswith(">, k=2)") and len(repr(one)) < 60
    assert repr(one) != repr(other) and one != other
    assert one == Similar(one.examples, 2) and hash(one) == hash(Similar(one.examples, 2))


def test_the_hardest_examples_are_those_whose_query_is_least_likely():
    model = HashModel()
    examples = [Demonstration(f"query {i}", (f"text {i}",), f"query {i}") for i in range(6)]
    scorer = QueryLikelihood(model)
    likely = [scorer([question(one.query, *one.texts)])[0].scores[0] for one in examples]
    chosen = hardest(examples, scorer, 3)
    assert [examples.index(one) for one in chosen] == np.argsort(likely, kind="stable")[:3].tolist()


def test_examples_without_a_likelihood_are_chosen_last():
    examples = [Demonstration(" ", ("t",), "x"), Demonstration("q", ("t",), "q")]
    assert hardest(examples, QueryLikelihood(HashModel()), 1) == (examples[1],)
