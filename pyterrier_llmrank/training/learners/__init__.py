"""What the training loop trains: networks with the way they learn from a batch of lists. Importing this loads torch."""

from __future__ import annotations

from .bi_encoder import BiEncoderLearner
from .vectors import BiXSE, Cadet, InfoNCE, Matryoshka, OfLists, VectorLoss, Vectors

__all__ = ["BiEncoderLearner", "BiXSE", "Cadet", "InfoNCE", "Matryoshka", "OfLists", "VectorLoss", "Vectors"]
