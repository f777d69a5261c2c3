"""What tokens cost, in money and in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.ledger import Ledger

Price: TypeAlias = tuple[float, float] | tuple[float, float, float]
"""Money per million tokens: prompt, output, and cached prompt tokens, which cost as others by default."""

Speed: TypeAlias = float | tuple[float, float]
"""Tokens a second, of prompts and outputs together, or of each; cached prompt tokens take no time."""


class Tokens(NamedTuple):
    """Tokens of a run; NaN where they are not known.

    Attributes:
        prompt: Tokens read.
        cached: Those of them that are not computed again.
        output: Tokens written.
    """

    prompt: float
    cached: float
    output: float


@dataclass(frozen=True)
class Rates:
    """What is known of what a reranker's tokens cost.

    Raises:
        ConfigurationError: A price below 0, a speed that is not above 0, or an earlier run that asked nothing.
    """

    price: Price | None = None
    speed: Speed | None = None
    earlier: Ledger | None = None

    def __post_init__(self) -> None:
        if self.price is not None and (
            not isinstance(self.price, tuple) or len(self.price) not in (2, 3) or not min(self.price) >= 0
        ):
            raise ConfigurationError(
                "price must be (prompt, output) or (prompt, output, cached), money per million tokens, none below 0; "
                f"got {self.price!r}"
            )
        speeds = self.speed if isinstance(self.speed, tuple) else (1.0 if self.speed is None else self.speed,)
        if len(speeds) > 2 or not min(speeds) > 0:
            raise ConfigurationError(
                f"speed must be tokens a second, or (prompt, output) tokens a second, above 0; got {self.speed!r}"
            )
        if self.earlier is not None and not self.earlier.total.usage.calls:
            raise ConfigurationError("earlier= holds no run; run the reranker over a few topics first")

    def money(self, tokens: Tokens) -> float:
        """In the unit of the price; NaN without one."""
        if self.price is None:
            return np.nan
        prompt, output, *cached = self.price
        computed = tokens.prompt - tokens.cached
        return (computed * prompt + tokens.cached * (cached or [prompt])[0] + tokens.output * output) / 1e6

    def seconds(self, calls: float, tokens: Tokens) -> float:
        """By the speed, else as the earlier run took: by token, or by call where it counted no tokens; else NaN."""
        computed = tokens.prompt - tokens.cached
        if isinstance(self.speed, tuple):
            return computed / self.speed[0] + tokens.output / self.speed[-1]
        if self.speed is not None:
            return (computed + tokens.output) / self.speed
        if self.earlier is None:
            return np.nan
        spent, usage = self.earlier.total.seconds, self.earlier.total.usage
        counted = usage.prompt_tokens + usage.output_tokens
        return spent * (tokens.prompt + tokens.output) / counted if counted else spent * calls / usage.calls
