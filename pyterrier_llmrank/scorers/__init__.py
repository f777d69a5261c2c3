"""Scorers: what answers questions about groups of documents."""

from __future__ import annotations

from .bi_encoder import BiEncoder
from .cross_encoder import CrossEncoder
from .prompted import Prompted
from .query_likelihood import QueryLikelihood
from .replay import Replay

__all__ = ["BiEncoder", "CrossEncoder", "Prompted", "QueryLikelihood", "Replay"]
