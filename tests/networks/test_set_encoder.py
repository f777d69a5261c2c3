"""The Set-Encoder's network: what it computes, its gradients, its checkpoints."""

from __future__ import annotations

import copy
import json
import os
from itertools import pairwise
from pathlib import Path

import pytest
import safetensors.torch
import torch
import transformers
from tiny_sets import KINDS, documents, encoder, loaded, naive, row, set_encoder

from pyterrier_llmrank.errors import ModelError
from pyterrier_llmrank.networks import set_attention
from pyterrier_llmrank.networks.set_encoder import SetEncoderNetwork, from_encoder, with_missing

DOCS = documents(5)
NEAR = {"atol": 2e-5, "rtol": 0}


@pytest.fixture(scope="module", params=KINDS)
def network(request, tmp_path_factory):
    return loaded(set_encoder(tmp_path_factory.mktemp(request.param), request.param))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return set_encoder(tmp_path_factory.mktemp("bert"))


@torch.no_grad()
def scores(network, docs, sizes=None, **options):
    return network(row(docs, sizes), **options)


# What it computes


@pytest.mark.parametrize("chunk", [None, 1, 30])
@torch.no_grad()
def test_documents_see_themselves_and_the_others_interaction_tokens(network, chunk):
    found = scores(network, DOCS, chunk=chunk)
    torch.testing.assert_close(found, naive(network, DOCS), **NEAR)
    assert found.std() > 0.1


@torch.no_grad()
def test_a_document_alone_is_read_as_by_the_encoder_itself(network):
    plain = transformers.AutoModel.from_config(copy.deepcopy(network.config), attn_implementation="eager").eval()
    plain.load_state_dict(network.backbone.state_dict(), strict=False)
    for doc in DOCS:
        ids, types = (torch.tensor(part) for part in doc)
        kinds = {"token_type_ids": types[None]} if network.config.type_vocab_size > 1 else {}
        state = plain(input_ids=ids[None], **kinds).last_hidden_state[0, 0]
        torch.testing.assert_close(scores(network, [doc]), network.linear(state), **NEAR)


def test_any_order_of_the_documents_gives_each_the_same_score(network):
    order = [3, 0, 4, 1, 2]
    permuted = scores(network, [DOCS[at] for at in order])
    torch.testing.assert_close(permuted, scores(network, DOCS)[order], **NEAR)
    assert (scores(network, DOCS) - scores(network, DOCS, [1] * 5)).abs().max() > 0.01, "they do see one another"


@torch.no_grad()
def test_a_document_that_no_other_sees_might_as_well_be_away(network):
    masked = naive(network, DOCS, hidden={2})
    rest = [0, 1, 3, 4]
    torch.testing.assert_close(scores(network, [DOCS[at] for at in rest]), masked[rest], **NEAR)


@pytest.mark.parametrize("chunk", [None, 25])
def test_sets_side_by_side_do_not_see_one_another(network, chunk):
    sizes = [2, 1, 5, 3]
    docs = documents(sum(sizes), seed=4)
    together = scores(network, docs, sizes, chunk=chunk)
    apart = [scores(network, docs[end - size : end]) for size, end in zip(sizes, [2, 3, 8, 11], strict=True)]
    torch.testing.assert_close(together, torch.cat(apart), **NEAR)


@torch.no_grad()
def test_a_list_may_be_longer_than_those_of_training(network):
    docs = documents(20, seed=1)
    assert network.config.depth == 6
    torch.testing.assert_close(scores(network, docs), naive(network, docs), **NEAR)


@torch.no_grad()
def test_without_an_interaction_token_the_first_one_is_it(tmp_path):
    network = loaded(set_encoder(tmp_path, form={"add_extra_token": False}))
    torch.testing.assert_close(scores(network, DOCS), naive(network, DOCS), **NEAR)


@pytest.mark.parametrize("chunk", [None, 30])
def test_interaction_tokens_are_projected_once_for_a_set(network, chunk):
    rows = []
    key = network.backbone.encoder.layer[0].attention.self.key
    handle = key.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[:-1].numel()))
    scores(network, DOCS, chunk=chunk)
    handle.remove()
    assert sum(rows) == len(row(DOCS).ids) + len(DOCS)


def test_the_last_layer_reads_no_token_but_the_first(network):
    rows = []
    last = network.backbone.encoder.layer[-1]
    handle = last.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[1]))
    scores(network, DOCS)
    handle.remove()
    assert rows == [len(DOCS)]


