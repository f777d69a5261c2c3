"""Middleware: what stands between those who ask and models or scorers, and changes no answer."""

from __future__ import annotations

from .budgeted import Budgeted, Spending
from .cached import Cached
from .errors import GaveUp, StorageError
from .fingerprint import fingerprint
from .recorded import Recorded
from .retrying import Retrying, retryable

__all__ = [
    "Budgeted",
    "Cached",
    "GaveUp",
    "Recorded",
    "Retrying",
    "Spending",
    "StorageError",
    "fingerprint",
    "retryable",
]
