"""Packed rows: no padding, every common token once, and the scores of one prompt at a time."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import transformers
from tiny import ask, byte_tokenizer, full_logprobs, local, saved, settings

from pyterrier_llmrank.models.hf import attention, sharing, varlen
from pyterrier_llmrank.models.hf.layout import Layout, Segment

LABELS = ("A", "B")
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "initializer_range": 0.4}
GPT_OSS = {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8, "sliding_window": 40, "rope_scaling": None}

# kinds of attention that packed rows are exact for, and configurations of them
EXACT = {
    "llama": lambda t: transformers.LlamaConfig(**settings(t)),
    "qwen2": lambda t: transformers.Qwen2Config(**settings(t)),
    "qwen3": lambda t: transformers.Qwen3Config(**settings(t), head_dim=8),
    "gpt2": lambda t: transformers.GPT2Config(vocab_size=len(t), eos_token_id=0, bos_token_id=3, **GPT2),
    "gpt_neox": lambda t: transformers.GPTNeoXConfig(**settings(t)),
    "phi3": lambda t: transformers.Phi3Config(**settings(t)),
    "olmo2": lambda t: transformers.Olmo2Config(**settings(t)),
    "qwen3_moe": lambda t: transformers.Qwen3MoeConfig(
        **settings(t), head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32
    ),
    "mistral with a window": lambda t: transformers.MistralConfig(**settings(t, sliding_window=40)),
    "gemma2 with soft caps and a window": lambda t: transformers.Gemma2Config(
        **settings(t), head_dim=8, sliding_window=40, attn_logit_softcapping=3.0, final_logit_softcapping=4.0
    ),
    "gemma3 with a window": lambda t: transformers.Gemma3TextConfig(**settings(t), head_dim=8, sliding_window=40),
    "gpt_oss with sinks and a window": lambda t: transformers.GptOssConfig(**settings(t), **GPT_OSS),
}
# those that it is not exact for, since their layers look beyond what attention tells them
INEXACT = {
    "bloom": lambda t: transformers.BloomConfig(
        vocab_size=len(t), hidden_size=32, n_layer=2, n_head=4, eos_token_id=0, bos_token_id=3, initializer_range=0.4
    ),
    "mamba": lambda t: transformers.MambaConfig(
        vocab_size=len(t), hidden_size=32, num_hidden_layers=2, state_size=8, eos_token_id=0, initializer_range=0.4
    ),
}


@pytest.fixture(scope="module", params=[*EXACT, *INEXACT])
def network(request, tmp_path_factory):
    """(name, folder) of a tiny random decoder."""
    tokenizer = byte_tokenizer()
    config = (EXACT | INEXACT)[request.param](tokenizer)
    return request.param, saved(tmp_path_factory.mktemp("network"), tokenizer, config)


def texts(seed=0, queries=3, docs=4):
    """Prompts of pairs, of which rows share instruction, query and first document."""
    rng = random.Random(seed)

    def text(n):
        return "".join(rng.choice("abcdefgh ") for _ in range(n))

    start, found = text(12), []
    for _ in range(queries):
        head = start + text(10)
        own = [text(rng.randrange(2, 40)) for _ in range(docs)]
        found += [f"{head}{one}|{other}" for one in own for other in own if one is not other]
    return found


def oracle(folder, text, answer):
    """Log-probability of the first token of an answer, from one forward pass without anything of ours."""
    tokenizer = byte_tokenizer()
    ids = tokenizer(text + answer)["input_ids"]
    return full_logprobs(folder, ids[:-1])[-1, ids[-1]]


@pytest.mark.parametrize("batch_tokens", [1, 100, 2048])
def test_packed_labels_are_those_of_one_prompt_at_a_time(network, batch_tokens):
    name, folder = network
    model, asked = local(folder, batch_tokens=batch_tokens), texts()
    model._loaded.packs.clear()
    scored = model.choices([ask(text, raw=True) for text in asked], [LABELS] * len(asked))
    for text, one in list(zip(asked, scored, strict=True))[::5]:
        wanted = [oracle(folder, text, label) for label in LABELS]
        np.testing.assert_allclose(one.logprobs, wanted, atol=1e-4)
    assert all(model._loaded.packs.values()) == (name in EXACT)


def test_packed_continuations_are_those_of_one_prompt_at_a_time(network):
    _, folder = network
    asked = texts()[:12]
    ours = local(folder).continuation([ask(text, raw=True) for text in asked], ["the hat"] * len(asked))
    for text, one in list(zip(asked, ours, strict=True))[::4]:
        [alone] = local(folder).continuation([ask(text, raw=True)], ["the hat"])
        np.testing.assert_allclose(one.logprobs, alone.logprobs, atol=1e-4)


def test_what_cannot_be_packed_is_found_out_and_logged(network, caplog):
    name, folder = network
    model = local(folder)
    model._loaded.packs.clear()
    model.choices([ask(text, raw=True) for text in texts()], [LABELS] * len(texts()))
    assert all(model._loaded.packs.values()) == (name in EXACT)
    assert ("is run in plain batches, without packing or shared prefixes" in caplog.text) == (name in INEXACT)


def test_other_attention_comes_back_after_a_packed_row(network):
    _, folder = network
    model = local(folder)
    before = [config._attn_implementation for config in model._loaded.configs]
    model.choices([ask(text, raw=True) for text in texts()], [LABELS] * len(texts()))
    assert [config._attn_implementation for config in model._loaded.configs] == before
    assert attention.NAME not in before
    assert len(model.generate([ask("the cat")], max_tokens=3)) == 1


@pytest.mark.parametrize("batch_tokens", [50, 2048])
def test_every_token_is_computed_once(llama, batch_tokens):
    """Also where a shared prefix is needed by rows after its own."""
    model, rows = local(llama, batch_tokens=batch_tokens), []
    prompts = [ask(text, raw=True) for text in texts()]
    model.choices(prompts, [LABELS] * len(prompts))  # with the trial
    handle = model._loaded.network.register_forward_pre_hook(
        lambda _, args, kwargs: rows.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    scored = model.choices(prompts, [LABELS] * len(prompts))
    handle.remove()
    used = sum(one.usage.prompt_tokens - one.usage.cached_tokens for one in scored)
    assert {height for height, _ in rows} == {1}
    assert sum(width for _, width in rows) == used < 0.6 * sum(model.lengths(prompts))
    assert max(width for _, width in rows) <= batch_tokens


def test_nothing_is_kept_of_prefixes_that_are_done_with(llama, monkeypatch):
    kept = []

    class Watched(sharing.read_packed.__globals__["Kept"]):
        def __init__(self):
            super().__init__()
            kept.append(self)

    monkeypatch.setitem(sharing.read_packed.__globals__, "Kept", Watched)
    model = local(llama, batch_tokens=50)
    model.choices([ask(text, raw=True) for text in texts()], [LABELS] * len(texts()))
    assert kept and not any(one.tensors for one in kept)


def test_a_single_prompt_needs_no_packing(llama):
    model = local(llama)
    model._loaded.packs.clear()
    model.choices([ask("the cat")], [LABELS])
    assert not model._loaded.packs


def test_no_more_prompts_than_a_trial_takes_are_not_worth_one(llama):
    model, prompts = local(llama), [ask(text) for text in "abcd"]
    model._loaded.packs.clear()
    model.choices(prompts[:3], [LABELS] * 3)
    assert not model._loaded.packs
    model.choices(prompts, [LABELS] * 4)
    assert model._loaded.packs == {(False, "ends"): True, (False, None): True}
    scored = model.choices([ask("the cat and the mat", raw=True), ask("the cat and the hat", raw=True)], [LABELS] * 2)
    assert sum(one.usage.cached_tokens for one in scored) == len(byte_tokenizer()("the cat and the")["input_ids"])


def test_one_long_prompt_is_worth_a_trial_of_its_end(tmp_path):
    folder = saved(tmp_path, byte_tokenizer(), transformers.LlamaConfig(**settings(byte_tokenizer())))
    model, text, widths = local(folder), "ab" * 256, []
    model._loaded.network.register_forward_pre_hook(
        lambda _, __, kwargs: widths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    [scored] = model.choices([ask(text[:511], raw=True)], [LABELS])
    assert model._loaded.packs == {} and widths == [511]
    [scored] = model.choices([ask(text, raw=True)], [LABELS])
    assert model._loaded.packs == {(False, "ends"): True, (False, None): True}
    assert max(widths[1:-1]) < 2 * sharing.TRIED + 10 and widths[-1] == len(text)
    np.testing.assert_allclose(scored.logprobs, [oracle(folder, text, label) for label in LABELS], atol=1e-4)


def test_a_trial_takes_all_that_is_read(tmp_path, monkeypatch):
    """Also where it is more than the end of a prompt."""
    model, seen = local(saved(tmp_path, byte_tokenizer(), transformers.LlamaConfig(**settings(byte_tokenizer())))), []
    right = sharing.read_plainly
    monkeypatch.setattr(sharing, "read_plainly", lambda _, reads, budget: seen.extend(reads) or right(_, reads, budget))
    model.continuation([ask("ab" * 100, raw=True)] * 4, ["c" * 100, "d" * 90, "c" * 10, "e"])
    assert [len(read.wanted) for read in seen] == [100, 100, 1]
    assert [read.positions[0] for read in seen] == [0, 0, sharing.TRIED - 1 - 1]
    assert [len(read.ids) for read in seen] == [101, 101, sharing.TRIED]


def test_scores_that_would_be_off_are_noticed(llama, monkeypatch, caplog):
    model = local(llama)
    model._loaded.packs.clear()
    right = sharing.read_packed
    monkeypatch.setattr(sharing, "read_packed", lambda *a, **b: [(values + 1, n) for values, n in right(*a, **b)])
    prompts = [ask(text, raw=True) for text in texts()]
    scored = model.choices(prompts, [LABELS] * len(prompts))
    assert model._loaded.packs == {(False, "ends"): False, (False, None): False}
    assert "packed, it would be off by 1" in caplog.text
    np.testing.assert_allclose(scored[0].logprobs[0], oracle(llama, texts()[0], "A"), atol=1e-4)
    model._loaded.packs.clear()


def test_a_network_is_tried_again_beyond_its_window(tmp_path):
    """Short prompts prove nothing about what a layer does not see of long ones."""
    tokenizer = byte_tokenizer()
    folder = saved(tmp_path, tokenizer, transformers.MistralConfig(**settings(tokenizer, sliding_window=24)))
    model = local(folder)
    short = [ask("ab" * n, raw=True) for n in (1, 2, 3, 4)]
    model.choices(short, [LABELS] * 4)
    assert model._loaded.packs == {(False, "ends"): True, (False, None): True}
    model.choices([*short, ask("ab" * 20, raw=True)], [LABELS] * 5)
    assert [*model._loaded.packs] == [(False, "ends"), (False, None), (True, "ends"), (True, None)]
    assert all(model._loaded.packs.values())


# Encoder-decoders


@pytest.mark.parametrize("batch_tokens", [1, 100, 2048])
def test_an_encoder_decoder_is_packed_on_both_sides(t5, batch_tokens):
    model = local(t5, batch_tokens=batch_tokens)
    asked = texts(docs=3)
    scored = model.choices([ask(text, raw=True) for text in asked], [("Yes", "No")] * len(asked))
    tokenizer = byte_tokenizer(post="$A <|end|>")
    for text, one in zip(asked, scored, strict=True):
        wanted = full_logprobs(t5, tokenizer(text)["input_ids"], [1])[
            -1, tokenizer.convert_tokens_to_ids(["Yes", "No"])
        ]
        np.testing.assert_allclose(one.logprobs, wanted, atol=1e-4)
    assert model._loaded.packs == {(False, "steps"): True, (False, None): True}


def test_one_decoder_step_a_prompt_and_each_input_encoded_once(t5):
    model = local(t5)
    prompts = [ask(text, raw=True) for text in ["the cat", "the mat", "the cat"]]
    model.choices([*prompts, ask("x")], [("Yes", "No")] * 4)
    widths = {"encoder": [], "decoder": []}
    handles = [
        side.register_forward_pre_hook(
            lambda _, args, kwargs, name=name: widths[name].append(kwargs["input_ids"].shape[1]), with_kwargs=True
        )
        for name, side in (("encoder", model._loaded.network.encoder), ("decoder", model._loaded.network.decoder))
    ]
    scored = model.choices(prompts, [("Yes", "No")] * 3)
    for handle in handles:
        handle.remove()
    one, other, _ = model.lengths(prompts)
    assert widths == {"encoder": [one + other], "decoder": [3]}
    assert [answer.usage.cached_tokens for answer in scored] == [0, 0, one]


@pytest.mark.parametrize(("times", "packs"), [(1, {(False, "steps"): True}), (3, {})])
def test_continuations_of_an_encoder_decoder_are_packed(t5, times, packs):
    model = local(t5)
    model._loaded.packs.clear()
    prompts = [ask(text) for text in ("the cat", "the mat sat", "x", "")]
    wanted = [text * times for text in ("the mat", "Yes", "a longer one", "x")]
    together = model.continuation(prompts, wanted)
    for prompt, text, one in zip(prompts, wanted, together, strict=True):
        [alone] = local(t5).continuation([prompt], [text])
        np.testing.assert_allclose(one.logprobs, alone.logprobs, atol=1e-4)
    assert model._loaded.packs == {**packs, (False, None): True}


def test_an_encoder_decoder_whose_positions_are_absolute_is_run_plainly(tmp_path, caplog):
    tokenizer = byte_tokenizer(post="$A <|end|>")
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "init_std": 0.4}
    tokens = {"vocab_size": len(tokenizer), "eos_token_id": 0, "pad_token_id": 1, "decoder_start_token_id": 1}
    config = transformers.BartConfig(**sizes, **heads, **tokens, max_position_embeddings=256)
    folder = saved(tmp_path, tokenizer, config, transformers.AutoModelForSeq2SeqLM)
    model, asked = local(folder), ["the cat", "the mat sat", "x", "a hat"]
    scored = model.choices([ask(text, raw=True) for text in asked], [("Yes", "No")] * 4)
    for text, one in zip(asked, scored, strict=True):
        wanted = full_logprobs(folder, tokenizer(text)["input_ids"], [1])[-1]
        np.testing.assert_allclose(one.logprobs, wanted[tokenizer.convert_tokens_to_ids(["Yes", "No"])], atol=1e-4)
    assert not any(model._loaded.packs.values()) and "is run in plain batches" in caplog.text


# On a GPU


def reference(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size, enable_gqa):
    """What ``torch.nn.attention.varlen.varlen_attn`` documents, written out."""
    out = []
    starts = list(zip(cu_seq_q.tolist(), cu_seq_q.tolist()[1:], cu_seq_k.tolist(), cu_seq_k.tolist()[1:], strict=False))
    for a, b, c, d in starts:
        assert b - a <= max_q and d - c <= max_k
        back = torch.arange(d - c - (b - a), d - c)[:, None] - torch.arange(d - c)[None]
        left, right = window_size
        allowed = torch.ones_like(back, dtype=torch.bool)
        allowed &= (back <= left) if left >= 0 else allowed
        allowed &= (back >= -right) if right >= 0 else allowed
        rows = [part.transpose(0, 1)[None] for part in (query[a:b], key[c:d], value[c:d])]
        seen = torch.nn.functional.scaled_dot_product_attention(
            *rows, attn_mask=allowed, scale=scale, enable_gqa=enable_gqa
        )
        out.append(seen[0].transpose(0, 1))
    return torch.cat(out)


@pytest.mark.parametrize("kind", ["llama", "mistral with a window"])
@pytest.mark.parametrize("batch_tokens", [50, 2048])
def test_one_call_for_all_segments_gives_the_same(kind, batch_tokens, tmp_path, monkeypatch):
    """The GPU's way, with the fused kernel replaced by what it documents."""
    tokenizer = byte_tokenizer()
    model = local(saved(tmp_path, tokenizer, EXACT[kind](tokenizer)), batch_tokens=batch_tokens)
    prompts = [ask(text, raw=True) for text in texts()]
    one_by_one = model.choices(prompts, [LABELS] * len(prompts))
    monkeypatch.setattr(attention, "fits", lambda query, value: True)
    monkeypatch.setattr(varlen, "_varlen_attn", lambda: reference)
    at_once = model.choices(prompts, [LABELS] * len(prompts))
    for one, other in zip(one_by_one, at_once, strict=True):
        np.testing.assert_allclose(other.logprobs, one.logprobs, atol=1e-5)


