"""The context-aware network is allRank's, and padding cannot reach a score."""

from __future__ import annotations

import json

import pytest
import torch
from shared_data import shared

from pyterrier_llmrank.errors import ModelError, ModelNotFound
from pyterrier_llmrank.networks.context import ContextNetwork
from pyterrier_llmrank.networks.pairs import PairNetwork
from pyterrier_llmrank.networks.saving import digest, opened, save

KINDS = ["no_position", "fixed_position"]


def recorded(name):
    """The network with allRank's weights, its inputs, and what allRank said."""
    case = json.loads(shared("fixtures", "allrank_context_model", "expected.json").read_text())[name]
    positions = None if name == "no_position" else "fixed"
    network = ContextNetwork(6, width=16, layers=2, heads=2, hidden=32, positions=positions, farthest=10).eval()
    state = {key: torch.tensor(value) for key, value in case["state_dict"].items()}
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) == {"shift", "scale"}
    inputs = torch.tensor(case["x"])
    if positions:
        inputs = torch.cat([inputs, torch.tensor(case["indices"])[..., None].float()], dim=-1)
    return network, inputs, ~torch.tensor(case["mask_true_is_padding"]), case


@pytest.mark.parametrize("name", KINDS)
def test_scores_are_those_of_allrank(name):
    network, inputs, mask, case = recorded(name)
    with torch.no_grad():
        scores = network(inputs, mask)
    torch.testing.assert_close(scores[mask], torch.tensor(case["scores"])[mask], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", KINDS)
def test_a_permuted_list_has_permuted_scores_if_its_ranks_go_along(name):
    network, inputs, mask, case = recorded(name)
    order = case["permutation"]
    with torch.no_grad():
        scores = network(inputs[:1, order], mask[:1])[0]
    expected = torch.tensor(case["scores_permuted_input_and_indices_row0"])
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)


def test_positions_count_where_ranks_stay():
    network, inputs, mask, case = recorded("fixed_position")
    moved = torch.cat([inputs[:1, case["permutation"], :-1], inputs[:1, :, -1:]], dim=-1)
    with torch.no_grad():
        scores = network(moved, mask[:1])[0]
    torch.testing.assert_close(scores, torch.tensor(case["scores_permuted_input_row0"]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("positions", [None, "fixed", "learned"])
@pytest.mark.parametrize("kind", [ContextNetwork, PairNetwork])
def test_padding_changes_no_score_whatever_it_holds(kind, positions):
    torch.manual_seed(0)
    network = kind(3, width=8, layers=2, positions=positions).eval()
    inputs = torch.randn(1, 4, 3 if positions is None else 4).abs()
    rubbish = torch.cat([inputs, torch.full((1, 2, inputs.shape[-1]), torch.nan)], dim=1)
    with torch.no_grad():
        alone = network(inputs, torch.ones(1, 4, dtype=torch.bool))
        padded = network(rubbish, torch.tensor([[True] * 4 + [False] * 2]))
        nothing = network(rubbish, torch.zeros(1, 6, dtype=torch.bool))
    torch.testing.assert_close(padded[:, :4, ...] if kind is ContextNetwork else padded[:, :4, :4], alone)
    assert torch.isfinite(nothing).all()


def test_padding_takes_no_gradient():
    network = ContextNetwork(3, width=8)
    inputs = torch.randn(2, 4, 3, requires_grad=True)
    mask = torch.tensor([[True, True, True, False], [False] * 4])
    network(inputs, mask).masked_fill(~mask, 0.0).sum().backward()
    assert bool(inputs.grad[0, :3].abs().sum() > 0)
    assert not bool(inputs.grad[0, 3].abs().sum()) and not bool(inputs.grad[1].abs().sum())
    assert all(torch.isfinite(value.grad).all() for value in network.parameters() if value.grad is not None)


def test_ranks_beyond_the_farthest_have_no_position():
    network = ContextNetwork(2, width=8, positions="learned", farthest=3).eval()
    inputs = torch.tensor([[[1.0, 2.0, 3.0], [1.0, 2.0, 900.0]]])
    with torch.no_grad():
        scores = network(inputs, torch.ones(1, 2, dtype=torch.bool))
    torch.testing.assert_close(scores[0, 0], scores[0, 1])


def test_a_constant_feature_is_shifted_and_not_scaled():
    network = ContextNetwork(2)
    network.standardise(torch.tensor([[5.0, 1.0], [5.0, 3.0]]))
    assert network.shift.tolist() == [5.0, 2.0] and network.scale.tolist() == [1.0, 1.0]


def test_arcs_have_a_matrix_for_each_direction():
    torch.manual_seed(0)
    network = PairNetwork(3, width=4, layers=0).eval()
    inputs, mask = torch.randn(1, 3, 3), torch.ones(1, 3, dtype=torch.bool)
    with torch.no_grad():
        arcs, states = network(inputs, mask)[0], network.states(inputs, mask)[0]
        along, against = (network.output_layer[name] for name in ("along", "against"))
    assert not arcs.diagonal().any()
    torch.testing.assert_close(arcs[0, 2], states[0] @ along @ states[2] / 2)
    torch.testing.assert_close(arcs[2, 0], states[2] @ against @ states[0] / 2)


def test_a_saved_network_says_the_same(tmp_path):
    torch.manual_seed(0)
    network = ContextNetwork(3, width=8, positions="learned").eval()
    save(network, tmp_path / "here")
    again = opened(str(tmp_path / "here"), "ContextNetwork")
    inputs, mask = torch.randn(2, 5, 4).abs(), torch.ones(2, 5, dtype=torch.bool)
    with torch.no_grad():
        torch.testing.assert_close(again(inputs.double(), mask).float(), network(inputs, mask), atol=1e-5, rtol=1e-5)
    assert opened(str(tmp_path / "here"), "ContextNetwork") is again
    before = digest(str(tmp_path / "here"))
    save(ContextNetwork(3, width=8), tmp_path / "here")
    assert opened(str(tmp_path / "here"), "ContextNetwork") is not again and digest(str(tmp_path / "here")) != before


def test_opening_a_network_draws_nothing(tmp_path):
    save(ContextNetwork(3, width=8), tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    opened(str(tmp_path), "ContextNetwork")
    assert torch.rand(1) == expected


def test_what_is_no_trained_network_is_told(tmp_path):
    with pytest.raises(ModelNotFound, match=r"no trained network in .*train it with fit"):
        opened(str(tmp_path), "ContextNetwork")
    save(ContextNetwork(3, width=8), tmp_path)
    with pytest.raises(ModelError, match="of kind 'ContextNetwork', but 'PairNetwork'"):
        opened(str(tmp_path), "PairNetwork")
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelError, match="cannot be read"):
        opened(str(tmp_path), "ContextNetwork")
    assert not list(tmp_path.glob("*.part"))