def test_segments_gathered_for_one_call_hold_what_each_document_sees(network, monkeypatch):
    """What a GPU is asked for in one call, computed here segment by segment."""
    wanted = scores(network, DOCS, [2, 3], chunk=40)
    calls = []

    def one_by_one(query, key, value, gather, scaling):
        calls.append(gather)
        spans = [pairwise(ends.tolist()) for ends in (gather.queries, gather.keys)]
        found = [
            torch.nn.functional.scaled_dot_product_attention(
                *(one.transpose(0, 1) for one in (query[a:b], key[c:d], value[c:d])), scale=scaling
            ).transpose(0, 1)
            for (a, b), (c, d) in zip(*spans, strict=True)
        ]
        assert gather.longest == tuple(int(ends.diff().max()) for ends in (gather.queries, gather.keys))
        return torch.cat(found)

    monkeypatch.setattr(set_attention, "fits", lambda query, value: True)
    monkeypatch.setattr(set_attention, "attend_to_gathered", one_by_one)
    torch.testing.assert_close(scores(network, DOCS, [2, 3], chunk=40), wanted, **NEAR)
    assert calls


# Documents missing from a list


def test_missing_documents_are_drawn_from_the_spread_of_those_there():
    states = torch.randn(5, 2000, generator=torch.Generator().manual_seed(0)) * 3 + 2
    filled = with_missing(states, 400, torch.Generator().manual_seed(1))
    assert filled.shape == (400, 2000) and torch.equal(filled[:5], states)
    torch.testing.assert_close(filled[5:].mean(0), states.mean(0), atol=1.5, rtol=0)
    torch.testing.assert_close(filled[5:].std(0), states.std(0), atol=1.5, rtol=0)


def test_nothing_is_drawn_for_full_lists_and_the_mean_for_single_documents():
    states, draw = torch.randn(4, 8), torch.Generator()
    assert with_missing(states, 4, draw) is states and with_missing(states, 3, draw) is states
    assert with_missing(states, 9, None) is states
    torch.testing.assert_close(with_missing(states[:1], 3, draw), states[:1].expand(3, 8))


def test_a_seed_decides_what_is_drawn_and_by_default_nothing_is(network):
    def drawn(seed):
        return scores(network, DOCS, draws=[torch.Generator().manual_seed(seed)])

    assert torch.equal(drawn(1), drawn(1))
    assert (drawn(1) - drawn(2)).abs().max() > 1e-3
    assert torch.equal(scores(network, DOCS), scores(network, DOCS))
    full = documents(6)
    assert torch.equal(scores(network, full, draws=[torch.Generator()]), scores(network, full))


# Training


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("chunk", [None, 30])
def test_gradients_are_those_of_the_computation_written_out(tmp_path, checkpointing, chunk):
    network = loaded(set_encoder(tmp_path))

    def gradients(score):
        network.zero_grad()
        (score * torch.linspace(-1, 1, len(DOCS))).sum().backward()
        return {name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None}

    wanted = gradients(naive(network, DOCS))
    network.train()  # without dropout
    if checkpointing:
        old, new = (f"{what}_checkpointing_enable" for what in ("gradient", "activation"))
        getattr(network, new if hasattr(network, new) else old)()
    found = gradients(network(row(DOCS), chunk=chunk))
    assert found.keys() == wanted.keys() and len(found) > 40
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-4 * float(gradient.abs().max()) + 1e-5, rtol=0)


def test_attention_drops_out_in_training_alone(tmp_path):
    network = loaded(set_encoder(tmp_path, attention_probs_dropout_prob=0.5))
    still = scores(network, DOCS)
    network.train()
    assert (scores(network, DOCS) - still).abs().max() > 1e-3
    network.eval()
    assert torch.equal(scores(network, DOCS), still)


def test_a_toy_is_learned_that_takes_a_look_at_the_others(tmp_path):
    """Which document of two is repeated in a third: not to be told by reading any of them alone."""
    torch.manual_seed(0)
    network, _ = from_encoder(encoder(tmp_path, num_hidden_layers=2), depth=3)
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    one, other = documents(2, seed=9)
    sets = [[one, other, one], [one, other, other]]
    wanted = torch.tensor([[0.0, 1.0], [1.0, 0.0]])  # the document that is not repeated
    read = row([doc for docs in sets for doc in docs], [3, 3])
    for _ in range(30):
        found = network(read).view(2, 3)[:, :2]
        loss = torch.nn.functional.cross_entropy(found, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert found.argmax(1).tolist() == [1, 0]


# Checkpoints


def rewritten(folder, **changes):
    """Changes the configuration of a checkpoint; None takes a field out."""
    path = Path(folder) / "config.json"
    told = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in told.items() if value is not None}))


