"""Scorers: what answers questions about groups of documents."""

from __future__ import annotations

from .bi_encoder import BiEncoder
from .cross_encoder import CrossEncoder
from .endpoint import RerankEndpoint
from .ensemble import Ensemble
from .orders import BothOrders, Shuffled
from .prompted import Prompted
from .query_likelihood import QueryLikelihood
from .reasoned import Reasoned
from .repeated import Repeated
from .replay import Replay
from .set_encoder import SetEncoder
from .stepped import Stepped

__all__ = [
    "BiEncoder",
    "BothOrders",
    "CrossEncoder",
    "Ensemble",
    "Prompted",
    "QueryLikelihood",
    "Reasoned",
    "Repeated",
    "Replay",
    "RerankEndpoint",
    "SetEncoder",
    "Shuffled",
    "Stepped",
]
