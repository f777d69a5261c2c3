"""The local engine: Hugging Face transformers on this machine's CPU or GPU."""

from __future__ import annotations

from .fused import FusedModel
from .model import HFModel

__all__ = ["FusedModel", "HFModel"]
