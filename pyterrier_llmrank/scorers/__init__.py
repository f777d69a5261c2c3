"""Scorers: what answers questions about groups of documents."""

from __future__ import annotations

from .bi_encoder import BiEncoder
from .cross_encoder import CrossEncoder
from .embedding import VectorColumns
from .endpoint import RerankEndpoint
from .ensemble import Ensemble
from .feedback import NeighbourFeedback
from .inserted import Inserted
from .list_encoder import ListEncoder
from .orders import BothOrders, Shuffled
from .over_lists import BestPath, ContextAware
from .probe import ContrastProbe
from .prompted import Prompted
from .query_likelihood import QueryLikelihood
from .reasoned import Reasoned
from .repeated import Repeated
from .replay import Replay
from .stepped import Stepped

__all__ = [
    "BestPath",
    "BiEncoder",
    "BothOrders",
    "ContextAware",
    "ContrastProbe",
    "CrossEncoder",
    "Ensemble",
    "Inserted",
    "ListEncoder",
    "NeighbourFeedback",
    "Prompted",
    "QueryLikelihood",
    "Reasoned",
    "Repeated",
    "Replay",
    "RerankEndpoint",
    "Shuffled",
    "Stepped",
    "VectorColumns",
]
