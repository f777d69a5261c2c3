"""Tiny random Set-Encoders, and what they compute, written out document by document."""

from __future__ import annotations

import torch
import transformers
from tiny import BOS, STOP, byte_tokenizer, settings

from pyterrier_llmrank.models.hf.encoders import Encoded
from pyterrier_llmrank.networks.set_encoder import SetEncoderNetwork, from_encoder
from pyterrier_llmrank.networks.set_inputs import row_of

KINDS = {"bert": {}, "electra": {"embedding_size": 16}, "roberta": {"type_vocab_size": 1}}


def tokenizer(**options):
    """Marks of BERT's format, on bytes."""
    return byte_tokenizer(cls_token=BOS, sep_token=STOP, **options)


def encoder(folder, kind="bert", **changes):
    """The path of a random encoder; all that is random is far from zero."""
    torch.manual_seed(1)
    own = settings(
        tokenizer(), **{"max_position_embeddings": 200, "num_hidden_layers": 3, **KINDS.get(kind, {}), **changes}
    )
    dropout = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
    network = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind, **dropout | own))
    network.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def set_encoder(folder, kind="bert", *, form=None, **changes):
    """The path of a random Set-Encoder, of lists of 6 in training; ``form`` changes its format."""
    network, text = from_encoder(
        encoder(folder / "base", kind, **changes), **{"depth": 6, "doc_length": 40, **(form or {})}
    )
    torch.manual_seed(2)
    torch.nn.init.normal_(network.linear.weight, std=0.5)
    torch.nn.init.normal_(network.linear.bias)
    network.save_pretrained(folder / "set")
    text.save_pretrained(folder / "set")
    return str(folder / "set")


def loaded(folder):
    return SetEncoderNetwork.from_pretrained(folder).eval()


def documents(n, seed=0):
    """(ids, types) of ``n`` documents of 4 to 20 tokens."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(n):
        length = int(torch.randint(4, 21, (1,), generator=draw))
        ids = torch.randint(5, 200, (length,), generator=draw).tolist()
        first = int(torch.randint(2, length, (1,), generator=draw))
        found.append((ids, [0] * first + [1] * (length - first)))
    return found


def row(docs, sizes=None):
    """What a network reads: one set, unless told."""
    return row_of([[Encoded(*doc, 0) for doc in docs]])._replace(sizes=sizes or [len(docs)])


def naive(network, docs, *, hidden=()):
    """The scores of one set: for each document alone, the states of the others' interaction tokens beside its own.

    ``hidden`` are documents that no other one sees.
    """
    place = int(network.config.add_extra_token)
    states = [embedded(network, ids, types) for ids, types in docs]
    for layer in network.backbone.encoder.layer:
        marks = [own[place] for own in states]
        others = [[m for at, m in enumerate(marks) if at != me and at not in hidden] for me in range(len(docs))]
        states = [one_layer(layer, own, torch.stack([*own, *seen])) for own, seen in zip(states, others, strict=True)]
    return torch.stack([network.linear(own[0])[0] for own in states])


def embedded(network, ids, types):
    """By transformers' own embeddings, which count positions themselves."""
    backbone = network.backbone
    kinds = torch.tensor([types]) if network.config.type_vocab_size > 1 else None
    states = backbone.embeddings(input_ids=torch.tensor([ids]), token_type_ids=kinds)[0]
    return backbone.embeddings_project(states) if hasattr(backbone, "embeddings_project") else states


def one_layer(layer, own, seen):
    """A layer whose queries are of ``own``, (tokens, width), and whose keys and values are of ``seen``."""
    attention = layer.attention.self
    shape = (-1, attention.num_attention_heads, attention.attention_head_size)
    query, key, value = (
        project(states).view(shape).transpose(0, 1)
        for project, states in ((attention.query, own), (attention.key, seen), (attention.value, seen))
    )
    shares = (query @ key.transpose(1, 2) / attention.attention_head_size**0.5).softmax(-1)
    mixed = (shares @ value).transpose(0, 1).reshape(len(own), -1)
    return layer.feed_forward_chunk(layer.attention.output(mixed, own))