def reweighted(folder, change):
    """Changes the weights of a checkpoint."""
    path = Path(folder) / "model.safetensors"
    safetensors.torch.save_file(change(safetensors.torch.load_file(path)), path, {"format": "pt"})


def test_a_checkpoint_is_as_official_ones_are_and_loads_again(network, tmp_path):
    network.save_pretrained(tmp_path)
    names = safetensors.torch.load_file(tmp_path / "model.safetensors").keys()
    assert {"linear.weight", "embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.key.weight"} <= names
    assert {name.split(".")[0] for name in names} <= {"embeddings", "embeddings_project", "encoder", "linear"}
    told = json.loads((tmp_path / "config.json").read_text())
    assert told["model_type"] == "set-encoder" and told["backbone_model_type"] == network.config.model_type
    assert told["architectures"] == [f"SetEncoder{network.config.model_type.capitalize()}Model"]
    torch.testing.assert_close(scores(loaded(tmp_path), DOCS), scores(network, DOCS), **NEAR)


def test_older_configurations_name_their_encoder_in_other_places(bert, tmp_path):
    wanted = scores(loaded(bert), DOCS)
    for place, changes in enumerate(({"model_type": "set-encoder-bert"}, {})):
        folder = tmp_path / str(place)
        loaded(bert).save_pretrained(folder)
        rewritten(folder, backbone_model_type=None, **changes)
        torch.testing.assert_close(scores(loaded(folder), DOCS), wanted)
    rewritten(folder, architectures=None)
    with pytest.raises(ModelError, match=r"does not say what its encoder is \(backbone_model_type"):
        loaded(folder)


def test_a_head_without_a_bias_adds_none(bert, tmp_path):
    network = loaded(bert)
    network.save_pretrained(tmp_path)
    bias = network.linear.bias.item()
    assert abs(bias) > 0.01
    reweighted(tmp_path, lambda weights: {key: value for key, value in weights.items() if key != "linear.bias"})
    torch.testing.assert_close(scores(loaded(tmp_path), DOCS), scores(network, DOCS) - bias, **NEAR)


def test_a_checkpoint_that_lacks_weights_is_refused(bert, tmp_path):
    loaded(bert).save_pretrained(tmp_path)
    reweighted(tmp_path, lambda weights: {key: value for key, value in weights.items() if "layer.1" not in key})
    with pytest.raises(ModelError, match=r"lacks 16 weights of a Set-Encoder, such as backbone\.encoder\.layer\.1"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("option", "value"),
    [("pooling_strategy", "mean"), ("tokenizer_pattern", "{query} {doc}"), ("other_sequence_embedding", True)],
)
def test_what_is_not_known_here_is_refused(bert, tmp_path, option, value):
    loaded(bert).save_pretrained(tmp_path)
    rewritten(tmp_path, **{option: value})
    with pytest.raises(ModelError, match=f"was trained with {option}="):
        loaded(tmp_path)


def test_an_encoder_built_unlike_bert_is_refused(tmp_path):
    config = transformers.DistilBertConfig(vocab_size=300, dim=8, n_layers=1, n_heads=2, hidden_dim=8)
    with pytest.raises(ModelError, match="a DistilBertModel is not built like BERT"):
        SetEncoderNetwork(config)


def test_tensors_of_a_pickle_are_read_and_nothing_that_runs(bert, tmp_path):
    network = loaded(bert)
    network.save_pretrained(tmp_path)
    weights = safetensors.torch.load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    torch.testing.assert_close(scores(loaded(tmp_path), DOCS), scores(network, DOCS), **NEAR)

    class Runs:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({**weights, "linear.weight": Runs()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(Exception, match=r"(?i)weights.only|unsupported"):
        loaded(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_plain_encoder_becomes_one_with_a_new_token(tmp_path):
    folder = encoder(tmp_path)
    network, tokenizer = from_encoder(folder, doc_length=64)
    before = transformers.AutoModel.from_pretrained(folder)
    new = tokenizer.convert_tokens_to_ids("[INT]")
    assert new == len(tokenizer) - 1 == before.config.vocab_size
    rows = network.get_input_embeddings().weight
    assert len(rows) > new and len(rows) % 8 == 0
    torch.testing.assert_close(rows[:new], before.get_input_embeddings().weight)
    told = {name: getattr(network.config, name) for name in ("depth", "query_length", "doc_length", "add_extra_token")}
    assert told == {"depth": 100, "query_length": 32, "doc_length": 64, "add_extra_token": True}
