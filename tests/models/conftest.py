"""Tiny checkpoints that the tests of local models share."""

from __future__ import annotations

import pytest
from tiny import CHATML, byte_tokenizer, decoder, encoder_decoder


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return decoder(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    return decoder(tmp_path_factory.mktemp("chat"), byte_tokenizer(chat=CHATML))


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    return encoder_decoder(tmp_path_factory.mktemp("t5"))
