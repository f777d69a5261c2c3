"""What a run will take, before it runs."""

from __future__ import annotations

from .table import plan

__all__ = ["plan"]
