"""Answers held to a permutation against decoding by hand: one token and one prompt at a time, every logit."""

from __future__ import annotations

from functools import cache
from itertools import permutations

import numpy as np
import pytest
import torch
import transformers
from tiny import CHATML, ask, byte_tokenizer, decoder, encoder_decoder, local, saved, settings, uncached

from pyterrier_llmrank.core import Doc, Question
from pyterrier_llmrank.errors import ConfigurationError, LabelError, PromptTooLong
from pyterrier_llmrank.models import Permutation, Sampling
from pyterrier_llmrank.prompts import ListPrompt
from pyterrier_llmrank.scorers import Prompted

TEXTS = ["the cat sat. " * times + "end" for times in (0, 9, 1, 14, 0, 3)] + ["x", "é 中 🙂"]
PROMPTS = [ask(text) for text in TEXTS]
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "initializer_range": 0.4}
KINDS = {
    "llama": lambda t: transformers.LlamaConfig(**settings(t)),
    "a window of 24": lambda t: transformers.MistralConfig(**settings(t, sliding_window=24)),
    "absolute positions": lambda t: transformers.GPT2Config(vocab_size=len(t), eos_token_id=0, bos_token_id=3, **GPT2),
    "no positions": lambda t: transformers.BloomConfig(
        vocab_size=len(t), hidden_size=32, n_layer=2, n_head=4, eos_token_id=0, bos_token_id=3, initializer_range=0.4
    ),
    "t5": None,
}
BRACKETS = tuple(f"[{i}]" for i in range(1, 13))
HELD = {
    "brackets": Permutation(BRACKETS[:5]),
    "twelve brackets": Permutation(BRACKETS, length=3),
    "twelve numbers": Permutation(tuple(map(str, range(1, 13))), length=3),
    "one begins as another": Permutation(("1", "12", "2", "123", "3"), length=4),
    "one begins as another, to the end": Permutation(("1", "12", "2"), " "),
    "letters": Permutation(tuple("ABCDEF")),
    "words": Permutation(("Yes", "No", "Ye", " cat"), ", ", 3),
    "one of one": Permutation(("[1]",)),
}


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    where = tmp_path_factory.mktemp("network")
    if request.param == "t5":
        return encoder_decoder(where)
    return saved(where, byte_tokenizer(), KINDS[request.param](byte_tokenizer()))


def answers_of(held):
    """Every text that a permutation allows."""
    return {held.between.join(named) for named in permutations(held.items, held.length or len(held.items))}


def spelled_by_hand(tokenizer, before, held):
    """Every answer as token ids: each item as it is tokenised where it stands, or by itself where that would merge."""

    def after(start, tail):
        base, whole = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (start, start + tail))
        if whole[: len(base)] == base:
            return whole[len(base) :]
        return tokenizer(tail, add_special_tokens=False)["input_ids"]

    glue = "" if before.endswith("]") or before == "" else " "
    first = [after(before, glue + item) for item in held.items]
    later = [after(before + glue + held.items[0], held.between + item) for item in held.items]
    chosen = permutations(range(len(held.items)), held.length or len(held.items))
    return [tuple(first[own[0]]) + tuple(t for item in own[1:] for t in later[item]) for own in chosen]


@cache
def plain_network(folder, both):
    auto = transformers.AutoModelForSeq2SeqLM if both else transformers.AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype=torch.float32).eval()


