"""One event loop in a thread of its own: callers wait for it, also where a loop runs already, as in notebooks."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_LOCK = threading.Lock()
_LOOPS: dict[int, asyncio.AbstractEventLoop] = {}  # by process: a fork inherits the object, but not its thread


def loop() -> asyncio.AbstractEventLoop:
    """The loop of this process; its thread starts with the first call and ends with the process."""
    with _LOCK:
        if os.getpid() not in _LOOPS:
            made = asyncio.new_event_loop()
            threading.Thread(target=made.run_forever, name="llmrank-http", daemon=True).start()
            _LOOPS[os.getpid()] = made
        return _LOOPS[os.getpid()]


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, run on the loop; an interrupt of the caller cancels it."""
    future = asyncio.run_coroutine_threadsafe(work, loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
