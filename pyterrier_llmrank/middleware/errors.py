"""What goes wrong around models and scorers.

LLMRankError
├── StorageError (RuntimeError)   a cache or a log that cannot be read or written
└── GaveUp (RuntimeError)         one failure after another, or no time left; ``__cause__`` is the last failure
"""

from __future__ import annotations

from pyterrier_llmrank.errors import LLMRankError


class StorageError(LLMRankError, RuntimeError):
    """A cache or a log that cannot be read or written."""


class GaveUp(LLMRankError, RuntimeError):
    """Failures in a row, or a deadline; ``__cause__`` is the last failure."""
