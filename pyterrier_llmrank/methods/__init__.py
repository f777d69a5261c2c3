"""The methods of the literature as transformers, one line each. Every one is a ``Rerank`` with good defaults."""

from __future__ import annotations

from .base import DEFAULT_MODEL, Method
from .groupwise import GroupwiseLLM
from .in_context import InContextRanker
from .listwise import ListwiseLLM
from .over_lists import ContextRanker, ListConRanker, TSPRanker
from .pairwise import PairwiseLLM
from .pointwise import PointwiseLLM
from .setwise import SetwiseLLM

__all__ = [
    "DEFAULT_MODEL",
    "ContextRanker",
    "GroupwiseLLM",
    "InContextRanker",
    "ListConRanker",
    "ListwiseLLM",
    "Method",
    "PairwiseLLM",
    "PointwiseLLM",
    "SetwiseLLM",
    "TSPRanker",
]
