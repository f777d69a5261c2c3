"""What ``train`` trains, one file a kind: networks, and how they learn from lists. Importing this loads torch."""

from __future__ import annotations

from .adore import AdoreLearner
from .bi_encoder import BiEncoderLearner
from .contrasting import BiXSE, InfoNCE
from .cross_encoder import CrossEncoderLearner
from .decoder import DecoderLearner
from .lessons import Lesson
from .lora import Lora
from .named import LOSSES, Matryoshka
from .set_encoder import SetEncoderLearner
from .vectors import Cadet, OfLists, VectorLoss, Vectors

__all__ = [
    "LOSSES",
    "AdoreLearner",
    "BiEncoderLearner",
    "BiXSE",
    "Cadet",
    "CrossEncoderLearner",
    "DecoderLearner",
    "InfoNCE",
    "Lesson",
    "Lora",
    "Matryoshka",
    "OfLists",
    "SetEncoderLearner",
    "VectorLoss",
    "Vectors",
]
