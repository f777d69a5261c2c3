"""The demonstration: ``python -m pyterrier_llmrank``."""

from __future__ import annotations

from .command import main
from .drawing import schematic
from .minilm import minilm
from .pipelines import compare, pipelines

__all__ = ["compare", "main", "minilm", "pipelines", "schematic"]
