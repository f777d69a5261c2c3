"""What an exception carries of a call that failed: the answers that were there before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, TypeVar

from .base import ChoiceScores, Generation, TokenLogprobs

T = TypeVar("T")

KINDS = {"choices": ChoiceScores, "continuation": TokenLogprobs, "generate": Generation}


def finished(error: BaseException, primitive: str, asked: object) -> dict[int, Any]:
    """Answers by place that a failed call got before it failed; empty where the exception carries none.

    It carries them as ``finished``, the very list that was asked with answers by place, or else as ``partial``.

    Args:
        error: What was raised.
        primitive: What was called: one of a model's, or ``__call__`` of a scorer.
        asked: The list of what was asked.
    """
    carried = getattr(error, "finished", None)
    if isinstance(carried, tuple) and len(carried) == 2:
        return dict(carried[1]) if carried[0] is asked else {}
    partial = getattr(error, "partial", None)
    if primitive not in KINDS or not isinstance(partial, list) or not isinstance(asked, list | tuple):
        return {}  # a scorer's error tells of prompts, not of its questions
    if len(partial) != len(asked):
        return {}
    return {at: one for at, one in enumerate(partial) if isinstance(one, KINDS[primitive])}


def carry(error: BaseException, asked: object, answers: Mapping[int, Any]) -> None:
    """Lets an exception carry answers to what was asked, by place."""
    error.finished = (asked, dict(answers))  # type: ignore[attr-defined]


@contextmanager
def carrying(asked: object, made: Callable[[Exception], Mapping[int, Any]]) -> Iterator[None]:
    """Lets an exception carry answers to what was asked, which are ``made`` of those that it carries."""
    try:
        yield
    except Exception as error:
        carry(error, asked, made(error))
        raise


def spans(sizes: Iterable[int]) -> list[range]:
    """The places of parts of so many items each, one behind the other."""
    ends = list(accumulate(sizes))
    return [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def whole(told: Mapping[int, T], parts: Sequence[range]) -> dict[int, list[T]]:
    """By their places, the parts of which every item was answered, with its answers."""
    return {at: [told[place] for place in own] for at, own in enumerate(parts) if all(place in told for place in own)}
