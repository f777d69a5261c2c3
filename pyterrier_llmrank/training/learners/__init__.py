"""What the training loop trains: networks with the way they learn from a batch of lists. Importing this loads torch."""

from __future__ import annotations

from .bi_encoder import BiEncoderLearner
from .contrasting import BiXSE, InfoNCE
from .named import LOSSES, Matryoshka
from .vectors import Cadet, OfLists, VectorLoss, Vectors

__all__ = ["LOSSES", "BiEncoderLearner", "BiXSE", "Cadet", "InfoNCE", "Matryoshka", "OfLists", "VectorLoss", "Vectors"]
"""What ``train`` trains, one file a kind. Importing this loads torch."""

from __future__ import annotations

from .cross_encoder import CrossEncoderLearner
from .decoder import Decoder
from .lora import Lora
from .questions import Question
from .set_encoder import SetEncoderLearner

__all__ = ["CrossEncoderLearner", "Decoder", "Lora", "Question", "SetEncoderLearner"]
from .set_encoder import SetEncoderLearner

__all__ = ["CrossEncoderLearner", "SetEncoderLearner"]
"""What ``train`` trains, one file a kind."""

from __future__ import annotations

from .decoder import Decoder
from .lora import Lora
from .questions import Question

__all__ = ["Decoder", "Lora", "Question"]
