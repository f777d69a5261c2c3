"""How much is asked before it is kept: chunks that take some seconds, and answers written soon after they come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Any

from pyterrier_llmrank.models.hearing import heard
from pyterrier_llmrank.parts import at_once

from .errors import StorageError
from .results import Result

LEAST = 64  # items of a chunk, so that models that read many at once have enough; and of the first one
WAVES = 4  # as many requests, of a server, as it takes at once: less would leave it idle at every end
GROWTH = 4  # a chunk has at most so many times the items of the one before
SECONDS = 10.0  # that a chunk may take
SOON = 0.25  # seconds until an answer that was heard of is written


def timed(n: int, inner: object) -> Iterator[slice]:
    """``n`` items in chunks of about ``SECONDS`` each, at the speed of the one before; the first one has ``LEAST``."""
    least = max(LEAST, WAVES * at_once(inner))
    start, size = 0, least
    while start < n:
        began = time.perf_counter()
        yield slice(start, start + size)
        seconds = time.perf_counter() - began
        start += size
        size = max(least, min(GROWTH * size, int(size * SECONDS / max(seconds, 1e-9))))


class Writing(AbstractContextManager["Writing"]):
    """Writes what is heard of within it, each answer ``SOON`` after it came, and the last ones at its end.

    What cannot be written waits in the store, which says so when it is written to the next time.

    Args:
        write: Takes answers by their places.
    """

    def __init__(self, write: Callable[[Mapping[int, Result]], object]) -> None:
        self._write = write
        self._heard: dict[int, Result] = {}
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        self._hearing = heard(self._hear)

    def __enter__(self) -> Writing:
        """Begins to hear."""
        self._hearing.__enter__()
        return self

    def __exit__(self, *raised: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Writes what is left."""
        self._hearing.__exit__(None, None, None)
        with self._lock:
            timer = self._timer
        if timer is not None:
            timer.cancel()
        self._flush()

    def _hear(self, place: int, answer: Any) -> None:  # noqa: ANN401 - whatever is answered
        with self._lock:
            self._heard[place] = answer
            if self._timer is None:
                self._timer = threading.Timer(SOON, self._flush)
                self._timer.daemon = True
                self._timer.start()

    def _flush(self) -> None:
        with self._lock:
            answers, self._heard, self._timer = self._heard, {}, None
        if answers:
            with suppress(StorageError):
                self._write(answers)
