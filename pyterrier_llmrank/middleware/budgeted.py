"""``Budgeted``: stops before a budget of calls or tokens is passed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from math import inf
from typing import Any, NamedTuple

from pyterrier_llmrank.errors import (
    BudgetSpent,
    ConfigurationError,
    LabelError,
    ModelNotFound,
    PromptTooLong,
    Unsupported,
)
from pyterrier_llmrank.parts import is_model, is_scorer

from .wrapping import Request, Wrapping

REFUSALS = (BudgetSpent, ConfigurationError, LabelError, ModelNotFound, PromptTooLong, Unsupported)  # nothing was run
EXTRA = 4  # tokens of a prompt beyond what its parts have: a decoder's start, an end, a token split at a seam


class Price(NamedTuple):
    """Calls, and tokens of prompts and answers together; infinite where there is no limit."""

    calls: float = 0
    tokens: float = 0


NO_LIMIT = Price(inf, inf)


class Spending:
    """What was spent, and what is spoken for by questions that are being asked; safe between threads.

    One may be given to several ``Budgeted``, which then spend together. A copy in another process counts for itself.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent = Price()

    @property
    def price(self) -> Price:
        """Both together."""
        return self._spent

    @property
    def calls(self) -> int:
        """Calls, those under way at the most that they may be."""
        return int(self._spent.calls)

    @property
    def tokens(self) -> int:
        """Tokens, those of calls under way at the most that they may be."""
        return int(self._spent.tokens)

    def reserve(self, price: Price, limits: Price = NO_LIMIT) -> bool:
        """Books a price, if it does not pass the limits."""
        with self._lock:
            after = Price(*(have + more for have, more in zip(self._spent, price, strict=True)))
            fits = after.calls <= limits.calls and after.tokens <= limits.tokens
            if fits:
                self._spent = after
            return fits

    def settle(self, reserved: Price, spent: Price) -> None:
        """Books what it came to, in place of what was reserved."""
        self.reserve(Price(spent.calls - reserved.calls, spent.tokens - reserved.tokens))

    def __getstate__(self) -> dict[str, Any]:
        """What was spent."""
        return {"_spent": self._spent}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """What was spent, with a lock of its own."""
        self._lock = threading.Lock()
        self._spent = state["_spent"]

    def __repr__(self) -> str:
        return f"<Spending: {self.calls} calls, {self.tokens} tokens>"


