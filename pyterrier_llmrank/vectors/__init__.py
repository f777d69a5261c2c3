"""Vectors of documents: what makes them, and where they are kept, so that no document is encoded twice."""

from __future__ import annotations

from .base import Candidates, DocVectors, with_width
from .compressor import DocCompressor
from .encoder import CandidateEncoder
from .kept import Remembered, Stored, remembered

__all__ = [
    "CandidateEncoder",
    "Candidates",
    "DocCompressor",
    "DocVectors",
    "Remembered",
    "Stored",
    "remembered",
    "with_width",
]
