"""Dense retrieval over pyterrier_dr: encoders, an index that knows its encoder, a retriever that can be taught."""

from __future__ import annotations

from .encoder import DenseEncoder
from .known import Known, checkpoints, find
from .retriever import DistilledRetriever
from .teaching import Teaching

__all__ = ["DenseEncoder", "DistilledRetriever", "Known", "Teaching", "checkpoints", "find"]
