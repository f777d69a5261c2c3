"""Strategies: which groups of documents to ask about, and how to combine the answers. One file a family."""

from __future__ import annotations

from .bubble import Bubble
from .insertion import Insertion
from .knockout import Knockout
from .multiway import MultiwayTournament
from .narrowing import Narrowing
from .partition import TopDown
from .sampled import Sampled
from .single import OneShot, Pointwise
from .sorts import Heapsort
from .tournament import Tournament
from .windows import SlidingWindow

__all__ = [
    "Bubble",
    "Heapsort",
    "Insertion",
    "Knockout",
    "MultiwayTournament",
    "Narrowing",
    "OneShot",
    "Pointwise",
    "Sampled",
    "SlidingWindow",
    "TopDown",
    "Tournament",
]
