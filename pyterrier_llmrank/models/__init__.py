"""Models: what runs prompts."""

from __future__ import annotations

from .base import ChoiceScores, Generation, Model, TokenLogprobs
from .hf import HFModel

__all__ = ["ChoiceScores", "Generation", "HFModel", "Model", "TokenLogprobs"]
