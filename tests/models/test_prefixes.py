"""Shared prefixes: found on token ids, computed once, and never changing a score."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from tiny import byte_tokenizer, saved, settings

from pyterrier_llmrank.core import Message, Prompt
from pyterrier_llmrank.models import HFModel
from pyterrier_llmrank.models.hf import sharing
from pyterrier_llmrank.models.hf.prefixes import shared_prefixes

torch = pytest.importorskip("torch")


def best_saving(sequences):
    """The most tokens that any grouping with one prefix each can save, by trying all of them."""

    def partitions(items):
        if not items:
            yield []
            return
        first, rest = items[0], items[1:]
        for size in range(len(rest) + 1):
            for others in itertools.combinations(rest, size):
                left = [item for item in rest if item not in others]
                yield from ([[first, *others], *parts] for parts in partitions(left))

    def common(group):
        columns = zip(*(sequences[item][:-1] for item in group), strict=False)
        return len(list(itertools.takewhile(lambda column: len(set(column)) == 1, columns)))

    return max(sum(common(g) * (len(g) - 1) for g in parts) for parts in partitions(list(range(len(sequences)))))


def test_groups_save_nearly_as_much_as_any_grouping_can():
    saved = best = 0
    for seed in range(60):
        groups, sequences = random_groups(seed)
        saved += sum(group.saved for group in groups)
        best += best_saving(sequences)
    assert 0.98 * best <= saved <= best


def test_documents_of_queries_are_grouped_by_query():
    sequences = [[9, 9, query, query, doc] for query in range(3) for doc in range(4)]
    groups = shared_prefixes(sequences, [4] * 12)
    assert sorted(sorted(group.items) for group in groups) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert {group.length for group in groups} == {4}


def random_groups(seed):
    rng = random.Random(seed)
    sequences = [[rng.randrange(2) for _ in range(rng.randrange(1, 9))] for _ in range(rng.randrange(1, 8))]
    groups = shared_prefixes(sequences, [len(row) - 1 for row in sequences])
    assert sorted(item for group in groups for item in group.items) == list(range(len(sequences)))
    for group in groups:
        assert len({tuple(sequences[item][: group.length]) for item in group.items}) == 1
        assert all(group.length < len(sequences[item]) for item in group.items)
    return groups, sequences


def test_nothing_to_share_is_no_group():
    assert shared_prefixes([], []) == []
    assert [group.length for group in shared_prefixes([[1, 2], [3, 4]], [1, 1])] in ([0], [0, 0])


def test_deeply_nested_prefixes_end():
    sequences = [list(range(length)) for length in range(1, 600)]
    groups = shared_prefixes(sequences, [len(row) - 1 for row in sequences])
    assert sum(len(group.items) for group in groups) == 599


WORDS = ["<pad>", "</s>", "<unk>", "yes", "no", *(f"w{i}" for i in range(95))]


@pytest.fixture(scope="module", params=["llama", "qwen3", "gpt2", "gemma2", "mistral window"])
def checkpoint(request, tmp_path_factory):
    """A tiny random decoder with a word-level tokenizer."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(1)
    shape = {
        "vocab_size": len(WORDS),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": None,
    }
    config = {
        "llama": lambda: transformers.LlamaConfig(**shape),
        "qwen3": lambda: transformers.Qwen3Config(**shape),
        "gpt2": lambda: transformers.GPT2Config(
            vocab_size=len(WORDS), n_embd=32, n_layer=2, n_head=4, n_positions=512, initializer_range=0.3
        ),
        "gemma2": lambda: transformers.Gemma2Config(**shape, sliding_window=64, final_logit_softcapping=3.0),
        "mistral window": lambda: transformers.MistralConfig(**shape, sliding_window=64),
    }[request.param]()
    folder = tmp_path_factory.mktemp(request.param.replace(" ", "_"))
    network = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    network.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return str(folder)


def prompts(seed=0, queries=3, docs=5):
    """Prompts of which those of one query share the first 30 tokens, and all of them the first 12."""
    rng = random.Random(seed)

    def text(n):
        return " ".join(rng.choice(WORDS[5:]) for _ in range(n))

    start = text(12)
    heads = [f"{start} {text(18)}" for _ in range(queries)]
    texts = [f"{head} {text(rng.randrange(1, 60))}" for head in heads for _ in range(docs)]
    return [Prompt((Message("user", one),), raw=True) for one in texts]


