"""Scorers: what answers questions about groups of documents."""

from __future__ import annotations

from .attention import Attention
from .bi_encoder import BiEncoder
from .cross_attention import CrossAttention
from .cross_encoder import CrossEncoder
from .e2rank import E2Rank
from .embedding import VectorColumns
from .endpoint import RerankEndpoint
from .ensemble import Ensemble
from .feedback import NeighbourFeedback
from .fusion import FusionInDecoder
from .heads import Band
from .inserted import Inserted
from .list_encoder import ListEncoder
from .orders import BothOrders, Shuffled
from .over_lists import BestPath, ContextAware
from .pe_rank import PERank
from .probe import ContrastProbe
from .prompted import Prompted
from .query_likelihood import QueryLikelihood
from .reasoned import Reasoned
from .repeated import Repeated
from .replay import Replay
from .rrk import RRK
from .set_encoder import SetEncoder
from .stepped import Stepped

__all__ = [
    "RRK",
    "Attention",
    "Band",
    "BestPath",
    "BiEncoder",
    "BothOrders",
    "ContextAware",
    "ContrastProbe",
    "CrossAttention",
    "CrossEncoder",
    "E2Rank",
    "Ensemble",
    "FusionInDecoder",
    "Inserted",
    "ListEncoder",
    "NeighbourFeedback",
    "PERank",
    "Prompted",
    "QueryLikelihood",
    "Reasoned",
    "Repeated",
    "Replay",
    "RerankEndpoint",
    "SetEncoder",
    "Shuffled",
    "Stepped",
    "VectorColumns",
]
