"""The primitive ``attention``: weights of the query's tokens, equal to those of whole attention matrices."""

from __future__ import annotations

import numpy as np
import pytest
import transformers
from attending import KINDS, attentions, checkpoint, sentencepiece
from replicated import copies_used
from shared_data import shared
from tiny import CHATML, byte_tokenizer, encoder_decoder, local
from tokenizers import normalizers

from pyterrier_llmrank.core import Message, Prompt
from pyterrier_llmrank.errors import ConfigurationError, ModelError, PromptTooLong, Unsupported
from pyterrier_llmrank.models import HFModel
from pyterrier_llmrank.models.hf import rows as rows_module

TEXT = "Read this. One: the cat sat on the mat. Two: é 中 🙂 snow. Three: x. Now tell me about "
SPANS = [(11, 39), (40, 56), (57, 66)]
ROWS = (TEXT.index("Now"), None)
ENDS = ["cats", "N/A", "snow in the mountains, please"]


def raw(text):
    return Prompt((Message("user", text),), raw=True)


def asked(model, ends=ENDS, **options):
    prompts = [raw(TEXT + end) for end in ends]
    return model.attention(prompts, rows=[ROWS] * len(ends), spans=[SPANS] * len(ends), **options)


def together(found):
    return [np.concatenate(one.weights, axis=-1) for one in found]


def assert_alike(some, others, atol=2e-6):
    for one, other in zip(together(some), together(others), strict=True):
        np.testing.assert_allclose(one, other, atol=atol)


def whole(folder, model, end, heads=None):
    """The same from all attention matrices, (heads, tokens of the spans)."""
    ids = model._text.encode([TEXT + end], special=True)[0]
    starts = model.token_ends([TEXT])[0]
    weights = attentions(folder, ids)
    first = next(i for i, stop in enumerate(starts) if stop > ROWS[0])
    keys = [i for a, b in SPANS for i, stop in enumerate(starts) if a < stop <= b]
    pairs = heads or [(layer, head) for layer in range(len(weights)) for head in range(weights.shape[1])]
    return np.stack([weights[layer, head, first:].mean(0)[keys] for layer, head in pairs])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("attention"))


