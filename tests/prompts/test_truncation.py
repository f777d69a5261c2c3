"""Prompts that fit: even cuts, whole instructions, exact counts."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
import transformers
from shared_data import SHARED
from tiny import CHATML, byte_tokenizer

from pyterrier_llmrank.core import Message, Prompt
from pyterrier_llmrank.errors import PromptTooLong
from pyterrier_llmrank.models.hf.text import TextSide
from pyterrier_llmrank.prompts import ListPrompt, YesNo
from pyterrier_llmrank.prompts.truncation import even_cap, fit


@dataclass
class CharacterRuler:
    """A token per character, and ten for the frame of a chat. Keeps what it was asked."""

    context: int | None
    measured: list = field(default_factory=list)
    split: list = field(default_factory=list)

    def token_ends(self, texts):
        self.split += texts
        return [list(range(1, len(text) + 1)) for text in texts]

    def lengths(self, prompts):
        self.measured += prompts
        return [10 + len(self.text(prompt)) for prompt in prompts]

    @staticmethod
    def text(prompt):
        return "".join(message.content for message in prompt.messages) + prompt.answer


@dataclass
class TokenRuler:
    """A real tokenizer."""

    side: TextSide
    context: int

    def token_ends(self, texts):
        return self.side.ends(texts)

    def lengths(self, prompts):
        return [len(ids) for ids in self.side.prompts([self.side.render(prompt) for prompt in prompts])]


@dataclass(frozen=True)
class Plain:
    """Documents between bars."""

    def render(self, query, texts):
        return Prompt((Message("user", f"Q {query} |{'|'.join(texts)}| the end of {query}"),))


def rulers():
    yield "bytes", lambda: byte_tokenizer(chat=CHATML)
    for name in ("data/model_stories260k", "data/tokenizer_gpt2", "fixtures/tiny_qwen3", "fixtures/monot5/model"):
        yield name, lambda name=name: stored(name)


def stored(name):
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    if "t5" in name:
        pytest.importorskip("sentencepiece")
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module", params=list(rulers()), ids=lambda param: param[0])
def tokenizer(request):
    return request.param[1]()


def ruler_of(tokenizer, context):
    return TokenRuler(TextSide(tokenizer, encoder_decoder=False, chat=None, thinking=False), context)


# even_cap


def cap_by_force(lengths, room):
    """The largest cap whose documents fit, by trying."""
    best = 0
    for cap in range(max(lengths, default=0) + 1):
        if sum(min(length, cap) for length in lengths) <= room:
            best = cap
    return best


@pytest.mark.parametrize("seed", range(300))
def test_even_cap_is_the_largest_that_fits(seed):
    chance = random.Random(seed)
    lengths = [chance.randrange(0, 12) for _ in range(chance.randrange(0, 7))]
    room = chance.randrange(0, 60)
    assert even_cap(lengths, room) == cap_by_force(lengths, room)


# Fitting


@pytest.mark.parametrize("seed", range(40))
def test_a_fitted_prompt_fits_and_documents_are_cut_evenly(seed):
    chance = random.Random(seed)
    texts = ["".join(chance.choices("abc", k=chance.randrange(0, 120))) for _ in range(chance.randrange(1, 6))]
    ruler = CharacterRuler(chance.randrange(90, 300))
    [fitted] = fit(Plain(), [("why", texts)], ruler, reserve=[5])
    shown = ruler.text(fitted.prompt).split("|")[1:-1]
    assert ruler.lengths([fitted.prompt])[0] + 5 <= ruler.context
    assert all(text.startswith(part) for text, part in zip(texts, shown, strict=True))
    room = ruler.context - 5 - 10 - len(Plain().render("why", [""] * len(texts)).messages[0].content)
    cap = cap_by_force(list(map(len, texts)), room)
    assert [len(part) for part in shown] == [min(len(text), cap) for text in texts]
    assert fitted.lost == sum(map(len, texts)) - sum(map(len, shown))


def test_only_the_long_documents_are_cut():
    [fitted] = fit(Plain(), [("q", ["a" * 300, "b" * 8, "c" * 200])], CharacterRuler(130), reserve=[0])
    shown = CharacterRuler.text(fitted.prompt).split("|")[1:-1]
    assert shown[1] == "b" * 8 and len(shown[0]) == len(shown[2]) > 20


def test_what_fits_is_left_as_it_is():
    texts = ["first  text", "second"]
    [fitted] = fit(Plain(), [("q", texts)], CharacterRuler(1000), reserve=[0])
    assert fitted.prompt == Plain().render("q", texts) and fitted.lost == 0


def test_prompts_are_fitted_each_by_itself():
    items = [("q", ["a" * 500]), ("q", ["b"]), ("long query", ["c" * 90, "d" * 300])]
    ruler = CharacterRuler(200)
    together = fit(Plain(), items, ruler, reserve=[3, 50, 7])
    apart = [fit(Plain(), [item], ruler, reserve=[keep])[0] for item, keep in zip(items, (3, 50, 7), strict=True)]
    assert together == apart


def test_the_answer_gets_the_room_that_was_reserved():
    for reserve in (0, 1, 40):
        [fitted] = fit(Plain(), [("q", ["a" * 500])], CharacterRuler(120), reserve=[reserve])
        assert CharacterRuler(None).lengths([fitted.prompt]) == [120 - reserve]


def test_no_limit_means_no_cut_and_no_count():
    ruler = CharacterRuler(None)
    [fitted] = fit(Plain(), [("q", ["a" * 10_000])], ruler, reserve=[5])
    assert fitted.lost == 0 and not ruler.measured and not ruler.split


def test_prompts_that_surely_fit_are_not_tokenised():
    ruler = CharacterRuler(2000)
    fit(Plain(), [("q", ["a" * 500])] * 20, ruler, reserve=[100] * 20)
    assert not ruler.measured and not ruler.split


def test_nothing_to_fit_is_nothing_fitted():
    assert fit(Plain(), [], CharacterRuler(10), reserve=[]) == []


# max_doc_tokens


def test_no_document_keeps_more_than_max_doc_tokens():
    ruler = CharacterRuler(10_000)
    [fitted] = fit(Plain(), [("q", ["a" * 9, "b" * 40, "c" * 10])], ruler, reserve=[0], max_doc_tokens=10)
    assert ruler.text(fitted.prompt).split("|")[1:-1] == ["a" * 9, "b" * 10, "c" * 10]
    assert fitted.lost == 30


def test_max_doc_tokens_holds_without_a_context_too():
    [fitted] = fit(Plain(), [("q", ["a" * 9, "b" * 4])], CharacterRuler(None), reserve=[0], max_doc_tokens=5)
    assert fitted.lost == 4


def test_what_both_limits_cut_is_counted_once_each():
    texts = ["a" * 300, "b" * 100]
    ruler = CharacterRuler(130)
    [fitted] = fit(Plain(), [("q", texts)], ruler, reserve=[0], max_doc_tokens=200)
    shown = ruler.text(fitted.prompt).split("|")[1:-1]
    assert fitted.lost == 400 - sum(map(len, shown))


def test_a_text_in_many_prompts_is_tokenised_once():
    ruler = CharacterRuler(10_000)
    fit(Plain(), [(str(i), ["same text", "other"]) for i in range(9)], ruler, reserve=[0] * 9, max_doc_tokens=3)
    assert sorted(ruler.split) == ["other", "same text"]


# What cannot fit


def test_instructions_that_exceed_the_context_are_refused():
    with pytest.raises(PromptTooLong, match=r"of 3 documents leave no room .*: 79 of 60 tokens; use a smaller window"):
        fit(Plain(), [("x" * 25, ["aaa", "bbb", "ccc"])], CharacterRuler(60), reserve=[0])


@dataclass(frozen=True)
class Stubborn(Plain):
    """Grows when its documents are cut, so that it must be rendered again."""

    def render(self, query, texts):
        return Prompt((Message("user", f"{'-' * (300 if len(texts[0]) < 200 else 0)}|{'|'.join(texts)}|"),))


def test_the_refusal_tells_the_instructions_as_they_were_before_any_cut():
    """Ten for the frame, and two bars."""
    with pytest.raises(PromptTooLong, match=": 12 of 150 tokens"):
        fit(Stubborn(), [("q", ["a" * 400])], CharacterRuler(150), reserve=[0])


def test_empty_documents_need_no_room():
    """One long document among empty ones gets all there is."""
    texts = ["", "", "", "", "a" * 500]
    ruler = CharacterRuler(10 + len(Plain().render("q", [""] * 5).messages[0].content) + 3)
    [fitted] = fit(Plain(), [("q", texts)], ruler, reserve=[0])
    assert ruler.text(fitted.prompt).split("|")[1:-1] == ["", "", "", "", "aaa"]


# Real tokenizers

LANGUAGES = [
    "The quick brown fox jumps over the lazy dog. " * 30,
    "Der schnelle braune Fuchs springt über den faulen Hund, naïve façade. " * 20,
    "素早い茶色の狐がのろまな犬を飛び越える。" * 30,
    "🙂👩‍👩‍👧‍👦🇩🇪 é ﷺ " * 40,
    "١٢٣ الثعلب البني السريع " * 30,
    "",
    "short",
]


def without(prompt, texts):
    """The prompt's text with its documents taken out."""
    text = "\n".join(message.content for message in prompt.messages) + prompt.answer
    for part in sorted(filter(None, texts), key=len, reverse=True):
        text = text.replace(part, "", 1)
    return text


