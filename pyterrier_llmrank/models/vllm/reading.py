"""Log-probabilities as vLLM tells them: of chosen tokens that may come next, and of the tokens of a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Usage
from pyterrier_llmrank.errors import ModelError

from .engine import Loaded

MOST = 128  # tokens whose log-probability vLLM tells at one place
SCORED = {"max_tokens": 1, "detokenize": False}  # vLLM writes one token at least


class Read(NamedTuple):
    """What is to be read of one sequence.

    Attributes:
        ids: What the network reads.
        start: How many ids come before those whose log-probabilities are to be summed up.
        tokens: Tokens that may come next.
    """

    ids: list[int]
    start: int
    tokens: list[int]


class Ask(NamedTuple):
    """Tokens that may come after one sequence; at most ``MOST``."""

    ids: list[int]
    tokens: list[int]


def read_next(loaded: Loaded, reads: Sequence[Read]) -> list[tuple[NDArray[np.float64], Usage]]:
    """Log-probability of each read's tokens together with the ids from ``start`` on, and the cost, per read.

    Ids from ``start`` on are read like ``tokens``, each after those before it, which are in the prefix cache.
    """
    asks = [_asks(read) for read in reads]
    told = iter(_told(loaded, [ask for own in asks for ask in own]))
    results = []
    for read, own in zip(reads, asks, strict=True):
        values, costs = zip(*(next(told) for _ in own), strict=True)
        common = len(read.ids) - read.start
        logprobs = np.concatenate(values[common:]) + sum(float(one[0]) for one in values[:common])
        results.append((logprobs, costs[-1]))
    return results


def _asks(read: Read) -> list[Ask]:
    common = [Ask(read.ids[:place], [read.ids[place]]) for place in range(read.start, len(read.ids))]
    own = [Ask(read.ids, read.tokens[start : start + MOST]) for start in range(0, len(read.tokens), MOST)]
    return common + own


def _told(loaded: Loaded, asks: Sequence[Ask]) -> list[tuple[NDArray[np.float64], Usage]]:
    """The answers to asks, all of one kind: where kinds of log-probabilities are mixed, vLLM mixes up the answers."""
    outputs = loaded.run([ask.ids for ask in asks], [{**SCORED, "logprob_token_ids": ask.tokens} for ask in asks])
    return [
        (_values(output.outputs[0].logprobs[0], ask.tokens), usage_of(output))
        for ask, output in zip(asks, outputs, strict=True)
    ]


def read_along(
    loaded: Loaded, sequences: Sequence[list[int]], starts: Sequence[int]
) -> list[tuple[NDArray[np.float64], Usage]]:
    """Log-probability of each token of a sequence from its start on, and the cost, per sequence."""
    outputs = loaded.run(sequences, [{**SCORED, "prompt_logprobs": 0, "flat_logprobs": True}] * len(sequences))
    results = []
    for ids, start, output in zip(sequences, starts, outputs, strict=True):
        values = [_values(output.prompt_logprobs[place], ids[place : place + 1]) for place in range(start, len(ids))]
        results.append((np.concatenate([np.empty(0), *values]), usage_of(output)))
    return results


def _values(told: dict[int, Any], tokens: Sequence[int]) -> NDArray[np.float64]:
    """What vLLM told of ``tokens``, (tokens,); by id, as texts are not distinct.

    Raises:
        ModelError: Some are not there: an engine that answers otherwise than it is asked.
    """
    if lacking := [token for token in tokens if token not in told]:
        raise ModelError(f"vLLM left out the log-probabilities of tokens {lacking}, of {len(tokens)} asked for")
    return np.array([told[token].logprob for token in tokens], dtype=np.float64)


def usage_of(output: Any) -> Usage:  # noqa: ANN401 - vLLM is imported lazily
    """What one of vLLM's answers cost, without tokens that were written."""
    return Usage(calls=1, prompt_tokens=len(output.prompt_token_ids), cached_tokens=output.num_cached_tokens or 0)
