"""What single losses promise beyond what holds for all."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from torch import tensor

from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.training import losses

SCORES = tensor([[0.3, -1.2, 2.1, 0.05]])


def test_permutation_targets_are_the_order():
    targets, mask = losses.permutation_targets(tensor([[2, 0, 3, 1], [1, 3, -1, -1]]), docs=4)
    assert targets.argsort(dim=1, descending=True)[0].tolist() == [2, 0, 3, 1]
    assert mask.tolist() == [[True] * 4, [False, True, False, True]]
    assert targets[1, 1] > targets[1, 3]


def test_a_document_that_the_teacher_did_not_rank_is_not_last_but_absent():
    """RankGPT's code pads lists with a passage that it then teaches to be the worst."""
    scores = SCORES.clone().requires_grad_()
    losses.rank_net(scores, *losses.permutation_targets(tensor([[2, 0, -1]]), docs=4)).backward()
    assert (scores.grad != 0).tolist() == [[True, False, True, False]]


@pytest.mark.parametrize("order", [[[0, 4]], [[-2, 1]]])
def test_places_out_of_range_are_named(order):
    with pytest.raises(InputError, match="places of 4 documents are 0 to 3"):
        losses.permutation_targets(tensor(order), docs=4)


def test_a_document_twice_is_an_error():
    with pytest.raises(InputError, match="names a document twice"):
        losses.permutation_targets(tensor([[0, 1, 0]]), docs=4)


def test_list_mle_is_the_probability_of_the_order():
    """Over all orders it adds up to 1."""
    targets = [-tensor([order]).argsort(dim=1) for order in permutations(range(4))]
    assert sum(math.exp(-losses.list_mle(SCORES, target)) for target in targets) == pytest.approx(1.0)


def test_targets_below_zero_are_no_labels():
    with pytest.raises(InputError, match=r"softmax_cross_entropy needs labels from 0 up.*rank_net"):
        losses.softmax_cross_entropy(SCORES, torch.full_like(SCORES, -1.0))


def test_list_mle_of_one_relevant_document_is_softmax_cross_entropy():
    targets = tensor([[0.0, 1.0, 0.0, 0.0]])
    torch.testing.assert_close(losses.list_mle(SCORES, targets), losses.softmax_cross_entropy(SCORES, targets))


def test_rank_list_of_two_is_rank_net():
    targets = tensor([[1.0, 2.0]])
    torch.testing.assert_close(losses.rank_list(SCORES[:, :2], targets), losses.rank_net(SCORES[:, :2], targets))


def test_rank_list_compares_levels_so_that_equals_share_a_place():
    """Targets 2, 2, 1, 0: neighbours are both twos over the one, and the one over the nought."""
    value = losses.rank_list(SCORES, tensor([[2.0, 2.0, 1.0, 0.0]]))
    s = SCORES[0]
    expected = torch.log1p((s[2] - s[0]).exp() + (s[2] - s[1]).exp() + (s[3] - s[2]).exp())
    torch.testing.assert_close(value, expected)


def test_rank_list_with_every_skip_is_a_lower_bound_of_rank_nets_sum():
    targets = tensor([[3.0, 2.0, 1.0, 0.0]])
    assert losses.rank_list(SCORES, targets, skips=(1, 2, 3)) < 6 * losses.rank_net(SCORES, targets)


def test_circle_is_the_sum_over_wrong_pairs():
    targets, margin, scale = tensor([[1.0, 0.0, 0.0, 1.0]]), 0.2, 5.0
    s = SCORES[0]
    pull = [math.exp(-scale * max(1 + margin - s[i], 0) * (s[i] - (1 - margin))) for i in (0, 3)]
    push = [math.exp(scale * max(s[i] + margin, 0) * (s[i] - margin)) for i in (1, 2)]
    value = losses.circle(SCORES, targets, margin=margin, scale=scale)
    assert value.item() == pytest.approx(math.log1p(sum(pull) * sum(push)), rel=1e-5)