@pytest.fixture
def model(folder):
    return local(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_it_equals_whole_attention_matrices(kind, tmp_path):
    folder = checkpoint(tmp_path, kind)
    model = local(folder)
    for end, found in zip(ENDS, asked(model, by_head=True), strict=True):
        np.testing.assert_allclose(np.concatenate(found.weights, -1), whole(folder, model, end), atol=2e-6)
    assert_alike(asked(model), asked(model, slowly=True), atol=1e-5)


def test_a_sum_over_heads_is_the_sum_of_the_heads(model):
    for one, heads in zip(asked(model), asked(model, by_head=True), strict=True):
        assert [own.shape for own in heads.weights] == [(16, len(own)) for own in one.weights]
        for summed, own in zip(one.weights, heads.weights, strict=True):
            np.testing.assert_allclose(summed, own.sum(0), atol=1e-5)


@pytest.mark.parametrize("heads", [((2, 3), (0, 1), (2, 0)), ((1, 2),), ((3, 0), (3, 1), (3, 2), (3, 3))])
def test_some_heads_are_those_of_all_in_the_order_asked_for(heads, model):
    everything = asked(model, by_head=True)
    for some, every in zip(asked(model, heads=heads, by_head=True), everything, strict=True):
        for own, of_all in zip(some.weights, every.weights, strict=True):
            np.testing.assert_allclose(own, of_all[[4 * layer + head for layer, head in heads]], atol=2e-6)
    assert_alike(asked(model, heads=heads), asked(model, heads=heads, slowly=True))


def test_layers_behind_the_last_head_are_not_run(folder):
    model = local(folder)
    asked(model)  # tries the network
    run = []
    layers = model._loaded.network.model.layers
    handles = [layer.mlp.register_forward_hook(lambda *_, at=at: run.append(at)) for at, layer in enumerate(layers)]
    asked(model, heads=((1, 0),))
    for handle in handles:
        handle.remove()
    assert run == [0]


def test_what_prompts_have_in_common_is_read_once(model):
    read = []
    handle = model._loaded.network.model.embed_tokens.register_forward_hook(lambda _, ids, __: read.append(ids[0]))
    asked(model)
    read.clear()
    found = asked(model)
    handle.remove()
    lengths = [one.usage.prompt_tokens for one in found]
    shared_tokens = found[1].usage.cached_tokens
    assert [row.shape[1] for row in read] == [sum(lengths) - 2 * shared_tokens] and shared_tokens > 50
    assert [one.usage.cached_tokens for one in found] == [0, shared_tokens, shared_tokens]


def test_prompts_together_equal_prompts_apart(model):
    found = asked(model)
    for end, one in zip(ENDS, found, strict=True):
        assert_alike([one], asked(model, [end]), atol=1e-6)
    other = raw(f"Something else altogether. {TEXT}")
    moved = [(a + 27, b + 27) for a, b in SPANS]
    mixed = model.attention([other, raw(TEXT + ENDS[0])], rows=[(ROWS[0] + 27, None), ROWS], spans=[moved, SPANS])
    assert_alike(mixed[1:], found[:1], atol=1e-6)


def test_a_prompt_that_occurs_twice_has_the_same_weights_to_the_last_bit(model):
    first, _, second = asked(model, ["cats", "N/A", "cats"])
    assert all((one == other).all() for one, other in zip(first.weights, second.weights, strict=True))
    assert second.usage.cached_tokens == second.usage.prompt_tokens


def test_what_comes_after_the_rows_changes_nothing(model):
    end = len(TEXT) + 4
    plain, more = (
        model.attention([raw(TEXT + "cats" + tail)], rows=[(ROWS[0], end)], spans=[SPANS]) for tail in ("", " and dogs")
    )
    assert_alike(plain, more, atol=0)
    assert more[0].usage == plain[0].usage


def test_the_last_token_alone_may_attend(model, folder):
    text = TEXT + "cats"
    [found] = model.attention([raw(text)], rows=[(len(text) - 1, None)], spans=[SPANS], by_head=True)
    ids = model._text.encode([text], special=True)[0]
    weights = attentions(folder, ids)[:, :, -1].reshape(16, -1)
    ends = model.token_ends([text])[0]
    keys = [i for a, b in SPANS for i, stop in enumerate(ends) if a < stop <= b]
    np.testing.assert_allclose(np.concatenate(found.weights, -1), weights[:, keys], atol=2e-6)


def test_long_endings_are_spelled_out_in_parts(model, monkeypatch):
    found = asked(model)
    monkeypatch.setattr(rows_module, "WEIGHTS", 2000)
    assert_alike(asked(model), found)


def test_endings_that_exceed_a_pass_are_read_in_several(folder):
    assert_alike(asked(local(folder, batch_tokens=8)), asked(local(folder)))


def test_tokens_stand_where_they_are_said_to(model):
    for one in asked(model):
        for (start, end), places in zip(SPANS, one.tokens, strict=True):
            assert places[0][0] <= start < places[0][1] and places[-1][0] < end <= places[-1][1]
            assert "".join(dict.fromkeys(TEXT[a:b] for a, b in places))


def test_a_chat_template_is_looked_through(tmp_path):
    folder = checkpoint(tmp_path, tokenizer=byte_tokenizer(chat=CHATML))
    model = local(folder)
    prompt = Prompt((Message("user", TEXT + "cats"),))
    [found] = model.attention([prompt], rows=[ROWS], spans=[SPANS])
    before = "<|im_start|>user\n"
    text = f"{before}{TEXT}cats<|im_end|>\n<|im_start|>assistant\n"
    moved = [(a + len(before), b + len(before)) for a, b in SPANS]
    expected = model.attention([raw(text)], rows=[(ROWS[0] + len(before), None)], spans=[moved])
    assert_alike([found], expected, atol=1e-6)
    assert found.tokens[0][0][0] == SPANS[0][0]


def test_a_text_that_stands_elsewhere_in_the_prompt_too_is_found_where_it_is_meant(tmp_path):
    model = local(checkpoint(tmp_path, tokenizer=byte_tokenizer(chat=CHATML)))
    text = TEXT + "cats"
    twice = Prompt((Message("system", text), Message("user", text)))
    [found] = model.attention([twice], rows=[ROWS], spans=[SPANS])
    before = f"<|im_start|>system\n{text}<|im_end|>\n<|im_start|>user\n"
    moved = [(a + len(before), b + len(before)) for a, b in SPANS]
    whole_text = f"{before}{text}<|im_end|>\n<|im_start|>assistant\n"
    expected = model.attention([raw(whole_text)], rows=[(ROWS[0] + len(before), None)], spans=[moved])
    assert_alike([found], expected, atol=1e-6)


def test_a_template_that_changes_the_text_is_refused(tmp_path):
    template = CHATML.replace("message.content", "message.content | upper")
    model = local(checkpoint(tmp_path, tokenizer=byte_tokenizer(chat=template)))
    with pytest.raises(Unsupported, match="chat template changes the text of a message"):
        model.attention([Prompt((Message("user", TEXT + "cats"),))], rows=[ROWS], spans=[SPANS])


def test_half_precision_rows_are_near_those_of_single_precision(folder):
    from pyterrier_llmrank.models import HFModel

    half = HFModel(folder, device="cpu", dtype="bfloat16")
    for one, other in zip(together(asked(half)), together(asked(local(folder))), strict=True):
        assert np.abs(one - other).max() < 0.15 * other.max()


def test_other_primitives_are_as_before(folder):
    model = local(folder)
    [before] = model.choices([raw("the cat")], [["Yes", "No"]])
    asked(model, heads=((1, 0),))
    asked(model, slowly=True)
    [after] = model.choices([raw("the cat")], [["Yes", "No"]])
    assert (before.logprobs == after.logprobs).all()
    assert {config._attn_implementation for config in model._loaded.configs} == {"sdpa"}


def test_nothing_asked_is_nothing_answered(model):
    assert model.attention([], rows=[], spans=[]) == [] and "_loaded" not in vars(local(model.name))


# What it refuses


def test_soft_caps_are_refused_and_read_slowly(tmp_path):
    folder = checkpoint(tmp_path, transformers.Gemma2Config, head_dim=8)
    model = local(folder)
    with pytest.raises(Unsupported, match="soft caps on attention scores; use another model, or slowly=True"):
        asked(model)
    found = asked(model, slowly=True, by_head=True)
    ids = model._text.encode([TEXT + ENDS[0]], special=True)[0]
    assert found[0].usage.prompt_tokens == len(ids)
    np.testing.assert_allclose(np.concatenate(found[0].weights, -1), whole(folder, model, ENDS[0]), atol=2e-6)


def test_a_window_that_hides_the_beginning_is_refused_and_one_that_does_not_is_read(tmp_path):
    near = local(checkpoint(tmp_path / "near", "mistral", sliding_window=32))
    with pytest.raises(Unsupported, match="sees only 32 tokens back, and the prompt has"):
        asked(near)
    assert_alike(asked(near, slowly=True), asked(near, slowly=True))
    far = checkpoint(tmp_path / "far", "mistral", sliding_window=500)
    model = local(far)
    np.testing.assert_allclose(together(asked(model, by_head=True))[0], whole(far, model, ENDS[0]), atol=2e-6)


def test_sinks_are_refused_and_read_slowly(tmp_path):
    model = local(
        checkpoint(tmp_path, transformers.GptOssConfig, num_local_experts=2, num_experts_per_tok=1, head_dim=8)
    )
    with pytest.raises(Unsupported, match=r"attention sinks|sees only"):
        asked(model)
    assert np.isfinite(np.concatenate(together(asked(model, slowly=True)))).all()


def test_layers_without_attention_are_refused_either_way(tmp_path):
    tokenizer = byte_tokenizer()
    config = transformers.MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=len(tokenizer), state_size=4)
    config.num_attention_heads = 4
    from tiny import saved

    model = local(saved(tmp_path, tokenizer, config))
    with pytest.raises(Unsupported, match="cannot be read quickly: Mamba"):
        asked(model)
    with pytest.raises(Unsupported, match="has no attention weights in layers 0, 1"):
        asked(model, slowly=True)


