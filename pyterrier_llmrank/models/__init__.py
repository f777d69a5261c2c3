"""Models: what runs prompts."""

from __future__ import annotations

from .base import ChoiceScores, Generation, Model, Sampling, TokenLogprobs
from .hf import HFModel
from .http import OpenAIModel
from .named import as_model
from .vllm import VLLMModel

__all__ = [
    "ChoiceScores",
    "Generation",
    "HFModel",
    "Model",
    "OpenAIModel",
    "Sampling",
    "TokenLogprobs",
    "VLLMModel",
    "as_model",
]
