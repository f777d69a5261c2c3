"""Batches by budget, and what happens when memory runs out."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from tiny import ask, byte_tokenizer, local

from pyterrier_llmrank.errors import ModelError
from pyterrier_llmrank.models.hf.batching import KEPT, Budget, in_batches, plan, plan_alike
from pyterrier_llmrank.models.hf.prefixes import WORTH

TEXTS = ["the cat sat. " * times + "end" for times in (0, 9, 1, 20, 0, 3, 7, 2, 15, 4)]


def random_sizes(seed):
    chance = random.Random(seed)
    n = chance.randrange(0, 40)
    lengths = [chance.randrange(1, 100) for _ in range(n)]
    return (
        lengths,
        [chance.randrange(0, 9) for _ in range(n)],
        Budget(chance.randrange(1, 400), chance.randrange(1, 30)),
    )


@pytest.mark.parametrize("seed", range(50))
def test_a_plan_covers_every_item_once_longest_first_within_the_budget(seed):
    lengths, rows, budget = random_sizes(seed)
    batches = plan(range(len(lengths)), lengths, rows, budget)
    order = [item for batch in batches for item in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[item] for item in order] == sorted(lengths, reverse=True)
    for batch in batches:
        if len(batch) > 1:
            assert len(batch) * max(lengths[item] for item in batch) <= budget.tokens
            assert sum(rows[item] for item in batch) <= budget.rows


@pytest.mark.parametrize("seed", range(50))
def test_a_plan_of_sequences_that_begin_alike_counts_what_they_share_once(seed):
    chance = random.Random(seed)
    starts = [[chance.randrange(9) for _ in range(chance.randrange(1, 60))] for _ in range(4)]
    sequences = [
        chance.choice(starts) + [chance.randrange(9)] * chance.randrange(0, 3) for _ in range(chance.randrange(0, 40))
    ]
    room, budget = chance.randrange(1, 20), Budget(chance.randrange(1, 400), chance.randrange(1, 30))
    lengths = [len(ids) + room for ids in sequences]
    batches = plan_alike(sequences)(range(len(sequences)), lengths, [1] * len(sequences), budget)
    assert sorted(item for batch in batches for item in batch) == list(range(len(sequences)))
    for batch in batches:
        if len(batch) > 1:
            own = [sequences[item] for item in batch]
            width = max(lengths[item] for item in batch)
            shared = min(len(ids) - 1 for ids in own)
            while any(ids[:shared] != own[0][:shared] for ids in own):
                shared -= 1
            shared = shared if shared >= WORTH else 0
            assert shared + len(batch) * (width - shared) <= budget.tokens
            assert len(batch) * width <= KEPT * budget.tokens and len(batch) <= budget.rows


def test_equal_sequences_share_a_batch_that_others_of_their_length_would_not_fit_in():
    sequences = [[place % 3, *range(100)] for place in range(12)]
    batches = plan_alike(sequences)(range(12), [111] * 12, [1] * 12, Budget(160, 99))
    assert sorted(sorted(batch) for batch in batches) == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]
    assert plan_alike(sequences)(range(12), [111] * 12, [1] * 12, Budget(5_000, 99)) != batches


@pytest.mark.parametrize("seed", range(10))
def test_a_plan_wastes_no_batch(seed):
    """The first item of a batch would not have fitted into the one before."""
    lengths, rows, budget = random_sizes(seed)
    batches = plan(range(len(lengths)), lengths, rows, budget)
    for batch, after in itertools.pairwise(batches):
        joined = [*batch, after[0]]
        too_wide = len(joined) * lengths[batch[0]] > budget.tokens
        assert too_wide or sum(rows[item] for item in joined) > budget.rows


def test_equal_lengths_keep_their_order():
    assert plan([3, 1, 2], [5] * 4, [1] * 4, Budget(10, 10)) == [[3, 1], [2]]


def test_work_is_done_once_on_everything():
    seen = []
    in_batches([3, 9, 4], [1, 1, 1], Budget(9, 9), lambda batch: seen.extend(batch))
    assert sorted(seen) == [0, 1, 2]


def test_nothing_to_do_is_no_work():
    in_batches([], [], Budget(9, 9), lambda batch: pytest.fail("worked"))


def small(limit, done, error=torch.OutOfMemoryError):
    """Work on a machine that holds ``limit`` sequences at once."""

    def work(batch):
        if len(batch) > limit:
            raise error("out of memory")
        done.extend(batch)

    return work


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_a_batch_that_does_not_fit_is_cut_until_it_does(limit):
    done, budget = [], Budget(1000, 1000)
    in_batches([10] * 20, [1] * 20, budget, small(limit, done))
    assert sorted(done) == list(range(20))
    assert budget.tokens < 1000 and budget.rows < 1000


def test_the_smaller_budget_is_remembered():
    budget = Budget(200, 1000)
    in_batches([10] * 20, [1] * 20, budget, small(5, []))
    kept = budget.tokens
    in_batches([10] * 20, [1] * 20, budget, small(5, []))
    assert budget.tokens == kept == 50


def test_what_was_done_before_memory_ran_out_is_not_done_again():
    done = []

    def work(batch):
        if len(batch) > 1 and done:
            raise torch.OutOfMemoryError("out of memory")
        done.extend(batch)

    in_batches([10, 10, 5, 5], [1] * 4, Budget(20, 9), work)
    assert done == [0, 1, 2, 3]


def test_a_single_prompt_that_does_not_fit_is_told_with_a_remedy():
    with pytest.raises(ModelError, match=r"a single prompt of 70 tokens does not fit in memory; use a smaller model"):
        in_batches([10, 70], [1, 1], Budget(100, 100), small(0, []))


@pytest.mark.parametrize("message", ["DefaultCPUAllocator: not enough memory", "CUDA error: out of memory"])
def test_other_ways_to_run_out_of_memory_count_too(message):
    done = []

    def work(batch):
        if len(batch) > 2:
            raise RuntimeError(message)
        done.extend(batch)

    in_batches([10] * 6, [1] * 6, Budget(100, 100), work)
    assert sorted(done) == list(range(6))


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), IndexError("index"), KeyboardInterrupt("stop")])
def test_other_errors_pass_through(error):
    calls = []

    def work(batch):
        calls.append(batch)
        raise error

    with pytest.raises(type(error), match=str(error)):
        in_batches([10] * 6, [1] * 6, Budget(100, 100), work)
    assert len(calls) == 1


# With a network


def with_room_for(network, tokens, calls):
    """Lets a network's forward pass run out of memory above some tokens; returns a function that undoes it."""
    forward = network.forward

    def cramped(*args, **kwargs):
        calls.append(tuple(kwargs["input_ids"].shape))
        if kwargs["input_ids"].numel() > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(*args, **kwargs)

    network.forward = cramped
    return lambda: vars(network).pop("forward")


