"""Keys and values that few ask for are not made, and scores stay what they are."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
import torch
import transformers
from tiny import BOS, END, adapter, ask, byte_tokenizer, encoder_decoder, full_logprobs, local, saved

from pyterrier_llmrank.core import Doc, Question
from pyterrier_llmrank.models.hf import sharing
from pyterrier_llmrank.models.hf.layout import Layout, Segment
from pyterrier_llmrank.models.hf.promises import Promises, promising
from pyterrier_llmrank.models.hf.promises import ask as ask_states
from pyterrier_llmrank.scorers import BiEncoder, CrossEncoder

T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}

# encoder-decoders whose decoder asks the encoder's states as they are
PROMISED = {
    "t5": lambda tokens: transformers.T5Config(**T5, **tokens, tie_word_embeddings=False),
    "flan-t5": lambda tokens: transformers.T5Config(**T5, **tokens, feed_forward_proj="gated-gelu"),
    "umt5": lambda tokens: transformers.UMT5Config(**T5, **tokens),
}


def encoder_decoder_of(folder, kind):
    tokenizer = byte_tokenizer(post=f"$A {END}")
    tokens = {"vocab_size": len(tokenizer), "eos_token_id": 0, "pad_token_id": 1, "decoder_start_token_id": 1}
    return saved(folder, tokenizer, PROMISED[kind](tokens), transformers.AutoModelForSeq2SeqLM)


def texts(n=12):
    rng = random.Random(0)
    return ["".join(rng.choice("abcdefgh ") for _ in range(rng.randrange(1, 60))) for _ in range(n)]


def made(network, run, wanted):
    """Tokens that each linear layer whose name ``wanted`` accepts made states of, while ``run()`` ran."""
    tokens = {}

    def note(name, output):
        tokens[name] = tokens.get(name, 0) + (0 if output.stride(-1) == 0 else output.shape[-2])

    handles = [
        part.register_forward_hook(lambda _, __, output, name=name: note(name, output))
        for name, part in network.named_modules()
        if isinstance(part, torch.nn.Linear) and wanted(name)
    ]
    run()
    for handle in handles:
        handle.remove()
    return tokens


def choices(model, asked):
    return model.choices([ask(text, raw=True) for text in asked], [("Yes", "No")] * len(asked))


@pytest.mark.parametrize("batch_tokens", [1, 100, 2048])
@pytest.mark.parametrize("kind", PROMISED)
def test_a_decoder_s_step_asks_states_and_not_keys(kind, batch_tokens, tmp_path):
    folder = encoder_decoder_of(tmp_path, kind)
    model, asked = local(folder, batch_tokens=batch_tokens), texts()
    scored, tokenizer = choices(model, asked), byte_tokenizer(post=f"$A {END}")
    assert model._loaded.packs == {(False, "steps"): True, (False, None): True}
    for text, one in zip(asked, scored, strict=True):
        wanted = full_logprobs(folder, tokenizer(text)["input_ids"], [1])[-1]
        np.testing.assert_allclose(one.logprobs, wanted[tokenizer.convert_tokens_to_ids(["Yes", "No"])], atol=1e-4)
    network = model._loaded.network
    across = made(network, lambda: choices(model, asked), lambda name: "EncDecAttention" in name)
    assert {name[-1]: tokens for name, tokens in across.items()} == {"q": 12, "k": 0, "v": 0, "o": 12}
    assert not [part for part in network.modules() if "forward" in vars(part)]


@pytest.mark.parametrize(("steps", "spot"), [(1, "steps"), (sharing.STEPS, "steps"), (sharing.STEPS + 1, None)])
def test_many_steps_are_cheaper_with_keys(steps, spot):
    reads = [sharing.Read([1, place], [0] * steps, [(steps - 1, 5)]) for place in range(4)]
    assert sharing._spot(reads, both_sides=True) == spot
    assert sharing._spot(reads + reads, both_sides=True) == ("steps" if steps == 1 else None)  # of the same inputs


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft's
@pytest.mark.parametrize("targets", [["v"], ["q", "k"]])
def test_layers_that_do_more_than_to_multiply_do_it(targets, tmp_path):
    pytest.importorskip("peft")
    base = encoder_decoder(tmp_path / "base")
    folder = adapter(
        tmp_path / "lora", base, "SEQ_2_SEQ_LM", transformers.AutoModelForSeq2SeqLM, target_modules=targets
    )
    merged, apart = (local(base, adapter=folder, merged=merged) for merged in (True, False))
    for one, other in zip(choices(merged, texts()), choices(apart, texts()), strict=True):
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)
    assert merged._loaded.packs == {(False, "steps"): True, (False, None): True}
    assert apart._loaded.packs == {(False, "steps"): False, (False, None): True}


def test_a_bias_across_is_not_left_out(tmp_path, monkeypatch):
    folder = encoder_decoder(tmp_path)
    model, zeros = local(folder), torch.zeros
    assert choices(model, texts()) and model._loaded.packs[False, "steps"]
    model._loaded.packs.clear()
    t5 = transformers.models.t5.modeling_t5.T5Attention

    def biased(self, *args, **given):
        monkeypatch.setattr(torch, "zeros", lambda *a, **k: zeros(*a, **k) + 1e-5)
        try:
            return own(self, *args, **given)
        finally:
            monkeypatch.setattr(torch, "zeros", zeros)

    own = t5.forward
    monkeypatch.setattr(t5, "forward", biased)
    choices(model, texts())
    assert model._loaded.packs == {(False, "steps"): False, (False, None): True}


def test_layers_keep_their_promise_to_nobody_else():
    linear, states = torch.nn.Linear(4, 6), torch.randn(1, 3, 4)
    layout = Layout([Segment(0, 3)])
    with promising(linear, layout, states):
        token, other = linear(states), linear(states.clone())
    assert token.isnan().all() and torch.equal(other, linear(states))  # of other states it makes what it makes
    as_keys = token.view(1, 3, 2, 3).transpose(1, 2)
    promises = layout.promises
    assert promises.behind(as_keys, as_keys)[0].layer is linear
    for unknown in (as_keys * 2, as_keys[:, :, :2], other.view(1, 3, 2, 3).transpose(1, 2)):
        assert promises.behind(as_keys, unknown) is promises.behind(unknown, as_keys) is None
    assert Promises().behind(as_keys, as_keys) is None


def test_layers_make_what_they_make_after_an_error():
    linear, states = torch.nn.Linear(4, 6), torch.randn(1, 3, 4)
    with pytest.raises(IndexError), promising(linear, Layout([Segment(0, 3)])):
        raise IndexError
    assert torch.equal(linear(states), torch.nn.functional.linear(states, linear.weight, linear.bias))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("scaling", [None, 0.3])
@pytest.mark.parametrize(("heads", "shared", "wide"), [(1, 1, 5), (4, 1, 2), (4, 2, 2), (6, 3, 5), (4, 4, 3)])
def test_what_is_asked_of_states_is_what_keys_and_values_answer(heads, shared, wide, scaling, bias):
    torch.manual_seed(0)
    width, size, lengths, spans = 3, 16, [1, 3, 2, 1], [(0, 4), (4, 5), (2, 9), (0, 9)]
    key, value = (torch.nn.Linear(size, shared * each, bias=bias) for each in (width, wide))
    states, query = torch.randn(1, 9, size), torch.randn(1, heads, sum(lengths), width)
    ends = [0, *np.cumsum(lengths).tolist()]
    layout = Layout([Segment(*span) for span in pairwise(ends)], across=spans)
    with promising(torch.nn.ModuleList([key, value]), layout):
        stand_ins = [layer(states).unflatten(-1, (shared, -1)).transpose(1, 2) for layer in (key, value)]
    found = ask_states(query, layout.promises.behind(*stand_ins), layout, spans, scaling)
    assert found.shape == (1, sum(lengths), heads, wide)
    keys, values = (layer(states).unflatten(-1, (shared, -1)).transpose(1, 2) for layer in (key, value))
    for (start, end), (first, last) in zip(pairwise(ends), spans, strict=True):
        wanted = torch.nn.functional.scaled_dot_product_attention(
            query[:, :, start:end], keys[:, :, first:last], values[:, :, first:last], scale=scaling, enable_gqa=True
        )
        torch.testing.assert_close(found[:, start:end], wanted.transpose(1, 2))


# The last layer of an encoder

BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
ENCODER = {**BERT, "max_position_embeddings": 160, "initializer_range": 0.4, "num_labels": 1}
ENCODERS = {
    "bert": (transformers.BertConfig, ("query", "key", "value")),
    "roberta": (transformers.RobertaConfig, ("query", "key", "value")),
    "electra": (transformers.ElectraConfig, ("query", "key", "value")),
    "modernbert": (transformers.ModernBertConfig, ("Wqkv",)),
}


@pytest.mark.parametrize("kind", ENCODERS)
def test_one_row_of_a_last_layer_asks_states_where_nothing_turns_keys(kind, tmp_path):
    tokenizer, (config, names) = byte_tokenizer(post=f"{BOS} $A {END}"), ENCODERS[kind]
    tokens = {"vocab_size": len(tokenizer), "pad_token_id": 1, "eos_token_id": 0, "bos_token_id": 3}
    special = {"global_attn_every_n_layers": 1} if kind == "modernbert" else {}
    folder = saved(
        tmp_path,
        tokenizer,
        config(**tokens, **ENCODER, **special),
        transformers.AutoModelForSequenceClassification,
    )
    scorer = CrossEncoder(folder, device="cpu")
    asked = [Question("the cat", tuple(Doc(text, text) for text in texts(40)))]
    [answer] = scorer(asked)  # with the trial
    assert scorer._loaded.packs[False, "label"]
    layers = made(scorer._loaded.network, lambda: scorer(asked), lambda name: name.split(".")[-1] in names)
    *_, last = (tokens for _, tokens in layers.items())
    whole = answer.usage.prompt_tokens
    assert last == (len(answer.scores) + (whole if kind == "modernbert" else 0))
    assert next(iter(layers.values())) == whole


def test_a_vector_of_the_first_token_asks_states(tmp_path):
    tokenizer = byte_tokenizer(post=f"{BOS} $A {END}")
    tokens = {"vocab_size": len(tokenizer), "pad_token_id": 1}
    folder = saved(tmp_path, tokenizer, transformers.BertConfig(**tokens, **ENCODER), transformers.AutoModel)
    encoder, asked = BiEncoder(folder, device="cpu", pooling="cls"), texts(40)
    encoder.encode(asked)
    layers = made(encoder._loaded.network, lambda: encoder.encode(asked), lambda name: "self.value" in name)
    assert [*layers.values()][-1] == len(asked)
