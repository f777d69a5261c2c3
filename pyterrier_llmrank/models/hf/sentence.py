"""Folders of sentence-transformers: how their checkpoint makes a vector of a text, read and written."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyterrier_llmrank.errors import ConfigurationError, ModelError

from .hub import Where, where

if TYPE_CHECKING:
    from .encoders import Pooling

MODULES, POOLING, PROMPTS = "modules.json", "1_Pooling", "config_sentence_transformers.json"
LENGTH = "sentence_bert_config.json"
FILES = [MODULES, PROMPTS, LENGTH, "*_Pooling/config.json"]
NAMES = {"cls": "cls", "cls_token": "cls", "mean": "mean", "mean_tokens": "mean", "lasttoken": "last"}  # theirs: ours
LEGACY = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
DOCUMENTS = ("document", "passage", "corpus")  # prompts for documents, by which ``encode_document`` goes, in its order


@dataclass(frozen=True)
class Settings:
    """How a bi-encoder makes a vector of a text.

    Attributes:
        pooling: Of the states of its tokens: their "mean", "cls" (the first) or "last".
        normalize: Whether vectors are scaled to length 1.
        query_prefix: What goes before a query.
        doc_prefix: What goes before a document.
        max_length: Tokens of a text that are read, special ones included; None for as many as the network can.
    """

    pooling: Pooling = "mean"
    normalize: bool = True
    query_prefix: str = ""
    doc_prefix: str = ""
    max_length: int | None = None


def settings_of(folder: str | os.PathLike[str]) -> Settings | None:
    """What a folder of sentence-transformers says; None for one that is not of its making (without modules.json).

    Raises:
        ConfigurationError: It asks for what ``BiEncoder`` does not do, such as another layer behind the pooling.
        ModelError: One of its files cannot be read.
    """
    path = Path(folder)
    modules = _json(path / MODULES)
    if modules is None:
        return None
    kinds = {str(one["type"]).rpartition(".")[2]: path / one["path"] for one in modules}
    if unknown := kinds.keys() - {"Transformer", "Pooling", "Normalize"}:
        raise ConfigurationError(
            f"{folder} makes its vectors with a module {', '.join(sorted(unknown))} of sentence-transformers, which "
            "BiEncoder does not have; use pyterrier_dr.SBertBiEncoder"
        )
    prompts = _json(path / PROMPTS) or {}
    named: dict[str, str] = prompts.get("prompts") or {}
    usual = named.get(prompts.get("default_prompt_name") or "", "")
    read = _json(kinds.get("Transformer", path) / LENGTH) or {}
    if read.get("do_lower_case"):
        raise ConfigurationError(f"{folder} lower-cases texts before they are tokenised, which BiEncoder does not do")
    return Settings(
        _pooling(folder, _json(kinds["Pooling"] / "config.json") or {}) if "Pooling" in kinds else "mean",
        "Normalize" in kinds,
        named.get("query", usual),
        next((named[name] for name in DOCUMENTS if name in named), usual),
        read.get("max_seq_length"),
    )


def settings_on_hub(name: str) -> Settings | None:
    """The same of a name on the hub, from the cache or the hub; None where nothing is to be had.

    Raises:
        ConfigurationError: As ``settings_of``.
        ModelError: Likewise.
    """
    from huggingface_hub import constants, snapshot_download

    if where(name, None) not in (Where.HERE, Where.HUB):
        return None
    try:  # weights may be cached without these; only where the hub is not to be had, what is cached will do
        folder = snapshot_download(name, allow_patterns=FILES, local_files_only=constants.HF_HUB_OFFLINE)
    except OSError:
        return None
    return settings_of(folder)


def write_settings(folder: str | os.PathLike[str], settings: Settings, *, width: int) -> None:
    """Writes them beside the network and its tokenizer, in the form that every version of sentence-transformers reads.

    Args:
        folder: With ``config.json``, weights and tokenizer.
        settings: How vectors are made.
        width: Of a vector.
    """
    path = Path(folder)
    kinds = ["Transformer", "Pooling", *(["Normalize"] if settings.normalize else [])]
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    own = {name: NAMES.get(name) == settings.pooling for name in LEGACY}
    pooling = {"word_embedding_dimension": width, **{f"pooling_mode_{name}": on for name, on in own.items()}}
    prompts = {"query": settings.query_prefix, "document": settings.doc_prefix}
    _write(path / MODULES, modules)
    _write(path / POOLING / "config.json", pooling)
    if settings.normalize:
        (path / "2_Normalize").mkdir(parents=True, exist_ok=True)
    _write(
        path / PROMPTS,
        {
            "model_type": "SentenceTransformer",
            "prompts": prompts,
            "default_prompt_name": None,
            "similarity_fn_name": "cosine" if settings.normalize else "dot",
        },
    )
    length = {} if settings.max_length is None else {"max_seq_length": settings.max_length}
    _write(path / LENGTH, {**length, "do_lower_case": False})


def _pooling(folder: str | os.PathLike[str], config: dict[str, Any]) -> Pooling:
    """How tokens become one vector.

    Raises:
        ConfigurationError: In a way that ``BiEncoder`` does not have.
    """
    modes = config.get("pooling_mode", [name for name in LEGACY if config.get(f"pooling_mode_{name}")] or "mean")
    modes = [modes] if isinstance(modes, str) else modes
    if len(modes) != 1 or modes[0] not in NAMES or not config.get("include_prompt", True):
        apart = "" if config.get("include_prompt", True) else ", prompts left out"
        raise ConfigurationError(
            f"{folder} pools tokens by {' + '.join(modes)}{apart}, and BiEncoder by mean, cls or last, prompts read; "
            "use pyterrier_dr.SBertBiEncoder"
        )
    found: Pooling = NAMES[modes[0]]  # type: ignore[assignment]
    return found


def _json(path: Path) -> Any:  # noqa: ANN401 - whatever is in it
    """The content of a file; None where there is none.

    Raises:
        ModelError: It is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
