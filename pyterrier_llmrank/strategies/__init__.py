"""Strategies: which groups of documents to ask about, and how to combine the answers. One file a family."""

from __future__ import annotations

from .sampled import Sampled
from .single import OneShot, Pointwise
from .sorts import Heapsort
from .windows import SlidingWindow

__all__ = ["Heapsort", "OneShot", "Pointwise", "Sampled", "SlidingWindow"]