def test_an_encoder_decoder_is_refused(tmp_path):
    with pytest.raises(Unsupported, match="is an encoder-decoder; attention is read from decoders"):
        asked(local(encoder_decoder(tmp_path)))


def test_a_network_that_would_be_off_is_refused(folder, monkeypatch):
    model = local(folder)
    monkeypatch.setattr(model._loaded, "attends", 0.5)
    with pytest.raises(Unsupported, match=r"weights of LlamaForCausalLM would be off by 0\.5; .*slowly=True"):
        asked(model)
    assert len(asked(model, slowly=True)) == 3


@pytest.mark.parametrize("heads", [((4, 0),), ((0, 4),), ()])
def test_a_head_that_there_is_not_is_refused(heads, model):
    with pytest.raises(ConfigurationError, match=r"there is no head .*: this model has 4 layers of 4 heads|no head is"):
        asked(model, heads=heads)


def test_a_prompt_that_exceeds_the_context_is_refused(folder):
    with pytest.raises(PromptTooLong, match="exceeds the 40 tokens"):
        asked(local(folder, max_length=40))


@pytest.mark.parametrize("rows", [(5, 9), (len(TEXT) + 4, None)])
def test_texts_must_come_before_what_attends_to_them(rows, model):
    with pytest.raises(ModelError, match="must end before those that attend, which must not be empty"):
        model.attention([raw(TEXT + "cats")], rows=[rows], spans=[SPANS])


