"""Rerankers to be trained, by labels or by a teacher: transformers with ``fit`` and ``distill``."""

from __future__ import annotations

from .base import Student
from .cross_encoder import CrossEncoderStudent
from .decoder import DecoderStudent
from .set_encoder import SetEncoderStudent

__all__ = ["CrossEncoderStudent", "DecoderStudent", "SetEncoderStudent", "Student"]
