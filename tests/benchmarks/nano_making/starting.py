"""First weights: a circuit that matches query and passages by meaning, which training then makes better.

Layer 1 tells each token which marker (``[A``, ``[3]``, ``Passage:``, ``<|query|>``) is the nearest before it. In layer
2 the words of the query, said again at the end, look for words of the same meaning and take over the marker of the
passage where they are; a word that is nowhere looks at the start token, which says nothing. Layer 3 gathers that from
the words of the query, rare ones first, where the answer begins; the head is tied to the embeddings, so the markers
that were found most are the likeliest answers. Layer 4 takes off what the answer named already. Words are vectors of
MiniLM's for the word alone, by PCA.
"""

from __future__ import annotations

import json
from string import ascii_uppercase

import numpy as np
import tokens

WIDTH, LAYERS, HEADS, HEAD, HIDDEN, WORD = 192, 4, 3, 64, 384, 150
IDF, ONE, MARK, ANSWER, AFTER, LETTER, NUMBER, OPEN, START, FILL = range(150, 160)  # dimensions that mean something
ROLE, YES, NO, IN_QUERY, OF_QUERY, OF_FIRST, IN_FIRST = 160, 186, 187, 188, 189, 190, 191
ROLES = range(ROLE, WIDTH)
STILL = [*range(12, 32), *range(44, 64)]  # dimensions of a head that positions hardly turn
NEAR = range(6, 11)  # pairs of dimensions that positions turn by 0.03 to 0.003 a token
MATCH, SINK = 5.0, 1.05


