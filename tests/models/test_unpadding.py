"""Encoders without padding: the logits and vectors of one input at a time."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import transformers
from tiny import BOS, END, byte_tokenizer, saved, settings

from pyterrier_llmrank.core import Doc, Question
from pyterrier_llmrank.scorers import BiEncoder, CrossEncoder

BERT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
COMMON = {**BERT, "max_position_embeddings": 160, "initializer_range": 0.4, "num_labels": 1}
CLASSIFIER = transformers.AutoModelForSequenceClassification


def modern(pooling):
    def config(tokens):
        window = {"local_attention": 16, "global_attn_every_n_layers": 3}
        sizes = {**COMMON, "num_hidden_layers": 4}  # the last one looks at all tokens, as in those that are released
        return transformers.ModernBertConfig(**tokens, **sizes, **window, classifier_pooling=pooling)

    return config


PACKED = {
    "bert": lambda tokens: transformers.BertConfig(**tokens, **COMMON),
    "roberta": lambda tokens: transformers.RobertaConfig(**tokens, **COMMON, type_vocab_size=1),
    "xlm-roberta": lambda tokens: transformers.XLMRobertaConfig(**tokens, **COMMON, type_vocab_size=1),
    "electra": lambda tokens: transformers.ElectraConfig(**tokens, **COMMON, embedding_size=32),
    "distilbert": lambda tokens: transformers.DistilBertConfig(
        **tokens,
        dim=32,
        n_layers=2,
        n_heads=4,
        hidden_dim=48,
        max_position_embeddings=160,
        initializer_range=0.4,
        num_labels=1,
    ),
    "modernbert, first token": modern("cls"),
    "modernbert, mean": modern("mean"),
    "llama": lambda tokens: transformers.LlamaConfig(**settings(byte_tokenizer()), num_labels=1),
}
PLAIN = {
    "deberta": lambda tokens: transformers.DebertaV2Config(**tokens, **COMMON, relative_attention=True),
    "mpnet": lambda tokens: transformers.MPNetConfig(**tokens, **COMMON),
}


def text(n, rng):
    return "".join(rng.choice("abcdefgh ") for _ in range(n))


def pairs(n=40):
    """Questions whose inputs differ in length from 5 to 60 tokens or so."""
    rng = random.Random(0)
    return [Question(text(3, rng), tuple(Doc(str(i), text(rng.randrange(1, 55), rng)) for i in range(n // 4)))] * 4


def exact(scorer):
    """Whether a network is exact in packed rows, by what its last layer finishes."""
    return {spot: exact for (_, spot), exact in scorer._loaded.packs.items()}


@pytest.fixture(scope="module", params=[*PACKED, *PLAIN])
def checkpoint(request, tmp_path_factory):
    """(name, folder) of a tiny random cross-encoder."""
    tokenizer = byte_tokenizer(post=f"{BOS} $A {END}")
    tokens = {"vocab_size": len(tokenizer), "pad_token_id": 1, "eos_token_id": 0, "bos_token_id": 3}
    folder = tmp_path_factory.mktemp("encoder")
    return request.param, saved(folder, tokenizer, (PACKED | PLAIN)[request.param](tokens), CLASSIFIER)


def test_logits_are_those_of_one_pair_at_a_time(checkpoint, caplog):
    name, folder = checkpoint
    scorer, asked = CrossEncoder(folder, device="cpu"), pairs()
    scores = np.concatenate([answer.scores for answer in scorer(asked)])
    network = CLASSIFIER.from_pretrained(folder, dtype=torch.float32).eval()
    wanted = []
    for one in asked:
        for doc in one.docs:
            inputs = scorer._loaded.tokenizer(one.query, doc.text, return_tensors="pt")
            if name != "bert":
                inputs.pop("token_type_ids", None)
            with torch.no_grad():
                wanted.append(network(**inputs).logits.item())
    np.testing.assert_allclose(scores, wanted, atol=1e-4)
    assert exact(scorer)[None] == (name in PACKED)
    assert exact(scorer)["label"] == (name in PACKED and name != "modernbert, mean")
    assert ("is run in plain batches" in caplog.text) == (name in PLAIN)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_vectors_are_those_of_one_text_at_a_time(checkpoint, pooling):
    name, folder = checkpoint
    encoder = BiEncoder(folder, device="cpu", pooling=pooling, normalize=False)
    encoder._loaded.packs.clear()
    rng = random.Random(1)
    texts = [text(rng.randrange(1, 55), rng) for _ in range(40)]
    vectors, _ = encoder.encode(texts)
    assert exact(encoder)[None] == (name in PACKED)
    whole = pooling == "mean" or (name, pooling) == ("llama", "cls")  # which is that of a text of one token
    assert exact(encoder).get(pooling, False) == (name in PACKED and not whole)
    for one, vector in zip(texts[:10], vectors, strict=False):
        [[alone], _] = BiEncoder(folder, device="cpu", pooling=pooling, normalize=False).encode([one])
        np.testing.assert_allclose(vector, alone, atol=1e-4 * np.abs(alone).max())


def test_layers_compute_no_padding(tmp_path):
    tokenizer = byte_tokenizer(post=f"{BOS} $A {END}")
    tokens = {"vocab_size": len(tokenizer), "pad_token_id": 1}
    scorer = CrossEncoder(saved(tmp_path, tokenizer, PACKED["bert"](tokens), CLASSIFIER), device="cpu")
    answers = scorer(pairs())  # with the trial
    shapes = []
    layer = scorer._loaded.network.bert.encoder.layer[0]
    handle = layer.register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape[:2]))
    scorer(pairs())
    handle.remove()
    assert {height for height, _ in shapes} == {1}
    assert sum(width for _, width in shapes) == sum(answer.usage.prompt_tokens for answer in answers)


def test_hooks_are_gone_afterwards_also_when_something_breaks(tmp_path):
    tokenizer = byte_tokenizer(post=f"{BOS} $A {END}")
    folder = saved(tmp_path, tokenizer, PACKED["bert"]({"vocab_size": len(tokenizer), "pad_token_id": 1}), CLASSIFIER)
    scorer = CrossEncoder(folder, device="cpu")
    scorer(pairs())
    network = scorer._loaded.network
    network.classifier.forward = lambda states: (_ for _ in ()).throw(IndexError("broken"))
    with pytest.raises(IndexError, match="broken"):
        scorer(pairs())
    vars(network.classifier).pop("forward")
    assert not network.bert._forward_hooks and not network.bert._forward_pre_hooks
    assert network.config._attn_implementation == "sdpa"


def test_no_keys_are_kept_for_tokens_that_never_come(tmp_path, monkeypatch):
    tokenizer = byte_tokenizer(post=f"{BOS} $A {END}")
    scorer = CrossEncoder(saved(tmp_path, tokenizer, PACKED["llama"](None), CLASSIFIER), device="cpu")

    def none(self):
        raise AssertionError("a cache")

    monkeypatch.setattr(transformers.DynamicCache, "get_seq_length", none)
    assert len(scorer(pairs())) == 4
