"""What can go wrong, and what would work instead.

LLMRankError
├── ConfigurationError (ValueError)   parts that do not fit together, arguments out of range
├── InputError (ValueError)           a frame that cannot be ranked
├── ScoringError (RuntimeError)       a scorer failed while a query was being ranked; names the queries
├── ReplayMiss (LookupError)          a recorded log holds no answer for a question
├── MissingExtra (ImportError)        an optional library is not installed; ends with its pip install
└── ModelError (RuntimeError)
    ├── ModelNotFound                 unknown name, unreachable hub, folder without weights
    ├── PromptTooLong                 instructions alone exceed the context
    ├── LabelError                    answer labels that the tokenizer does not tell apart here
    │   └── SeveralTokens             … or that are more than one token; ``continuation`` can score them
    ├── ServerError                   a server that does not answer, refuses, or answers what cannot be read
    │   └── AccessDenied              … because of a key that is missing or wrong
    ├── BudgetSpent                   the next request could cost more tokens than are left
    └── Unsupported                   the model does not offer the primitive asked for

LLMRankWarning (UserWarning)          something was survived, and is said once with its count
"""

from __future__ import annotations

from collections.abc import Sequence


class LLMRankError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigurationError(LLMRankError, ValueError):
    """Parts that do not fit together, or an argument out of range."""


class InputError(LLMRankError, ValueError):
    """A frame that cannot be ranked."""


class ScoringError(LLMRankError, RuntimeError):
    """A scorer failed; the message names the queries, ``__cause__`` says why."""


class ReplayMiss(LLMRankError, LookupError):
    """A recorded log holds no answer for a question."""


class MissingExtra(LLMRankError, ImportError):
    """An optional library is not installed."""

    def __init__(self, what: str, library: str, extra: str) -> None:
        """Says what needs ``library`` and which extra brings it."""
        super().__init__(f"{what} needs {library}: pip install 'pyterrier-llmrank[{extra}]'")


class ModelError(LLMRankError, RuntimeError):
    """A model that cannot be had, or cannot do what was asked.

    Attributes:
        partial: Answers that were there when it happened, one place per prompt; None where there is none.
    """

    partial: Sequence[object] = ()


class ModelNotFound(ModelError):
    """A model name, folder or server that leads to no usable weights."""


class PromptTooLong(ModelError):
    """A prompt whose instructions alone exceed the model's context.

    Attributes:
        query: The query that it is about, where that is known.
    """

    query: str | None = None


class LabelError(ModelError):
    """Answer labels that the tokenizer does not tell apart after this prompt."""


class SeveralTokens(LabelError):
    """An answer label of more than one token; the ``continuation`` primitive can score it."""


class ServerError(ModelError):
    """A server that does not answer, refuses, or answers what cannot be read; asking again later may help."""

    retryable = True


class AccessDenied(ServerError):
    """A key that is missing or wrong, or an account without the right; asking again does not help."""

    retryable = False


class BudgetSpent(ModelError):
    """The next request could cost more tokens than are left; it was not sent."""


class Unsupported(ModelError):
    """The model does not offer the primitive asked for."""


class LLMRankWarning(UserWarning):
    """Something was survived: unreadable answers, empty texts, labels the model hardly believes in."""
