"""Answers as text and back, exactly: what is kept of them, and what is not worth keeping."""

from __future__ import annotations

import json
from binascii import a2b_base64, b2a_base64
from dataclasses import astuple
from typing import Any, TypeAlias

import numpy as np

from pyterrier_llmrank.core import USAGE_FIELDS, Answer, Usage
from pyterrier_llmrank.models import ChoiceScores, Generation, TokenLogprobs

Result: TypeAlias = Answer | ChoiceScores | TokenLogprobs | Generation

DECODER = json.JSONDecoder()
SCORES = np.dtype("<f8")
FREE = Usage(cached_calls=1)
FACTS = [USAGE_FIELDS.index(name) for name in ("failures", "repaired", "truncated_tokens")]  # not costs


def packed(result: Result) -> str:
    """A result as JSON; floats come back exactly. Scores are many, and read thrice as fast as bytes (in base64)."""
    usage = astuple(result.usage)
    if isinstance(result, Answer):
        told: list[Any] = [b2a_base64(np.asarray(result.scores, dtype=SCORES).tobytes(), newline=False).decode()]
    elif isinstance(result, ChoiceScores):
        told = [result.logprobs.tolist(), result.missing.tolist(), float(result.log_total)]
    elif isinstance(result, TokenLogprobs):
        told = [result.logprobs.tolist()]
    else:
        told = [result.text, result.finish]
    return json.dumps([*told, usage], separators=(",", ":"))


def unpacked(primitive: str, text: str) -> Result:
    """The result of a primitive, again, at no cost.

    Its usage says what is true of the answer (what was repaired, what was cut), and nothing that was spent on it.
    """
    told, _ = DECODER.raw_decode(text)
    usage = _free(told[-1])
    if primitive == "__call__":
        return Answer(np.frombuffer(a2b_base64(told[0]), SCORES).astype(np.float64), usage)
    if primitive == "choices":
        return ChoiceScores(np.array(told[0], dtype=np.float64), np.array(told[1], dtype=bool), usage, told[2])
    if primitive == "continuation":
        return TokenLogprobs(np.array(told[0], dtype=np.float64), usage)
    return Generation(told[0], told[1], usage)


def _free(spent: list[int]) -> Usage:
    """Usage without the costs: the calls are told as calls that were not made."""
    calls = spent[0] + spent[-1]
    if calls == 1 and not any(spent[place] for place in FACTS):
        return FREE
    return Usage(**{USAGE_FIELDS[place]: spent[place] for place in FACTS}, cached_calls=calls)


def complete(result: Result, item: tuple[Any, ...]) -> bool:
    """Whether an answer is worth keeping: one that failed, in whole or in part, is asked for again."""
    if result.usage.failures:
        return False
    if isinstance(result, Answer):
        return len(result.scores) == len(item[0].docs) and not bool(np.isnan(result.scores).all())
    if isinstance(result, Generation):
        return True
    if isinstance(result, ChoiceScores) and bool(result.missing.all()):
        return False
    return not bool(np.isnan(result.logprobs).any())