def test_circle_pulls_less_at_what_is_right_already():
    scores = tensor([[0.1, 0.9, 0.1]], requires_grad=True)
    losses.circle(scores, tensor([[1.0, 1.0, 0.0]]), scale=1.0).backward()
    assert scores.grad[0, 0] < scores.grad[0, 1] < 0 < scores.grad[0, 2]


def test_kl_divergence_is_nought_where_scaled_scores_differ_by_a_constant():
    teacher = SCORES
    student = teacher / 0.3 * 0.05 + 7
    value = losses.kl_divergence(student, teacher, student_temperature=0.05, teacher_temperature=0.3)
    assert value.abs() < 1e-6
    assert losses.kl_divergence(student, teacher, student_temperature=0.05, teacher_temperature=0.5) > 0.01


def test_kl_divergence_and_list_net_differ_by_the_targets_entropy():
    belief = tensor([[1.0, 3.0, 0.0, 2.0]]).softmax(dim=1)
    expected = losses.list_net(SCORES, belief.log()) + (belief * belief.log()).sum()
    torch.testing.assert_close(losses.kl_divergence(SCORES, belief.log()), expected)


def test_dear_is_labels_and_teacher_in_shares():
    targets, teacher = tensor([[0.0, 0.0, 1.0, 0.0]]), tensor([[1.0, 0.0, 2.0, 3.0]])
    labels = (losses.rank_net(SCORES, targets) + losses.softmax_cross_entropy(SCORES, targets)) / 2
    torch.testing.assert_close(losses.dear(SCORES, teacher, targets, alpha=0.0), labels)
    distance = losses.kl_divergence(SCORES / 2, teacher / 2)
    torch.testing.assert_close(losses.dear(SCORES, teacher, targets), 0.9 * labels + 0.1 * 4 * distance)


def test_dears_rank_net_leaves_equal_documents_alone():
    scores = tensor([[5.0, 1.0, -4.0]], requires_grad=True)
    losses.dear(scores, torch.zeros(1, 3), tensor([[1.0, 0.0, 0.0]]), alpha=0.0, beta=1.0).backward()
    assert (scores.grad[0, 1:] > 0).all()  # both go down; DeAR's own code pulls the lower one up


def test_bixse_is_binary_cross_entropy_of_a_batch():
    """Grades of each query's own document on the diagonal, 0 elsewhere."""
    logits = 20 * torch.rand(3, 3, dtype=torch.double) - 5
    grades = tensor([0.9, 0.4, 0.0])
    p = torch.sigmoid(logits)
    expected = -(grades.diag() * p.log() + (1 - grades.diag()) * (1 - p).log()).mean()
    torch.testing.assert_close(losses.binary_cross_entropy(logits, grades.diag()), expected)


def test_binary_cross_entropy_is_that_of_a_yes_and_a_no():
    yes, no = tensor([[2.0, -1.0]]), tensor([[0.5, 1.0]])
    both = torch.stack([no, yes], dim=2)
    expected = torch.nn.functional.cross_entropy(both.flatten(0, 1), tensor([1, 0]))
    torch.testing.assert_close(losses.binary_cross_entropy(yes - no, tensor([[1, 0]])), expected)


def test_lambda_losses_keep_their_slope_where_a_pair_is_badly_wrong():
    """allRank clamps probabilities at 1e-10, and learns nothing from pairs beyond."""
    scores = tensor([[-40.0, 40.0]], requires_grad=True)
    losses.lambda_loss(scores, tensor([[1.0, 0.0]]), weight=losses.lambda_rank).backward()
    assert scores.grad[0, 0] < -0.1