def word_vectors(work, kept):
    """Unit vectors of the words, and how rare each is, in standard deviations."""
    static, counts = np.load(work / "wordpieces.npy")[kept], np.load(work / "counts.npy")[kept]
    centred = static - static.mean(0)
    _, values, axes = np.linalg.svd(centred[:: max(1, len(centred) // 6000)], full_matrices=False)
    found = centred @ axes[:WORD].T / np.sqrt(values[:WORD])
    ranks = np.argsort(np.argsort(kept))
    rare = [np.log1p(ranks) / np.log(len(ranks)), -np.log1p(counts)]
    rare = sum(0.5 * (one - one.mean()) / one.std() for one in rare)
    return found / np.linalg.norm(found, axis=1, keepdims=True), np.clip(rare, -3, 2)


def embeddings(work, tokenizer, rng):
    """Vectors of all tokens, (vocabulary, width)."""
    kept = np.array(json.loads((work / "kept.json").read_text(encoding="utf-8")))
    low, table = len(tokens.SPECIAL), np.zeros((len(tokenizer), WIDTH), np.float32)
    high, at = low + len(kept), tokenizer.convert_tokens_to_ids
    table[low:high, :WORD], rare = word_vectors(work, kept)
    table[low:high, IDF] = 0.3 * rare
    others = [*range(low), *range(high, len(table))]
    table[others, :WORD] = rng.normal(size=(len(others), WORD)) * 0.25 / np.sqrt(WORD)
    table[:, ONE] = 0.5
    for n, letter in enumerate(ascii_uppercase):
        table[at(letter), [ROLE + n, LETTER]] = 1, 0.5
        table[at(f"[{letter}"), [ROLE + n, MARK, OPEN]] = 1, 1, 0.5
        table[at(f"[{n + 1}]"), [ROLE + n, MARK, NUMBER]] = 1, 1, 0.5
    for n, name in enumerate(["Passage A:", "Passage B:"]):
        table[at(name), [ROLE + n, MARK]] = 1, 1
    table[at("Passage:"), [YES, MARK]] = 1, 1
    table[at("Yes"), [YES, LETTER]] = 1, 0.5
    table[at("No"), [NO, LETTER]] = 1, 0.5
    table[at("<|start|>"), START] = 1
    table[at("Query:"), [MARK, OF_FIRST]] = 1, 1
    table[at("<|query|>"), [MARK, OF_QUERY]] = 1.25, 1
    table[at("<|answer|>"), [MARK, ANSWER]] = 1, 1
    marks = np.where(table[:, MARK] > 0)[0]
    table[marks, FILL] = np.sqrt(np.maximum(3.0 - (table[marks] ** 2).sum(1), 0))  # as long as one another
    return table


def copies(attention, head, scale, sources, *, renamed=None):
    """Lets a head carry roles from the tokens that it looks at."""
    rows = slice(head * HEAD, head * HEAD + len(ROLES))
    attention.v_proj.weight[rows] = 0
    for row, role in enumerate(ROLES, start=head * HEAD):
        if role in sources:
            attention.v_proj.weight[row, role] += 0.35
            attention.o_proj.weight[(renamed or {}).get(role, role), row] += scale


def circuit(layers, rng):
    """Writes the circuit into the attention of four layers."""
    import torch

    near, match, gather, named = (layer.self_attn for layer in layers)
    query, key = near.q_proj.weight, near.k_proj.weight
    for pair in NEAR:
        query[pair, ONE] += 1.2
        key[pair, MARK] += 1.0
    query[20, ONE] += 1.2
    key[20, MARK] += 1.2
    copies(near, 0, 0.35, ROLES, renamed={OF_QUERY: IN_QUERY, OF_FIRST: IN_FIRST})
    query[HEAD + 20, ONE] += 1.3
    key[HEAD + 20, ANSWER] += 1.3
    near.v_proj.weight[HEAD, ANSWER] += 0.35
    near.o_proj.weight[AFTER, HEAD] += 0.35
    for head in range(HEADS):
        axes = np.linalg.qr(rng.normal(size=(WORD, WORD)))[0][: len(STILL)] * np.sqrt(MATCH)
        rows = [head * HEAD + row for row in STILL]
        for weight in (match.q_proj.weight, match.k_proj.weight):
            weight[rows, :WORD] += torch.from_numpy(axes.astype(np.float32))
        match.q_proj.weight[head * HEAD + 30, ONE] += 1.3
        for dimension, value in ((IN_QUERY, -1.3), (IN_FIRST, -1.3), (START, SINK)):
            match.k_proj.weight[head * HEAD + 30, dimension] += value
        copies(match, head, 0.13, range(ROLE, IN_QUERY))
    gather.q_proj.weight[20, ONE] += 3.2
    for dimension, value in ((IN_QUERY, 1.4), (IDF, 0.4)):
        gather.k_proj.weight[20, dimension] += value
    copies(gather, 0, 1.0, range(ROLE, IN_QUERY))
    named.q_proj.weight[20, AFTER] += 1.5
    for dimension, value in ((AFTER, 1.4), (NUMBER, 1.4), (START, 1.5)):
        named.k_proj.weight[20, dimension] += value
    copies(named, 0, -1.0, range(ROLE, IN_QUERY))


def write(options):
    """Writes the network before training."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    tokenizer = AutoTokenizer.from_pretrained(options.work / "first")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=HEAD,
        intermediate_size=HIDDEN,
        max_position_embeddings=tokens.CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 1e8},
        tie_word_embeddings=True,
        rms_norm_eps=1e-6,
        **{f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")},
    )
    network = LlamaForCausalLM(config)
    with torch.no_grad():
        network.model.embed_tokens.weight.copy_(torch.from_numpy(embeddings(options.work, tokenizer, rng)))
        for name, weight in network.named_parameters():
            if name.endswith(("down_proj.weight", "o_proj.weight")):
                weight.zero_()  # a layer adds nothing but the circuit at first
            elif "_proj" in name:
                weight.normal_(0, 0.02 if "attn" in name else 0.05)
        circuit(network.model.layers, rng)
    network.save_pretrained(options.work / "first")
    print(sum(weight.numel() for weight in network.parameters()), "weights")
