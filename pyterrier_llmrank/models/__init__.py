"""Models: what runs prompts."""

from __future__ import annotations

from .base import ChoiceScores, Generation, Model, Sampling, TokenLogprobs
from .hf import HFModel
from .named import as_model

__all__ = ["ChoiceScores", "Generation", "HFModel", "Model", "Sampling", "TokenLogprobs", "as_model"]
