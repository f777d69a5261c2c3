"""``Training``: how long, how fast and how carefully a network is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from pyterrier_llmrank.core import brief
from pyterrier_llmrank.errors import ConfigurationError

Schedule = Literal["linear", "cosine", "constant"]


@dataclass(frozen=True, repr=False)
class Training:
    """The settings of ``train``.

    Args:
        steps: Updates of the weights; by default as many as ``epochs`` take.
        epochs: Times that each list is seen.
        batch_size: Lists of one step, over all devices.
        learning_rate: Of AdamW, at its highest.
        schedule: How it falls after the warm-up.
        warmup: Part of the steps in which it rises from 0, 0 to 1.
        final: What it falls to, as a part of ``learning_rate``.
        weight_decay: Of AdamW, for matrices; biases and norms have none.
        clip: Largest norm of the gradient; a longer one is shortened to it.
        precision: "float32", or "bfloat16" for the passes through the network: weights stay float32.
        checkpoint_every: Steps after which what a killed training needs to go on is written; never by default.
        evaluate_every: Steps after which the network is measured, where there is a measure; an epoch by default.
        patience: Measurements without a better one after which training ends; it never ends early by default.
        seed: Of the order of lists, and of dropout.
        device: Such as "cuda:1"; by default the best there is, or what ``torchrun`` gives each process.
        verbose: Whether progress is shown.

    Raises:
        ConfigurationError: A number is out of range.
    """

    steps: int | None = None
    epochs: float = 1.0
    batch_size: int = 32
    learning_rate: float = 2e-5
    schedule: Schedule = field(default="linear", kw_only=True)
    warmup: float = field(default=0.1, kw_only=True)
    final: float = field(default=0.0, kw_only=True)
    weight_decay: float = field(default=0.01, kw_only=True)
    clip: float = field(default=1.0, kw_only=True)
    precision: Literal["float32", "bfloat16"] = field(default="float32", kw_only=True)
    checkpoint_every: int | None = field(default=None, kw_only=True)
    evaluate_every: int | None = field(default=None, kw_only=True)
    patience: int | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)
    device: str | None = field(default=None, kw_only=True)
    verbose: bool = field(default=False, kw_only=True)

    __repr__ = brief

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "checkpoint_every", "evaluate_every", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"{name} must be at least 1, got {value}")
        for name in ("epochs", "learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("warmup", "final"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"{name} is a part, 0 to 1, got {getattr(self, name)}")
        if not self.weight_decay >= 0:
            raise ConfigurationError(f"weight_decay must be at least 0, got {self.weight_decay}")
        for name, known in (("schedule", ("linear", "cosine", "constant")), ("precision", ("float32", "bfloat16"))):
            if getattr(self, name) not in known:
                raise ConfigurationError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")

    def total(self, per_epoch: int) -> int:
        """Steps in all, at least 1."""
        return self.steps or max(1, round(self.epochs * per_epoch))

    def rate(self, step: int, total: int) -> float:
        """The learning rate of a step, from 0."""
        rising = self.warmup * total
        if step < rising:
            return self.learning_rate * (step + 1) / (rising + 1)
        if self.schedule == "constant":
            return self.learning_rate
        done = (step - rising) / max(total - rising, 1)
        left = 1 - done if self.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.learning_rate * (self.final + (1 - self.final) * left)