def test_a_tokenizer_that_drops_case_and_accents_is_trusted(tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer()
    model = local(checkpoint(tmp_path, tokenizer=tokenizer))
    text = TEXT.replace("cat", "Cât")
    assert len(model.attention([raw(text)], rows=[(len(text) - 4, None)], spans=[[(0, 8)]])) == 1


def test_a_tokenizer_whose_offsets_do_not_reproduce_the_text_is_refused(tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("sat", "lay")
    model = local(checkpoint(tmp_path, tokenizer=tokenizer))
    with pytest.raises(Unsupported, match=r"offsets of .* cannot be trusted: tokens that should stand at .*sat"):
        asked(model)


def test_a_tokenizer_without_offsets_is_refused(model, monkeypatch):
    monkeypatch.setattr(type(model._loaded.tokenizer), "is_fast", False)
    with pytest.raises(Unsupported, match="does not tell where tokens stand in a text; load the fast tokenizer"):
        asked(model)


def test_letters_of_several_tokens_are_in_one_span(tmp_path):
    model = local(checkpoint(tmp_path, "mistral", tokenizer=sentencepiece()))
    found = asked(model)[0]
    assert TEXT[found.tokens[1][0][0] : found.tokens[1][-1][1]].strip() == TEXT[slice(*SPANS[1])].strip()
    assert len(found.weights[1]) > len(TEXT[slice(*SPANS[1])].encode()) - 8


def test_the_way_of_writing_turns_is_told_by_the_tokenizer(folder, tmp_path):
    assert local(folder).dialect == "plain"
    assert local(checkpoint(tmp_path / "chat", tokenizer=byte_tokenizer(chat=CHATML))).dialect == "chat"
    assert local(checkpoint(tmp_path / "qwen", "qwen3", tokenizer=byte_tokenizer(chat=CHATML))).dialect == "qwen"
    assert local(checkpoint(tmp_path / "mistral", "mistral", tokenizer=sentencepiece())).dialect == "mistral"
    assert local(shared("fixtures", "icr_llama", "tiny-llama-3-random")).dialect == "llama-3"
    for token, dialect in (("<|im_sep|>", "phi"), ("<|start_of_role|>", "granite")):
        tokenizer = byte_tokenizer()
        tokenizer.add_special_tokens({"extra_special_tokens": [token]})
        assert local(checkpoint(tmp_path / dialect, tokenizer=tokenizer)).dialect == dialect


def test_the_number_of_heads_is_told(model):
    assert model.attention_heads == (4, 4) and "attention" in model.can


def test_several_devices_share_out_the_beginnings(folder):
    texts = [f"{i} {TEXT}" for i in range(4)]
    spans = [[(a + 2, b + 2) for a, b in SPANS]] * 4
    asked = {"rows": [(ROWS[0] + 2, None)] * 4, "spans": spans, "by_head": True}
    prompts = [raw(text + "cats") for text in texts]
    alone = local(folder).attention(prompts, **asked)
    shared = HFModel(folder, device=("cpu", "cpu"), dtype="float32")
    used = copies_used(shared)
    assert_alike(alone, shared.attention(prompts, **asked, slowly=True), atol=1e-5)
    assert sorted(used) == [0, 1]
