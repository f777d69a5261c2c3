"""Answers that are heard of as they come, while the call that asks for them is still under way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias, TypeVar

M = TypeVar("M")
R = TypeVar("R")
T = TypeVar("T")

Hear: TypeAlias = Callable[[int, Any], None]
"""Takes the place of a prompt in its call, and its answer; from any thread, and at once."""

_HEARS: ContextVar[Hear | None] = ContextVar("hears", default=None)


@contextmanager
def heard(hear: Hear | None) -> Iterator[None]:
    """Within it, a model that ``tells`` calls ``hear`` with each answer of what it is asked; it returns all as ever."""
    token = _HEARS.set(hear)
    try:
        yield
    finally:
        _HEARS.reset(token)


def ear() -> Hear | None:
    """Who hears of the answers of this call, if anybody does; to be asked for in the thread that asks."""
    return _HEARS.get()


def at(places: Sequence[int], hear: Hear | None) -> Hear | None:
    """Who hears of the answers to some of the prompts, by their places among all."""
    return None if hear is None else lambda place, answer: hear(places[place], answer)


def telling(made: Callable[[int, R], object]) -> Callable[[int, R], None] | None:
    """Lets who hears of this call's answers hear what is ``made`` of each; None where nobody does."""
    hear = ear()
    return None if hear is None else lambda place, said: hear(place, made(place, said))


def overheard(call: Callable[[M, list[int]], T]) -> Callable[[M, list[int]], T]:
    """A call about some of the prompts, by their places, that another thread may make: who hears now, hears of it."""
    hear = ear()

    def told(one: M, places: list[int]) -> T:
        with heard(at(places, hear)):
            return call(one, places)

    return told


def tells(model: object) -> bool:
    """Whether a model tells of answers as they come: its class says so itself (``tells = True``), not one above it.

    A class made from it may change what it answers, and what is heard would be what it had made them of.
    """
    return vars(type(model)).get("tells") is True
