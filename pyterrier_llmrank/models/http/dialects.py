"""How servers tell the log-probabilities of labels: one function a dialect, the exact ones first.

All dialects by id take and give the same, so that one is chosen by trial and the rest of the package need not know.
"""

from __future__ import annotations

import math
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Usage

from .failures import Failed, billed
from .reading import Candidate, candidates, costs, entries, requested
from .wire import Wire

MOST_IDS = 128  # that vLLM tells of one prompt
FIRST_WIDTH = 64  # candidates to ask llama-server for, before all of its vocabulary


class Read(NamedTuple):
    """What was told of the labels of one prompt.

    Attributes:
        logprobs: Natural log-probability of each, over the full vocabulary, (labels,).
        missing: True where only an upper bound is known, (labels,).
        usage: What it cost.
    """

    logprobs: NDArray[np.float64]
    missing: NDArray[np.bool_]
    usage: Usage


class Request(NamedTuple):
    """What is asked of one prompt.

    Attributes:
        path: Below the address.
        body: What is sent.
        tokens: That it cannot exceed, read and written.
        most: An estimate of what it costs, from above.
    """

    path: str
    body: dict[str, Any]
    tokens: int
    most: Usage


class ById(Protocol):
    """Tells how probable each of some token ids is after each prompt, which is token ids too."""

    def __call__(
        self, wire: Wire, name: str, prompts: Sequence[Sequence[int]], wanted: tuple[int, ...]
    ) -> Coroutine[Any, Any, list[Read]]:
        """One reading per prompt; raises ``Failed`` where there is none that can be trusted."""
        ...


async def token_ids(wire: Wire, name: str, prompts: Sequence[Sequence[int]], wanted: tuple[int, ...]) -> list[Read]:
    """By ``logprob_token_ids``, exact (vLLM).

    Such requests must not share a server with those that ask for plain ``logprobs``: vLLM's first model runner then
    answers the latter wrongly, so nothing else is asked for once this dialect is chosen.
    """
    parts = []
    for start in range(0, len(wanted), MOST_IDS):
        own = list(wanted[start : start + MOST_IDS])
        keys = [f"token_id:{token}" for token in own]
        told = {"logprobs": 1, "logprob_token_ids": own, "return_tokens_as_token_ids": True}
        completed = await _completed(wire, name, prompts, told)
        parts.append([(requested(entry, keys), usage) for entry, usage in completed])
    return [
        Read(
            np.concatenate([logprobs for logprobs, _ in of_prompt]),
            np.zeros(len(wanted), dtype=bool),
            of_prompt[0][1] if len(of_prompt) == 1 else sum((usage for _, usage in of_prompt), Usage()),
        )
        for of_prompt in zip(*parts, strict=True)
    ]


async def score_endpoint(
    wire: Wire, name: str, prompts: Sequence[Sequence[int]], wanted: tuple[int, ...]
) -> list[Read]:
    """By ``/v1/score`` with ``label_token_ids`` (SGLang): probabilities over the full vocabulary.

    Written after its published interface; every use is preceded by the proof that all dialects must pass.
    """
    found: dict[int, Read] = {}
    for first in dict.fromkeys(ids[0] for ids in prompts):  # which all prompts of one request share
        places = [place for place, ids in enumerate(prompts) if ids[0] == first]
        items = [list(prompts[place][1:]) for place in places]
        body = {"query": [first], "items": items, "label_token_ids": list(wanted), "apply_softmax": False}
        tokens = sum(len(prompts[place]) for place in places)
        answer = await wire.post("/score", {"model": name, **body}, tokens=tokens)
        rows = answer.get("scores") if isinstance(answer, dict) else None
        if not isinstance(rows, list) or len(rows) != len(places):
            raise Failed(f"{wire.address.url}/score gave no row of scores per prompt")
        for place, row in zip(places, rows, strict=True):
            found[place] = _probabilities(row, len(wanted), Usage(1, len(prompts[place])))
    return [found[place] for place in range(len(prompts))]


