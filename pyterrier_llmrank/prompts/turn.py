"""What prompts of one user turn share: how texts are prepared, and how the turn is shown."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Message, Prompt, brief
from pyterrier_llmrank.errors import ConfigurationError

from .passages import Preparation

Spelling = str | tuple[str, ...]

FOLDED = Preparation(markers="none")
"""Texts with every run of white space as one space."""


@dataclass(frozen=True, repr=False)
class OneTurn:
    """One question to the model, and how it is put: arguments that prompts have beside their own.

    Args:
        system: A system message; none by default.
        answer: How the model's answer begins, where a format prescribes it.
        raw: Whether the text is read as it is, without the model's chat template: for base models, and for the formats
            of checkpoints, which spell their control tokens themselves.
        passage: What is done to a document's text; each is one line by default, ``VERBATIM`` leaves it as it is.
        question: What is done to the query.
    """

    _: KW_ONLY
    system: str = ""
    answer: str = ""
    raw: bool = False
    passage: Preparation = FOLDED
    question: Preparation = FOLDED

    __repr__ = brief

    def turn(self, user: str) -> Prompt:
        """The prompt whose user turn is ``user``."""
        system = (Message("system", self.system),) if self.system else ()
        return Prompt((*system, Message("user", user)), answer=self.answer, raw=self.raw)


def literal(text: str) -> str:
    """``text`` for a part of a template: with its braces doubled, so that it fills in as it is."""
    return text.replace("{", "{{").replace("}", "}}")


def spellings(label: Spelling) -> tuple[str, ...]:
    """The spellings of a label.

    Raises:
        ConfigurationError: There is none.
    """
    names = (label,) if isinstance(label, str) else tuple(label)
    if not names or not all(names):
        raise ConfigurationError(f"a label needs at least one spelling, none of them empty, got {label!r}")
    return names


def total(logprobs: NDArray[np.float64]) -> float:
    """Log of the sum of probabilities that are given as logs; -inf for none."""
    return float(np.logaddexp.reduce(logprobs, initial=-np.inf))