@pytest.mark.parametrize("context", [300, 420, 700, 1500])
def test_real_prompts_fit_and_keep_their_instructions(tokenizer, context):
    ruler = ruler_of(tokenizer, context)
    template = ListPrompt()
    texts = [" ".join(text.split()) for text in LANGUAGES]
    try:
        [fitted] = fit(template, [("why é 中", texts)], ruler, reserve=[30])
    except PromptTooLong:
        bare = ruler.lengths([template.render("why é 中", [""] * len(texts))])[0]
        assert bare + len(texts) > context - 30
        return
    assert ruler.lengths([fitted.prompt])[0] <= context - 30
    user = fitted.prompt.messages[-1].content
    head, tail = template.render("why é 中", [""] * len(texts)).messages[-1].content.split("\n\n[1] ")
    assert user.startswith(head) and user.endswith(tail.split("[7] ")[-1])
    shown = [line.partition(" ")[2] for line in user.split("\n") if line[:1] == "[" and line[2:3] == "]"]
    for text, part in zip(texts, shown, strict=True):
        assert text.startswith(part.rstrip()), "the start of a document is kept"
    assert shown[-1] == "short"


@pytest.mark.parametrize("text", LANGUAGES[:5])
@pytest.mark.parametrize("cap", [1, 2, 3, 7, 20])
def test_lost_tokens_are_counted_exactly_and_max_doc_tokens_holds(tokenizer, text, cap):
    """A character of several tokens is kept whole or not at all."""
    ruler = ruler_of(tokenizer, 100_000)
    text = " ".join(text.split())
    [fitted] = fit(Plain(), [("q", [text])], ruler, reserve=[0], max_doc_tokens=cap)
    shown = fitted.prompt.messages[0].content.split("|")[1]
    [whole], [kept] = ruler.token_ends([text]), ruler.token_ends([shown])
    assert text.startswith(shown)
    mark = (
        "Unigram" in type(tokenizer.backend_tokenizer.model).__name__
    )  # a word's mark ends where its first letter does
    assert len(kept) <= cap + mark
    assert abs(fitted.lost - (len(whole) - len(kept))) <= mark


def test_one_document_of_every_script_fits_a_pointwise_prompt(tokenizer):
    ruler = ruler_of(tokenizer, 300)
    for text in LANGUAGES:
        [fitted] = fit(YesNo(), [("why", [text])], ruler, reserve=[8])
        assert ruler.lengths([fitted.prompt])[0] <= 292
        assert fitted.prompt.messages[0].content.endswith("Answer with Yes or No only.")


def test_the_bound_that_spares_tokenisation_is_one(tokenizer):
    """No character becomes more tokens than ``_at_most`` believes."""
    from pyterrier_llmrank.prompts.truncation import _at_most

    ruler = ruler_of(tokenizer, 100)
    for text in [
        *LANGUAGES,
        "ﷺ" * 50,
        "\U0001f469\u200d\U0001f467" * 20,
        "\u0344" * 30,
        "~" * 99,
        "\t\n" * 50,
        "<|x|>" * 9,
    ]:
        prompt = Prompt((Message("user", text),))
        assert ruler.lengths([prompt])[0] <= _at_most(prompt)
