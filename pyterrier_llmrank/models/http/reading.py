"""Reads the answers of servers: what is not exactly there raises, whatever the status was."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Usage

from .failures import Failed

TOKEN_ID = re.compile(r"token_id:(\d+)")
ROUNDING = 1e-3  # a log-probability may be above 0 by this much
NOT_TOLD = Usage()
LOWEST = -1e9  # what stands for minus infinity is above it


class Candidate(NamedTuple):
    """A token that could have come next.

    Attributes:
        id: In the vocabulary; None where the server does not tell.
        text: What it spells, as bytes.
        logprob: Natural logarithm of its probability.
    """

    id: int | None
    text: bytes
    logprob: float


def entries(answer: Any, n: int) -> list[dict[str, Any]]:  # noqa: ANN401 - JSON
    """The ``n`` entries of an answer to as many prompts, in the order of the prompts.

    Raises:
        Failed: There are not so many, or they do not say which is which.
    """
    found = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise Failed(f"the server answered without choices: {str(answer)[:100]!r}")
    if sorted(str(entry.get("index", 0)) for entry in found) != sorted(map(str, range(n))):
        raise Failed(f"the server gave {len(found)} answers to {n} prompts")
    return sorted(found, key=lambda entry: int(entry.get("index", 0)))


def written(entry: dict[str, Any]) -> tuple[str, Literal["stop", "length"]]:
    """The text of an entry, and how it ended.

    Raises:
        Failed: There is no text, or it ended otherwise (such as by a content filter).
    """
    message = entry.get("message")
    text = message.get("content") if isinstance(message, dict) else entry.get("text")
    finish = entry.get("finish_reason")
    if finish == "eos" or finish == "stop_sequence":  # as some servers say
        finish = "stop"
    if text is None and finish == "length":  # all was spent on reasoning, which is told elsewhere
        text = ""
    if not isinstance(text, str) or finish not in ("stop", "length"):
        raise Failed(f"the server wrote {str(text)[:40]!r} and ended with {finish!r}, which is no answer")
    return text, finish


def candidates(entry: dict[str, Any]) -> list[Candidate]:
    """The tokens told for the first place of an answer, likeliest first; none where the server tells no such thing.

    Raises:
        Failed: What is told are no log-probabilities.
    """
    told = entry.get("logprobs")
    if not isinstance(told, dict):
        return []
    if told.get("content"):
        place = _first(told["content"])
        others = place.get("top_logprobs") or [place]  # only the token that was chosen
        if not isinstance(others, list) or not all(isinstance(one, dict) for one in others):
            raise Failed(f"the server gave {str(others)[:40]!r} as tokens with their log-probabilities")
        found = [_candidate(one.get("id"), one.get("token"), one.get("bytes"), one.get("logprob")) for one in others]
    elif told.get("top_logprobs"):
        found = [_candidate(None, token, None, logprob) for token, logprob in _first(told["top_logprobs"]).items()]
    else:
        return []
    return sorted(found, key=lambda one: -one.logprob)


def requested(entry: dict[str, Any], keys: Sequence[str]) -> NDArray[np.float64]:
    """Log-probability of each of the tokens that were asked for, by their keys ("token_id:7"), (keys,).

    Raises:
        Failed: One of them is not told.
    """
    told = entry.get("logprobs")
    place = _first(told.get("top_logprobs") if isinstance(told, dict) else None)
    return np.array([_logprob(place.get(key)) for key in keys])


def echoed(entry: dict[str, Any], ids: Sequence[int]) -> NDArray[np.float64]:
    """Log-probability of each of the prompt's tokens ``ids`` after those before it, (ids,); NaN for the first.

    Raises:
        Failed: The server echoed something else.
    """
    told = entry.get("logprobs")
    tokens, values = (told.get("tokens"), told.get("token_logprobs")) if isinstance(told, dict) else (None, None)
    if not isinstance(tokens, list) or not isinstance(values, list) or not len(ids) <= len(tokens) == len(values):
        raise Failed("the server echoed no log-probabilities of the prompt")
    if tokens[: len(ids)] != [f"token_id:{token}" for token in ids]:
        raise Failed("the server echoed other tokens than it was sent")
    return np.array([np.nan] + [_logprob(value) for value in values[1 : len(ids)]])


def costs(answer: object, lengths: Sequence[int | None], most: Usage = NOT_TOLD) -> list[Usage]:
    """What each prompt of a request cost.

    A server that says to have read less than it was sent tells of the first prompt only (llama-server), which says
    nothing of the others.

    Args:
        answer: To all of them; tells their sums.
        lengths: Tokens of each prompt; None where only the server knows.
        most: What all of them cost at most, which counts where the server does not say.
    """
    usage = _fields(answer, "usage") if of_all(answer, sum(length or 0 for length in lengths)) else {}
    details = _fields(usage, "prompt_tokens_details")
    n = len(lengths)
    prompt, output, cached = (
        _shared(value, n)
        for value in (
            usage.get("prompt_tokens") or most.prompt_tokens,
            usage.get("completion_tokens", most.output_tokens),
            details.get("cached_tokens"),
        )
    )
    return [
        Usage(1, length if length is not None else own, min(kept, length if length is not None else own), new)
        for length, own, kept, new in zip(lengths, prompt, cached, output, strict=True)
    ]


def of_all(answer: object, read: int) -> bool:
    """Whether an answer does not say that fewer tokens were read than the ``read`` that were sent."""
    told = _fields(answer, "usage").get("prompt_tokens")
    return not isinstance(told, int) or told >= read


def _fields(told: object, name: str) -> dict[str, Any]:
    """An object within another; empty where there is none."""
    own = told.get(name) if isinstance(told, dict) else None
    return own if isinstance(own, dict) else {}


def _shared(total: object, n: int) -> list[int]:
    """A sum, shared out over ``n`` prompts as evenly as whole numbers can be."""
    whole = total if isinstance(total, int) and total > 0 else 0
    return [whole // n + (place < whole % n) for place in range(n)]


def _first(places: object) -> dict[str, Any]:
    """What is told of the first place of an answer."""
    if not isinstance(places, list) or not places or not isinstance(places[0], dict):
        raise Failed(f"the server told {str(places)[:40]!r} where log-probabilities of the next token belong")
    return places[0]


def _candidate(token_id: object, token: object, spelled: object, logprob: object) -> Candidate:
    text = token if isinstance(token, str) else ""
    if match := TOKEN_ID.fullmatch(text):
        return Candidate(int(match[1]), b"", _logprob(logprob))
    known = isinstance(spelled, list) and all(type(one) is int and 0 <= one < 256 for one in spelled)
    exact = bytes(spelled) if isinstance(spelled, list) and known else text.encode(errors="replace")
    return Candidate(token_id if isinstance(token_id, int) else None, exact, _logprob(logprob))


def _logprob(value: object) -> float:
    if type(value) not in (int, float) or not (LOWEST <= value <= ROUNDING or value == -math.inf):  # type: ignore[operator]
        raise Failed(f"the server gave {str(value)[:40]!r} as a log-probability")
    return min(float(value), 0.0)  # type: ignore[arg-type]
