"""``ListEncoder``: passages compared with one another by their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pyterrier_llmrank.core import Question

from .embedding import Encoder, VectorColumns, check_encoder, columns_of, embedded
from .over_lists import Inputs, OverLists


@dataclass(frozen=True, repr=False)
class ListEncoder(OverLists):
    """Scores passages by a transformer over the vectors of query and passages, which an encoder makes one by one.

    In place of reading query and passage together, passages are compared with one another. Scores are 0 to 1.
    ``ListConRanker`` trains it; ``networks.released.list_con_ranker`` converts the released checkpoint.

    Args:
        folder: Where the trained network is.
        encoder: Makes the vectors: ``BiEncoder(name, normalize=False)``, any function from texts to vectors, or
            ``VectorColumns()`` for those in the frame.

    Raises:
        ConfigurationError: ``encoder`` makes no vectors.

    Reference:
        Liu et al., 2025 (ListConRanker).
    """

    encoder: Encoder = field(default_factory=VectorColumns)

    kind = "ListConNetwork"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_encoder("ListEncoder", self.encoder)

    @property
    def reads(self) -> tuple[str, ...]:
        """What its vectors are made from."""
        return columns_of(self.encoder)

    def inputs(self, questions: Sequence[Question]) -> list[Inputs]:
        """The query's vector, then those of the passages."""
        return [
            Inputs(np.concatenate([one.query[None], one.docs]) if len(one.docs) else np.empty((0, 0)), one.usage)
            for one in embedded(self.encoder, questions)
        ]
