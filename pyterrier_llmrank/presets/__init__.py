"""Published methods by name: functions that return a ``Rerank`` with the format its checkpoint was trained on."""

from __future__ import annotations

from .registry import Preset, find
from .registry import frame as list

__all__ = ["Preset", "find", "list"]
