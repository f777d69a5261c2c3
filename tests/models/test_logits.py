"""Raw logits of labels, and the likeliest next tokens, against a forward pass of transformers alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers
from shared_data import SHARED
from tiny import CHATML, ask, byte_tokenizer, decoder, encoder_decoder, full_logprobs, local, saved, settings

from pyterrier_llmrank.core import Doc, Question
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.prompts import YesNo
from pyterrier_llmrank.scorers import Prompted

TEXTS = ["the cat sat on the mat. " * times + "end" for times in (0, 9, 1, 5, 0, 3)] + ["x", "é 中 🙂"]
MONO = "Query: {query} Document: {text} Relevant:"


def logits(folder, ids, start=None):
    """The oracle: logits at every position of one sequence, (tokens, vocabulary)."""
    auto = transformers.AutoModelForCausalLM if start is None else transformers.AutoModelForSeq2SeqLM
    network = auto.from_pretrained(folder, dtype=torch.float32).eval()
    sides = {} if start is None else {"decoder_input_ids": torch.tensor([start])}
    with torch.no_grad():
        return network(input_ids=torch.tensor([ids]), **sides).logits[0].double().numpy()


def got(model, prompts, labels):
    """Raw logits as a scorer works them out."""
    return np.array([one.logprobs + one.log_total for one in model.choices(prompts, [labels] * len(prompts))])


# Labels


def test_log_probabilities_and_their_total_are_logits(llama):
    tokenizer = byte_tokenizer()
    yes, no = tokenizer.convert_tokens_to_ids(["ĠYes", "ĠNo"])
    rows = [logits(llama, tokenizer(f"{text}\n\nAnswer:")["input_ids"])[-1] for text in TEXTS]
    scored = local(llama).choices([ask(text) for text in TEXTS], [("Yes", "No")] * len(TEXTS))
    np.testing.assert_allclose([one.log_total for one in scored], [np.logaddexp.reduce(row) for row in rows], atol=1e-5)
    prompts = [ask(text) for text in TEXTS]
    np.testing.assert_allclose(got(local(llama), prompts, ("Yes", "No")), [row[[yes, no]] for row in rows], atol=1e-5)


def test_a_single_label_has_a_logit(t5):
    """RankT5 and Instruction Distillation read one logit, and no other to compare it with."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(t5)
    yes = tokenizer.convert_tokens_to_ids("Yes")
    wanted = [logits(t5, tokenizer(text)["input_ids"], [1])[-1, [yes]] for text in TEXTS]
    np.testing.assert_allclose(got(local(t5), [ask(text, raw=True) for text in TEXTS], ("Yes",)), wanted, atol=1e-5)


def test_a_shared_prefix_changes_no_logit(llama):
    head = "the cat sat on the mat and looked at the bird. " * 3
    prompts = [ask(head + text) for text in "abcdefgh"]
    model = local(llama)
    together = model.choices(prompts, [("Yes", "No")] * len(prompts))
    assert sum(one.usage.cached_tokens for one in together) > 0
    yes, no = byte_tokenizer().convert_tokens_to_ids(["ĠYes", "ĠNo"])
    for text, one in zip("abcdefgh", together, strict=True):
        row = logits(llama, byte_tokenizer()(f"{head}{text}\n\nAnswer:")["input_ids"])[-1]
        np.testing.assert_allclose(one.logprobs + one.log_total, row[[yes, no]], atol=1e-5)
        assert one.log_total == pytest.approx(np.logaddexp.reduce(row), abs=1e-5)


def test_labels_behind_tokens_in_common_have_the_logits_of_the_position_where_they_differ(llama):
    """``Answer:`` goes on with a space, a token of its own before C and D; its log-probability is the labels' too."""
    tokenizer = byte_tokenizer()
    before = tokenizer("the cat\n\nAnswer: ")["input_ids"]
    letters = tokenizer.convert_tokens_to_ids(["C", "D"])
    rows = logits(llama, before)
    [scored] = local(llama).choices([ask("the cat")], [("C", "D")])
    np.testing.assert_allclose(scored.logprobs + scored.log_total, rows[-1, letters], atol=1e-5)
    space = rows[-2, before[-1]] - np.logaddexp.reduce(rows[-2])
    assert scored.log_total == pytest.approx(np.logaddexp.reduce(rows[-1]) - space, abs=1e-5)


def test_logits_are_those_after_the_networks_soft_cap(tmp_path):
    tokenizer = byte_tokenizer()
    config = transformers.Gemma2Config(**settings(tokenizer), head_dim=8, final_logit_softcapping=2.0)
    folder = saved(tmp_path, tokenizer, config)
    yes, no = tokenizer.convert_tokens_to_ids(["ĠYes", "ĠNo"])
    wanted = [logits(folder, tokenizer(f"{text}\n\nAnswer:")["input_ids"])[-1, [yes, no]] for text in TEXTS]
    scores = got(local(folder), [ask(text) for text in TEXTS], ("Yes", "No"))
    np.testing.assert_allclose(scores, wanted, atol=1e-5)
    assert np.abs(scores).max() <= 2


def test_a_special_token_is_a_label_of_an_encoder_decoder(tmp_path):
    """As ``<extra_id_10>`` is RankT5's; in a text it would be broken up, as any control token."""
    tokenizer = byte_tokenizer(post="$A <|end|>")
    tokenizer.add_special_tokens({"extra_special_tokens": ["<extra_id_10>", "<extra_id_11>"]})
    folder = encoder_decoder(tmp_path, tokenizer)
    special = tokenizer.convert_tokens_to_ids("<extra_id_10>")
    encoder = tokenizer("Query: cats Document: the cat")["input_ids"]
    wanted = logits(folder, encoder, [1])[-1, special]
    [[score]] = got(local(folder), [ask("Query: cats Document: the cat", raw=True)], ("<extra_id_10>",))
    assert score == pytest.approx(wanted, abs=1e-5)
    assert "<extra_id_10>" not in local(folder).plain("say <extra_id_10>")


