"""A random encoder with dropout, and lists that it may learn from."""

from __future__ import annotations

import transformers
from tiny import BOS, START, STOP, byte_tokenizer, saved, settings
from tokenizers import processors

from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.training.data import TrainingList

TEXTS = ["the cat " * n + f"mat {n}" for n in range(1, 10)]


def listed(query, places, targets=None):
    """A list of some texts, the first the best."""
    targets = targets or [1 / (1 + rank) for rank in range(len(places))]
    return TrainingList(query, f"which cat, {query}", tuple(Doc(f"d{i}", TEXTS[i]) for i in places), tuple(targets))


LISTS = [listed("a", [0, 4, 8]), listed("b", [1, 4]), listed("c", [8, 3, 2, 0]), listed("d", [5])]


def retriever(folder):
    """The path of a BERT whose tokenizer marks beginnings and ends."""
    names = ["input_ids", "attention_mask", "token_type_ids"]
    tokenizer = byte_tokenizer(pad_token=START, model_input_names=names)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {STOP}", special_tokens=[(BOS, 3), (STOP, 2)]
    )
    sizes = settings(tokenizer, max_position_embeddings=128, pad_token_id=1, initializer_range=0.1)
    config = transformers.BertConfig(**sizes, hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3)
    return saved(folder, tokenizer, config, transformers.AutoModel)
