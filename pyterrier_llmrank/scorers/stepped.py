"""``Stepped``: chooses a label, then chooses again after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from pyterrier_llmrank.core import Evidence, Prompt, Scores, silence
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.prompts.base import ChoiceTemplate, Status, Template

from .labels import Labelled, read_labels
from .showing import SLACK, Item, Reply, Showing, replied


@dataclass(frozen=True, repr=False)
class Stepped(Showing):
    """Reads whether a document is relevant, then its grade after the likelier answer, as in ``yes(3)`` or ``no(1)``.

    The score, 0 to 1, is the mean of the probability of the first of the two labels, against the other, and of the
    expected grade over the highest one; the probability alone where no grade was to be had, which is counted as
    repaired. Two calls per document, no more than one token each.

    Args:
        prompt: About one document; its first label means relevant, such as ``YesNo(yes="yes", no="no")``.
        model: Who answers; it must offer ``choices``.
        max_doc_tokens: Tokens to keep of any document; all that fit by default.
        bridge: What stands between the label and the grade.
        grades: Labels of the grades, the lowest first; they are worth 0, 1, 2, …

    Raises:
        ConfigurationError: ``prompt`` is not a prompt about one document that reads two labels, or there are fewer than
            two grades.
        Unsupported: The model does not offer ``choices``.

    Reference:
        Fan et al., 2025 (TFRank).
    """

    bridge: str = field(default="(", kw_only=True)
    grades: tuple[str, ...] = field(default=("0", "1", "2", "3", "4"), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        labels = cast(ChoiceTemplate, self.prompt).options(1) if self.prompt.asks == "choices" else ()
        if self.prompt.max_docs != 1 or len(labels) != 2:
            raise ConfigurationError(
                f"Stepped needs a prompt about one document that reads two labels, such as YesNo(), got {self.prompt!r}"
            )
        if len(self.grades) < 2:
            raise ConfigurationError(f"Stepped needs two grades or more, got {self.grades!r}")

    @property
    def gives(self) -> Evidence:
        """Values that hold between documents."""
        return Evidence.SCORE

    def _replies(self, template: Template, items: Sequence[Item]) -> list[Reply]:
        """Scores from both choices."""
        choice = cast(ChoiceTemplate, template)
        labels = choice.options(1)
        ends = self.model.token_ends([f"{label}{self.bridge}" for label in labels])
        prompts, lost = self._fitted(choice, items, [max(map(len, ends)) + SLACK] * len(items))
        first = read_labels(self.model, prompts, [labels] * len(items))
        self._check_mass(first)
        second = self._graded(prompts, labels, first)
        replies = []
        for place, (one, gone) in enumerate(zip(first, lost, strict=True)):
            score, status = _score(one.values, second[place].values if place in second else silence(1))
            usage = one.usage + second[place].usage if place in second else one.usage
            replies.append(replied(np.array([score]), status, usage, gone))
        return replies

    def _graded(
        self, prompts: Sequence[Prompt], labels: Sequence[str], first: Sequence[Labelled]
    ) -> dict[int, Labelled]:
        """The grades after the likelier label, by place; not where there was none."""
        chosen = {
            place: labels[int(np.nanargmax(one.values))]
            for place, one in enumerate(first)
            if not np.isnan(one.values).all()
        }
        after = [
            replace(prompts[place], answer=f"{prompts[place].answer}{label}{self.bridge}")
            for place, label in chosen.items()
        ]
        return dict(zip(chosen, read_labels(self.model, after, [self.grades] * len(after)), strict=True))


def _score(first: Scores, grades: Scores) -> tuple[float, Status]:
    """Mean of P(first label) and of the expected grade, both 0 to 1."""
    relevant, expected = _shares(first)[0], _shares(grades) @ np.linspace(0, 1, len(grades))
    if np.isnan(expected):
        return float(relevant), "repaired"
    return float(relevant + expected) / 2, "ok"


def _shares(logprobs: Scores) -> Scores:
    """Probabilities among the labels, which add up to 1; NaN of nothing."""
    if np.isnan(logprobs).all():
        return silence(len(logprobs))
    shares: Scores = np.exp(np.nan_to_num(logprobs, nan=-np.inf) - np.nanmax(logprobs))
    total: Scores = shares / shares.sum()
    return total
