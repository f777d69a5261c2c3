"""Tiny random networks that read or make vectors, and sources of vectors that are counted."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import transformers
from tiny import CHATML, byte_tokenizer, saved, settings

from pyterrier_llmrank.core import Usage
from pyterrier_llmrank.networks.pe_rank import EmbedMistralConfig, projector
from pyterrier_llmrank.prompts.embedded import PLACEHOLDER
from pyterrier_llmrank.vectors import DocVectors


def pe_rank_tokenizer(**options):
    """As PE-Rank's: a placeholder is one token."""
    tokenizer = byte_tokenizer(chat=CHATML, **options)
    tokenizer.add_special_tokens({"additional_special_tokens": [PLACEHOLDER]})
    return tokenizer


def pe_rank_checkpoint(folder, *, width=16, encoder="encoder", trained=True, tokenizer=None, **changes):
    """The path of a random PE-Rank checkpoint; without its projector unless ``trained``."""
    tokenizer = tokenizer or pe_rank_tokenizer()
    own = {"embedding_size": width, "projector_type": "mlp2x_gelu", "encoder_name": encoder, "encoder_pooling": "mean"}
    config = EmbedMistralConfig(**settings(tokenizer, max_position_embeddings=2048, **own, **changes))
    torch.manual_seed(1)
    network = transformers.AutoModelForCausalLM.from_config(config)
    network.model.projector = projector(config)
    state = {name: own for name, own in network.state_dict().items() if trained or "projector" not in name}
    network.save_pretrained(folder, state_dict=state)
    tokenizer.save_pretrained(folder)
    return str(folder)


def embedder(folder, tokenizer=None, **changes):
    """The path of a Llama without a head, that is pooled at its last token."""
    tokenizer = tokenizer or byte_tokenizer(chat=CHATML)
    told = {"max_position_embeddings": 2048, "pad_token_id": 1, **changes}  # the end token is not all zeros
    config = transformers.LlamaConfig(**settings(tokenizer, **told))
    return saved(folder, tokenizer, config, transformers.AutoModel)


@dataclass(frozen=True)
class Hashed:
    """Random vectors that depend on a document's text alone; notes who was asked for."""

    width: int = 16
    m: int = 1
    asked: list = field(default_factory=list, compare=False, repr=False)

    def load(self):
        pass

    def __call__(self, docs):
        self.asked.extend(doc.docno for doc in docs)
        return [DocVectors(self.vectors(doc.text), Usage(calls=1, prompt_tokens=len(doc.text))) for doc in docs]

    def vectors(self, text):
        seed = list(text.encode()) or [0]
        return np.random.default_rng(seed).standard_normal((self.m, self.width)).astype(np.float32)


@dataclass(frozen=True)
class Refusing:
    """An encoder like another one that must not be asked."""

    inner: object

    def load(self):
        raise AssertionError("the encoder was loaded")

    def identity(self):
        return self.inner

    def __call__(self, docs):
        raise AssertionError(f"the encoder was asked again, for {[doc.docno for doc in docs]}")
