"""``llmrank-nano``: the small language model that comes with the package, for demonstrations and tests."""

from __future__ import annotations

from .finding import NAME, located, weights

__all__ = ["NAME", "located", "weights"]