def answers(model, prompts):
    return (
        [one.logprobs.tolist() for one in model.choices(prompts, [("Yes", "No")] * len(prompts))],
        [one.logprobs.tolist() for one in model.continuation(prompts, ["the cat"] * len(prompts))],
        model.generate(prompts, max_tokens=4),
    )


@pytest.mark.parametrize("tokens", [300, 900])
def test_results_are_right_after_memory_ran_out(llama, tokens):
    prompts = [ask(text) for text in TEXTS]
    roomy = answers(local(llama), prompts)
    model, calls = local(llama, batch_tokens=100_000), []
    undo = with_room_for(model._loaded.network, tokens, calls)
    try:
        cramped = answers(model, prompts)
    finally:
        undo()
    for one, other in zip(roomy[:2], cramped[:2], strict=True):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_allclose(left, right, atol=1e-5)
    assert cramped[2] == roomy[2]
    assert model._budget.tokens < 100_000
    assert not model._loaded.network.get_output_embeddings()._forward_pre_hooks


def test_a_prompt_that_never_fits_is_a_model_error(llama):
    model = local(llama)
    undo = with_room_for(model._loaded.network, 0, [])
    try:
        with pytest.raises(ModelError, match=r"a single prompt of .* does not fit in memory.*dtype='bfloat16'"):
            model.choices([ask(text) for text in TEXTS], [("Yes", "No")] * len(TEXTS))
    finally:
        undo()


def test_batches_of_a_network_respect_batch_tokens(llama):
    model, calls = local(llama, batch_tokens=300), []
    prompts = [ask(f"{place} {text}") for place, text in enumerate(TEXTS)]  # no two begin alike
    model.choices(prompts, [("Yes", "No")] * len(TEXTS))
    for packed in (True, False):
        model._loaded.packs.update({(False, "ends"): packed, (False, None): packed})
        undo = with_room_for(model._loaded.network, 9999, calls)
        try:
            model.choices(prompts, [("Yes", "No")] * len(TEXTS))
        finally:
            undo()
            model._loaded.packs.clear()
        rows = [height for height, _ in calls]
        assert set(rows) == {1} and len(rows) < len(TEXTS) if packed else sum(rows) == len(TEXTS) and max(rows) > 1
        assert all(height * width <= 300 for height, width in calls)
        calls.clear()


def test_a_budget_of_logits_follows_the_vocabulary(llama):
    model = local(llama)
    assert model._budget.rows == 2**26 // len(byte_tokenizer())
    assert model._budget.tokens == 2048
