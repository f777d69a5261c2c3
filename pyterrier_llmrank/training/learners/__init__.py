"""What ``train`` trains, one file a kind. Importing this loads torch."""

from __future__ import annotations

from .cross_encoder import CrossEncoderLearner
from .decoder import Decoder
from .lora import Lora
from .questions import Question
from .set_encoder import SetEncoderLearner

__all__ = ["CrossEncoderLearner", "Decoder", "Lora", "Question", "SetEncoderLearner"]
