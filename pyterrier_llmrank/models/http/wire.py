"""``Wire``: one server, asked by many at once; what is asked in chunks comes back in order."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, TimeoutError
from contextlib import suppress
from importlib.util import find_spec
from itertools import accumulate
from typing import Any, Generic, NamedTuple, TypeVar

from pyterrier_llmrank.errors import MissingExtra, ModelError

from .failures import Address, Failed, check_key, told, within
from .limits import Limits, Pace, Purse
from .loop import loop, run
from .reading import of_all

T = TypeVar("T")
R = TypeVar("R")

CONNECT = 10.0  # seconds to wait for a connection


def cut(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Items in chunks of ``size``."""
    return [items[start : start + size] for start in range(0, len(items), size)]


class Outcome(NamedTuple, Generic[R]):
    """What came of a list of items.

    Attributes:
        answers: One per item, in order; None where there is none.
        error: What ended the work before all were asked.
    """

    answers: list[R | None]
    error: ModelError | None


class Wire:
    """Sends JSON to one server over the openai client, which retries what can be retried, with jitter.

    Args:
        address: Where, and with which key.
        limits: How much, and how long.
        extra: Fields of every completion that is asked for.
        purse: The token budget, which servers may share; one of its own by default.

    Attributes:
        known: What was found out about the server, by what it was asked with.
        lock: Held while that is being found out.

    Raises:
        MissingExtra: The client is not installed.
        AccessDenied: The key cannot be sent.
    """

    def __init__(self, address: Address, limits: Limits, extra: Mapping[str, Any], purse: Purse | None = None) -> None:
        if not find_spec("openai") or not find_spec("aiohttp"):
            raise MissingExtra("a model behind a server", "openai and aiohttp", "http")
        check_key(address)
        from openai import AsyncOpenAI, DefaultAioHttpClient, Timeout

        self.address = address
        self.limits = limits
        self.extra = extra
        self.known: dict[tuple[Any, ...], Any] = {}
        self.lock = threading.Lock()
        self.purse = purse or Purse(limits.budget)
        self.root = address.url.removesuffix("/v1")
        self._pace = Pace()
        self._slots = asyncio.Semaphore(limits.concurrency)
        self._failed = 0  # requests in a row
        timeout = Timeout(limits.timeout, connect=min(CONNECT, limits.timeout))
        self._client = AsyncOpenAI(
            api_key=address.key or "none",
            base_url=address.url,
            timeout=timeout,
            max_retries=limits.retries,
            http_client=DefaultAioHttpClient(timeout=timeout, event_hooks={"response": [self._heed]}),
        )
        weakref.finalize(self, _close, self._client, loop())

    async def post(
        self, path: str, body: Mapping[str, Any], *, tokens: int = 0, read: int = 0, retries: int | None = None
    ) -> Any:  # noqa: ANN401 - JSON
        """The answer to one request.

        Args:
            path: Below the address, or a whole URL.
            body: What to send.
            tokens: That it can cost at most.
            read: Tokens of its prompts, where they are known.
            retries: Attempts after the first, if fewer than usual.

        Raises:
            ModelError: There is none; ``Failed`` where that is about this request only.
        """
        if path.endswith("/completions"):
            body = {**body, **self.extra}
        await self.purse.set_aside(tokens)
        cost = 0
        try:
            answer = await self._answer(
                lambda: self._client.post(path, cast_to=object, body=body, options=self._attempts(retries))
            )
            told = spent(answer)
            cost = tokens if told is None or not of_all(answer, read) else told
            return answer
        finally:
            await self.purse.settle(tokens, cost)

    def ask(self, path: str, body: Mapping[str, Any] | None = None, *, retries: int | None = None) -> Any:  # noqa: ANN401 - JSON
        """The answer to one request, which is waited for; raises as ``post`` does."""
        if body is not None:
            return run(self.post(path, body, tokens=len(str(body).encode()), retries=retries))
        return run(self._answer(lambda: self._client.get(path, cast_to=object, options=self._attempts(retries))))

    def _attempts(self, retries: int | None) -> Any:  # noqa: ANN401 - options of the client
        return {"max_retries": self.limits.retries if retries is None else min(retries, self.limits.retries)}

    async def _answer(self, request: Callable[[], Awaitable[object]]) -> Any:  # noqa: ANN401 - JSON
        from openai import APIError

        try:
            async with self._slots:
                await self._pace.wait()
                answer = await asyncio.wait_for(request(), self.limits.deadline)
        except APIError as error:
            # without its cause, which holds the request and its key
            raise told(error, self.address) from None
        except asyncio.TimeoutError:
            late = f"{self.address.url} gave no answer within deadline={self.limits.deadline} s"
            raise Failed(late, passing=True) from None
        except ValueError as error:
            raise Failed(f"{self.address.url} answered what is not JSON: {str(error)[:100]}", odd=True) from None
        if failure := within(answer, self.address):
            raise failure
        return answer

    def each(
        self,
        ask: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        chunks: Sequence[Sequence[T]],
        tell: Callable[[int, R], None] | None = None,
    ) -> Outcome[R]:
        """Asks about all items, chunk by chunk; waits for what is under way when it has to stop.

        A chunk that the server refuses is asked item by item. An item without an answer is None; too many requests in
        a row that come to nothing are an error.

        Args:
            ask: Answers a chunk, one answer per item.
            chunks: What to ask about; the answers come in one list, in the same order.
            tell: Is told of each answer as it comes, by its place in that list.
        """
        return run(self._each(ask, chunks, tell)) if chunks else Outcome([], None)

    async def _each(
        self,
        ask: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        chunks: Sequence[Sequence[T]],
        tell: Callable[[int, R], None] | None,
    ) -> Outcome[R]:
        found: list[Sequence[R | None]] = [[None] * len(chunk) for chunk in chunks]
        firsts = [0, *accumulate(map(len, chunks))]
        turn: Iterator[int] = iter(range(len(chunks)))

        async def work() -> None:
            for place in turn:
                found[place] = await self._settled(ask, chunks[place], firsts[place], tell)

        workers = [asyncio.ensure_future(work()) for _ in range(min(self.limits.concurrency, len(chunks)))]
        try:
            done, pending = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            for _ in turn:
                pass  # nothing more is begun
            if pending:
                late, _ = await asyncio.wait(pending, timeout=self.limits.timeout)
                done |= late
        finally:
            for worker in workers:
                worker.cancel()
        errors = [error for worker in workers if worker in done and (error := worker.exception())]
        unexpected = next((error for error in errors if not isinstance(error, ModelError)), None)
        if unexpected:
            raise unexpected
        return Outcome([one for chunk in found for one in chunk], next(iter(errors), None))  # type: ignore[arg-type]

    async def _settled(
        self,
        ask: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        chunk: Sequence[T],
        first: int,
        tell: Callable[[int, Any], None] | None,
    ) -> Sequence[R | None]:
        """Answers of a chunk; None for its items where it failed, unless too many did."""
        try:
            answers = await ask(chunk)
        except Failed as error:
            if error.refused and len(chunk) > 1:
                alone: list[R | None] = []
                for at, item in enumerate(chunk, first):
                    alone += await self._settled(ask, [item], at, tell)
                return alone
            self._failed += 1
            if self._failed >= self.limits.max_failures:
                self._failed = 0
                raise Failed(
                    f"{self.limits.max_failures} requests in a row failed, the last of them so: {error}"
                ) from None
            return [None] * len(chunk)
        self._failed = 0
        if tell is not None:
            for at, answer in enumerate(answers, first):
                tell(at, answer)
        return answers

    async def _heed(self, response: Any) -> None:  # noqa: ANN401 - of the client's HTTP library
        self._pace.heed(response.headers)


def spent(answer: Any) -> int | None:  # noqa: ANN401 - JSON
    """Tokens that an answer says it cost, read and written; None where it does not say."""
    usage = answer.get("usage") if isinstance(answer, dict) else None
    told = usage if isinstance(usage, dict) else {}
    read, written, both = (told.get(f"{name}_tokens") for name in ("prompt", "completion", "total"))
    whole = read + written if isinstance(read, int) and isinstance(written, int) else both
    return whole if isinstance(whole, int) and whole > 0 else None


def _close(client: Any, on: asyncio.AbstractEventLoop) -> None:  # noqa: ANN401 - not imported here
    """Closes connections when nobody can use them any more, at the latest as the process ends."""
    if on.is_closed() or not on.is_running():
        return
    closing = asyncio.run_coroutine_threadsafe(client.close(), on)
    if threading.current_thread().name != "llmrank-http":
        with suppress(TimeoutError, CancelledError):
            closing.exception(timeout=5.0)
