"""Written answers: greedily or drawn by seeds, ended by the checkpoint's end tokens or by stop texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pyterrier_llmrank.errors import ConfigurationError, ModelError
from pyterrier_llmrank.models.base import Generation, Sampling
from pyterrier_llmrank.models.hf.chats import spoken
from pyterrier_llmrank.models.hf.stopping import before_stop

from .reading import usage_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COOLEST, HOTTEST = 0.01, 2.0  # temperatures that vLLM takes as they are


def manners(sampling: Sampling | None, seeds: Sequence[int] | None, n: int) -> list[dict[str, Any]]:
    """How each of ``n`` answers is drawn, as arguments of ``vllm.SamplingParams``; greedily by default.

    Raises:
        ConfigurationError: Not one seed per prompt, or a temperature that vLLM would not keep to.
    """
    if sampling is None:
        return [{} for _ in range(n)]
    if seeds is None or len(seeds) != n:
        found = "none" if seeds is None else len(seeds)
        raise ConfigurationError(f"sampling needs one seed per prompt: {n} prompts, seeds: {found}")
    if not COOLEST <= sampling.temperature <= HOTTEST:
        raise ConfigurationError(
            f"vLLM draws at temperatures from {COOLEST} to {HOTTEST}, got {sampling.temperature}; use one of these, or "
            "HFModel"
        )
    shared = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k or 0}
    return [{**shared, "seed": seed} for seed in seeds]


def written(output: Any, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str]) -> Generation:  # noqa: ANN401
    """An answer as every model gives it, from one of vLLM's."""
    [answer] = output.outputs
    if answer.finish_reason not in ("stop", "length"):
        raise ModelError(f"vLLM broke off an answer: {answer.finish_reason}")
    text, _ = before_stop(spoken(tokenizer, list(answer.token_ids)), stop)
    usage = replace(usage_of(output), output_tokens=len(answer.token_ids))
    return Generation(text, answer.finish_reason, usage)
