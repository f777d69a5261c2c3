"""Networks that turn positions otherwise beyond their reach (LongRoPE): each sequence goes by its own length."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from tiny import ask, byte_tokenizer, full_logprobs, local, saved, settings

REACH = 64
COMMON = "ab" * 20
TEXTS = [COMMON + "c", COMMON + "d" * 24, COMMON + "d" * 25, COMMON + "d" * 60, COMMON + "e", "x"]  # 64 tokens, and 65


@pytest.fixture(scope="module", params=["llama", "phi3"])
def far(request, tmp_path_factory):
    """A decoder that was trained to 64 tokens, and then to more."""
    tokenizer = byte_tokenizer()
    turns = {"short_factor": [1.0] * 4, "long_factor": [1.5, 2.0, 3.0, 4.0], "rope_theta": 10000.0, "factor": 8.0}
    turns |= {"rope_type": "longrope", "original_max_position_embeddings": REACH}
    if request.param == "llama":
        config = transformers.LlamaConfig(**settings(tokenizer), rope_parameters=turns)
    else:
        own = {"original_max_position_embeddings": REACH}
        config = transformers.Phi3Config(**settings(tokenizer), rope_parameters=turns, **own)
    return saved(tmp_path_factory.mktemp("far"), tokenizer, config)


@pytest.mark.parametrize("batch_tokens", [30, 2048])
def test_scores_are_those_of_each_prompt_alone(far, batch_tokens):
    """Also where what prompts begin with is read in a row of its own, which is short."""
    model = local(far, batch_tokens=batch_tokens)
    for _ in range(2):  # with the trial, and without
        scored = model.choices([ask(text, raw=True) for text in TEXTS], [("A", "B")] * len(TEXTS))
        for text, one in zip(TEXTS, scored, strict=True):
            ids = byte_tokenizer()(text)["input_ids"]
            wanted = full_logprobs(far, ids)[-1][byte_tokenizer().convert_tokens_to_ids(["A", "B"])]
            np.testing.assert_allclose(one.logprobs, wanted, atol=1e-5)
    assert all(model._loaded.packs.values())


def test_answers_are_those_of_each_prompt_alone(far):
    model = local(far)
    prompts = [ask(text, raw=True) for text in TEXTS]
    together = model.generate(prompts, max_tokens=30)
    assert [one.text for one in together] == [model.generate([prompt], max_tokens=30)[0].text for prompt in prompts]


@pytest.mark.parametrize("text", ["x", COMMON + "d" * 60])
def test_answers_that_stay_on_one_side_are_those_of_transformers(far, text):
    network = transformers.AutoModelForCausalLM.from_pretrained(far, dtype=torch.float32)
    ids = torch.tensor([byte_tokenizer()(text)["input_ids"]])
    wanted = network.generate(input_ids=ids, max_new_tokens=20, do_sample=False)[0, ids.shape[1] :]
    [written] = local(far).generate([ask(text, raw=True)], max_tokens=20)
    assert written.text == byte_tokenizer().decode(wanted, skip_special_tokens=True)


def test_an_answer_that_may_pass_the_reach_is_read_as_if_it_did(far):
    """From its first token on: keys that were turned in two ways do not fit together."""
    model = local(far)
    [one] = model.generate([ask(COMMON, raw=True)], max_tokens=REACH - len(COMMON))
    [other] = model.generate([ask(COMMON, raw=True)], max_tokens=REACH - len(COMMON) + 1)
    assert not other.text.startswith(one.text)
