"""Training data from PyTerrier frames: lists with targets, negatives, cleaning, curricula, batches. Needs no torch."""

from __future__ import annotations

from .agreement import agreeing, positives_within
from .batches import Batches
from .curriculum import annealed, ease_by_rank, ease_by_score
from .judging import without_false_negatives
from .lists import TrainingList, document_numbers, informative, judgments, padded, shuffled_lists, training_lists
from .negatives import Band, with_negatives
from .scaling import scaled_lists, scaled_scores
from .stored import StoredLists, distil, store

__all__ = [
    "Band",
    "Batches",
    "StoredLists",
    "TrainingList",
    "agreeing",
    "annealed",
    "distil",
    "document_numbers",
    "ease_by_rank",
    "ease_by_score",
    "informative",
    "judgments",
    "padded",
    "positives_within",
    "scaled_lists",
    "scaled_scores",
    "shuffled_lists",
    "store",
    "training_lists",
    "with_negatives",
    "without_false_negatives",
]
