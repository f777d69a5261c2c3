"""Lists that a tiny random network can learn, and such networks."""

from __future__ import annotations

import torch
import transformers
from tiny import BOS, START, STOP, byte_tokenizer, settings
from tokenizers import processors

from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.training.data import TrainingList

WORDS = ("the", "cat", "mat")  # how good a text is: by which of these it holds


def tokenizer():
    """Marks the beginning and the ends of texts, and their segments, as BERT's does."""
    names = ["input_ids", "attention_mask", "token_type_ids"]
    made = byte_tokenizer(
        pad_token=START, cls_token=BOS, sep_token=STOP, model_input_names=names, words=["the", "cat", "mat", "Ġthe"]
    )
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {STOP}",
        pair=f"{BOS} $A {STOP} $B:1 {STOP}:1",
        special_tokens=[(BOS, 3), (STOP, 2)],
    )
    return made


def encoder(folder, *, auto=transformers.AutoModel, dropout=0.0, **changes):
    """The path of a random BERT, the same every time, with or without a head."""
    text = tokenizer()
    own = settings(text, pad_token_id=1, max_position_embeddings=64, initializer_range=0.1, **changes)
    own |= {"attention_probs_dropout_prob": dropout, "hidden_dropout_prob": dropout}
    torch.manual_seed(1)
    auto.from_config(transformers.BertConfig(**own)).save_pretrained(folder)
    text.save_pretrained(folder)
    return str(folder)


def lists(n=4, docs=3):
    """Queries with documents of targets 0 to ``docs - 1``, in different orders, of different lengths."""
    made = []
    for number in range(n):
        order = [(number + place) % docs for place in range(docs)]
        shown = tuple(Doc(f"d{one}", f"{WORDS[one]}{'.' * (number % 3)}") for one in order)
        made.append(TrainingList(f"q{number}", f"q{number}", shown, tuple(float(one) for one in order)))
    return made
