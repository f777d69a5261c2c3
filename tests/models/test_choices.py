"""Log-probabilities of labels against a full softmax of transformers, one prompt at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from shared_data import SHARED
from tiny import (
    BOS,
    CHATML,
    END,
    START,
    WORDS,
    ask,
    byte_tokenizer,
    decoder,
    full_logprobs,
    local,
    saved,
    settings,
)

from pyterrier_llmrank.core import Message, Prompt
from pyterrier_llmrank.errors import LabelError, ModelError, PromptTooLong, SeveralTokens

TEXTS = ["the cat sat on the mat. " * times + "end" for times in (0, 9, 1, 5, 0, 3, 12, 2, 7)] + ["x", "é 中 🙂"]
YES_NO = ("Yes", "No")
REFUSES_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML


def expected(folder, texts, labels, special=False):
    """Of the whole texts that the prompts should become: log P(label) by one forward pass each, all tokens counted."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in texts:
        row = []
        for label in labels:
            both = tokenizer(text + label, add_special_tokens=special)["input_ids"]
            alone = tokenizer(text, add_special_tokens=special)["input_ids"]
            split = next((i for i, (a, b) in enumerate(zip(alone, both, strict=False)) if a != b), len(alone))
            logprobs = full_logprobs(folder, both)
            row.append(sum(logprobs[place - 1, both[place]] for place in range(split, len(both))))
        rows.append(row)
    return np.array(rows)


def got(model, prompts, labels):
    return np.array([one.logprobs for one in model.choices(prompts, [labels] * len(prompts))])


def test_scores_are_those_of_a_full_softmax(llama):
    texts = [f"{text}\n\nAnswer:" for text in TEXTS]
    prompts = [ask(text) for text in TEXTS]
    assert {"ĠYes", "ĠNo"} <= set(WORDS)  # single tokens
    np.testing.assert_allclose(got(local(llama), prompts, YES_NO), expected(llama, texts, (" Yes", " No")), atol=1e-5)


def test_scores_of_an_encoder_decoder_are_those_of_a_full_softmax(t5):
    tokenizer = transformers.AutoTokenizer.from_pretrained(t5)
    ids = tokenizer.convert_tokens_to_ids(list(YES_NO))
    wanted = []
    for text in TEXTS:
        encoder = tokenizer(text)["input_ids"]
        assert encoder[-1] == tokenizer.eos_token_id
        wanted.append(full_logprobs(t5, encoder, [1])[-1, ids])
    np.testing.assert_allclose(got(local(t5), [ask(text) for text in TEXTS], YES_NO), wanted, atol=1e-5)


def test_an_encoder_decoder_goes_on_from_the_answer(t5):
    tokenizer = transformers.AutoTokenizer.from_pretrained(t5)
    letters, answer = tokenizer.convert_tokens_to_ids(["C", "D"]), tokenizer.convert_tokens_to_ids(["[", "Ġ"])
    wanted = full_logprobs(t5, tokenizer("the cat")["input_ids"], [1, *answer])[-1, letters]
    np.testing.assert_allclose(got(local(t5), [ask("the cat", answer="[ ")], ("C", "D")), [wanted], atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "chat", "t5"])
@pytest.mark.parametrize("batch_tokens", [1, 60, 300, 100_000])
def test_scores_depend_on_no_batch_mate_order_or_budget(kind, batch_tokens, request):
    folder = request.getfixturevalue(kind)
    prompts = [ask(text) for text in TEXTS]
    alone = np.concatenate([got(local(folder), [prompt], YES_NO) for prompt in prompts])
    model = local(folder, batch_tokens=batch_tokens)
    np.testing.assert_allclose(got(model, prompts, YES_NO), alone, atol=1e-5)
    np.testing.assert_allclose(got(model, prompts[::-1], YES_NO)[::-1], alone, atol=1e-5)


def test_labels_may_differ_between_prompts(llama):
    labels = [YES_NO, ("x", "y", "z"), ("No", "Yes")]
    scored = local(llama).choices([ask("the cat")] * 3, labels)
    assert [len(one.logprobs) for one in scored] == [2, 3, 2]
    np.testing.assert_allclose(scored[0].logprobs, scored[2].logprobs[::-1], atol=1e-5)


