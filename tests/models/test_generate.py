"""Greedy generation against decoding by hand, one token and one prompt at a time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from shared_data import SHARED
from tiny import (
    CHATML,
    END,
    STOP,
    ask,
    byte_tokenizer,
    decoder,
    local,
    saved,
    settings,
    uncached,
)

from pyterrier_llmrank.errors import PromptTooLong
from pyterrier_llmrank.models import Sampling

TEXTS = ["the cat sat. " * times + "end" for times in (0, 9, 1, 20, 0, 3)] + ["x", "é 中 🙂"]
WILD = {
    "do_sample": True,
    "temperature": 1.5,
    "top_k": 3,
    "num_beams": 4,
    "repetition_penalty": 2.0,
    "no_repeat_ngram_size": 2,
    "suppress_tokens": list(range(4, 150)),
    "min_new_tokens": 12,
    "max_new_tokens": 3,
    "forced_eos_token_id": 3,
}


def configured(folder, where, **changes):
    """A copy of a checkpoint with another generation configuration."""
    copy = Path(shutil.copytree(folder, where / "copy"))
    path = copy / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return str(copy)


def by_hand(folder, ids, max_tokens, ends, start=None):
    """The most likely token, again and again."""
    auto = transformers.AutoModelForCausalLM if start is None else transformers.AutoModelForSeq2SeqLM
    network = auto.from_pretrained(folder, dtype=torch.float32).eval()
    new = []
    while len(new) < max_tokens and not set(new) & ends:
        with torch.no_grad():
            if start is None:
                out = network(input_ids=torch.tensor([ids + new]))
            else:
                out = network(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([start + new]))
        new.append(int(out.logits[0, -1].argmax()))
    return new


def prompt_ids(folder, text):
    return transformers.AutoTokenizer.from_pretrained(folder)(f"{text}\n\nAnswer:")["input_ids"]


def text_of(folder, ids):
    return transformers.AutoTokenizer.from_pretrained(folder).decode(ids, skip_special_tokens=True)


def frequent(folder, place=2):
    """A token that greedy decoding comes to after a few steps of each text, by text."""
    return [by_hand(folder, prompt_ids(folder, text), place + 1, set())[place] for text in TEXTS]


def test_it_is_greedy(llama):
    for text, written in zip(TEXTS, local(llama).generate([ask(text) for text in TEXTS], max_tokens=6), strict=True):
        wanted = by_hand(llama, prompt_ids(llama, text), 6, {0})
        assert written.text == text_of(llama, wanted)
        assert written.usage.output_tokens == len(wanted)


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_it_is_greedy_whatever_the_generation_configuration_says(kind, request, tmp_path):
    folder = request.getfixturevalue(kind)
    wild = configured(folder, tmp_path, **WILD)
    prompts = [ask(text) for text in TEXTS]
    assert local(wild).generate(prompts, max_tokens=8) == local(folder).generate(prompts, max_tokens=8)


def test_it_stays_greedy_on_later_calls_and_after_other_primitives(llama, tmp_path):
    model = local(configured(llama, tmp_path, **WILD))
    first = model.generate([ask(TEXTS[0])], max_tokens=8)
    model.choices([ask(TEXTS[0])], [("Yes", "No")])
    assert model.generate([ask(TEXTS[0])], max_tokens=8) == first
    assert first == local(llama).generate([ask(TEXTS[0])], max_tokens=8)


@pytest.mark.parametrize("kind", ["llama", "t5"])
@pytest.mark.parametrize("batch_tokens", [1, 120, 100_000])
def test_batched_equals_alone(kind, batch_tokens, request):
    folder = request.getfixturevalue(kind)
    prompts = [ask(text) for text in TEXTS]
    alone = [local(folder).generate([prompt], max_tokens=8)[0] for prompt in prompts]
    model = local(folder, batch_tokens=batch_tokens)
    assert uncached(model.generate(prompts, max_tokens=8)) == alone
    assert uncached(model.generate(prompts[::-1], max_tokens=8)[::-1]) == alone


def test_batched_equals_alone_with_absolute_positions(tmp_path):
    tokenizer = byte_tokenizer()
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=512, initializer_range=0.4
    )
    model = local(saved(tmp_path, tokenizer, config))
    prompts = [ask(text) for text in TEXTS]
    assert uncached(model.generate(prompts, max_tokens=8)) == [model.generate([p], max_tokens=8)[0] for p in prompts]


def test_every_end_token_of_the_checkpoint_stops(llama, tmp_path):
    """Chat checkpoints list several; the answer of each text ends at the first that comes."""
    ends = set(frequent(llama)[:3])
    model = local(configured(llama, tmp_path, eos_token_id=sorted(ends)))
    written = model.generate([ask(text) for text in TEXTS], max_tokens=7)
    finishes = []
    for text, one in zip(TEXTS, written, strict=True):
        wanted = by_hand(llama, prompt_ids(llama, text), 7, {0, *ends})
        assert one.usage.output_tokens == len(wanted)
        assert one.text == text_of(llama, wanted)
        finishes.append("stop" if wanted[-1] in ends else "length")
    assert [one.finish for one in written] == finishes and set(finishes) == {"stop", "length"}


def test_the_end_token_of_the_tokenizer_stops_too(llama, tmp_path):
    """Some chat tokenizers end turns with a token that the network's configuration does not name."""
    end = frequent(llama)[0]
    copy = Path(configured(llama, tmp_path, eos_token_id=0))
    tokenizer = byte_tokenizer(eos_token=byte_tokenizer().convert_ids_to_tokens(end))
    tokenizer.save_pretrained(copy)
    [written] = local(copy).generate([ask(TEXTS[0])], max_tokens=30)
    assert written.finish == "stop" and written.usage.output_tokens <= 3