# Official monoT5


def mono():
    folder = SHARED / "fixtures/monot5"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    pytest.importorskip("sentencepiece")
    return folder / "model", json.loads((folder / "expected.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("batch_tokens", [1, 150, 100_000])
def test_it_equals_official_monot5_one_pair_at_a_time(batch_tokens):
    """The fixture's ``false`` is several pieces, of which the official code reads the first, ``▁f``."""
    folder, official = mono()
    model = local(folder, batch_tokens=batch_tokens)
    tokenizer = model._loaded.tokenizer
    pieces = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("true", "f")]
    assert pieces == [[official["REL"]], [official["NREL"]]]
    assert official["NREL"] == tokenizer("false", add_special_tokens=False)["input_ids"][0]
    scorer = Prompted(YesNo(template=MONO, yes="true", no="f"), model)
    questions = [Question(row["query"], (Doc(row["docno"], row["text"]),), row["qid"]) for row in official["rows"]]
    log_odds = np.array([answer.scores[0] for answer in scorer(questions)])
    wanted = [official["mono"]["batch_size=1"][row["docno"]] for row in official["rows"]]
    np.testing.assert_allclose(-np.logaddexp(0, -log_odds), wanted, atol=1e-5)


def test_an_extra_id_of_t5_is_one_label():
    folder, official = mono()
    model = local(folder)
    tokenizer = model._loaded.tokenizer
    text = MONO.format(query="cats", text=official["rows"][0]["text"])
    wanted = logits(folder, tokenizer(text)["input_ids"], [0])[-1, tokenizer.convert_tokens_to_ids("<extra_id_3>")]
    [[score]] = got(model, [ask(text, raw=True)], ("<extra_id_3>",))
    assert score == pytest.approx(wanted, abs=1e-5)


# The likeliest next tokens


@pytest.mark.parametrize("batch_tokens", [1, 100, 100_000])
def test_the_likeliest_next_tokens_are_those_of_a_full_softmax(llama, batch_tokens):
    tokenizer = byte_tokenizer()
    found = local(llama, batch_tokens=batch_tokens).next_tokens([ask(text, raw=True) for text in TEXTS], 5)
    for text, row in zip(TEXTS, found, strict=True):
        logprobs = full_logprobs(llama, tokenizer(text)["input_ids"])[-1]
        best = np.argsort(-logprobs)[:5]
        assert [token for token, _ in row] == [tokenizer.decode([token]) for token in best]
        np.testing.assert_allclose([logprob for _, logprob in row], logprobs[best], atol=1e-5)


def test_all_tokens_can_be_asked_for_and_add_up_to_one(llama):
    for k in (len(byte_tokenizer()), 10_000):
        [row] = local(llama).next_tokens([ask("the cat")], k)
        assert len(row) == len(byte_tokenizer())
        assert np.exp([logprob for _, logprob in row]).sum() == pytest.approx(1, abs=1e-5)


def test_rows_of_the_network_that_are_no_tokens_are_left_out(tmp_path):
    tokenizer = byte_tokenizer()
    folder = decoder(tmp_path, tokenizer, vocab_size=len(tokenizer) + 64)
    [row] = local(folder).next_tokens([ask("the cat")], 10_000)
    assert len(row) == len(tokenizer)
    assert np.exp([logprob for _, logprob in row]).sum() < 1


def test_the_next_tokens_of_an_encoder_decoder_are_its_decoders(t5):
    tokenizer = transformers.AutoTokenizer.from_pretrained(t5)
    letter = tokenizer.convert_tokens_to_ids("[")
    for answer, start in (("", [1]), ("[", [1, letter])):
        [row] = local(t5).next_tokens([ask("the cat", answer=answer)], 3)
        logprobs = full_logprobs(t5, tokenizer("the cat")["input_ids"], start)[-1]
        best = np.argsort(-logprobs)[:3]
        assert row == [(tokenizer.decode([token]), pytest.approx(logprobs[token], abs=1e-5)) for token in best]


def test_the_next_tokens_after_a_chat_prompt_begin_its_answer(chat):
    text = transformers.AutoTokenizer.from_pretrained(chat).apply_chat_template(
        [{"role": "user", "content": "the cat"}], tokenize=False, add_generation_prompt=True
    )
    assert CHATML and local(chat).next_tokens([ask("the cat")], 2) == local(chat).next_tokens([ask(text, raw=True)], 2)


def test_a_token_is_told_with_the_space_that_it_begins_with():
    """Decoded alone, a word of this tokenizer has none, and could not be put behind a prompt."""
    folder = SHARED / "data/model_stories260k"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    model = local(folder)
    text = "Once upon a time there was a little"
    [row] = model.next_tokens([ask(text, raw=True)], 5)
    before, after = model._loaded.tokenizer([text, text + row[0][0]])["input_ids"]
    assert row[0][0].startswith(" ") and after[:-1] == before
    assert not model._loaded.tokenizer.decode(after[-1:]).startswith(" ")
    assert [logprob for _, logprob in row] == sorted((logprob for _, logprob in row), reverse=True)


@pytest.mark.parametrize("k", [0, -1])
def test_no_next_tokens_are_refused(llama, k):
    with pytest.raises(ConfigurationError, match=f"k must be at least 1, got {k}"):
        local(llama).next_tokens([ask("x")], k)


def test_nothing_asked_is_nothing_answered(llama):
    assert local(llama).next_tokens([], 3) == []