def test_nothing_is_missing_and_mass_is_what_the_labels_hold(llama):
    [scored] = local(llama).choices([ask("the cat")], [YES_NO])
    assert not scored.missing.any()
    assert scored.mass == pytest.approx(np.exp(scored.logprobs).sum())


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_logits_are_computed_at_needed_positions_only(kind, request):
    model = local(request.getfixturevalue(kind))
    model.choices([ask(text) for text in TEXTS], [YES_NO] * len(TEXTS))  # first use may try things out
    rows = []
    head = model._loaded.network.get_output_embeddings()
    handle = head.register_forward_hook(lambda module, args, out: rows.append(args[0].shape[:-1].numel()))
    try:
        model.choices([ask(text) for text in TEXTS], [YES_NO] * len(TEXTS))
        assert sum(rows) == len(TEXTS)
        rows.clear()
        model.choices([ask("the cat")], [("C", "D", "E")])  # a space comes first, in the decoder
        assert sum(rows) == (2 if kind == "llama" else 1)
    finally:
        handle.remove()
    assert not head._forward_pre_hooks


def test_usage_counts_real_tokens(llama):
    tokenizer = byte_tokenizer()
    scored = local(llama).choices([ask(text) for text in TEXTS], [YES_NO] * len(TEXTS))
    assert [one.usage.prompt_tokens for one in scored] == [
        len(tokenizer(f"{text}\n\nAnswer:")["input_ids"]) for text in TEXTS
    ]
    assert {one.usage.calls for one in scored} == {1} and {one.usage.output_tokens for one in scored} == {0}


# Labels in context


def test_labels_that_begin_with_the_same_token_count_it(llama):
    """``Answer:`` goes on with a space, a token of its own before C and D."""
    tokenizer = byte_tokenizer()
    before = tokenizer("the cat\n\nAnswer: ")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(before)[-1] == "Ġ"
    logprobs = full_logprobs(llama, before)
    wanted = logprobs[-2, before[-1]] + logprobs[-1, tokenizer.convert_tokens_to_ids(["C", "D"])]
    np.testing.assert_allclose(got(local(llama), [ask("the cat")], ("C", "D")), [wanted], atol=1e-5)


def test_labels_that_merge_with_the_end_of_the_prompt_are_read_before_it(llama):
    """After ``[`` the labels A and B are the tokens ``[A`` and ``[B``."""
    tokenizer = byte_tokenizer()
    before = tokenizer("the cat\n\nAnswer: ")["input_ids"]
    logprobs = full_logprobs(llama, before)[-1]
    wanted = logprobs[tokenizer.convert_tokens_to_ids(["[A", "[B"])]
    prompts = [ask("the cat", answer="["), ask("a longer text than that", answer="[")]
    [first, second] = local(llama).choices(prompts, [("A", "B")] * 2)
    np.testing.assert_allclose(first.logprobs, wanted, atol=1e-5)
    assert first.usage.prompt_tokens == len(before)
    assert second.logprobs.tolist() != first.logprobs.tolist()


def test_a_prompt_that_merges_away_entirely_is_refused(llama):
    """Nothing would stand before the label, and the position of another text would be read."""
    for answer in ("[", ""):
        text = "" if answer else "["
        with pytest.raises(ModelError, match="nothing"):
            local(llama).choices([Prompt((Message("user", text),), answer=answer, raw=True)], [("A", "B")])


def test_equal_labels_are_refused(llama):
    with pytest.raises(LabelError, match=r"'Yes' and 'Yes' are the same .*\['ĠYes'\]; use other labels"):
        local(llama).choices([ask("the cat")], [("Yes", "Perfect", "Yes")])


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (("Perfect", "No"), r"'Perfect' .*\['Ġ', 'P', 'e', 'r', 'f', 'e', 'c', 't'\]"),
        (("No", "Maybe"), r"'Maybe' .*\['Ġ', 'M', 'a', 'y', 'b', 'e'\]"),
        (("1", "10"), r"'10?' .*\['Ġ', '1'(, '0')?\]"),
    ],
)
def test_labels_of_several_tokens_are_refused_with_their_pieces_and_a_remedy(llama, labels, told):
    with pytest.raises(SeveralTokens, match=rf"the label {told}.*use other labels.*or a model") as caught:
        local(llama).choices([ask("the cat")], [labels])
    assert "\n" not in str(caught.value)


def test_labels_are_resolved_for_each_way_a_prompt_goes_on(llama):
    """Two prompts with the same last characters, of which one goes on with a space."""
    end = "y" * 100 + "\n\nAnswer:"
    model = local(llama)
    glued, spaced = ask(end, raw=True), ask("y" * 100)
    both = [model.choices([prompt], [YES_NO])[0].logprobs for prompt in (glued, spaced)]
    fresh = local(llama).choices([spaced], [YES_NO])[0].logprobs
    assert both[0].tolist() != both[1].tolist()
    np.testing.assert_array_equal(both[1], fresh)


