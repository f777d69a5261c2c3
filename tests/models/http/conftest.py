"""A tokenizer that servers and clients share, and what is needed to ask a server."""

from __future__ import annotations

import pytest
from tiny import CHATML, byte_tokenizer

pytest.importorskip("openai", reason="the openai client is not installed")
pytest.importorskip("aiohttp", reason="aiohttp is not installed")


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    """The folder of a tokenizer with a chat template."""
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer(chat=CHATML).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def language(tokenizer):
    """A model whose every log-probability is known."""
    from fake_server import Random
    from transformers import AutoTokenizer

    return Random(AutoTokenizer.from_pretrained(tokenizer))
