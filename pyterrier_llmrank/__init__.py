"""Reranking with language models as PyTerrier transformers: ``bm25 >> ListwiseLLM()``.

Everything a pipeline needs is here; strategies, designs, aggregates, prompts, scorers and models for one's own
combinations are in the modules of those names, and the most used of them here too. ``presets`` holds published methods
by name. Importing this loads neither torch nor transformers.
"""

from __future__ import annotations

from . import presets
from ._version import __version__
from .aggregates import (
    additive,
    borda,
    bradley_terry,
    copeland,
    elo,
    kemeny,
    kwiksort,
    page_rank,
    plackett_luce,
    thurstone,
    win_rate,
)
from .core import Answer, Doc, Evidence, Question, Usage
from .costs import costs
from .designs import (
    all_ordered_pairs,
    all_pairs,
    cycles,
    equi_replicate,
    latin,
    random_blocks,
    random_pairs,
    shuffled_groups,
    triangular,
    window_pairs,
)
from .distributed import Distributed, run_sharded
from .errors import LLMRankError, LLMRankWarning
from .ledger import Ledger
from .methods import GroupwiseLLM, ListwiseLLM, PairwiseLLM, PointwiseLLM, SetwiseLLM
from .middleware import Budgeted, Cached, Recorded, Retrying
from .models import HFModel, OpenAIModel, Sampling, VLLMModel
from .planning import plan
from .prompts import (
    Demonstrated,
    Demonstration,
    Graded,
    GroupPrompt,
    ListPrompt,
    PairPrompt,
    QueryPrompt,
    ScorePrompt,
    SelectPrompt,
    SetPrompt,
    Similar,
    VerdictPrompt,
    YesNo,
)
from .rerank import Rerank
from .scorers import (
    BiEncoder,
    BothOrders,
    CrossEncoder,
    Ensemble,
    Prompted,
    QueryLikelihood,
    Reasoned,
    Repeated,
    Replay,
    RerankEndpoint,
    Shuffled,
)
from .strategies import (
    Bubble,
    Heapsort,
    Insertion,
    Knockout,
    MultiwayTournament,
    OneShot,
    Pointwise,
    Sampled,
    SlidingWindow,
    TopDown,
    Tournament,
)

__all__ = [
    "Answer",
    "BiEncoder",
    "BothOrders",
    "Bubble",
    "Budgeted",
    "Cached",
    "CrossEncoder",
    "Demonstrated",
    "Demonstration",
    "Distributed",
    "Doc",
    "Ensemble",
    "Evidence",
    "Graded",
    "GroupPrompt",
    "GroupwiseLLM",
    "HFModel",
    "Heapsort",
    "Insertion",
    "Knockout",
    "LLMRankError",
    "LLMRankWarning",
    "Ledger",
    "ListPrompt",
    "ListwiseLLM",
    "MultiwayTournament",
    "OneShot",
    "OpenAIModel",
    "PairPrompt",
    "PairwiseLLM",
    "Pointwise",
    "PointwiseLLM",
    "Prompted",
    "QueryLikelihood",
    "QueryPrompt",
    "Question",
    "Reasoned",
    "Recorded",
    "Repeated",
    "Replay",
    "Rerank",
    "RerankEndpoint",
    "Retrying",
    "Sampled",
    "Sampling",
    "ScorePrompt",
    "SelectPrompt",
    "SetPrompt",
    "SetwiseLLM",
    "Shuffled",
    "Similar",
    "SlidingWindow",
    "TopDown",
    "Tournament",
    "Usage",
    "VLLMModel",
    "VerdictPrompt",
    "YesNo",
    "__version__",
    "additive",
    "all_ordered_pairs",
    "all_pairs",
    "borda",
    "bradley_terry",
    "copeland",
    "costs",
    "cycles",
    "elo",
    "equi_replicate",
    "kemeny",
    "kwiksort",
    "latin",
    "page_rank",
    "plackett_luce",
    "plan",
    "presets",
    "random_blocks",
    "random_pairs",
    "run_sharded",
    "shuffled_groups",
    "thurstone",
    "triangular",
    "win_rate",
    "window_pairs",
]
