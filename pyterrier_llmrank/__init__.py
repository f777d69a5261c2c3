"""Reranking with language models as PyTerrier transformers: ``bm25 >> ListwiseLLM()``.

Everything a pipeline needs is here; strategies, prompts, scorers and models for one's own combinations are in the
modules of those names, and the most used of them here too. Importing this loads neither torch nor transformers.
"""

from __future__ import annotations

from ._version import __version__
from .aggregates import additive
from .core import Answer, Doc, Evidence, Question, Usage
from .costs import costs
from .designs import all_pairs
from .errors import LLMRankError, LLMRankWarning
from .ledger import Ledger
from .methods import ListwiseLLM, PointwiseLLM
from .models import HFModel
from .prompts import ListPrompt, QueryPrompt, YesNo
from .rerank import Rerank
from .scorers import BiEncoder, CrossEncoder, Prompted, QueryLikelihood, Replay
from .strategies import Heapsort, OneShot, Pointwise, Sampled, SlidingWindow

__all__ = [
    "Answer",
    "BiEncoder",
    "CrossEncoder",
    "Doc",
    "Evidence",
    "HFModel",
    "Heapsort",
    "LLMRankError",
    "LLMRankWarning",
    "Ledger",
    "ListPrompt",
    "ListwiseLLM",
    "OneShot",
    "Pointwise",
    "PointwiseLLM",
    "Prompted",
    "QueryLikelihood",
    "QueryPrompt",
    "Question",
    "Replay",
    "Rerank",
    "Sampled",
    "SlidingWindow",
    "Usage",
    "YesNo",
    "__version__",
    "additive",
    "all_pairs",
    "costs",
]
