"""Tiny random dense retrievers."""

from __future__ import annotations

import transformers
from tiny import byte_tokenizer, saved

from pyterrier_llmrank.models.hf.sentence import Settings, write_settings

WIDTH = 32
MEANS = Settings("mean", False, "q: ", "d: ", 64)


def bert(folder, seed=1, settings=MEANS):
    """A random BERT as sentence-transformers saves one; its vectors are means, of any length."""
    tokenizer = byte_tokenizer(post="<|bos|> $A <|end|>")
    sizes = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = transformers.BertConfig(**sizes, vocab_size=len(tokenizer), initializer_range=0.4 + seed / 100)
    path = saved(folder, tokenizer, config, transformers.AutoModel)
    write_settings(path, settings, width=WIDTH)
    return path
