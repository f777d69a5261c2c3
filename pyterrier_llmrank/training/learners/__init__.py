"""What the training loop trains: networks with the way they learn from a batch of lists. Importing this loads torch."""

from __future__ import annotations

from .bi_encoder import BiEncoderLearner
from .contrasting import BiXSE, InfoNCE
from .named import LOSSES, Matryoshka
from .vectors import Cadet, OfLists, VectorLoss, Vectors

__all__ = ["LOSSES", "BiEncoderLearner", "BiXSE", "Cadet", "InfoNCE", "Matryoshka", "OfLists", "VectorLoss", "Vectors"]