def test_the_fused_kernel_is_for_half_precision_on_a_gpu():
    states = torch.zeros(1, 2, 3, 8)
    assert not varlen.fits(states, states) and not varlen.fits(states.bfloat16(), states.bfloat16())


# Layouts


def test_spans_that_touch_are_one_piece():
    assert Segment(8, 12, [(0, 3), (3, 8)]).pieces == [(0, 12)]
    assert Segment(8, 12, [7, (0, 3), (5, 8)]).pieces == [7, (0, 3), (5, 12)]


@pytest.mark.parametrize("window", [None, 1, 3, 5, 100])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 5), (5, 5), (3, 7)])
@pytest.mark.parametrize("causal", [True, False])
def test_masks_hide_what_is_ahead_and_what_is_too_far(queries, keys, causal, window):
    layout = Layout([Segment(0, queries)])
    mask = layout.mask(queries, keys, torch.zeros(1), causal=causal, window=window)
    seen = torch.ones(queries, keys, dtype=torch.bool) if mask is None else mask == 0
    for row in range(queries):
        own = keys - queries + row
        for column in range(keys):
            ahead = causal and column > own
            far = window is not None and abs(own - column) >= window
            assert seen[row, column].item() == (not ahead and not far)


def test_attention_with_a_mask_of_its_own_is_refused(llama):
    loaded = local(llama)._loaded
    states = torch.zeros(1, 2, 3, 8)
    with attention.packed(loaded, Layout([Segment(0, 3)])):
        for wrong in ({"attention_mask": states}, {"query": states[:, :, :2]}):
            arguments = {"query": states, "key": states, "value": states, "attention_mask": None} | wrong
            with pytest.raises(NotImplementedError, match="something else than the row"):
                attention._attend(None, **arguments)


