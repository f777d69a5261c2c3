"""How checkpoints of Set-Encoders say what they are: those of lightning IR, whose format is also ours."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from pyterrier_llmrank.errors import ModelError

MODEL_TYPE = "set-encoder"  # webis/set-encoder-large says "set-encoder-electra"
FORMAT = {"depth": 100, "query_length": 32, "doc_length": 256, "add_extra_token": True}  # webis/set-encoder-*
KNOWN = {"pooling_strategy": "first", "tokenizer_pattern": None, "other_sequence_embedding": False}
FOREIGN = {"model_type", "architectures", "transformers_version", "backbone_model_type", "_name_or_path"}


def read_config(name: str, **where: Any) -> PretrainedConfig:  # noqa: ANN401 - arguments of transformers
    """The configuration of a checkpoint, as that of its encoder.

    Raises:
        ModelError: It is of another architecture, or reads its input in a way that is not known here.
    """
    told, _ = PretrainedConfig.get_config_dict(name, **where)
    kind = str(told.get("model_type", ""))
    if not kind.startswith(MODEL_TYPE):
        raise ModelError(
            f"{name} is no Set-Encoder (its config.json says {kind!r}), so it has no head that was trained on lists; "
            "use a checkpoint such as 'webis/set-encoder-base', or CrossEncoder"
        )
    for option, known in KNOWN.items():
        if told.get(option) not in (None, known):
            raise ModelError(f"{name} was trained with {option}={told[option]!r}; only {known!r} is known here")
    named = re.search(r"SetEncoder(\w+)Model", " ".join(told.get("architectures") or []))
    backbone = told.get("backbone_model_type") or kind[len(MODEL_TYPE) + 1 :] or (named and named[1].lower())
    if not backbone:
        raise ModelError(f"{name} does not say what its encoder is (backbone_model_type in its config.json)")
    own = {**{key: FORMAT[key] for key in ("depth", "query_length", "doc_length")}, **told}
    return AutoConfig.for_model(backbone, **{key: value for key, value in own.items() if key not in FOREIGN})


def rewrite_config(folder: Path) -> None:
    """Makes the configuration of an encoder, saved in a folder, one of a Set-Encoder."""
    path = folder / "config.json"
    if not path.is_file():  # written by one process of several
        return
    told = json.loads(path.read_text(encoding="utf-8"))
    backbone = told["model_type"]
    told |= {"model_type": MODEL_TYPE, "backbone_model_type": backbone, "linear_bias": True}
    told["architectures"] = [f"SetEncoder{backbone.capitalize()}Model"]
    path.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")
