"""What a server may be asked: how much at once, for how long, and for how many tokens."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import NamedTuple

from pyterrier_llmrank.errors import BudgetSpent

UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
LONGEST = 120.0  # seconds to wait on a server's word


class Limits(NamedTuple):
    """Of one server and model, in this process.

    Attributes:
        concurrency: Requests under way at once.
        timeout: Seconds of one attempt.
        deadline: Seconds of one request, with all its attempts.
        retries: Attempts after the first.
        max_failures: Requests that may fail in a row.
        budget: Tokens to spend, read and written; None for any number.
    """

    concurrency: int
    timeout: float
    deadline: float
    retries: int
    max_failures: int
    budget: int | None


class Purse:
    """Keeps a token budget: what is under way is set aside before it is sent, so that the budget is never passed.

    Belongs to the event loop, as everything here that waits.

    Attributes:
        spent: Tokens that answers have cost; where a server does not say, what was set aside for them.
    """

    def __init__(self, budget: int | None) -> None:
        self.budget = budget
        self.spent = 0
        self._aside = 0
        self._changed = asyncio.Condition()

    async def set_aside(self, tokens: int) -> None:
        """Waits until ``tokens`` more are certain to be there.

        Raises:
            BudgetSpent: They are not.
        """
        if self.budget is None:
            return
        async with self._changed:
            await self._changed.wait_for(lambda: self._fits(tokens) or not self._aside)
            if not self._fits(tokens):
                raise BudgetSpent(
                    f"the budget of {self.budget} tokens has {self.budget - self.spent} left, and the next request "
                    f"could cost {tokens}; it was not sent. Raise budget=, or ask for less (depth=, max_doc_tokens=)"
                )
            self._aside += tokens

    async def settle(self, tokens: int, cost: int) -> None:
        """Books what a request for which ``tokens`` were set aside has cost."""
        self.spent += cost
        if self.budget is not None:
            async with self._changed:
                self._aside -= tokens
                self._changed.notify_all()

    def _fits(self, tokens: int) -> bool:
        return self.budget is None or self.spent + self._aside + tokens <= self.budget


class Pace:
    """Holds requests back while the server says that its rate limit is used up."""

    def __init__(self) -> None:
        self._until = 0.0

    async def wait(self) -> None:
        """Until it may go on."""
        while (seconds := self._until - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(seconds)

    def heed(self, headers: Mapping[str, str]) -> None:
        """Takes in the headers of an answer."""
        if seconds := held(headers):
            self._until = max(self._until, asyncio.get_running_loop().time() + seconds)


def held(headers: Mapping[str, str]) -> float:
    """Seconds that the rate-limit headers of an answer ask to wait before the next request; 0 for none."""
    waits = [
        duration(headers.get(f"x-ratelimit-reset-{what}", ""))
        for what in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{what}", "").strip() == "0"
    ]
    return min(max(waits, default=0.0), LONGEST)


def duration(text: str) -> float:
    """Seconds of "1s", "6m0s", "120ms" or "2.5"; 0 for what is none of these."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = DURATION.findall(text)
    return sum(float(number) * UNITS[unit] for number, unit in parts)
