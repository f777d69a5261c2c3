"""What ``train`` trains, one file a kind."""

from __future__ import annotations

from .decoder import Decoder
from .lora import Lora
from .questions import Question

__all__ = ["Decoder", "Lora", "Question"]
