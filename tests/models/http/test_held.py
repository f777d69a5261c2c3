"""Answers of servers that are held to a permutation: whole, in few requests, and only where it was seen to work."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from fake_server import VLLM, Guided, Hosted, LlamaServer, Mute, Server, SGLang
from tiny import ask

from pyterrier_llmrank.core import Doc, Question
from pyterrier_llmrank.errors import ConfigurationError, PromptTooLong, Unsupported
from pyterrier_llmrank.models import OpenAIModel, Permutation, Sampling
from pyterrier_llmrank.prompts import ListPrompt
from pyterrier_llmrank.scorers import Prompted

PROMPTS = [ask(f"Order the cats, {i}.", system="Be brief." if i % 2 else "") for i in range(5)]
BEGUN = [ask(f"Order them, {i}.", answer="Best: ") for i in range(2)]
RAW = [ask(f"the cat {i}", raw=True) for i in range(2)]
LETTERS = Permutation(tuple("CDEFG"))
HELD = [LETTERS, Permutation(("[1]", "[2]", "[12]"), length=2), Permutation(("1", "12", "2", "3"), " ", 3)]
KINDS = [VLLM, LlamaServer, SGLang]


@pytest.fixture
def serve():
    """Starts servers, and ends them."""
    running = []

    def start(answer, *told):
        running.append(Server(answer, *told).__enter__())
        return running[-1]

    yield start
    for server in running:
        server.__exit__()


def by_hand(language, prompt, held):
    """The greedy answer among all that are allowed, token by token."""
    turns = [turn._asdict() for turn in prompt.messages]
    ids = language.ids(prompt.messages[-1].content if prompt.raw else language.chat(turns) + prompt.answer, False)
    left = {}
    for named in permutations(held.items, held.length or len(held.items)):
        pieces = [item if not place else held.between + item for place, item in enumerate(named)]
        tokens = [token for piece in pieces for token in language.ids(piece, False)]
        left[(*tokens, language.tokenizer.eos_token_id)] = held.between.join(named)
    new = ()
    while new not in left:
        told = language.logprobs([*ids, *new])
        new = (*new, max(sorted({one[len(new)] for one in left if one[: len(new)] == new}), key=told.__getitem__))
    return left[new]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("held", HELD)
def test_the_answer_is_the_greedy_one_among_those_allowed(serve, language, tokenizer, kind, held):
    model = OpenAIModel("tiny", serve(kind(language)).url, tokenizer=tokenizer)
    assert "constrained" in model.can
    for prompts in (PROMPTS, BEGUN, RAW):
        for prompt, one in zip(prompts, model.generate(prompts, max_tokens=60, constraint=held), strict=True):
            assert (one.text, one.finish) == (by_hand(language, prompt, held), "stop")
            pieces = language.ids(one.text, False)
            assert one.usage.output_tokens == len(pieces)


def test_the_tokenizer_of_the_server_does_too(serve, language):
    model = OpenAIModel("tiny", serve(VLLM(language)).url)
    written = model.generate(PROMPTS[:2], max_tokens=60, constraint=LETTERS)
    assert [one.text for one in written] == [by_hand(language, prompt, LETTERS) for prompt in PROMPTS[:2]]


def test_a_request_is_a_choice_of_all_prompts_and_all_are_counted(serve, language, tokenizer):
    server = serve(VLLM(language))
    model = OpenAIModel("tiny", server.url, tokenizer=tokenizer)
    model.load()
    before = server.count("/v1/completions")
    written = model.generate(PROMPTS, max_tokens=60, constraint=LETTERS)
    assert server.count("/v1/completions") - before == 4  # the last of five letters is no choice
    lengths = model.lengths(PROMPTS)
    read = [4 * length + 4 + 8 + 12 for length in lengths]  # with "C > ", "C > D > ", …
    assert [(one.usage.calls, one.usage.prompt_tokens) for one in written] == [(4, tokens) for tokens in read]
    [alone] = model.generate(PROMPTS[:1], max_tokens=60, constraint=Permutation(("[1]",)))
    assert (alone.text, alone.usage.calls) == ("[1]", 0)


@pytest.mark.parametrize("field", ["structured_outputs", "guided_choice"])
@pytest.mark.parametrize("held", HELD)
def test_a_server_that_writes_one_of_several_texts_chooses_item_by_item(serve, language, tokenizer, field, held):
    server = serve(Guided(language, field=field))
    model = OpenAIModel("tiny", server.url, tokenizer=tokenizer)
    assert "constrained" in model.can and model._facts.by_id is None
    before = server.count("/v1/completions")
    written = model.generate(PROMPTS + BEGUN + RAW, max_tokens=60, constraint=held)
    wanted = [by_hand(language, prompt, held) for prompt in PROMPTS + BEGUN + RAW]
    if held is HELD[2]:  # the end token decides between "1" and "12", in place of what would come between two items
        assert [sorted(one.text.split()) for one in written] != [["1", "12", "2"]] * len(written)
        assert all(len({*one.text.split()} & {*held.items}) == 3 for one in written)
    else:
        assert [one.text for one in written] == wanted
    choices = min(held.length or 99, len(held.items) - 1)
    assert server.count("/v1/completions") - before == choices * len(written)
    assert {one.usage.calls for one in written} == {choices}


def test_a_server_of_plain_texts_chooses_too(serve, language):
    class Plain(Guided):
        on_chat_completions = on_tokenize = on_detokenize = None

    model = OpenAIModel("tiny", serve(Plain(language)).url)
    assert "constrained" in model.can and model._facts.text is None
    written = model.generate(RAW, max_tokens=60, constraint=LETTERS)
    assert [one.text for one in written] == [by_hand(language, prompt, LETTERS) for prompt in RAW]


@pytest.mark.parametrize("kind", [Hosted, Mute])
def test_a_server_that_cannot_go_on_from_an_answer_says_what_works(serve, language, kind):
    model = OpenAIModel("tiny", serve(kind(language)).url)
    assert "constrained" not in model.can
    with pytest.raises(Unsupported, match=r"held to a permutation needs; use decode='generate', a server that does"):
        model.generate(PROMPTS, max_tokens=60, constraint=LETTERS)
    with pytest.raises(Unsupported, match=r"asks for 'constrained'.*does not offer; use decode='generate'"):
        Prompted(ListPrompt(decode="constrained"), model).load()


def test_a_server_that_ignores_what_it_is_told_to_choose_from_is_found_out(serve, language, tokenizer):
    """It answers with 200, and something else."""
    model = OpenAIModel("tiny", serve(Guided(language, field="of another name")).url, tokenizer=tokenizer)
    assert "constrained" not in model.can


def test_an_answer_that_may_be_complete_needs_the_end_token(serve, language):
    model = OpenAIModel("tiny", serve(VLLM(language)).url)
    held = Permutation(("1", "12", "2"), length=2)
    with pytest.raises(Unsupported, match=r"begins as another, and the end token of tiny is not known, .*tokenizer="):
        model.generate(PROMPTS, max_tokens=60, constraint=held)
    assert model.generate(PROMPTS[:1], max_tokens=60, constraint=Permutation(("1", "12", "2")))[0].finish == "stop"


def test_what_is_drawn_depends_on_the_seed_alone(serve, language, tokenizer):
    model = OpenAIModel("tiny", serve(VLLM(language)).url, tokenizer=tokenizer)

    def drawn(prompts, seeds):
        told = {"sampling": Sampling(2.0, top_p=0.9, top_k=4), "seeds": seeds}
        return [one.text for one in model.generate(prompts, max_tokens=60, constraint=LETTERS, **told)]

    texts = drawn(PROMPTS, range(5))
    assert [drawn([p], [seed])[0] for seed, p in enumerate(PROMPTS)] == texts
    assert drawn(PROMPTS, range(9, 14)) != texts
    assert {len(set(text) - {" ", ">"}) for text in texts} == {5}
    draws = 600
    one = Permutation(tuple("CDE"), length=1)
    said = model.generate([PROMPTS[0]] * draws, max_tokens=9, constraint=one, sampling=Sampling(), seeds=range(draws))
    [read] = model.choices(PROMPTS[:1], ["CDE"])
    wanted = np.exp(read.logprobs) / np.exp(read.logprobs).sum()
    counts = np.array([[one.text for one in said].count(letter) for letter in "CDE"])
    assert (np.abs(counts - draws * wanted) <= 5 * np.sqrt(draws * wanted * (1 - wanted)) + 3).all()


def test_a_failure_leaves_one_answer_empty_and_is_counted(serve, language, tokenizer):
    status = {tuple(language.ids(language.chat([turn._asdict() for turn in PROMPTS[2].messages]), False)): 400}
    refuse = lambda ids: next((code for start, code in status.items() if tuple(ids[: len(start)]) == start), None)  # noqa: E731
    model = OpenAIModel("tiny", serve(VLLM(language, refuse=refuse)).url, tokenizer=tokenizer, retries=0)
    written = model.generate(PROMPTS, max_tokens=60, constraint=LETTERS)
    assert [(one.text == "", one.usage.failures) for one in written] == [(i == 2, int(i == 2)) for i in range(5)]
    assert written[3].text == by_hand(language, PROMPTS[3], LETTERS)


def test_what_could_cut_an_answer_off_is_refused(serve, language, tokenizer):
    model = OpenAIModel("tiny", serve(VLLM(language)).url, tokenizer=tokenizer)
    with pytest.raises(ConfigurationError, match="can take 17 tokens, max_tokens=16 would cut it off"):
        model.generate(PROMPTS, max_tokens=16, constraint=LETTERS)
    with pytest.raises(ConfigurationError, match="ends by itself; leave out stop="):
        model.generate(PROMPTS, max_tokens=60, stop=["x"], constraint=LETTERS)
    with pytest.raises(PromptTooLong, match="with an answer of 1000 exceeds the 1024 tokens"):
        model.generate(PROMPTS, max_tokens=1000, constraint=LETTERS)
    assert model.generate([], max_tokens=60, constraint=LETTERS) == []


def test_windows_are_ordered_completely(serve, language, tokenizer):
    model = OpenAIModel("tiny", serve(VLLM(language)).url, tokenizer=tokenizer)
    docs = tuple(Doc(str(i), f"the cat {i}") for i in range(12))
    for top_k in (None, 3):
        [answer] = Prompted(ListPrompt(decode="constrained", top_k=top_k), model, 20)([Question("which", docs, "q")])
        assert np.isfinite(answer.scores).sum() == (top_k or 12) and not answer.usage.repaired
