"""A bi-encoder from what a checkpoint says of itself, and its vectors in float32."""

from __future__ import annotations

import os
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.errors import ConfigurationError, ModelError
from pyterrier_llmrank.middleware.fingerprint import fingerprint
from pyterrier_llmrank.models.hf.sentence import Settings, settings_of, settings_on_hub, write_settings
from pyterrier_llmrank.scorers import BiEncoder

from .known import find

Vectors = NDArray[np.float32]


def settings_for(name: str) -> Settings:
    """How a checkpoint makes its vectors: as its folder of sentence-transformers says, or as it is known to.

    Of what is published, prompts are missing from many folders; where a folder says none, those that are known count.
    A folder or name that tells nothing is taken for a mean of tokens, of length 1, without prefixes.

    Raises:
        ConfigurationError: The checkpoint asks for what ``BiEncoder`` does not do.
        ModelError: One of its files cannot be read.
    """
    known = find(name)
    if not Path(name).is_dir():
        return known.settings if known else settings_on_hub(name) or Settings()
    told = settings_of(name)
    if told is None or known is None:
        return told or (known.settings if known else Settings())
    silent = not told.query_prefix and not told.doc_prefix
    if not silent:
        return told
    return replace(told, query_prefix=known.settings.query_prefix, doc_prefix=known.settings.doc_prefix)


def bi_encoder(model: str | os.PathLike[str] | BiEncoder, local: dict[str, Any], **told: Any) -> BiEncoder:  # noqa: ANN401
    """The encoder that a model is, or that a checkpoint says it is.

    Args:
        model: A folder, a name on the hub, or a ``BiEncoder``, which is taken as it is.
        local: Arguments of ``Local``: device, dtype, batch_tokens.
        **told: Fields of ``Settings`` that count more than what the checkpoint says; None for what it says.

    Raises:
        ConfigurationError: An argument is out of range, or goes with a name only.
    """
    own = {name: value for name, value in {**told, **local}.items() if value is not None}
    if isinstance(model, BiEncoder):
        return replace(model, **own)
    name = os.path.expanduser(os.fspath(model))
    return BiEncoder(name, **{**vars(settings_for(name)), **own})


def identity(encoder: BiEncoder) -> str:
    """What tells apart encoders that give documents other vectors: by weights and settings, not by where they are."""
    told = replace(encoder, query_prefix="", dtype=None, trust_remote_code=False)
    return blake2b(fingerprint(told).encode(), digest_size=16).hexdigest()


def vectors_of(encoder: BiEncoder, texts: list[str], prefix: str) -> Vectors:
    """The vectors of texts, (texts, width); equal texts are encoded once.

    Raises:
        ModelError: One is not finite.
    """
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    made = encoder.encode(list(places), prefix)[0].astype(np.float32)
    if lost := int((~np.isfinite(made)).any(axis=1).sum()):
        raise ModelError(
            f"{encoder!r} gives {lost} of {len(made)} texts vectors that are not finite; its weights are broken, or "
            "too large for its precision (dtype='float32')"
        )
    return made if len(made) == len(texts) else made[[places[text] for text in texts]]


def save(encoder: BiEncoder, folder: str | os.PathLike[str]) -> None:
    """Writes weights, tokenizer and settings, for sentence-transformers and for ``DistilledRetriever``.

    Raises:
        ConfigurationError: The folder is the one that it was loaded from.
    """
    path = Path(folder)
    if path.exists() and Path(encoder.name).exists() and path.samefile(encoder.name):
        raise ConfigurationError(f"{folder} is where this encoder comes from; save it to another folder")
    loaded = encoder._loaded
    path.mkdir(parents=True, exist_ok=True)
    loaded.network.save_pretrained(path)
    loaded.tokenizer.save_pretrained(path)
    settings = Settings(
        encoder.pooling, encoder.normalize, encoder.query_prefix, encoder.doc_prefix, encoder.max_length
    )
    write_settings(path, settings, width=loaded.network.config.get_text_config().hidden_size)
