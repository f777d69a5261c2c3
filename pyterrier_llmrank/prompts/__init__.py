"""Prompts: text in, scores out. One class a way of asking."""

from __future__ import annotations

from .listwise import ListPrompt
from .parsing import Permutation, parse_permutation
from .pointwise import QueryPrompt, YesNo

__all__ = ["ListPrompt", "Permutation", "QueryPrompt", "YesNo", "parse_permutation"]