def test_an_answer_that_is_cut_off_says_so(llama):
    [written] = local(llama).generate([ask("the cat")], max_tokens=1)
    assert (written.finish, written.usage.output_tokens) == ("length", 1)


def test_usage_counts_what_was_read_and_written(llama):
    written = local(llama).generate([ask(text) for text in TEXTS], max_tokens=3)
    assert [one.usage.prompt_tokens for one in written] == [len(prompt_ids(llama, text)) for text in TEXTS]
    assert {(one.usage.calls, one.usage.output_tokens) for one in written} == {(1, 3)}


def test_special_tokens_are_no_part_of_the_text(tmp_path):
    """A head that says the same token always: the one that ends a chat turn."""
    tokenizer = byte_tokenizer(chat=CHATML, eos_token=STOP)
    folder = decoder(tmp_path, tokenizer)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder)
    stop = tokenizer.convert_tokens_to_ids(STOP)
    with torch.no_grad():
        network.lm_head.weight.zero_()
        network.lm_head.weight[stop] = network.model.norm.weight  # normed states have a positive or negative product
        network.lm_head.weight[0] = -network.model.norm.weight
    network.save_pretrained(folder)
    [written] = local(folder).generate([ask("the cat")], max_tokens=5)
    assert (written.text, written.finish, written.usage.output_tokens) == ("", "stop", 1)
    assert END not in written.text


def test_the_answer_begins_after_the_prompts_own_beginning_of_it(llama):
    tokenizer = byte_tokenizer()
    ids = tokenizer("the cat\n\nAnswer: [")["input_ids"]
    [written] = local(llama).generate([ask("the cat", answer="[")], max_tokens=5)
    assert written.text == text_of(llama, by_hand(llama, ids, 5, {0}))
    assert written.usage.prompt_tokens == len(ids)


# What prompts have in common


def tokens_read(model):
    """Tokens of each forward pass, padding included; filled as the network runs."""
    passes = []
    model._loaded.network.register_forward_pre_hook(
        lambda network, args, told: passes.append(told["input_ids"].numel()), with_kwargs=True
    )
    return passes


def test_samples_of_one_prompt_read_it_once(llama):
    """Though all of their tokens would exceed the batch."""
    model, seeds = local(llama, batch_tokens=600), range(6)
    prompt = ask("the cat sat on the mat. " * 12)
    alone = [model.generate([prompt], max_tokens=8, sampling=Sampling(), seeds=[seed])[0] for seed in seeds]
    passes = tokens_read(model)
    together = model.generate([prompt] * 6, max_tokens=8, sampling=Sampling(), seeds=seeds)
    assert uncached(together) == alone
    length = together[0].usage.prompt_tokens
    assert [one.usage.cached_tokens for one in together] == [0, *[length - 1] * 5]
    assert sum(passes) == length - 1 + 6 * 8  # the last token of the prompt is read with the answers


