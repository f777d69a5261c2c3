"""Sampled answers: drawn from the distribution that was asked for, each by its own seed, whoever shares the batch."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import ask, byte_tokenizer, full_logprobs, local, uncached

from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.models import Sampling
from pyterrier_llmrank.models.hf.batching import Budget
from pyterrier_llmrank.models.hf.writing import Manner, write

TEXTS = ["the cat sat. " * times + "end" for times in (0, 9, 1, 20, 0, 3)] + ["x", "é 中 🙂"]
PROMPTS = [ask(text) for text in TEXTS]
SEEDS = [11, 2**63 - 1, 0, 5, 11, 6, 7, 8]
DRAWS = 3000


def test_a_token_is_drawn_as_often_as_it_is_probable(llama):
    check_frequencies(llama, Sampling())


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_sharpens_and_flattens(llama, temperature):
    check_frequencies(llama, Sampling(temperature=temperature))


@pytest.mark.parametrize("top_k", [1, 4, 10_000])
def test_only_the_likeliest_are_drawn_from(llama, top_k):
    drawn = check_frequencies(llama, Sampling(top_k=top_k))
    assert len(drawn) <= top_k


@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.8])
def test_only_the_likeliest_that_hold_the_mass_are_drawn_from(llama, top_p):
    check_frequencies(llama, Sampling(temperature=0.8, top_p=top_p))


def test_mass_is_counted_after_temperature_and_among_the_top_k(llama):
    check_frequencies(llama, Sampling(temperature=3.0, top_k=6, top_p=0.7))


def check_frequencies(folder, sampling):
    """One step from the same prompt with many seeds, against the distribution worked out by hand."""
    ids = byte_tokenizer()("the cat")["input_ids"]
    wanted = distribution(full_logprobs(folder, ids)[-1], sampling)
    manner = Manner(1, sampling=sampling, seeds=range(DRAWS))
    rows = write(local(folder)._loaded, [ids] * DRAWS, [[]] * DRAWS, Budget(50_000, 50_000), manner)
    counts = np.bincount([row.tokens[0] for row in rows], minlength=len(wanted))
    assert set(np.flatnonzero(counts)) <= set(np.flatnonzero(wanted))
    spread = np.sqrt(DRAWS * wanted * (1 - wanted))
    assert (np.abs(counts - DRAWS * wanted) <= 5 * spread + 3).all()
    return np.flatnonzero(counts)


def distribution(logprobs, sampling):
    """Temperature, then the top k, then the smallest set of the likeliest that holds the mass."""
    scaled = logprobs / sampling.temperature
    order = np.argsort(-scaled)[: sampling.top_k]
    probabilities = np.exp(scaled[order] - scaled[order].max())
    probabilities /= probabilities.sum()
    before = np.cumsum(probabilities) - probabilities
    kept = before < sampling.top_p
    wanted = np.zeros(len(logprobs))
    wanted[order[kept]] = probabilities[kept] / probabilities[kept].sum()
    return wanted


@pytest.mark.parametrize("kind", ["llama", "t5"])
@pytest.mark.parametrize("batch_tokens", [1, 120, 100_000])
def test_an_answer_depends_on_its_seed_and_on_no_batch_mate(kind, batch_tokens, request):
    folder = request.getfixturevalue(kind)

    def sampled(model, prompts, seeds):
        return model.generate(prompts, max_tokens=8, sampling=Sampling(temperature=1.2, top_p=0.95), seeds=seeds)

    alone = [sampled(local(folder), [prompt], [seed])[0] for prompt, seed in zip(PROMPTS, SEEDS, strict=True)]
    model = local(folder, batch_tokens=batch_tokens)
    assert uncached(sampled(model, PROMPTS, SEEDS)) == alone
    assert uncached(sampled(model, PROMPTS[::-1], SEEDS[::-1])[::-1]) == alone


def test_equal_seeds_give_equal_answers_and_others_do_not(llama):
    model = local(llama)
    seeds = [1, 2, 3, 4, 5, 6, 1]
    texts = [
        one.text for one in model.generate([ask("the cat")] * 7, max_tokens=8, sampling=Sampling(2.0), seeds=seeds)
    ]
    assert texts[0] == texts[6] and len(set(texts)) == 6
    again = model.generate([ask("the cat")], max_tokens=8, sampling=Sampling(2.0), seeds=[3])
    assert again[0].text == texts[2]


def test_the_likeliest_token_alone_is_the_greedy_answer(llama):
    model = local(llama)
    greedy = model.generate(PROMPTS, max_tokens=6)
    assert model.generate(PROMPTS, max_tokens=6, sampling=Sampling(top_k=1), seeds=SEEDS) == greedy
    assert model.generate(PROMPTS, max_tokens=6, seeds=SEEDS) == greedy


@pytest.mark.parametrize(("seeds", "found"), [(None, "none"), ([1], "1"), ([], "0")])
def test_sampling_without_a_seed_for_each_prompt_is_refused(llama, seeds, found):
    with pytest.raises(ConfigurationError, match=f"one seed per prompt: 2 prompts, seeds: {found}"):
        local(llama).generate(PROMPTS[:2], max_tokens=2, sampling=Sampling(), seeds=seeds)
