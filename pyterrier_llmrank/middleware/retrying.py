"""``Retrying``: what failed for the moment is asked again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.models.hearing import at, ear, heard

from .errors import GaveUp
from .wrapping import Request, Wrapping, carry, finished

LASTING = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)


@dataclass(frozen=True, repr=False)
class Retrying(Wrapping):
    """Asks again after a failure that may pass, ever more patiently, and gives up after several in a row.

    What may pass is said by the exception's attribute ``retryable``; without one it is a lost connection, a time-out or
    another ``OSError``, but not a missing file. The pause before the next try is drawn between 0 and a bound that
    doubles with every failure, so that many who failed together do not come back together. Where a failure carries
    answers (see ``finished``), only the rest is asked again, and it counts as the first in a row.

    Args:
        inner: A model or scorer.
        failures: Failures in a row after which it gives up.
        pause: Bound of the first pause, in seconds.
        longest: Bound of any pause, in seconds.
        deadline: Seconds that one call may take with all its tries; it gives up rather than begin a pause that would
            end later. No limit by default.
        sleep: What waits; for tests.
        clock: What tells the time, in seconds; for tests.
        draw: A random number from 0 to 1. Not seeded: it changes no answer, and equal seeds would defeat its purpose.

    Raises:
        ConfigurationError: ``inner`` is neither a model nor a scorer, or a number is out of range.
        GaveUp: When asked: too many failures in a row, or no time left. Other failures are raised as they are.

    Reference:
        Brooker, 2015 (Exponential Backoff And Jitter), "full jitter".
    """

    failures: int = field(default=5, kw_only=True)
    pause: float = field(default=1.0, kw_only=True)
    longest: float = field(default=60.0, kw_only=True)
    deadline: float | None = field(default=None, kw_only=True)
    sleep: Callable[[float], object] = field(default=time.sleep, kw_only=True, repr=False, compare=False)
    clock: Callable[[], float] = field(default=time.monotonic, kw_only=True, repr=False, compare=False)
    draw: Callable[[], float] = field(default=random.random, kw_only=True, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.failures < 1:
            raise ConfigurationError(f"failures must be at least 1, got {self.failures}")
        for name in ("pause", "longest", "deadline"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ConfigurationError(f"{name} must be at least 0 seconds, got {value}")

    def _answers(self, request: Request) -> list[Any]:
        """Asks for what is missing until nothing is."""
        until = None if self.deadline is None else self.clock() + self.deadline
        done: dict[int, Any] = {}
        failed = 0
        while missing := [place for place in range(len(request)) if place not in done]:
            part = request.part(missing)
            try:
                with heard(at(missing, ear())):
                    done |= zip(missing, part.ask(self.inner), strict=True)
            except Exception as error:
                got = finished(error, part)
                done |= {missing[place]: answer for place, answer in got.items()}
                carry(error, request, done)
                if not retryable(error):
                    raise
                failed = 1 if got else failed + 1
                self._wait(failed, until, error)
        return [done[place] for place in range(len(request))]

    def _wait(self, failed: int, until: float | None, error: Exception) -> None:
        """Waits for the next try.

        Raises:
            GaveUp: There is none.
        """
        reason = f"{failed} failures in a row" if failed >= self.failures else ""
        pause = self.draw() * min(self.longest, self.pause * 2.0 ** min(failed - 1, 64))
        if not reason and until is not None and self.clock() + pause > until:
            reason = f"a deadline of {self.deadline} s"
        if reason:
            gave_up = GaveUp(
                f"{self.inner!r} was given up after {reason} (last: {type(error).__name__}: {error}); look after what "
                "it asks, then run again (what Cached holds is not asked again), or raise failures= or deadline="
            )
            gave_up.finished = error.finished  # type: ignore[attr-defined]
            raise gave_up from error
        self.sleep(pause)


def retryable(error: BaseException) -> bool:
    """Whether to ask again may help: as the exception says, else for what befalls connections."""
    told = getattr(error, "retryable", None)
    if told is not None:
        return bool(told)
    passing = isinstance(error, OSError | asyncio.TimeoutError)
    return passing and not isinstance(error, LASTING)
