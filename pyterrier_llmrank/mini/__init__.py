"""A small test collection of this project's own, and a first stage over it that needs no Java."""

from __future__ import annotations

from .dataset import MiniCollection, MiniProvider
from .first_stage import BM25, first_stage

__all__ = ["BM25", "MiniCollection", "MiniProvider", "first_stage"]