@dataclass(frozen=True, repr=False)
class Budgeted(Wrapping):
    """Asks as long as the answers cannot pass a budget; then raises, before anything is sent.

    What a call may cost at most is known before: one call a prompt, the tokens of the prompt (measured by the model),
    those of its labels or its text, or ``max_tokens`` of an answer. That much must be left; what it really came to is
    booked after, so that nearly all of a budget can be spent. A call is let through as a whole or not at all:
    ``Cached(…, chunk=64)`` around a model asks for little at a time, and keeps what was answered until the budget
    ended. A call that failed counts with all that it may have cost, one that was refused with nothing.

    Around a scorer, the budget is that of all models within it, behind any ``Cached`` there: what comes from a cache
    costs nothing. A scorer without a model, such as a cross-encoder, counts a call for each document and one for the
    query at most, and as many tokens as its context holds for each.

    Args:
        inner: A model or scorer.
        calls: Prompts (or encoder inputs) to run at most. No limit by default.
        tokens: Tokens to read and write at most, those included that a model had computed already. No limit by default.
        spent: What was spent; may be shared with other budgets. It lives as long as this value and its copies.

    Raises:
        ConfigurationError: ``inner`` is neither a model nor a scorer; no limit, or a negative one; when asked, a scorer
            that cannot tell how many tokens it reads at most.
        BudgetSpent: When asked: the next call might cost more than is left.
    """

    calls: int | None = field(default=None, kw_only=True)
    tokens: int | None = field(default=None, kw_only=True)
    spent: Spending = field(default_factory=Spending, kw_only=True, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.calls is None and self.tokens is None:
            raise ConfigurationError("Budgeted needs a limit: calls=, tokens= or both")
        for name in ("calls", "tokens"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigurationError(f"{name} must be at least 0, got {value}")

    @cached_property
    def _metered(self) -> Any:  # noqa: ANN401 - a scorer or model
        return metered(self.inner, self)

    def _answers(self, request: Request) -> list[Any]:
        """The answers, if what they are made of fits the budget."""
        return request.ask(self._metered)

    def reserve(self, price: Price, asked: object) -> None:
        """Books what a call may cost at most.

        Raises:
            BudgetSpent: It is more than is left.
        """
        limits = Price(inf if self.calls is None else self.calls, inf if self.tokens is None else self.tokens)
        if not self.spent.reserve(price, limits):
            told = [
                f"{max(0, limit - have)} of {limit} {name} are left, and up to {need} might be needed"
                for name, limit, have, need in zip(price._fields, limits, self.spent.price, price, strict=True)
                if have + need > limit
            ]
            raise BudgetSpent(
                f"the budget of {asked!r} ends here: {'; '.join(told)}, so the next call was not made; raise the "
                "limit, or ask for less at once: Cached(…, chunk=) around the model"
            )


@dataclass(frozen=True, repr=False)
class Meter(Wrapping):
    """The model, or the scorer without one, whose calls a budget pays."""

    budget: Budgeted = field(compare=False)

    def __repr__(self) -> str:
        return repr(self.inner)

    def _answers(self, request: Request) -> list[Any]:
        """The answers, if they fit the budget."""
        most = self._at_most(request)
        self.budget.reserve(most, self.inner)
        try:
            answers = request.ask(self.inner)
        except REFUSALS:
            self.budget.spent.settle(most, Price())
            raise
        used = [Price(one.usage.calls, one.usage.prompt_tokens + one.usage.output_tokens) for one in answers]
        self.budget.spent.settle(most, Price(sum(one.calls for one in used), sum(one.tokens for one in used)))
        return answers

    def _at_most(self, request: Request) -> Price:
        """What a call may cost."""
        counted = self.budget.tokens is not None
        if request.primitive == "__call__":
            inputs = sum(len(question.docs) + 1 for question in request.columns[0])
            return Price(inputs, inputs * self._longest() if counted else 0)
        times = self._times(request)
        return Price(times * len(request), times * self._tokens(request) if counted else 0)

    def _longest(self) -> int:
        """Tokens of one input of a scorer.

        Raises:
            ConfigurationError: It does not say.
        """
        longest = getattr(self.inner, "context", None)
        if longest is None:
            raise ConfigurationError(
                f"{self.inner!r} does not say how many tokens an input may have (context), so no budget of tokens can "
                "be kept; give it one of calls"
            )
        return int(longest)

    def _tokens(self, request: Request) -> int:
        """Tokens of prompts and answers that a model may read and write."""
        prompts = request.columns[0]
        starts = [prompt.answer for prompt in prompts]  # which an encoder-decoder reads apart from the prompt
        if request.primitive == "generate":
            answers = len(prompts) * int(request.shared["max_tokens"])
        elif request.primitive == "choices":
            answers = sum(self._most(names) for names in request.columns[1])
        else:
            answers = self._sum(request.columns[1])
        read = int(sum(self.inner.lengths(prompts)))
        return read + self._sum(starts) + answers + EXTRA * len(prompts)

    def _times(self, request: Request) -> int:
        """How often a prompt is read: by a server once an item where an answer is held to a permutation."""
        held = request.shared.get("constraint")
        return (held.length or len(held.items)) if held and getattr(self.inner, "probed", False) else 1

    def _sum(self, texts: Sequence[str]) -> int:
        """Tokens of all texts."""
        return sum(map(len, self.inner.token_ends([text for text in texts if text])))

    def _most(self, texts: Sequence[str]) -> int:
        """Tokens of the longest text."""
        return max(map(len, self.inner.token_ends(texts)), default=0)


def metered(part: Any, budget: Budgeted) -> Any:  # noqa: ANN401 - anything a scorer is made of
    """``part`` with a meter before each model in it, and before each scorer that has none."""
    if type(part) is tuple:
        own = tuple(metered(one, budget) for one in part)
        return part if all(new is old for new, old in zip(own, part, strict=True)) else own
    if is_dataclass(part) and not isinstance(part, type):
        names = ["inner"] if isinstance(part, Wrapping) else [one.name for one in fields(part) if one.init]
        fresh = {name: metered(getattr(part, name), budget) for name in names}
        if changed := {name: value for name, value in fresh.items() if value is not getattr(part, name)}:
            return replace(part, **changed)
    return Meter(part, budget) if is_scorer(part) or is_model(part) else part