def by_hand(folder, text, held, end=0):
    """Text and tokens of the greedy answer, among all tokens that go on to any answer."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    both = "T5" in type(transformers.AutoConfig.from_pretrained(folder)).__name__
    network = plain_network(folder, both)
    read = text if both else f"{text}\n\nAnswer:"
    ids = tokenizer(read)["input_ids"]
    left = [(*answer, end) for answer in spelled_by_hand(tokenizer, "" if both else read, held)]
    new = []
    while not new or new[-1] != end:
        with torch.no_grad():
            if both:
                out = network(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([[1, *new]]))
            else:
                out = network(input_ids=torch.tensor([ids + new]))
        allowed = sorted({answer[len(new)] for answer in left})
        new.append(allowed[int(out.logits[0, -1, allowed].argmax())])
        left = [answer for answer in left if answer[: len(new)] == tuple(new)]
    return tokenizer.decode(new[:-1], skip_special_tokens=True).removeprefix("" if both else " "), len(new) - 1


# What is written


@pytest.mark.parametrize("held", ["twelve brackets", "twelve numbers", "one begins as another, to the end", "words"])
def test_the_answer_is_the_greedy_one_among_those_allowed(folder, held):
    held = HELD[held]
    written = local(folder).generate(PROMPTS[:4], max_tokens=60, constraint=held)
    for text, one in zip(TEXTS, written, strict=False):
        assert (one.text, one.usage.output_tokens) == by_hand(folder, text, held)
        assert one.finish == "stop" and one.text in answers_of(held)


@pytest.mark.parametrize("held", ["twelve brackets", "one begins as another", "one of one"])
@pytest.mark.parametrize("batch_tokens", [300, 100_000])
def test_batched_equals_alone(folder, held, batch_tokens):
    alone = [local(folder).generate([p], max_tokens=60, constraint=HELD[held])[0] for p in PROMPTS]
    model = local(folder, batch_tokens=batch_tokens)
    assert uncached(model.generate(PROMPTS, max_tokens=60, constraint=HELD[held])) == alone
    assert uncached(model.generate(PROMPTS[::-1], max_tokens=60, constraint=HELD[held])[::-1]) == alone


@pytest.mark.parametrize("batch_tokens", [300, 100_000])
def test_what_is_drawn_depends_on_its_seed_and_on_no_batch_mate(folder, batch_tokens):
    held, seeds = HELD["one begins as another"], range(5, 5 + len(PROMPTS))

    def drawn(model, prompts, seeds):
        told = {"sampling": Sampling(1.5, top_p=0.95, top_k=4), "seeds": seeds}
        return uncached(model.generate(prompts, max_tokens=60, constraint=held, **told))

    alone = [drawn(local(folder), [p], [seed])[0] for p, seed in zip(PROMPTS, seeds, strict=True)]
    model = local(folder, batch_tokens=batch_tokens)
    assert drawn(model, PROMPTS, seeds) == alone
    assert {one.text for one in alone} <= answers_of(held)
    assert drawn(model, PROMPTS, [seed + 100 for seed in seeds]) != alone


def test_items_are_drawn_as_often_as_they_are_probable_among_those_allowed(llama):
    held = Permutation(tuple("ABC"), length=1)
    model, draws = local(llama), 1500
    [read] = model.choices([PROMPTS[0]], ["ABC"])
    wanted = np.exp(read.logprobs) / np.exp(read.logprobs).sum()
    told = {"sampling": Sampling(), "seeds": range(draws)}
    texts = [one.text for one in model.generate([PROMPTS[0]] * draws, max_tokens=5, constraint=held, **told)]
    counts = np.array([texts.count(item) for item in held.items])
    assert (np.abs(counts - draws * wanted) <= 5 * np.sqrt(draws * wanted * (1 - wanted)) + 3).all()


def test_it_goes_on_from_the_beginning_of_an_answer(llama):
    held = Permutation(("1", "2", "3"), "] > [")
    [one] = local(llama).generate([ask("the cat", answer="[")], max_tokens=60, constraint=held)
    assert one.text in answers_of(held)


def test_prompts_with_a_chat_template_are_answered_too(chat):
    written = local(chat).generate(PROMPTS, max_tokens=60, constraint=HELD["brackets"])
    assert {one.text for one in written} <= answers_of(HELD["brackets"])


# What it costs


def counted(model):
    """Tokens of each forward pass."""
    passes = []

    def count(network, args, told):
        passes.append(told["input_ids"].shape[1])

    model._loaded.network.register_forward_pre_hook(count, with_kwargs=True)
    return passes


@pytest.mark.parametrize(("length", "wanted"), [(None, 5), (1, 1), (3, 3), (5, 5)])
def test_the_network_runs_once_a_choice(llama, length, wanted):
    """The last of six items leaves none; separators and brackets are read on the way."""
    model = local(llama)
    held = Permutation(tuple(f"[{letter}]" for letter in "CDEFGH"), length=length)
    passes = counted(model)
    [one] = model.generate([PROMPTS[1]], max_tokens=60, constraint=held)
    assert len(passes) == wanted and one.text in answers_of(held)
    assert sum(passes) < one.usage.prompt_tokens + one.usage.output_tokens


def test_what_all_prompts_begin_with_is_read_once(llama):
    model = local(llama, batch_tokens=100_000)
    start = "the cat sat on the mat. " * 6
    prompts = [ask(start + str(i)) for i in range(6)]
    alone = [model.generate([p], max_tokens=60, constraint=HELD["letters"])[0] for p in prompts]
    written = model.generate(prompts, max_tokens=60, constraint=HELD["letters"])
    assert uncached(written) == alone
    ids = transformers.AutoTokenizer.from_pretrained(llama)(start)["input_ids"]
    assert [one.usage.cached_tokens for one in written].count(len(ids)) == 5
    assert min(one.usage.cached_tokens for one in written) == 0


# What is refused


def test_identifiers_that_the_tokenizer_cannot_tell_apart_are_refused(tmp_path):
    tokenizer = byte_tokenizer()
    from tokenizers import normalizers

    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    model = local(saved(tmp_path, tokenizer, KINDS["llama"](tokenizer)))
    with pytest.raises(LabelError, match=r"'\[A\]' and '\[a\]' are the same after this prompt: .*use other labels"):
        model.generate(PROMPTS, max_tokens=60, constraint=Permutation(("[A]", "[b]", "[a]")))


def test_an_answer_that_could_be_cut_off_is_refused(llama):
    """Rather than cut off: an answer that is held to a permutation is always whole."""
    held = Permutation(("1", "12", "123"), " ")  # " 1", " 12", " 123" in some order: 9 tokens
    whole = local(llama).generate(PROMPTS, max_tokens=9, constraint=held)
    assert {one.usage.output_tokens for one in whole} == {9}
    with pytest.raises(ConfigurationError, match=r"can take 9 tokens, max_tokens=8 would cut it off; .*\(top_k=\)"):
        local(llama).generate(PROMPTS, max_tokens=8, constraint=held)
    two = Permutation(("1", "12", "123"), " ", 2)
    assert local(llama).generate(PROMPTS, max_tokens=7, constraint=two)
    with pytest.raises(ConfigurationError, match="can take 7 tokens"):
        local(llama).generate(PROMPTS, max_tokens=6, constraint=two)


def test_a_stop_text_means_nothing_and_is_refused(llama):
    with pytest.raises(ConfigurationError, match=r"ends by itself; leave out stop=\['x'\]"):
        local(llama).generate(PROMPTS, max_tokens=60, stop=["x"], constraint=HELD["letters"])


def test_room_for_the_answer_is_part_of_the_context(llama):
    assert local(llama).generate([ask("x" * 400)], max_tokens=60, constraint=HELD["brackets"])
    with pytest.raises(PromptTooLong, match="with an answer of 200 exceeds"):
        local(llama).generate([ask("x" * 400)], max_tokens=200, constraint=HELD["brackets"])


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"items": ()}, "items must be one or more different texts"),
        ({"items": ("a", "a")}, "items must be one or more different texts"),
        ({"items": ("a", "")}, "items must be one or more different texts"),
        ({"items": ("a", "b"), "between": ""}, "between must not be empty"),
        ({"items": ("a", "b"), "length": 0}, "length must be 1 to 2"),
        ({"items": ("a", "b"), "length": 3}, "length must be 1 to 2"),
    ],
)
def test_a_permutation_of_nothing_is_refused(told, message):
    with pytest.raises(ConfigurationError, match=message):
        Permutation(**told)


# Under scorers


DOCS = tuple(Doc(str(number), text) for number, text in enumerate([*TEXTS, "the mat", "a cat", "no cat", "end"]))


@pytest.mark.parametrize("labels", ["numbers", "letters"])
@pytest.mark.parametrize("top_k", [None, 1, 50])
@pytest.mark.parametrize("n", [1, 12])
def test_every_answer_of_a_list_prompt_is_complete(wide, labels, top_k, n):
    scorer = Prompted(ListPrompt(labels, "constrained", top_k=top_k), local(wide))
    [answer] = scorer([Question("why the cat", DOCS[:n], "q")])
    named = min(top_k or n, n)
    assert np.isfinite(answer.scores).sum() == named and answer.usage.repaired == answer.usage.failures == 0
    assert sorted(-answer.scores[np.isfinite(answer.scores)]) == [*range(named)]


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A context that windows fit in."""
    return decoder(tmp_path_factory.mktemp("wide"), byte_tokenizer(chat=CHATML), max_position_embeddings=8192)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"decode": "grammar"}, "decode must be 'generate', 'first' or 'constrained', got 'grammar'"),
        ({"top_k": 3}, "top_k must be at least 1, and needs decode='constrained', got 3"),
        ({"decode": "first", "top_k": 3}, "needs decode='constrained'"),
        ({"decode": "constrained", "top_k": 0}, "top_k must be at least 1"),
    ],
)
def test_a_list_prompt_says_what_it_does_not_take(told, message):
    with pytest.raises(ConfigurationError, match=message):
        ListPrompt(**told)
