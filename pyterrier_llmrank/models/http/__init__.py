"""Models behind a server that speaks OpenAI's HTTP interface."""

from __future__ import annotations

from .model import OpenAIModel

__all__ = ["OpenAIModel"]
