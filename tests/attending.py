"""What the tests of attention share: the computation of the papers, in plain transformers, and tiny checkpoints."""

from __future__ import annotations

import numpy as np
import torch
import transformers
from tiny import byte_tokenizer, saved, settings
from tokenizers import Tokenizer, decoders, models, normalizers, processors

LATE = "Please find information that are relevant to the following query in the paragraphs above."
KINDS = {
    "llama": transformers.LlamaConfig,
    "mistral": transformers.MistralConfig,
    "qwen2": transformers.Qwen2Config,
    "qwen3": transformers.Qwen3Config,
    "olmo2": transformers.Olmo2Config,
    "phi3": transformers.Phi3Config,
    "gemma": transformers.GemmaConfig,
}
PEAKED = {"num_hidden_layers": 4, "initializer_range": 0.3, "max_position_embeddings": 4096}


def checkpoint(folder, kind="llama", tokenizer=None, **changes):
    """A random decoder of four layers whose attention is far from even."""
    tokenizer = tokenizer or byte_tokenizer()
    config = KINDS[kind] if isinstance(kind, str) else kind
    return saved(folder, tokenizer, config(**settings(tokenizer, **{**PEAKED, **changes})))


def sentencepiece():
    """A tokenizer of Mistral's kind: spaces are a letter, other bytes have tokens of their own."""
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = ["▁", *(chr(code) for code in range(33, 127))]
    words = ["▁t", "he", "▁the", "ar", "ra", "in", "▁[", "er"]
    vocabulary = {piece: i for i, piece in enumerate([*special, *letters, *words])}
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("a", "r"), ("r", "a"), ("i", "n"), ("▁", "["), ("e", "r")]
    bpe = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )


def attentions(folder, ids):
    """Weights of all layers and heads, (layers, heads, tokens, tokens)."""
    network = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        found = network.eval()(input_ids=torch.tensor([ids]), output_attentions=True).attentions
    return torch.stack(found)[:, 0].double().numpy()


def by_the_paper(folder, turn, gap, query, docs, heads=None, calibrate=True):
    """ICR's scores by two whole passes, with spans found by tokenising the growing prompt, as its authors do.

    Args:
        folder: The checkpoint.
        turn: What comes before and after the user's text.
        gap: Between paragraphs.
        query: The query.
        docs: Documents in the order in which they are shown.
        heads: Pairs of a layer and a head; all by default.
        calibrate: Whether the attention of "N/A" is taken off.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def tokens(text):
        return tokenizer(text)["input_ids"]

    text = f"{turn[0]} Here are some paragraphs:"
    spans = []
    for number, doc in enumerate(docs, 1):
        text += gap
        start = len(tokens(text))
        text += f"[{number}] {doc}"
        spans.append((start, len(tokens(text))))
    text += gap
    rows = len(tokens(text))
    signals = []
    for asked in (query, "N/A"):
        weights = attentions(folder, tokens(f"{text}{LATE}{gap}Query: {asked}{turn[1]}"))
        chosen = weights.reshape(-1, *weights.shape[2:])
        if heads is not None:
            chosen = np.stack([weights[layer, head] for layer, head in heads])
        signals.append(chosen[:, rows:].mean(1).sum(0))
    scores = []
    for start, end in spans:
        own = signals[0][start:end]
        if calibrate:
            own = own - signals[1][start:end]
            own = own[own > own.mean() - 2 * own.std(ddof=1)]
        scores.append(own.sum())
    return np.array(scores)
