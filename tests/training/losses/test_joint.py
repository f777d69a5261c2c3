"""What a language model writes, and the ranking read from it."""

from __future__ import annotations

import json
import math

import pytest
import torch
from shared_data import shared
from torch import tensor
from torch.nn.functional import cross_entropy

from pyterrier_llmrank.errors import InputError
from pyterrier_llmrank.training.losses import (
    IGNORED,
    answer_starts,
    by_teacher_ranks,
    first_joint,
    identifier_ranks,
    importance_weighted,
    language_modelling,
    rank_net,
    stepwise_list_mle,
)


def official(name):
    return json.loads(shared("fixtures", "losses", "official_losses.json").read_text(encoding="utf-8"))[name]


def labelled(tokens, start):
    return tensor([[IGNORED] * start + tokens[start:]])


def test_first_joint():
    recorded = official("first")["joint"]
    logits = tensor(recorded["logits"], requires_grad=True)
    labels = labelled(recorded["input_ids"][0], recorded["prompt_len"])
    letters, targets = tensor(recorded["identifier_token_ids"]), -tensor([recorded["true_rank"]])
    value = first_joint(logits, labels, letters, targets, weight=recorded["lambda_"])
    value.backward()
    assert value.item() == pytest.approx(recorded["total"], rel=1e-5)
    assert language_modelling(logits, labels).item() == pytest.approx(recorded["lm_loss"], rel=1e-5)
    ranking = rank_net(logits[:, recorded["prompt_len"], letters], targets, weight=by_teacher_ranks)
    assert ranking.item() == pytest.approx(recorded["weighted_ranknet"], rel=1e-5)
    assert logits.grad.abs().sum().item() == pytest.approx(recorded["grad_abs_sum"], rel=1e-5)


def test_the_ranking_is_read_where_the_answer_starts_whatever_token_pads():
    """Zephyr pads with the token that ends its turns; counting what is not padding starts two tokens early."""
    end = 2
    tokens = [5, 6, end, 7, end, 9, 20, 10, 21]  # a prompt of two turns, then [ B ]
    labels = labelled(tokens, 6)
    assert sum(token != end for token in tokens[:6]) == 4  # where FIRST's code looks
    assert answer_starts(labels).tolist() == [6]
    logits = torch.zeros(1, 9, 30)
    logits[0, 6, 10] = 30.0  # the model is sure of B after the bracket
    letters, targets = tensor([11, 10]), tensor([[0, 1]])
    wrong = first_joint(logits, labels, letters, 1 - targets) - language_modelling(logits, labels)
    right = first_joint(logits, labels, letters, targets) - language_modelling(logits, labels)
    assert right < 1e-4 < 10 < wrong


def test_left_and_right_padding_give_the_same():
    tokens = [3, 4, 20, 10, 21]
    logits = torch.randn(1, 5, 30)
    letters, targets = tensor([10, 11, 12]), tensor([[0, 2, 1]])
    expected = first_joint(logits, labelled(tokens, 2), letters, targets)
    for left, right in ((3, 0), (0, 3)):
        labels = torch.nn.functional.pad(labelled(tokens, 2), (left, right), value=IGNORED)
        padded = torch.nn.functional.pad(logits, (0, 0, left, right), value=9.0)
        torch.testing.assert_close(first_joint(padded, labels, letters, targets), expected)


def test_where_the_prompt_ends_with_the_bracket_the_letter_is_predicted_one_before():
    logits, labels = torch.randn(1, 5, 30), labelled([3, 20, 10, 21, 2], 2)
    letters, targets = tensor([10, 11]), tensor([[1, 0]])
    value = first_joint(logits, labels, letters, targets, positions=answer_starts(labels) - 1)
    expected = language_modelling(logits, labels) + 10 * rank_net(
        logits[:, 1, letters], targets, weight=by_teacher_ranks
    )
    torch.testing.assert_close(value, expected)


def test_language_modelling_is_cross_entropy_of_the_next_token():
    logits, labels = torch.randn(2, 6, 30), tensor([[IGNORED, 4, 7, 8, 2, IGNORED], [IGNORED] * 4 + [3, 2]])
    expected = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(language_modelling(logits, labels), expected)


def test_a_row_without_an_answer_is_named():
    with pytest.raises(InputError, match=r"rows \[1\] have no token to learn from"):
        answer_starts(tensor([[IGNORED, 3], [IGNORED, IGNORED]]))


def test_identifiers_are_counted_by_separators():
    labels = tensor([[IGNORED, IGNORED, 10, 11, 99, 12, 99, 13, 2, IGNORED]])
    assert identifier_ranks(labels, separator=99).tolist() == [[0, 0, 1, 1, 0, 2, 0, 3, 3, 0]]


def test_importance_weighs_the_best_identifiers_most():
    """Weights are 1 + 1 / log2(1 + rank), and 1 for separators; the sum is divided by the number of tokens."""
    labels = tensor([[IGNORED, 10, 99, 11, 99, 12]])
    logits = torch.randn(1, 6, 120)
    losses = cross_entropy(logits[0, :-1], labels[0, 1:], reduction="none")
    weights = tensor([2.0, 1.0, 1 + 1 / math.log2(3), 1.0, 1.5])
    value = importance_weighted(logits, labels, identifier_ranks(labels, separator=99))
    torch.testing.assert_close(value, (losses * weights).sum() / 5)


def test_pe_ranks_list_mle():
    recorded = official("pe_rank_listmle")
    states, embeddings = tensor(recorded["hidden_states"]), tensor(recorded["text_embeddings"])
    before = tensor(recorded["label_positions"]) - 1  # the state that predicts a passage stands one before it
    logits = states[:, before] @ embeddings.transpose(1, 2)
    value = stepwise_list_mle(logits, tensor(recorded["ranking_zero_based"]))
    assert value.item() == pytest.approx(recorded["loss"], rel=1e-5)


def test_documents_named_already_and_never_named_are_out_of_the_choice():
    logits = torch.randn(1, 3, 4, requires_grad=True)
    mask = tensor([[True, True, False]])
    stepwise_list_mle(logits, tensor([[2, 0, 0]]), mask).backward()
    assert (logits.grad != 0).tolist() == [[[True, False, True, False], [False] * 4, [False] * 4]]