def test_many_prompts_that_end_alike_resolve_their_labels_once(llama, monkeypatch):
    model = local(llama)
    resolved = []
    original = type(model._text)._resolve
    monkeypatch.setattr(
        type(model._text), "_resolve", lambda self, *args: resolved.append(args) or original(self, *args)
    )
    end = "z" * 80
    model.choices([ask(f"{i} {end}") for i in range(30)], [YES_NO] * 30)
    assert len(resolved) == 1


# Architectures


@pytest.mark.parametrize("name", ["gemma2", "gpt2", "mistral", "opt"])
def test_soft_caps_absolute_positions_and_sliding_windows_come_out_right(name, tmp_path):
    tokenizer = byte_tokenizer()
    common = settings(tokenizer)
    config = {
        "gemma2": lambda: transformers.Gemma2Config(
            **common, head_dim=8, sliding_window=16, final_logit_softcapping=2.0, attn_logit_softcapping=5.0
        ),
        "gpt2": lambda: transformers.GPT2Config(
            vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=512, initializer_range=0.4
        ),
        "mistral": lambda: transformers.MistralConfig(**common, sliding_window=16),
        "opt": lambda: transformers.OPTConfig(
            vocab_size=len(tokenizer), hidden_size=32, word_embed_proj_dim=32, ffn_dim=48, num_hidden_layers=2,
            num_attention_heads=4, init_std=0.4, max_position_embeddings=512,
        ),
    }[name]()  # fmt: skip
    folder = saved(tmp_path, tokenizer, config)
    texts = [f"{text}\n\nAnswer:" for text in TEXTS]
    prompts = [ask(text) for text in TEXTS]
    scores = got(local(folder, batch_tokens=5000), prompts, YES_NO)
    np.testing.assert_allclose(scores, expected(folder, texts, (" Yes", " No")), atol=1e-5)
    if name == "gemma2":  # a cap of 2 leaves no token less than exp(-4) of another's probability
        assert (np.abs(scores[:, 0] - scores[:, 1]) <= 4).all() and scores.min() >= -4 - np.log(len(tokenizer))


@pytest.mark.parametrize(
    ("path", "labels"),
    [
        ("data/model_stories260k", ("B", "H")),
        ("fixtures/tiny_qwen3", ("yes", "no")),
        ("fixtures/icr_llama/tiny-llama-3-random", ("A", "B")),
    ],
)
def test_real_checkpoints_agree_with_a_full_softmax(path, labels):
    folder = SHARED / path
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    texts = ["Once upon a time there was a cat. " * times + "Is it red?" for times in (1, 7, 0, 3)]
    whole = [f"{text}\n\nAnswer:" for text in texts]
    wanted = expected(folder, whole, [f" {label}" for label in labels], special=True)
    np.testing.assert_allclose(got(local(folder), [ask(text) for text in texts], labels), wanted, atol=1e-5)


def test_real_encoder_decoder_agrees_with_a_full_softmax():
    folder = SHARED / "fixtures/monot5/model"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    pytest.importorskip("sentencepiece")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["Caffeine and sleep. " * times + "Relevant:" for times in (1, 7, 0, 3)]
    prompts = [ask(text, raw=True) for text in texts]
    labels = ("a", "f")
    ids = [tokenizer(label, add_special_tokens=False)["input_ids"] for label in labels]
    assert [len(row) for row in ids] == [1, 1]
    wanted = [full_logprobs(folder, tokenizer(text)["input_ids"], [0])[-1, [row[0] for row in ids]] for text in texts]
    np.testing.assert_allclose(got(local(folder), prompts, labels), wanted, atol=1e-5)


# Chat templates


def reads(model, prompt):
    """The text that the network reads."""
    [ids] = model._text.prompts([model._text.render(prompt)])
    return model._loaded.tokenizer.decode(ids)


def test_the_chat_template_is_used_where_there_is_one(chat):
    wanted = f"{START}system\nBe brief.<|im_end|>\n{START}user\nthe cat<|im_end|>\n{START}assistant\n["
    assert reads(local(chat), ask("the cat", system="Be brief.", answer="[")) == wanted
    ids = byte_tokenizer()(wanted, add_special_tokens=False)["input_ids"]
    letters = byte_tokenizer().convert_tokens_to_ids(["x", "y"])
    [scored] = local(chat).choices([ask("the cat", system="Be brief.", answer="[")], [("x", "y")])
    np.testing.assert_allclose(scored.logprobs, full_logprobs(chat, ids)[-1, letters], atol=1e-5)


def test_a_raw_prompt_skips_the_chat_template(chat):
    assert reads(local(chat), ask("Document: the cat Query:", raw=True, answer=" x")) == "Document: the cat Query: x"


