"""The local engine: Hugging Face transformers on this machine's CPU or GPU."""

from __future__ import annotations

from .model import HFModel

__all__ = ["HFModel"]