class TopById(NamedTuple):
    """By the likeliest tokens with their ids (llama-server): a few at first, all of them where a label is absent.

    Attributes:
        vocabulary: Tokens that there are.
    """

    vocabulary: int

    async def __call__(
        self, wire: Wire, name: str, prompts: Sequence[Sequence[int]], wanted: tuple[int, ...]
    ) -> list[Read]:
        """One reading per prompt."""
        width = min(FIRST_WIDTH, self.vocabulary)
        reads = await self._read(wire, name, prompts, wanted, width)
        rare = [place for place, read in enumerate(reads) if read.missing.any()]
        if rare and width < self.vocabulary:
            full = await self._read(wire, name, [prompts[place] for place in rare], wanted, self.vocabulary)
            for place, read in zip(rare, full, strict=True):
                reads[place] = read._replace(usage=reads[place].usage + read.usage)
        return reads

    async def _read(
        self, wire: Wire, name: str, prompts: Sequence[Sequence[int]], wanted: tuple[int, ...], width: int
    ) -> list[Read]:
        """Readings from so many of the likeliest tokens."""
        # what it writes must be text: after half of a character it tells nothing. What it tells is without the bias
        told = {"logprobs": width, "logit_bias": {str(wanted[0]): 100.0}}
        completed = await _completed(wire, name, prompts, told)
        return [bounded(candidates(entry), wanted, usage) for entry, usage in completed]


async def top_by_text(wire: Wire, request: Request, labels: Sequence[str]) -> Read:
    """By the likeliest tokens with their texts: an absent label is bounded from above, and flagged as missing."""
    answer = await wire.post(request.path, request.body, tokens=request.tokens)
    [usage] = costs(answer, [None], request.most)
    with billed(usage):
        [entry] = entries(answer, 1)
        return bounded(candidates(entry), [label.encode() for label in labels], usage, by_text=True)


def bounded(found: Sequence[Candidate], wanted: Sequence[int | bytes], usage: Usage, *, by_text: bool = False) -> Read:
    """Log-probabilities of what is wanted; of what is not among the candidates, the most that they can be.

    That is no more than the least likely candidate has, and no more than what all candidates leave over.

    Raises:
        Failed: There are no candidates.
    """
    if not found:
        raise Failed("the server told no log-probabilities, though it did before")
    known: dict[int | bytes | None, float] = {}
    for one in found:  # likeliest first; tokens may share a text
        known.setdefault(one.text if by_text else one.id, one.logprob)
    rest = 1.0 - math.fsum(math.exp(one.logprob) for one in found)
    bound = min(found[-1].logprob, math.log(rest) if rest > 0 else 0.0)
    values = [known.get(one, np.nan) for one in wanted]
    missing = np.isnan(values)
    return Read(np.where(missing, bound, values), missing, usage)


async def _completed(
    wire: Wire, name: str, prompts: Sequence[Sequence[int]], told: Mapping[str, Any]
) -> list[tuple[dict[str, Any], Usage]]:
    """What ``/completions`` says after each of many prompts, and what that cost; ``told`` says what is to be told."""
    asked = {"model": name, "prompt": [list(ids) for ids in prompts], "max_tokens": 1, "temperature": 0, **told}
    lengths = [len(ids) for ids in prompts]
    answer = await wire.post("/completions", asked, tokens=sum(lengths) + len(lengths), read=sum(lengths))
    told_costs = costs(answer, lengths, Usage(output_tokens=len(lengths)))
    return list(zip(entries(answer, len(prompts)), told_costs, strict=True))


def _probabilities(row: object, n: int, usage: Usage) -> Read:
    """Logarithms of ``n`` probabilities."""
    if not isinstance(row, list) or len(row) != n or not all(isinstance(one, int | float) for one in row):
        raise Failed(f"the server gave {row!r} where {n} probabilities belong")
    values = np.array(row, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all() or values.sum() > 1.001:
        raise Failed(f"the server gave {row!r}, which are no probabilities over a vocabulary")
    least = np.finfo(np.float32).smallest_subnormal  # what rounds to 0 is below it
    return Read(np.log(np.maximum(values, float(least))), values == 0, usage)
