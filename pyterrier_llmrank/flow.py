"""Combinators that drive flows: one, many in lockstep or each by itself, renamed documents, nothing asked twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np

from .core import Flow, Group, Scores

T = TypeVar("T")


def run(flow: Flow[T], ask: Callable[[list[Group]], list[Scores]]) -> T:
    """Drives ``flow`` to its end, answering each round with ``ask``."""
    answers: list[Scores] | None = None
    while True:
        try:
            groups = next(flow) if answers is None else flow.send(answers)
        except StopIteration as stop:
            result: T = stop.value
            return result
        answers = ask(groups)


def together(flows: Sequence[Flow[T]]) -> Flow[list[T]]:
    """Runs flows in lockstep, as one: each round holds the groups of all that are still live.

    This batches across queries, and lets a strategy ask independent parts of itself at once.
    A round in which nobody asks anything is never yielded.
    """
    results: dict[int, T] = {}
    waiting: dict[int, list[Group]] = {}

    def advance(place: int, answers: list[Scores] | None) -> None:
        """Moves one flow on to its next question, or to its result."""
        flow = flows[place]
        try:
            groups = next(flow) if answers is None else flow.send(answers)
            while not groups:
                groups = flow.send([])
            waiting[place] = groups
        except StopIteration as stop:
            waiting.pop(place, None)
            results[place] = stop.value

    for place in range(len(flows)):
        advance(place, None)
    while waiting:
        asked = list(waiting.items())
        answers = yield [group for _, groups in asked for group in groups]
        start = 0
        for place, groups in asked:
            advance(place, answers[start : start + len(groups)])
            start += len(groups)
    return [results[place] for place in range(len(flows))]


def eagerly(flows: Sequence[Flow[T]], ask: Callable[[list[Group]], list[Scores]], *, at_once: int = 64) -> list[T]:
    """Drives each flow by itself, in order but ``at_once`` at a time: it goes on as soon as its own answers are back.

    For answers that take long, and not equally long: nobody waits for the slowest of a round, as ``together`` does.
    The results are the same. Where ``ask`` fails, what is being asked is still answered, nothing more is asked, and the
    failure of the first flow that has one is raised; likewise where the caller is interrupted.

    Args:
        flows: The flows.
        ask: Answers a round of one flow; called from ``at_once`` threads.
        at_once: Flows under way.
    """
    stopped = threading.Event()

    def asked(groups: list[Group]) -> list[Scores]:
        if stopped.is_set():
            raise CancelledError
        return ask(groups)

    def drive(flow: Flow[T]) -> T:
        try:
            [result] = run(together([flow]), asked)
        except BaseException:
            stopped.set()
            raise
        return result

    with ThreadPoolExecutor(max(1, min(at_once, len(flows))), "llmrank-query") as pool:
        futures = [pool.submit(drive, flow) for flow in flows]
        try:
            wait(futures)
        except BaseException:
            stopped.set()
            raise
    for error in [future.exception() for future in futures]:
        if error is not None and not isinstance(error, CancelledError):
            raise error
    return [future.result() for future in futures]


def relabel(flow: Flow[T], items: Sequence[int]) -> Flow[T]:
    """Renames a flow's documents: its index ``i`` becomes ``items[i]``.

    Gives a query its rows of a frame, and lets a strategy call another on a part of its list with ``yield from``.
    """
    answers: list[Scores] | None = None
    while True:
        try:
            groups = next(flow) if answers is None else flow.send(answers)
        except StopIteration as stop:
            result: T = stop.value
            return result
        answers = yield [tuple(items[i] for i in group) for group in groups]


def once(flow: Flow[T]) -> Flow[T]:
    """Asks about no set of documents twice: what was answered before, in whatever order, is answered from memory.

    A set that comes up twice in a round is asked about once, as it is first spelled; a round in which everything is
    known is not yielded. Around a whole strategy it also covers what that asks ``together``.
    """
    memory: dict[frozenset[int], dict[int, float]] = {}
    answers: list[Scores] | None = None
    while True:
        try:
            groups = next(flow) if answers is None else flow.send(answers)
        except StopIteration as stop:
            result: T = stop.value
            return result
        fresh: dict[frozenset[int], Group] = {}
        for group in groups:
            if frozenset(group) not in memory:
                fresh.setdefault(frozenset(group), group)
        if fresh:
            asked = list(fresh.values())
            for group, scores in zip(asked, (yield asked), strict=True):
                memory[frozenset(group)] = dict(zip(group, scores, strict=True))
        answers = [np.array([memory[frozenset(group)][i] for i in group]) for group in groups]
