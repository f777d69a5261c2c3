"""What goes wrong around models and scorers.

LLMRankError
├── StorageError (RuntimeError)     a cache or a log that cannot be read or written
├── BudgetExceeded (RuntimeError)   the next answers might cost more than is left; they were not asked for
└── GaveUp (RuntimeError)           one failure after another, or no time left; ``__cause__`` is the last failure
"""

from __future__ import annotations

from pyterrier_llmrank.errors import LLMRankError


class StorageError(LLMRankError, RuntimeError):
    """A cache or a log that cannot be read or written."""


class BudgetExceeded(LLMRankError, RuntimeError):
    """The next answers might cost more than is left of a budget; they were not asked for."""


class GaveUp(LLMRankError, RuntimeError):
    """Failures in a row, or a deadline; ``__cause__`` is the last failure."""
