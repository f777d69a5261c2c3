"""Answers of vLLM that are held to a permutation: how they are asked for and read; ``processor`` holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyterrier_llmrank.core import Usage
from pyterrier_llmrank.errors import ModelError
from pyterrier_llmrank.models.base import Generation, Permutation
from pyterrier_llmrank.models.hf.constraints import Path, Spelling

from .engine import Loaded
from .processor import told
from .reading import usage_of


def write_held(
    loaded: Loaded,
    sequences: Sequence[list[int]],
    permutation: Permutation,
    spellings: Sequence[Spelling],
    drawn: Sequence[Mapping[str, Any]],
) -> list[Generation]:
    """Answers to sequences, held to a permutation as it is spelled after each; drawn as ``writing.manners`` says."""
    params = [{"max_tokens": one.most, **told(one), **own} for one, own in zip(spellings, drawn, strict=True)]
    outputs = loaded.run(sequences, params)
    return [read_held(output, permutation, one) for output, one in zip(outputs, spellings, strict=True)]


def read_held(output: Any, permutation: Permutation, spelling: Spelling) -> Generation:  # noqa: ANN401 - vLLM's
    """An answer as every model gives it, from one of vLLM's; without the end token, which vLLM may have written.

    Raises:
        ModelError: It is not what it was held to: an engine that does not run what it is given.
    """
    [answer] = output.outputs
    path = Path(spelling, ())
    for token in answer.token_ids:
        if not path.done:
            path.write(token)
    if not path.done:
        raise ModelError(f"vLLM broke off an answer that is held to a permutation: {answer.finish_reason}")
    usage = usage_of(output) + Usage(output_tokens=len(path.tokens))
    return Generation(permutation.text(path.named), "stop", usage)