def test_the_chat_template_can_be_left_out(chat):
    assert reads(local(chat, chat=False), ask("the cat", system="Be brief.")) == "Be brief.\n\nthe cat\n\nAnswer:"


def test_solved_examples_are_answered_like_the_question_without_a_chat_template(chat):
    turns = [Message(*turn) for turn in (("user", "one"), ("assistant", "yes"), ("user", "two"))]
    read = reads(local(chat, chat=False), Prompt(tuple(turns)))
    assert read == "one\n\nAnswer: yes\n\ntwo\n\nAnswer:"


def test_a_chat_template_that_is_not_there_is_told(llama):
    with pytest.raises(ModelError, match=r"has no chat template.*chat=False"):
        local(llama, chat=True).choices([ask("the cat")], [YES_NO])


def test_a_system_message_that_the_template_refuses_goes_into_the_user_turn(tmp_path):
    folder = decoder(tmp_path, byte_tokenizer(chat=REFUSES_SYSTEM))
    wanted = f"{START}user\nBe brief.\n\nthe cat<|im_end|>\n{START}assistant\n"
    assert reads(local(folder), ask("the cat", system="Be brief.")) == wanted
    prompts = [ask("the cat", system="Be brief."), ask("Be brief.\n\nthe cat")]
    scores = got(local(folder), prompts, YES_NO)
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)


def test_a_template_that_refuses_everything_is_not_hushed_up(tmp_path):
    from jinja2 import TemplateError

    folder = decoder(tmp_path, byte_tokenizer(chat="{{ raise_exception('never') }}"))
    with pytest.raises(TemplateError, match="never"):
        local(folder).choices([ask("the cat", system="Be brief.")], [YES_NO])


def test_the_template_is_told_whether_to_think(tmp_path):
    thinking = CHATML + "{% if enable_thinking %}<think>{% endif %}"
    folder = decoder(tmp_path, byte_tokenizer(chat=thinking))
    assert not reads(local(folder), ask("the cat")).endswith("<think>")
    assert reads(local(folder, thinking=True), ask("the cat")).endswith("<think>")


def test_a_templated_prompt_gets_no_second_start_token(tmp_path):
    tokenizer = byte_tokenizer(chat=BOS + CHATML, post=f"{BOS} $A {END}", bos_token=BOS)
    model = local(decoder(tmp_path, tokenizer))
    assert reads(model, ask("the cat")).count(BOS) == 1


def test_an_untemplated_prompt_gets_the_start_token_and_no_end(tmp_path):
    tokenizer = byte_tokenizer(post=f"{BOS} $A {END}", bos_token=BOS)
    folder = decoder(tmp_path, tokenizer)
    assert reads(local(folder), ask("the cat")) == f"{BOS}the cat\n\nAnswer:"
    ids = [3, *tokenizer("the cat\n\nAnswer:", add_special_tokens=False)["input_ids"]]
    labels = tokenizer.convert_tokens_to_ids(["ĠYes", "ĠNo"])
    np.testing.assert_allclose(
        got(local(folder), [ask("the cat")], YES_NO), full_logprobs(folder, ids)[-1:, labels], atol=1e-5
    )


# Edges


def test_nothing_asked_is_nothing_answered(llama):
    assert local(llama).choices([], []) == []


def test_an_empty_prompt_is_refused(llama):
    with pytest.raises(ModelError, match="empty prompt"):
        local(llama).choices([ask("", raw=True)], [YES_NO])


def test_a_prompt_beyond_the_context_is_refused_with_a_remedy(llama):
    with pytest.raises(PromptTooLong, match=r"a prompt of \d+ tokens .*exceeds the 512 tokens.*max_doc_tokens"):
        local(llama).choices([ask("x" * 600)], [YES_NO])


def test_a_prompt_that_fills_the_context_is_read_and_one_more_token_is_not(tmp_path):
    """Absolute positions end where the context does; the space before C and D needs a place too."""
    tokenizer = byte_tokenizer()
    config = transformers.GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=4, n_positions=32)
    model = local(saved(tmp_path, tokenizer, config))
    full = "x" * (32 - len(tokenizer("\n\nAnswer:")["input_ids"]))
    assert np.isfinite(model.choices([ask(full)], [YES_NO])[0].logprobs).all()
    with pytest.raises(PromptTooLong):
        model.choices([ask(full)], [("C", "D")])


def test_the_network_is_left_as_it_was(llama):
    model = local(llama)
    before = {name: value.clone() for name, value in model._loaded.network.state_dict().items()}
    model.choices([ask("the cat")], [YES_NO])
    after = model._loaded.network.state_dict()
    assert not model._loaded.network.training and all(torch.equal(before[name], after[name]) for name in before)
