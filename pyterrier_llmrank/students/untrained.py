"""``Untrained``: what a student asks before it was taught."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NoReturn

from pyterrier_llmrank.core import Answer, Evidence, Question, brief
from pyterrier_llmrank.errors import ModelNotFound


@dataclass(frozen=True, repr=False)
class Untrained:
    """A scorer that cannot answer yet, and says why.

    Args:
        folder: Where the weights will be.
        gives: What the trained one gives.
    """

    folder: str
    gives: Evidence = Evidence.SCORE

    max_docs: ClassVar[int | None] = None

    __repr__ = brief

    def load(self) -> NoReturn:
        """Raises ModelNotFound."""
        raise ModelNotFound(
            f"there is no trained model in {self.folder}; train one with fit(results, qrels) or "
            "distill(teacher, topics)"
        )

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """Raises ModelNotFound, unless there is nothing to answer."""
        if questions:
            self.load()
        return []