# The last layer


@pytest.mark.parametrize("batch_tokens", [50, 2048])
@pytest.mark.parametrize("kind", EXACT)
def test_the_last_layer_finishes_what_is_read_and_nothing_else(kind, batch_tokens, tmp_path):
    tokenizer = byte_tokenizer()
    model = local(saved(tmp_path, tokenizer, EXACT[kind](tokenizer)), batch_tokens=batch_tokens)
    prompts, seen = [ask(text, raw=True) for text in texts()], []
    model.choices(prompts, [LABELS] * len(prompts))  # with the trial
    assert [exact for (_, spot), exact in model._loaded.packs.items() if spot == "ends"] == [True]
    *_, feed_forward = (part for name, part in model._loaded.network.named_modules() if name.endswith(".mlp"))
    handle = feed_forward.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[-2]))
    passes = model._loaded.network.register_forward_pre_hook(lambda *_: seen.append(0))
    model.choices(prompts, [LABELS] * len(prompts))
    for hook in (handle, passes):
        hook.remove()
    # a row of which nothing is read comes to its end with one token
    assert len(prompts) <= sum(seen) <= len(prompts) + seen.count(0)


def test_what_is_read_of_all_tokens_is_finished_for_all(llama):
    model = local(llama)
    model._loaded.packs.clear()
    model.continuation([ask("a", raw=True)] * 5, [f"{n} cats sat on the mat" for n in range(5)])
    assert model._loaded.packs == {(False, None): True}


def test_no_layer_is_cut_short_where_it_is_not_plain_which_is_the_last(llama):
    loaded = local(llama)._loaded
    assert loaded.last_layer is loaded.network.model.layers[-1]
    loaded.network.model.others = torch.nn.ModuleList([torch.nn.Identity()] * len(loaded.network.model.layers))
    vars(loaded).pop("last_layer")
    assert loaded.last_layer is None
    del loaded.network.model.others
    vars(loaded).pop("last_layer")


def test_hooks_of_the_last_layer_are_gone_when_it_breaks(llama, monkeypatch):
    model, prompts = local(llama), [ask(text, raw=True) for text in texts()]
    model.choices(prompts, [LABELS] * len(prompts))
    layer = model._loaded.last_layer
    monkeypatch.setattr(layer.mlp, "forward", lambda states: (_ for _ in ()).throw(IndexError("broken")))
    with pytest.raises(IndexError, match="broken"):
        model.choices(prompts, [LABELS] * len(prompts))
    assert not layer._forward_hooks and not layer._forward_pre_hooks
