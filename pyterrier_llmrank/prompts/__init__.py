"""Prompts: text in, scores out. One class a way of asking."""

from __future__ import annotations

from .demonstrations import Demonstrated, Demonstration
from .embedded import EmbeddedPrompt, PseudoQuery
from .examples import Similar, hardest
from .fused import FusedPrompt
from .graded import RG_2L, RG_3L, RG_4L, Graded
from .groupwise import REASONED_SCORES, GroupPrompt
from .in_context import InContextPrompt
from .layouts import Dialogue, OneMessage
from .listwise import REASONED, ListPrompt
from .pairwise import PairPrompt
from .parsing import Permutation, parse_permutation
from .passages import Preparation, document_text
from .pointwise import UTILITY, LabelLogit, QueryPrompt, YesNo
from .scored import REASONED_SCORE, ScorePrompt, VerdictPrompt
from .selection import SelectPrompt
from .setwise import REASONED_CHOICE, SetPrompt

__all__ = [
    "REASONED",
    "REASONED_CHOICE",
    "REASONED_SCORE",
    "REASONED_SCORES",
    "RG_2L",
    "RG_3L",
    "RG_4L",
    "UTILITY",
    "Demonstrated",
    "Demonstration",
    "Dialogue",
    "EmbeddedPrompt",
    "FusedPrompt",
    "Graded",
    "GroupPrompt",
    "InContextPrompt",
    "LabelLogit",
    "ListPrompt",
    "OneMessage",
    "PairPrompt",
    "Permutation",
    "Preparation",
    "PseudoQuery",
    "QueryPrompt",
    "ScorePrompt",
    "SelectPrompt",
    "SetPrompt",
    "Similar",
    "VerdictPrompt",
    "YesNo",
    "document_text",
    "hardest",
    "parse_permutation",
]
