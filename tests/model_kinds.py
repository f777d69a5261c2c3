"""The kinds of models that the contract is checked on. A new kind is one more line in ``KINDS``.

A kind starts a model on a checkpoint's folder: ``starts(folder)`` is a context manager that gives it, and stops what it
started. It says which of the two checkpoints it runs, and how near its numbers must come to those of transformers.
"""

from __future__ import annotations

import importlib.util
import json
import os
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import pytest
import transformers
from tiny import CHATML, byte_tokenizer, encoder_decoder, local, saved, settings

from pyterrier_llmrank.models import OpenAIModel
from pyterrier_llmrank.models.vllm import VLLMModel

WILD = {"do_sample": True, "temperature": 1.5, "top_k": 3, "repetition_penalty": 2.0, "min_new_tokens": 12}
SMALL = {"enforce_eager": True, "kv_cache_memory_bytes": 2**26}


class Kind(NamedTuple):
    starts: object
    checkpoint: str = "decoder"
    tolerance: float = 1e-5
    writes: int = 0  # tokens that it has to write where it only reads


def in_process(folder, **options):
    """A small vLLM that starts no processes."""
    told = {"ENABLE_V1_MULTIPROCESSING": "0", "NO_USAGE_STATS": "1", "LOGGING_LEVEL": "CRITICAL"}
    os.environ.update({f"VLLM_{name}": value for name, value in told.items()})
    model = VLLMModel(str(folder), engine=SMALL, **options)
    model.load()
    return model


@contextmanager
def behind_a_server(folder):
    """A model behind a server of this process that answers as vLLM does."""
    from fake_server import Network, Server, Writing

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ends = json.loads((Path(folder) / "generation_config.json").read_text())["eos_token_id"]
    with Server(Writing(Network(tokenizer, folder), ends=frozenset(ends))) as server:
        yield OpenAIModel("tiny", server.url, tokenizer=folder)


needs_client = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("openai", "aiohttp"))), reason="the openai client is not installed"
)
needs_vllm = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
    pytest.mark.filterwarnings("ignore"),  # what it and its libraries warn of is not ours to mend
]

KINDS = [
    pytest.param(Kind(lambda folder: nullcontext(local(folder))), id="decoder"),
    pytest.param(Kind(lambda folder: nullcontext(local(folder)), "encoder_decoder"), id="encoder_decoder"),
    pytest.param(Kind(behind_a_server, writes=1), id="http", marks=needs_client),
    pytest.param(Kind(lambda folder: nullcontext(in_process(folder))), id="vllm", marks=needs_vllm),
]


def decoder_checkpoint(folder, **changes):
    """A Qwen3 with a chat template, of a head size that vLLM computes on a CPU."""
    tokenizer = byte_tokenizer(chat=CHATML)
    return saved(folder, tokenizer, transformers.Qwen3Config(**settings(tokenizer, head_dim=32, **changes)))


CHECKPOINTS = {"decoder": decoder_checkpoint, "encoder_decoder": encoder_decoder}


def configured(folder, **changes):
    """Changes the generation configuration of a checkpoint."""
    path = Path(folder) / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
