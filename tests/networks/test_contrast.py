"""The list encoder: what it computes, what it must not see, and the released format."""

from __future__ import annotations

import json

import pytest
import torch
from torch.nn import functional

from pyterrier_llmrank.errors import ModelNotFound
from pyterrier_llmrank.networks.contrast import ListConNetwork
from pyterrier_llmrank.networks.released import list_con_ranker
from pyterrier_llmrank.networks.saving import opened


@pytest.fixture
def network():
    torch.manual_seed(0)
    return ListConNetwork(6, width=8, heads=2, hidden=16).eval()


def by_hand(network, vectors):
    """The published computation for one list, written out: (1 + docs, inputs) to (docs,)."""
    state = {name: value.double() for name, value in network.state_dict().items()}

    def linear(name, values):
        return values @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(name, values):
        return functional.layer_norm(values, values.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])

    before = linear("linear_in_embedding", vectors.double())
    tags = state["query_embedding.query_embedding.weight"]
    states = norm("query_embedding.layerNorm", before + torch.stack([tags[1], *[tags[0]] * (len(vectors) - 1)]))
    for layer in ("list_transformer.layers.0", "list_transformer.layers.1"):
        heads = []
        merged = states @ state[f"{layer}.self_attn.in_proj_weight"].T + state[f"{layer}.self_attn.in_proj_bias"]
        for head in range(2):
            query, key, value = (merged[:, 8 * part + 4 * head : 8 * part + 4 * head + 4] for part in range(3))
            weights = query @ key.T / 2.0
            weights[0, 1:] = -torch.inf
            heads.append(weights.softmax(dim=-1) @ value)
        states = norm(f"{layer}.norm1", states + linear(f"{layer}.self_attn.out_proj", torch.cat(heads, dim=-1)))
        inner = functional.gelu(linear(f"{layer}.linear1", states))
        states = norm(f"{layer}.norm2", states + linear(f"{layer}.linear2", inner))
    sides = [torch.cat([side[:1].expand(len(side) - 1, -1), side[1:]], dim=-1) for side in (before, states)]
    joined = torch.cat([linear("linear_score2", sides[0]).relu(), linear("linear_score3", sides[1]).relu()], dim=-1)
    return linear("linear_score1", joined)[:, 0].sigmoid()


def test_scores_are_those_of_the_published_computation(network):
    vectors = torch.randn(5, 6)
    with torch.no_grad():
        scores = network(vectors[None], torch.ones(1, 4, dtype=torch.bool))[0]
    torch.testing.assert_close(scores.double(), by_hand(network, vectors), atol=1e-6, rtol=0)


def test_padding_changes_no_score(network):
    vectors = torch.randn(1, 4, 6)
    padded = torch.cat([vectors, torch.full((1, 2, 6), torch.nan)], dim=1)
    with torch.no_grad():
        alone = network(vectors, torch.ones(1, 3, dtype=torch.bool))
        among = network(padded, torch.tensor([[True] * 3 + [False] * 2]))
    torch.testing.assert_close(among[:, :3], alone)


def test_a_permuted_list_has_permuted_scores(network):
    vectors = torch.randn(1, 5, 6)
    order = [0, 3, 1, 4, 2]
    with torch.no_grad():
        scores, moved = (network(one, torch.ones(1, 4, dtype=torch.bool)) for one in (vectors, vectors[:, order]))
    torch.testing.assert_close(moved[0], scores[0][[place - 1 for place in order[1:]]])


def test_passages_see_each_other_and_the_query_only_itself(network):
    vectors = torch.randn(1, 4, 6, requires_grad=True)
    mask = torch.ones(1, 3, dtype=torch.bool)
    network(vectors, mask)[0, 0].backward()
    assert vectors.grad[0, 2].abs().sum() > 0, "another passage counts"
    vectors.grad = None
    hidden = []
    network.list_transformer.register_forward_hook(lambda _, __, out: hidden.append(out))
    network(vectors, mask)
    hidden[0][0, 0].sum().backward()
    assert not vectors.grad[0, 1:].any()


def test_the_released_files_are_converted(network, tmp_path):
    """Under the names of the published code, with the layer that its layers were copied from."""
    state = network.state_dict()
    linear = {name.split(".")[1]: value for name, value in state.items() if name.startswith("linear_in_embedding")}
    whole = {name: value.half() for name, value in state.items() if not name.startswith("linear_in_embedding")}
    whole |= {
        name.replace("list_transformer.layers.0", "list_transformer_layer"): value
        for name, value in whole.items()
        if name.startswith("list_transformer.layers.0")
    }
    with pytest.raises(ModelNotFound, match=r"lacks list_transformer.pt, linear_in_embedding.pt, config.json"):
        list_con_ranker(tmp_path, tmp_path / "made")
    torch.save(linear, tmp_path / "linear_in_embedding.pt")
    torch.save(whole, tmp_path / "list_transformer.pt")
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 2}))
    list_con_ranker(tmp_path, tmp_path / "made")
    made = opened(str(tmp_path / "made"), "ListConNetwork")
    assert made.config == {"inputs": 6, "width": 8, "layers": 2, "heads": 2, "hidden": 16, "dropout": 0.1}
    vectors = torch.randn(1, 4, 6)
    with torch.no_grad():
        scores = made(vectors.double(), torch.ones(1, 3, dtype=torch.bool))
        torch.testing.assert_close(
            scores.float(), network(vectors, torch.ones(1, 3, dtype=torch.bool)), atol=2e-3, rtol=0
        )
