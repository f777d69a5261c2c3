"""Answers of vLLM that are held to a permutation: how they are asked for and read; ``processor`` holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyterrier_llmrank.core import Usage
from pyterrier_llmrank.errors import ModelError
from pyterrier_llmrank.models.base import Generation
from pyterrier_llmrank.models.hf.constraints import Path, Spelling

from .engine import Loaded
from .processor import TOLD
from .reading import usage_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def write_held(
    loaded: Loaded, sequences: Sequence[list[int]], spellings: Sequence[Spelling], drawn: Sequence[Mapping[str, Any]]
) -> list[Generation]:
    """Answers to sequences, each held to its spelling and drawn in its own manner (see ``writing.manners``)."""
    outputs = loaded.run(sequences, [{**held(one), **own} for one, own in zip(spellings, drawn, strict=True)])
    tokenizer = loaded.engine.tokenizer
    return [written_held(output, tokenizer, one) for output, one in zip(outputs, spellings, strict=True)]


def held(spelling: Spelling) -> dict[str, Any]:
    """Arguments of ``vllm.SamplingParams`` for an answer that is held to a spelling."""
    told = [list(map(list, spelling.first)), list(map(list, spelling.later)), spelling.length]
    return {"max_tokens": spelling.most, "extra_args": {TOLD: told}}


def written_held(output: Any, tokenizer: PreTrainedTokenizerBase, spelling: Spelling) -> Generation:  # noqa: ANN401
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
    return Generation(str(tokenizer.decode(path.tokens, skip_special_tokens=True)), "stop", usage)
