"""Answers of vLLM that are held to a permutation: by the log-probabilities of what may come next, once a choice.

vLLM's own ways to change logits differ between its model runners, and none of them skips what leaves no choice. Here
all answers of a call go on together: every request tells of the tokens that are allowed, and what it goes on from is in
the prefix cache but for the tokens of the last block.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from pyterrier_llmrank.core import Usage
from pyterrier_llmrank.models.base import Generation, Permutation
from pyterrier_llmrank.models.hf.constraints import Path, Spelling
from pyterrier_llmrank.models.hf.sampling import drawn_from

from .engine import Loaded
from .reading import Read, read_next


def write_held(
    loaded: Loaded,
    sequences: Sequence[list[int]],
    permutation: Permutation,
    spellings: Sequence[Spelling],
    draws: Sequence[Sequence[Any]],
) -> list[Generation]:
    """Answers to sequences, held to a permutation as it is spelled after each; drawn by ``sampling.processors``."""
    ends = end_tokens(loaded)
    paths = [Path(spelling, ends) for spelling in spellings]
    first: dict[int, Usage] = {}
    for path in paths:
        path.forced()
    while left := [place for place, path in enumerate(paths) if not path.done]:
        rows = [[*sequences[place], *paths[place].tokens] for place in left]
        allowed = [sorted(paths[place].allowed()) for place in left]
        reads = [Read(row, len(row), tokens) for row, tokens in zip(rows, allowed, strict=True)]
        for place, tokens, (logprobs, usage) in zip(left, allowed, read_next(loaded, reads), strict=True):
            paths[place].write(tokens[drawn_from(logprobs, draws[place])])
            paths[place].forced()
            first.setdefault(place, usage)
    return [
        Generation(
            permutation.text(path.named),
            "stop",
            replace(first.get(place, Usage()), calls=1, prompt_tokens=len(ids), output_tokens=len(path.tokens)),
        )
        for place, (ids, path) in enumerate(zip(sequences, paths, strict=True))
    ]


def end_tokens(loaded: Loaded) -> Collection[int]:
    """Ids that end an answer: the tokenizer's, and those of the checkpoint's generation configuration."""
    told = loaded.engine.llm.model_config.try_get_generation_config().get("eos_token_id")
    ends = {told} if isinstance(told, int) else set(told or ())
    own = loaded.engine.tokenizer.eos_token_id
    return ends if own is None else {*ends, int(own)}