@pytest.mark.parametrize("batch_tokens", [64, 2048])
def test_a_shared_prefix_changes_no_score(checkpoint, batch_tokens):
    asked, labels = prompts(), [[" yes", " no"]] * 15
    together = HFModel(checkpoint, device="cpu", batch_tokens=batch_tokens).choices(asked, labels)
    for one, prompt in zip(together, asked, strict=True):
        [alone] = HFModel(checkpoint, device="cpu").choices([prompt], [[" yes", " no"]])
        np.testing.assert_allclose(one.logprobs, alone.logprobs, atol=1e-5)
    texts = [f" w{i} w{i + 1} w2" for i in range(15)]
    read = HFModel(checkpoint, device="cpu", batch_tokens=batch_tokens).continuation(asked, texts)
    for one, prompt, text in zip(read, asked, texts, strict=True):
        [alone] = HFModel(checkpoint, device="cpu").continuation([prompt], [text])
        np.testing.assert_allclose(one.logprobs, alone.logprobs, atol=1e-5)


def test_prefixes_within_a_sliding_window_are_exact_too(tmp_path):
    """Prompts that outgrow the window, with prefixes that fit in it and prefixes that do not."""
    transformers = pytest.importorskip("transformers")
    tokenizer = byte_tokenizer()
    config = transformers.MistralConfig(**settings(tokenizer, sliding_window=24))
    model = HFModel(saved(tmp_path, tokenizer, config), device="cpu")
    rng = random.Random(2)
    for length in (10, 20, 40):
        head = "".join(rng.choice("abcdefgh ") for _ in range(length))
        asked = [Prompt((Message("user", head + c * 3 + d * 30),), raw=True) for c in "xyz" for d in "pq"]
        labels = [["A", "B"]] * len(asked)
        for one, prompt in zip(model.choices(asked, labels), asked, strict=True):
            [alone] = model.choices([prompt], [["A", "B"]])
            np.testing.assert_allclose(one.logprobs, alone.logprobs, atol=1e-5)


def test_tokens_that_were_not_computed_again_are_counted(checkpoint):
    model = HFModel(checkpoint, device="cpu")
    usage = [one.usage for one in model.choices(prompts(), [[" yes", " no"]] * 15)]
    if model._loaded.shares_prefixes:
        assert sum(one.cached_tokens for one in usage) == 3 * 4 * 30
        assert sorted(one.cached_tokens for one in usage) == [0] * 3 + [30] * 12
    else:
        assert not any(one.cached_tokens for one in usage)


def test_plain_architectures_do_share(checkpoint):
    model = HFModel(checkpoint, device="cpu")
    model.choices(prompts(), [[" yes", " no"]] * 15)
    kind = model._loaded.network.config.model_type
    assert model._loaded.shares_prefixes or kind in {"gemma2", "mistral"}


def test_a_network_that_gives_something_else_shares_nothing(checkpoint, monkeypatch, caplog):
    model = HFModel(checkpoint, device="cpu")
    model._loaded.shares_prefixes = None
    right = sharing._read_group

    def wrong(*arguments):
        return [values + 1.0 for values in right(*arguments)]

    monkeypatch.setattr(sharing, "_read_group", wrong)
    scored = model.choices(prompts(), [[" yes", " no"]] * 15)
    assert model._loaded.shares_prefixes is False and "shares no prefixes: scores would be off by 1" in caplog.text
    [alone] = model.choices(prompts()[:1], [[" yes", " no"]])
    np.testing.assert_allclose(scored[0].logprobs, alone.logprobs, atol=1e-5)
    model._loaded.shares_prefixes = None


def test_a_network_that_refuses_a_cache_shares_nothing(checkpoint, monkeypatch, caplog):
    model = HFModel(checkpoint, device="cpu")
    model._loaded.shares_prefixes = None

    def refuse(*_):
        raise NotImplementedError("no cache here")

    monkeypatch.setattr(sharing, "_run_prefix", refuse)
    assert len(model.choices(prompts(), [[" yes", " no"]] * 15)) == 15
    assert model._loaded.shares_prefixes is False and "no cache here" in caplog.text
    model._loaded.shares_prefixes = None
