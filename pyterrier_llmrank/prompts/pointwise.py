"""Prompts about one document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Evidence, Prompt, Scores

from .base import check_template
from .turn import OneTurn, Spelling, spellings, total

YES_NO = """\
Query: {query}

Passage: {text}

Does the passage answer the query, or hold the information that the query asks for? Answer with {yes} or {no} only."""

UTILITY = """\
Question: {query}

Passage: {text}

Suppose that you had to answer the question with the help of this passage. Being on the topic is not enough: would the \
passage be of use in working out a correct answer? Answer with {yes} or {no} only."""

QUERY = """\
Passage: {text}

Write the search query that this passage answers."""


class OneDocument(OneTurn):
    """A prompt about one document, whose scores hold between documents."""

    @property
    def gives(self) -> Evidence:
        """Scores that hold between documents."""
        return Evidence.SCORE

    @property
    def max_docs(self) -> int | None:
        """One document a prompt."""
        return 1


class LabelsOfOne(OneDocument):
    """A prompt about one document that is read from the probabilities of labels."""

    @property
    def asks(self) -> Literal["choices", "generate"]:
        """For the probabilities of labels."""
        return "choices"


@dataclass(frozen=True, repr=False)
class YesNo(LabelsOfOne):
    """Asks whether a document is relevant; the score is the log-odds of ``yes`` against ``no``.

    Natural-log odds, over all real numbers: 0 where the model cannot tell. They order documents like the probability
    of ``yes`` among the two (their logistic function) does, and do not saturate. Takes the arguments of ``OneTurn``
    (``system``, ``raw``, ``passage`` …), and:

    Args:
        template: Text with ``{query}``, ``{text}``, ``{yes}`` and ``{no}``; what stands before ``{text}`` is the same
            for all documents of a query, and is best long. ``UTILITY`` asks for usefulness in place of relevance.
        yes: The answer that means relevant, as the prompt spells it. Several spellings, such as ``("Yes", "yes")``,
            count together (their probabilities add up); the prompt shows the first.
        no: The other.

    Raises:
        ConfigurationError: ``template`` lacks ``{query}`` or ``{text}``, or has other fields; a label is empty.

    Reference:
        Liang et al., 2022 (HELM), and Nogueira et al., 2020, for two answer tokens in place of generation; Zhang et
        al., 2024 (Are Large Language Models Good at Utility Judgments?) for ``UTILITY``.
    """

    template: str = YES_NO
    yes: Spelling = "Yes"
    no: Spelling = "No"

    def __post_init__(self) -> None:
        check_template(self.template, ["query", "text"], ["yes", "no"])
        self.options(1)

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """The question about one document."""
        yes, no = spellings(self.yes)[0], spellings(self.no)[0]
        return self.turn(
            self.template.format(
                query=self.question(query), text=self.passage(texts[0]), yes=yes.strip(), no=no.strip()
            )
        )

    def options(self, n: int) -> tuple[str, ...]:
        """Yes and no, in all their spellings."""
        return (*spellings(self.yes), *spellings(self.no))

    def read(self, logprobs: NDArray[np.float64], n: int) -> Scores:
        """Log P(yes) - log P(no); NaN where neither has any probability."""
        yes, no = np.split(logprobs, [len(spellings(self.yes))])
        with np.errstate(invalid="ignore"):
            return np.array([total(yes) - np.float64(total(no))])


@dataclass(frozen=True, repr=False)
class LabelLogit(LabelsOfOne):
    """Scores a document by one label's logit as the network computes it, without normalisation.

    For checkpoints that were trained so; the logits of other models may differ in scale from prompt to prompt. Takes
    the arguments of ``OneTurn``, and:

    Args:
        template: Text with ``{query}`` and ``{text}``.
        label: The label.

    Raises:
        ConfigurationError: ``template`` lacks ``{query}`` or ``{text}``, or has other fields; ``label`` is empty.

    Reference:
        Zhuang et al., 2022 (RankT5), section 4.1; Sun et al., 2023 (Instruction Distillation).
    """

    template: str
    label: str

    unit: ClassVar[str] = "logit"

    def __post_init__(self) -> None:
        check_template(self.template, ["query", "text"])
        spellings(self.label)

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """The query and one document."""
        return self.turn(self.template.format(query=self.question(query), text=self.passage(texts[0])))

    def options(self, n: int) -> tuple[str, ...]:
        """The label."""
        return (self.label,)

    def read(self, logprobs: NDArray[np.float64], n: int) -> Scores:
        """The logit itself."""
        return np.array(logprobs)


@dataclass(frozen=True, repr=False)
class QueryPrompt(OneTurn):
    """Shows one document and lets the query follow, for query likelihood.

    Takes the arguments of ``OneTurn`` (``raw``, ``passage`` …), and:

    Args:
        template: Text with ``{text}``.

    Raises:
        ConfigurationError: ``template`` lacks ``{text}``, or has other fields.

    Reference:
        Sachan et al., 2022 (UPR).
    """

    template: str = QUERY

    def __post_init__(self) -> None:
        check_template(self.template, ["text"])

    def render(self, query: str, texts: Sequence[str]) -> Prompt:
        """The document; ``query`` is not part of the prompt, the model is asked how likely it is."""
        return self.turn(self.template.format(text=self.passage(texts[0])))
