"""Arguments of ``vllm.LLM`` that users may not give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyterrier_llmrank.errors import ConfigurationError

OURS = {  # arguments of ``vllm.LLM`` that are set here, and what to use instead
    "model": "name=",
    "tokenizer": "name= or adapter=",
    "revision": "revision=",
    "tokenizer_revision": "revision=",
    "dtype": "dtype=",
    "max_model_len": "max_length=",
    "trust_remote_code": "trust_remote_code=",
    "generation_config": "sampling= of what asks for text",
    "runner": "CrossEncoder or BiEncoder for models that write nothing",
    "logprobs_mode": "HFModel for logits",
    "skip_tokenizer_init": "HFModel for models without a tokenizer",
}


def check_options(options: Mapping[str, Any]) -> None:
    """Refuses what has an argument of its own.

    Raises:
        ConfigurationError: There is such an option.
    """
    for name in options:
        if name in OURS:
            raise ConfigurationError(f"engine must not hold {name!r}, which VLLMModel sets; use {OURS[name]}")
