"""Retrievers on disk as sentence-transformers has them: weights, tokenizer, and what is done with the states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pyterrier_llmrank.models.hf.encoders import Pooling

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MODES = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}


class Reading(NamedTuple):
    """How texts become vectors.

    Attributes:
        pooling: Of the states of a text's tokens.
        normalize: Whether vectors are scaled to length 1.
        query_prefix: Before each query.
        doc_prefix: Before each document.
        tokens: Of a text at most, special ones included.
    """

    pooling: Pooling
    normalize: bool
    query_prefix: str
    doc_prefix: str
    tokens: int


def save(folder: Path, encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, reading: Reading) -> None:
    """Writes a folder that ``SentenceTransformer(folder)`` and ``BiEncoder(folder)`` load.

    sentence-transformers puts the prefixes there by ``prompt_name="query"`` and ``"document"``, or by
    ``encode_query`` and ``encode_document``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoder.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    kinds = ["Transformer", "Pooling", *["Normalize"] * reading.normalize]
    modules = [
        {
            "idx": place,
            "name": str(place),
            "path": f"{place}_{kind}" if place else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for place, kind in enumerate(kinds)
    ]
    width = encoder.config.get_text_config().hidden_size
    modes = {mode: name == reading.pooling for name, mode in MODES.items()}
    written: dict[str, Any] = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": reading.tokens, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": width, **modes},
        "config_sentence_transformers.json": {
            "prompts": {"query": reading.query_prefix, "document": reading.doc_prefix},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine" if reading.normalize else "dot",
        },
    }
    for module in modules[1:]:
        (folder / str(module["path"])).mkdir(exist_ok=True)
    for name, content in written.items():
        (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")
