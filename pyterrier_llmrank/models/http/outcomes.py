"""What becomes of requests: their answers, what those cost that came to nothing, or the error that ended the work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from pyterrier_llmrank.core import Usage
from pyterrier_llmrank.errors import ModelError
from pyterrier_llmrank.models.base import Generation
from pyterrier_llmrank.models.hearing import ear

from .failures import Failed
from .wire import Outcome, Wire, cut

A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T")

NOTHING = Usage(calls=1, failures=1)  # what no answer costs


def one_by_one(
    wire: Wire, ask: Callable[[A], Awaitable[R]], asked: Sequence[A], tell: Callable[[int, R], None] | None
) -> tuple[Outcome[R], list[Usage]]:
    """Asks for one answer a request (see ``Wire.each``); also what each costs that comes to nothing, a failure."""
    lost = [NOTHING] * len(asked)

    async def one(places: Sequence[int]) -> list[R]:
        [place] = places
        try:
            return [await ask(asked[place])]
        except Failed as error:
            lost[place] = replace(error.usage, calls=max(1, error.usage.calls), failures=1)
            raise

    return wire.each(one, cut(range(len(asked)), 1), tell), lost


def texts_one_by_one(wire: Wire, ask: Callable[[A], Awaitable[Generation]], asked: Sequence[A]) -> list[Generation]:
    """What is written for each, one a request; nothing where that failed. Who hears of answers hears of them."""
    (answers, error), lost = one_by_one(wire, ask, asked, ear())
    told = [one or Generation("", "length", cost) for one, cost in zip(answers, lost, strict=True)]
    return settled(told, answers, error)


def settled(answers: list[T], found: Sequence[object], error: ModelError | None) -> list[T]:
    """The answers, or the error that ended the work, with those that were there before."""
    if error is None:
        return answers
    error.partial = [answer if one is not None else None for answer, one in zip(answers, found, strict=True)]
    raise error
