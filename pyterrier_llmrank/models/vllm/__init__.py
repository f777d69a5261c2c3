"""vLLM inside this process."""

from __future__ import annotations

from .model import VLLMModel

__all__ = ["VLLMModel"]