def test_mrr_weights_are_the_change_of_reciprocal_rank():
    scores = tensor([[0.0, 3.0, 2.0, 1.0]], requires_grad=True)
    losses.lambda_loss(scores, tensor([[1.0, 0.0, 0.0, 0.0]]), weight=losses.mrr, reduction="sum").backward()
    leads = torch.sigmoid(tensor([3.0, 2.0, 1.0])) / math.log(2)
    torch.testing.assert_close(scores.grad[0, 1:], leads * tensor([1 - 1 / 4, 1 / 2 - 1 / 4, 1 / 3 - 1 / 4]))


def test_lipo_of_two_answers_is_dpo_with_a_weight():
    scores = tensor([[1.0, 3.0]])
    weight = 1 * (1 / math.log(2) - 1 / math.log(3))
    expected = weight * math.log1p(math.exp(-0.1 * (1 - 3)))
    value = losses.lipo_lambda(scores, tensor([[1.0, 0.0]]), beta=0.1)
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_neural_ndcg_of_a_cold_permutation_is_ndcg():
    targets = tensor([[2.0, 1.0, 0.0, 3.0]])
    gains, worth = 2 ** targets[0] - 1, 1 / torch.log2(torch.arange(4) + 2)
    order = SCORES[0].argsort(descending=True)
    expected = 1 - (gains[order] * worth).sum() / (gains.sort(descending=True).values * worth).sum()
    for transposed in (False, True):
        value = losses.neural_ndcg(SCORES, targets, temperature=0.01, transposed=transposed)
        torch.testing.assert_close(value, expected, atol=1e-4, rtol=0)


# ------------------------------------------------------------------ policy gradient


def expected_ndcg(scores, targets, k):
    """By all orders, exactly."""
    total = 0.0
    worth = 1 / torch.log2(torch.arange(len(scores)) + 2)
    worth[k:] = 0
    gains = 2**targets - 1
    for order in permutations(range(len(scores))):
        order = list(order)
        chance = sum(scores[order[i]] - scores[order[i:]].logsumexp(0) for i in range(len(order))).exp()
        total = total + chance * (gains[order] * worth).sum() / (gains.sort(descending=True).values * worth).sum()
    return total


@pytest.mark.parametrize("to_go", [False, True])
def test_pg_rank_has_the_gradient_of_expected_ndcg(to_go):
    targets = tensor([2.0, 0.0, 1.0, 0.0])
    exact = SCORES[0].clone().requires_grad_()
    expected_ndcg(exact / 2, targets, k=3).backward()
    drawn = SCORES.clone().requires_grad_()
    generator = torch.Generator().manual_seed(1)
    options = {"samples": 40_000, "temperature": 2.0, "k": 3, "to_go": to_go, "generator": generator}
    losses.pg_rank(drawn, targets[None], **options).backward()
    torch.testing.assert_close(-drawn.grad[0], exact.grad, atol=2e-3, rtol=0)


def test_credit_from_the_place_on_varies_far_less_on_a_long_list():
    first = torch.randn(1, 20, generator=torch.Generator().manual_seed(0))
    targets = (torch.arange(20) < 3).float()[None]
    spread = {}
    for to_go in (False, True):
        slopes = []
        for seed in range(60):
            scores = first.clone().requires_grad_()
            generator = torch.Generator().manual_seed(seed)
            losses.pg_rank(scores, targets, samples=8, to_go=to_go, generator=generator).backward()
            slopes.append(scores.grad)
        spread[to_go] = torch.stack(slopes).var(dim=0).sum()
    assert 2 * spread[True] < spread[False]


def test_pg_rank_learns_nothing_where_every_order_is_as_good():
    scores = SCORES.clone().requires_grad_()
    losses.pg_rank(scores, torch.ones(1, 4)).backward()
    assert scores.grad.abs().max() < 1e-6


def test_pg_rank_is_the_same_for_the_same_generator():
    values = [losses.pg_rank(SCORES, SCORES.abs(), generator=torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert values[0] == values[1] != values[2]


def test_one_sample_has_no_others_to_be_compared_with():
    with pytest.raises(ConfigurationError, match="samples is at least 2, got 1"):
        losses.pg_rank(SCORES, SCORES, samples=1)