def test_demonstrations_are_read_once(llama):
    start = "the cat sat on the mat. " * 8
    prompts = [ask(start + "no cat " * (i % 4)) for i in range(7)]
    model = local(llama, batch_tokens=100_000)
    alone = [model.generate([prompt], max_tokens=5)[0] for prompt in prompts]
    passes = tokens_read(model)
    together = model.generate(prompts, max_tokens=5)
    assert uncached(together) == alone
    shared = max(one.usage.cached_tokens for one in together)
    assert shared >= len(byte_tokenizer()(start)["input_ids"]) and passes[0] == shared
    assert sorted(one.usage.cached_tokens for one in together) == [0, *[shared] * 6]


def test_what_sees_only_so_far_back_shares_nothing(tmp_path):
    tokenizer = byte_tokenizer()
    config = transformers.MistralConfig(**settings(tokenizer, sliding_window=24))
    model = local(saved(tmp_path, tokenizer, config), batch_tokens=100_000)
    prompts = [ask("the cat sat on the mat. " * 8 + "x" * i) for i in range(4)]
    together = model.generate(prompts, max_tokens=5)
    assert together == [model.generate([prompt], max_tokens=5)[0] for prompt in prompts]


# Encoder-decoders


def test_an_encoder_decoder_is_greedy(t5):
    tokenizer = transformers.AutoTokenizer.from_pretrained(t5)
    for text, written in zip(TEXTS, local(t5).generate([ask(text) for text in TEXTS], max_tokens=6), strict=True):
        wanted = by_hand(t5, tokenizer(text)["input_ids"], 6, {0}, start=[1])
        assert written.text == text_of(t5, wanted)
        assert written.usage.output_tokens == len(wanted)
        assert written.finish == ("stop" if wanted[-1] == 0 else "length")


def test_an_encoder_decoder_goes_on_from_each_prompts_own_answer(t5):
    tokenizer = transformers.AutoTokenizer.from_pretrained(t5)
    answers = ["[", "", "the cat [", "["]
    prompts = [ask(text, answer=answer) for text, answer in zip(TEXTS, answers, strict=False)]
    for prompt, answer, written in zip(prompts, answers, local(t5).generate(prompts, max_tokens=5), strict=True):
        start = [1, *tokenizer(answer, add_special_tokens=False)["input_ids"]]
        encoder = tokenizer(prompt.messages[0].content)["input_ids"]
        assert written.text == text_of(t5, by_hand(t5, encoder, 5, {0}, start=start))


# Edges


def test_nothing_asked_is_nothing_answered(llama):
    assert local(llama).generate([], max_tokens=5) == []


def test_room_for_the_answer_is_part_of_the_context(llama):
    assert local(llama).generate([ask("x" * 400)], max_tokens=20)
    with pytest.raises(PromptTooLong, match="with an answer of 200 exceeds"):
        local(llama).generate([ask("x" * 400)], max_tokens=200)


def test_a_padding_token_that_the_network_does_not_know_is_not_used(tmp_path):
    """Users add one to tokenizers that have none, and do not resize the network."""
    tokenizer = byte_tokenizer()
    config = transformers.LlamaConfig(**settings(tokenizer))
    tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
    assert tokenizer.pad_token_id >= config.vocab_size
    model = local(saved(tmp_path, tokenizer, config))
    prompts = [ask(text) for text in TEXTS]
    assert uncached(model.generate(prompts, max_tokens=4)) == [model.generate([p], max_tokens=4)[0] for p in prompts]


def test_a_trained_model_tells_its_story():
    folder = SHARED / "data/model_stories260k"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    [written] = local(folder).generate([ask("Once upon a time", raw=True)], max_tokens=40)
    assert written.text.strip().startswith(", there was a little girl named Lily.")
    ids = transformers.AutoTokenizer.from_pretrained(folder)("Once upon a time")["input_ids"]
    assert written.text == text_of(folder, by_hand(folder, ids, 40, {2}))
