"""What a decoder is asked while it learns, and what of its answer counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, cast

from torch import Tensor

from pyterrier_llmrank.core import brief
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.prompts import ListPrompt, PairPrompt, SetPrompt, YesNo
from pyterrier_llmrank.prompts.base import Template
from pyterrier_llmrank.prompts.pointwise import LabelLogit
from pyterrier_llmrank.training.losses import rank_net

Loss: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``loss(scores, targets, mask)`` of (batch, docs) each, a scalar."""

Learnt: TypeAlias = Literal["labels", "text", "both"]


@dataclass(frozen=True, repr=False)
class Lesson:
    """A prompt, and what is learnt from the answer to it.

    Args:
        prompt: What is asked, as at inference: one about single documents, such as ``YesNo()``, is asked of each
            document of a list; others show the list.
        loss: Of the labels' scores: log-odds of yes for ``YesNo``, the labels' logits for others. RankNet on the order
            of the targets by default (permutation distillation, Instruction Distillation); ``binary_cross_entropy``
            with targets 0 and 1 is supervised learning of yes and no.
        learns: "labels" for scores at the position where the answer begins; "text" for the order as it is written
            out; "both" for FIRST's sum of the two, with ``loss`` of no effect. By default what the prompt asks for.
        docs: How many documents of a list are shown, drawn anew each time: fewest and most; all by default. Not
            all that are shown together have the same target, unless the whole list has.
        shuffled: How often they are shown in random order, 0 to 1; otherwise in the list's, which is the answer itself
            where lists are a teacher's, best first: say 1 then.
        max_doc_tokens: Tokens to keep of a document; likewise fewest and most.
        early: Whether in a written order the first identifiers weigh more: ``1 + 1 / log2(1 + rank)``.
        share: Of the lists of a batch, which part is asked this lesson, at least one of them; drawn anew each time.
        mass: Weight of what the labels have of the whole probability, as its negative logarithm: 1 beside a
            cross-entropy of labels makes it that of the next token. 0 leaves other tokens as likely as they are.
        weight: Of this lesson beside others.

    Raises:
        ConfigurationError: An argument is out of range, or the prompt cannot be learnt so.
    """

    prompt: Template
    loss: Loss = rank_net
    learns: Learnt | None = field(default=None, kw_only=True)
    docs: tuple[int, int] | None = field(default=None, kw_only=True)
    shuffled: float = field(default=0.0, kw_only=True)
    max_doc_tokens: int | tuple[int, int] | None = field(default=None, kw_only=True)
    early: bool = field(default=False, kw_only=True)
    share: float = field(default=1.0, kw_only=True)
    mass: float = field(default=0.0, kw_only=True)
    weight: float = field(default=1.0, kw_only=True)

    __repr__ = brief

    def __post_init__(self) -> None:
        for name, (low, high) in (("docs", self.docs or (1, 1)), ("max_doc_tokens", self.lengths or (1, 1))):
            if not 1 <= low <= high:
                raise ConfigurationError(f"{name} goes from at least 1 to no less, got {getattr(self, name)}")
        if not 0 <= self.shuffled <= 1 or not 0 < self.share <= 1 or not self.weight > 0:
            raise ConfigurationError(
                "shuffled is 0 to 1, share above 0 to 1, and weight above 0, got "
                f"{self.shuffled}, {self.share} and {self.weight}"
            )
        if not self.mass >= 0 or (self.mass and self.writes):
            raise ConfigurationError(f"mass is at least 0, and of labels, not of a written order, got {self.mass}")
        if self.learns not in (None, "labels", "text", "both"):
            raise ConfigurationError(f"learns must be 'labels', 'text' or 'both', got {self.learns!r}")
        if self.writes and not isinstance(self.prompt, ListPrompt):
            raise ConfigurationError(f"only an order is learnt as a text, by a ListPrompt, got {self.prompt!r}")
        alike = isinstance(self.prompt, YesNo | LabelLogit | PairPrompt | SetPrompt | ListPrompt)
        if self.scores and (self.prompt.asks != "choices" or not alike):
            raise ConfigurationError(
                f"{self.prompt!r} has no label a document, nor yes and no; use learns='text', or "
                "decode='choices' or 'first'"
            )

    @property
    def lengths(self) -> tuple[int, int] | None:
        """Fewest and most tokens of a document."""
        most = self.max_doc_tokens
        return (most, most) if isinstance(most, int) else most

    @property
    def writes(self) -> bool:
        """Whether a written order is learnt."""
        return self.learns in ("text", "both") or (self.learns is None and self.prompt.asks == "generate")

    @property
    def scores(self) -> bool:
        """Whether scores of labels are learnt."""
        return self.learns in ("labels", "both") or (self.learns is None and self.prompt.asks == "choices")

    def read(self, logits: Tensor) -> Tensor:
        """Scores of the documents shown, (docs,), from the logits of the labels, (labels,)."""
        if not isinstance(self.prompt, YesNo):
            return logits
        yes = 1 if isinstance(self.prompt.yes, str) else len(self.prompt.yes)
        return (logits[:yes].logsumexp(0) - logits[yes:].logsumexp(0)).reshape(1)


def written(lesson: Lesson, order: Sequence[int]) -> str:
    """An order as it is written out, by places among the documents shown, best first."""
    return cast(ListPrompt, lesson.prompt).written(order)
