"""The plain loop: it learns, it is the same every time, it stops, and it says what it cannot learn from."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from pyterrier_llmrank.aggregates import heaviest_path
from pyterrier_llmrank.core import from_order
from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.networks.context import ContextNetwork
from pyterrier_llmrank.networks.pairs import PairNetwork
from pyterrier_llmrank.training.fitting import Example, Fitting, fit, ndcg
from pyterrier_llmrank.training.paths import path_hinge, successor_cross_entropy, successors

QUICK = Fitting(epochs=60, batch_size=8, learning_rate=0.01, patience=60)


def toy(lists=12, seed=0):
    """Lists whose relevance is the first of two features."""
    draw = np.random.default_rng(seed)
    values = [draw.normal(size=(int(n), 2)) for n in draw.integers(3, 6, size=lists)]
    return [Example(one, (one[:, 0] == one[:, 0].max()).astype(float)) for one in values]


def network(inputs=2):
    return ContextNetwork(inputs, width=8, layers=1, hidden=16, dropout=0.0)


NAMED = ("softmax_cross_entropy", "list_net", "list_mle", "rank_net", "lambda_loss", "approx_ndcg", "circle")


@pytest.mark.parametrize("loss", NAMED)
def test_every_named_loss_puts_a_toy_in_its_ideal_order(loss):
    fitted = fit(network, toy(), [], loss=loss, fitting=QUICK)
    assert max(epoch.ndcg for epoch in fitted.history) == 1.0


@pytest.mark.parametrize("loss", [successor_cross_entropy, partial(path_hinge, path_of=heaviest_path)])
def test_paths_are_learnt(loss):
    data = [Example(one.inputs, np.argsort(np.argsort(one.inputs[:, 0])).astype(float)) for one in toy()]
    make = partial(PairNetwork, 2, width=8, layers=0, dropout=0.0)
    read = lambda output: from_order(heaviest_path(output))  # noqa: E731
    fitted = fit(make, data, [], loss=loss, fitting=QUICK, read=read)
    assert max(epoch.ndcg for epoch in fitted.history) > 0.99


def test_the_same_seed_gives_the_same_network_and_leaves_the_callers_draws_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, second = (fit(network, toy(), [], loss="list_net", fitting=Fitting(epochs=3)) for _ in range(2))
    assert torch.rand(1) == expected
    for name, value in first.network.state_dict().items():
        torch.testing.assert_close(second.network.state_dict()[name], value, atol=0, rtol=0)
    other = fit(network, toy(), [], loss="list_net", fitting=Fitting(epochs=3, seed=1))
    assert other.history != first.history == second.history


def test_the_best_epoch_is_kept_and_training_ends_when_it_gets_no_better():
    fitting = Fitting(epochs=200, learning_rate=0.01, patience=4)
    fitted = fit(network, toy(), toy(6, seed=1), loss="softmax_cross_entropy", fitting=fitting)
    best = int(np.argmax([epoch.ndcg for epoch in fitted.history]))
    assert len(fitted.history) == best + 5 < 200
    assert not fitted.network.training


def test_lists_without_a_difference_teach_nothing():
    flat = [Example(one.inputs, np.ones(len(one.labels))) for one in toy(3)]
    with pytest.raises(InputError, match="none of the 3 training lists has documents of different relevance"):
        fit(network, flat, [], loss="list_net", fitting=QUICK)
    one = Example(np.ones((1, 2)), np.ones(1))
    empty = Example(np.empty((0, 2)), np.empty(0))
    fitted = fit(network, [*flat, one, empty, *toy(2)], [one, *flat], loss="list_net", fitting=Fitting(epochs=1))
    assert np.isfinite(fitted.history[0].loss) and fitted.history[0].ndcg == 1.0


def test_equal_documents_are_no_obstacle():
    same = Example(np.ones((3, 2)), np.array([1.0, 0.0, 0.0]))
    fitted = fit(network, [same], [], loss="softmax_cross_entropy", fitting=Fitting(epochs=2))
    assert all(torch.isfinite(value).all() for value in fitted.network.state_dict().values())


@pytest.mark.parametrize("argument", ["epochs", "batch_size", "patience", "k"])
def test_counts_below_one_are_refused(argument):
    with pytest.raises(ConfigurationError, match=f"{argument} must be at least 1, got 0"):
        Fitting(**{argument: 0})


def test_rates_out_of_range_and_unknown_losses_are_refused():
    with pytest.raises(ConfigurationError, match="learning_rate must be above 0"):
        Fitting(learning_rate=0.0)
    with pytest.raises(ConfigurationError, match=r"loss must be one of .*'softmax_cross_entropy'.*got 'mse'"):
        fit(network, toy(), [], loss="mse", fitting=QUICK)
    assert repr(Fitting(epochs=3)) == "Fitting(epochs=3)"


def test_ndcg_is_that_of_the_definition():
    labels = np.array([0.0, 2.0, 1.0])
    assert ndcg(np.array([3.0, 2.0, 1.0]), labels, 10) == pytest.approx((3 / np.log2(3) + 0.5) / (3 + 1 / np.log2(3)))
    assert ndcg(labels, labels, 10) == 1.0 and ndcg(labels, np.zeros(3), 10) == 0.0
    assert ndcg(np.zeros(3), labels, 1) == 0.0, "ties keep their order"


def test_successors_are_equals_and_the_next_lower_ones():
    targets, mask = torch.tensor([[2.0, 1.0, 1.0, 0.0, 9.0]]), torch.tensor([[True] * 4 + [False]])
    expected = [[0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 1, 0, 1, 0], [0] * 5, [0] * 5]
    assert successors(targets, mask)[0].int().tolist() == expected


def test_the_cross_entropy_of_a_chain_is_that_of_its_rows():
    torch.manual_seed(0)
    weights, targets = torch.randn(1, 3, 3, requires_grad=True), torch.tensor([[3.0, 2.0, 1.0]])
    kept = weights.detach().clone()
    loss = successor_cross_entropy(weights, targets, torch.ones(1, 3, dtype=torch.bool))
    rows = [kept[0, 0, 1] - kept[0, 0, [1, 2]].logsumexp(0), kept[0, 1, 2] - kept[0, 1, [0, 2]].logsumexp(0)]
    torch.testing.assert_close(loss, -torch.stack(rows).mean())
    assert torch.equal(weights, kept), "the caller's weights stay as they are"


def test_the_hinge_is_zero_where_the_ideal_path_leads_by_the_margin():
    targets, mask = torch.tensor([[3.0, 2.0, 1.0]]), torch.ones(1, 3, dtype=torch.bool)
    weights = torch.full((1, 3, 3), -9.0)
    weights[0, 0, 1] = weights[0, 1, 2] = 9.0
    hinge = partial(path_hinge, path_of=heaviest_path)
    assert hinge(weights, targets, mask) == 0.0
    assert hinge(torch.zeros(1, 3, 3), targets, mask) == 2.0, "both arcs of the worst path are wrong"
    assert hinge(torch.zeros(1, 3, 3), torch.ones(1, 3), mask) == 0.0, "equals may stand in any order"


def test_losses_of_paths_have_finite_gradients_with_padding_and_one_document():
    for loss in (successor_cross_entropy, partial(path_hinge, path_of=heaviest_path)):
        weights = torch.randn(3, 3, 3, requires_grad=True)
        targets = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0] * 3])
        mask = torch.tensor([[True, True, False], [True, False, False], [False] * 3])
        loss(weights, targets, mask).backward()
        assert torch.isfinite(weights.grad).all() and not weights.grad[1:].any() and not weights.grad[0, 2].any()
