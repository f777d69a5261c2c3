"""Models: what runs prompts."""

from __future__ import annotations

from .base import ChoiceScores, Generation, Model, Permutation, Sampling, TokenLogprobs
from .hf import FusedModel, HFModel
from .http import OpenAIModel
from .named import as_model
from .replayed import ReplayedModel
from .vllm import VLLMModel

__all__ = [
    "ChoiceScores",
    "FusedModel",
    "Generation",
    "HFModel",
    "Model",
    "OpenAIModel",
    "Permutation",
    "ReplayedModel",
    "Sampling",
    "TokenLogprobs",
    "VLLMModel",
    "as_model",
]
