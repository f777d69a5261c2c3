"""``CandidateEncoder`` against transformers, one text at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from tiny import BOS, END, STOP, byte_tokenizer, saved, settings
from vector_models import embedder

from pyterrier_llmrank.core import Doc, Usage
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.vectors import CandidateEncoder, DocVectors, with_width

TEXTS = ["the cat sat. " * times + "end" for times in (0, 9, 1, 4, 0)] + ["x", "é 中 🙂", ""]
DOCS = [Doc(f"d{place}", text) for place, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """Marks the beginning and the end of a text, as BERT does."""
    tokenizer = byte_tokenizer(post=f"{BOS} $A {STOP}")
    config = transformers.BertConfig(**settings(tokenizer))
    return saved(tmp_path_factory.mktemp("bert"), tokenizer, config, transformers.AutoModel)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return embedder(tmp_path_factory.mktemp("llama"))


def local(folder, **options):
    return CandidateEncoder(folder, device="cpu", dtype="float32", **options)


def oracle(folder, text, pooling):
    """The vector of one text, as it stands, of length 1."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        states = network(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state[0].double()
    one = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling]
    return (one / one.norm()).numpy()


def stacked(found):
    return np.stack([one.vectors[0] for one in found])


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("batch_tokens", [1, 100_000])
def test_an_encoder_is_transformers_one_text_at_a_time(bert, pooling, batch_tokens):
    found = local(bert, pooling=pooling, batch_tokens=batch_tokens)(DOCS)
    np.testing.assert_allclose(stacked(found), [oracle(bert, text, pooling) for text in TEXTS], atol=2e-6)
    assert {(one.vectors.shape, one.vectors.dtype) for one in found} == {((1, 32), np.dtype("float32"))}


def test_a_decoder_is_pooled_at_the_suffix_that_closes_a_text(llama):
    """As E2Rank is; an empty text is the suffix alone."""
    found = local(llama, pooling="last", suffix=END)(DOCS)
    np.testing.assert_allclose(stacked(found), [oracle(llama, text + END, "last") for text in TEXTS], atol=2e-6)


def test_a_text_is_cut_before_its_suffix(llama):
    [one] = local(llama, pooling="last", suffix=END, max_length=10)([Doc("a", "x" * 50)])
    np.testing.assert_allclose(one.vectors[0], oracle(llama, "x" * 9 + END, "last"), atol=2e-6)
    assert one.usage == Usage(calls=1, prompt_tokens=10, truncated_tokens=41)


def test_words_are_cut_and_white_space_folded_where_told(llama):
    [one] = local(llama, max_words=3)([Doc("a", " the  cat\n\nsat on")])
    np.testing.assert_allclose(one.vectors[0], oracle(llama, "the cat sat", "mean"), atol=2e-6)


def test_prefixes_are_read_and_control_tokens_in_texts_are_not(llama):
    [one] = local(llama, prefix="passage: ")([Doc("a", f"b {END} c")])
    np.testing.assert_allclose(one.vectors[0], oracle(llama, "passage: b < |end|> c", "mean"), atol=2e-6)


def test_an_empty_text_without_any_token_has_a_vector(llama):
    [one] = local(llama)([Doc("a", "")])
    assert one.usage.prompt_tokens == 1 and np.linalg.norm(one.vectors) == pytest.approx(1, abs=1e-6)


def test_equal_texts_are_encoded_and_charged_once(bert):
    first, second = local(bert)([Doc("a", "cat"), Doc("b", "cat")])
    assert first.usage.calls == 1 and second.usage == Usage()
    np.testing.assert_array_equal(first.vectors, second.vectors)


def test_no_document_needs_no_network(bert):
    encoder = local(bert)
    assert encoder([]) == [] and "_loaded" not in vars(encoder)


def test_the_tokenizer_alone_tells_the_cost(bert):
    encoder = local(bert)
    assert encoder.planned(DOCS[:3]) == [one.usage for one in local(bert)(DOCS[:3])]
    assert "_loaded" not in vars(encoder)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"pooling": "max"}, "pooling must be 'mean', 'cls' or 'last'"),
        ({"max_words": 0}, "max_words must be at least 1"),
    ],
)
def test_arguments_out_of_range_are_refused(bert, told, message):
    with pytest.raises(ConfigurationError, match=message):
        local(bert, **told)


def test_an_encoder_is_a_value(bert):
    encoder = local(bert, pooling="cls", suffix="x")
    assert eval(repr(encoder)) == encoder != local(bert)


def test_vectors_of_another_width_or_number_are_refused():
    one, two = DocVectors(np.zeros((1, 4), np.float32)), DocVectors(np.zeros((2, 4), np.float32))
    assert with_width([one, one], 4, "PERank").shape == (2, 1, 4)
    with pytest.raises(ConfigurationError, match=r"PERank reads 1 vector of 5 numbers .* got 1 of 4 numbers; give"):
        with_width([one], 5, "PERank", m=1)
    with pytest.raises(ConfigurationError, match=r"the same number of vectors of 4 numbers .* 1 of 4 numbers, 2 of 4"):
        with_width([one, two], 4, "RRK")
