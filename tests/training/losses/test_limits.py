"""What holds for every loss: padding, lists that say nothing, shifts, perfect orders, bad targets; and it teaches."""

from __future__ import annotations

import inspect

import pytest
import torch
from every_loss import BINARY, CHOICES, DISTANCES, EVERY, ORDERS, PER_LIST, POINTWISE, SHIFT_INVARIANT

from pyterrier_llmrank.errors import InputError
from pyterrier_llmrank.training import losses


def each(table):
    return pytest.mark.parametrize("loss", table.values(), ids=table.keys())


def drawn(batch=4, docs=6, seed=0):
    """Scores and distinct grades of a few lists."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(batch, docs, generator=generator)
    targets = torch.stack([torch.randperm(docs, generator=generator) for _ in range(batch)]).float() / 2
    return scores, targets


def gradient(loss, scores, targets, mask=None):
    torch.manual_seed(0)  # of the rankings that pg_rank draws
    scores = scores.clone().requires_grad_()
    value = loss(scores, targets, mask)
    assert value.shape == ()
    value.backward()
    return value.detach(), scores.grad


@each(EVERY)
def test_padding_changes_nothing_and_gets_no_gradient_whatever_stands_there(loss):
    scores, targets = drawn()
    mask = torch.ones_like(scores, dtype=torch.bool)
    mask[:, 4:] = False
    expected, slope = gradient(loss, scores[:, :4], targets[:, :4])
    for filling in (0.0, -1e9, float("inf"), float("nan")):
        value, padded = gradient(loss, scores.masked_fill(~mask, filling), targets.masked_fill(~mask, filling), mask)
        if loss not in (EVERY["pg_rank"], EVERY["pg_rank to_go"]):  # which draw other rankings
            torch.testing.assert_close(value, expected)
            torch.testing.assert_close(padded[:, :4], slope)
        assert padded.isfinite().all()
        assert (padded[:, 4:] == 0).all()


@each(EVERY)
def test_a_list_of_nothing_but_padding_changes_nothing(loss):
    scores, targets = drawn()
    more = [torch.cat([values, values[:1]]) for values in (scores, targets)]
    mask = torch.ones_like(more[0], dtype=torch.bool)
    mask[-1] = False
    value, slope = gradient(loss, *more, mask)
    assert slope.isfinite().all()
    assert (slope[-1] == 0).all()
    if loss not in (
        EVERY["first_joint"],
        EVERY["pg_rank"],
        EVERY["pg_rank to_go"],
    ):  # the first has text to learn still
        torch.testing.assert_close(value, gradient(loss, scores, targets)[0])


@each({name: loss for name, loss in EVERY.items() if name not in POINTWISE})
def test_one_document_alone_costs_nothing_or_at_least_teaches_nothing(loss):
    value, slope = gradient(loss, torch.tensor([[0.7], [-3.0]]), torch.tensor([[1.0], [0.0]]))
    assert (slope.abs() < 1e-6).all() or loss is EVERY["first_joint"]  # which still learns to write
    assert value.abs() < 1e-6 or loss in (EVERY["first_joint"], EVERY["circle"])


@each(EVERY)
@pytest.mark.parametrize("grade", [0.0, 1.0])
def test_equal_targets_give_a_number(loss, grade):
    value, slope = gradient(loss, drawn()[0], torch.full((4, 6), grade))
    assert value.isfinite()
    assert slope.isfinite().all()


@each({name: EVERY[name] for name in PER_LIST})
def test_a_list_costs_the_same_whoever_shares_its_batch(loss):
    scores, targets = drawn()
    targets[1, 2] = targets[1, 4]
    alone = [loss(scores[row : row + 1], targets[row : row + 1]) for row in range(4)]
    torch.testing.assert_close(loss(scores, targets), torch.stack(alone).mean())


@each(CHOICES)
def test_equal_targets_ask_for_no_order(loss):
    scores = torch.tensor([[2.0, 1.0, -1.0]])
    value, slope = gradient(loss, scores, torch.ones(1, 3))
    assert value == 0
    assert (slope == 0).all()


@each({name: loss for name, loss in EVERY.items() if name != "stepwise_list_mle"})  # which is given an order
@pytest.mark.parametrize("target", [float("nan"), float("-inf")])
def test_a_target_that_is_no_number_is_named(loss, target):
    scores, targets = drawn()
    targets[2, 1] = target
    with pytest.raises(InputError, match=r"1 targets are NaN or infinite, in the lists \[2\] of 4"):
        loss(scores, targets)


@each(EVERY)
def test_a_list_with_one_real_document_gives_a_number(loss):
    scores, targets = drawn()
    mask = torch.zeros_like(scores, dtype=torch.bool)
    mask[:, 3] = True
    value, slope = gradient(loss, scores, targets, mask)
    assert value.isfinite()
    assert slope.isfinite().all()


@each(SHIFT_INVARIANT)
def test_a_shift_of_a_lists_scores_changes_nothing(loss):
    scores, targets = drawn()
    shifted = scores + torch.tensor([[3.0], [-2.0], [0.5], [7.0]])
    torch.testing.assert_close(gradient(loss, shifted, targets), gradient(loss, scores, targets), atol=2e-5, rtol=2e-5)


@each({name: loss for name, loss in EVERY.items() if "pg_rank" not in name})
@pytest.mark.parametrize("equals", [False, True])
def test_the_places_of_documents_do_not_matter(loss, equals):
    scores, targets = drawn()
    if equals and loss is not EVERY["stepwise_list_mle"]:  # which is given one order of them
        targets = targets.round()
    places = torch.tensor([3, 0, 5, 1, 4, 2])
    value, slope = gradient(loss, scores, targets)
    moved, moved_slope = gradient(loss, scores[:, places], targets[:, places])
    torch.testing.assert_close(moved, value)
    torch.testing.assert_close(moved_slope, slope[:, places], atol=1e-6, rtol=1e-4)


@each({**ORDERS, **BINARY})
def test_a_perfect_order_by_far_costs_nothing(loss):
    _, targets = drawn()
    assert loss(200 * targets, targets) < 1e-4
    assert loss(-200 * targets, targets) > 0.1


@each({name: loss for name, loss in DISTANCES.items() if name != "dear"})  # whose labels want more than the teacher
def test_the_teachers_own_scores_are_the_minimum(loss):
    _, targets = drawn()
    _, slope = gradient(loss, targets, targets)
    assert (slope.abs() < 1e-6).all()


@each(EVERY)
def test_half_precision_is_computed_in_float32(loss):
    scores, targets = drawn()
    scores = scores.bfloat16()
    value, slope = gradient(loss, scores, targets)
    assert value.dtype == torch.float32
    assert slope.dtype == torch.bfloat16
    torch.testing.assert_close(value, gradient(loss, scores.float(), targets)[0])


@each({name: loss for name, loss in EVERY.items() if "pg_rank" not in name})
def test_the_gradient_is_that_of_the_value(loss):
    scores, targets = drawn(batch=2, docs=4, seed=3)
    if "lambda_loss" in next(name for name, one in EVERY.items() if one is loss):
        scores = scores.sort(dim=1).values * 3  # weights are constants as long as no rank changes
    _, slope = gradient(loss, scores.double(), targets)
    step = 1e-6
    for place in range(4):
        nudge = torch.zeros(2, 4, dtype=torch.float64)
        nudge[1, place] = step
        rise = (loss(scores.double() + nudge, targets) - loss(scores.double() - nudge, targets)) / (2 * step)
        if loss is EVERY["circle"]:
            continue  # its weights are constants to the gradient, which no difference can see
        torch.testing.assert_close(slope[1, place].double(), rise.double(), atol=1e-4, rtol=1e-3)


@each(EVERY)
def test_fifty_steps_reach_a_perfect_ndcg(loss):
    """Two queries of three documents, begun upside down."""
    torch.manual_seed(0)
    targets = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 2.0]])
    scores = torch.tensor([[-0.6, 0.1, -0.3], [0.0, -0.4, -0.5]], requires_grad=True)
    optimizer = torch.optim.Adam([scores], lr=0.1)
    wanted = (targets == 2).float() if loss in (*BINARY.values(), EVERY["circle"], EVERY["dear"]) else targets
    assert ndcg(scores, wanted) < 0.7
    for _ in range(50):
        optimizer.zero_grad()
        loss(scores, targets).backward()
        optimizer.step()
    assert ndcg(scores, wanted) == pytest.approx(1.0)


def ndcg(scores, targets):
    worth = 1 / torch.log2(torch.arange(targets.shape[1]) + 2)
    reached = (targets.gather(1, scores.argsort(dim=1, descending=True)) * worth).sum(dim=1)
    return (reached / (targets.sort(dim=1, descending=True).values * worth).sum(dim=1)).mean().item()


def test_every_loss_that_is_exported_is_tested_here():
    helpers = {
        "answer_starts",
        "identifier_ranks",
        "in_batch",
        "same_document",
        "permutation_targets",
        "novelty_targets",
    }
    helpers |= {"cadet", "below_positive", "below_teacher_ratio", "language_modelling", "importance_weighted"}
    weights = {"by_difference", "by_squares", "by_teacher_ranks", "lambda_rank", "mrr"}
    weights |= {"ndcg_loss1", "ndcg_loss2", "ndcg_loss2_plus"}
    exported = {name for name in losses.__all__ if inspect.isfunction(getattr(losses, name))}
    assert exported - helpers - weights == {name.split()[0] for name in EVERY}
    assert weights < {part for name in EVERY for part in name.split()}


@pytest.mark.parametrize("shape", [(3,), (2, 3, 1), (2, 4)])
def test_shapes_that_differ_are_named(shape):
    with pytest.raises(InputError, match=r"of shape \(batch, docs\), got"):
        losses.rank_net(torch.zeros(shape), torch.zeros(2, 3))


def test_a_target_that_is_no_probability_is_named():
    with pytest.raises(InputError, match="targets from 0 to 1, got 0 to 3; divide grades by the highest"):
        losses.binary_cross_entropy(torch.zeros(1, 2), torch.tensor([[0.0, 3.0]]))
