"""``ContrastProbe``: an order found in a language model's hidden states, without labels and without its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from pyterrier_llmrank.core import Answer, Evidence, Question, Scorer, Scores, Usage
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.models.hf.states import check_states, hidden_states
from pyterrier_llmrank.prompts.base import ChoiceTemplate
from pyterrier_llmrank.prompts.demonstrations import plainly

from .around import check_scorer, load_all
from .showing import SLACK, Item, Showing


@dataclass(frozen=True, repr=False)
class ContrastProbe(Showing):
    """Orders documents along the direction in which a model's states of "yes" and of "no" about them contradict.

    The prompt about each document is read twice, with its first label as the answer and with its last; a probe is then
    fitted to the states of all documents of the question, with no labels at all (see ``networks.consistency``). Two
    calls a document. Which end of the direction is the better one the states do not tell: ``prior`` does.

    Args:
        prompt: A question about one document with two answers, such as ``YesNo()``.
        model: A local one: ``HFModel(name)``.
        max_doc_tokens: Tokens to keep of any document; all that fit by default.
        prior: A scorer whose scores go with those of the better end, such as ``Prompted(YesNo(), model)``; by default
            the order in which documents are shown.
        margin: How far apart two documents' scores should be.

    Raises:
        ConfigurationError: The prompt shows several documents, or does not ask for labels; ``margin`` is not above 0.
        Unsupported: The model is not a local one.

    Reference:
        Stoehr et al., 2024 (Unsupervised Contrast-Consistent Ranking with Language Models), with items one by one.
    """

    prior: Scorer | None = field(default=None, kw_only=True)
    margin: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prompt.asks != "choices" or self.prompt.max_docs != 1:
            raise ConfigurationError(
                "ContrastProbe needs a prompt about one document with two answers, such as YesNo(), got "
                f"{self.prompt!r}"
            )
        if self.prior is not None:
            check_scorer("ContrastProbe", self.prior)
        if not self.margin > 0:
            raise ConfigurationError(f"margin must be above 0, got {self.margin}")
        check_states(self.model)

    @property
    def gives(self) -> Evidence:
        """An order of the list: the probe is fitted to it."""
        return Evidence.ORDER

    @property
    def max_docs(self) -> int | None:
        """Any number."""
        return None

    def load(self) -> None:
        """Loads the model, and what the prior needs."""
        super().load()
        load_all([] if self.prior is None else [self.prior])

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question; all prompts are batched together, each question has a probe of its own."""
        if not questions:
            return []
        plain = self.model.plain
        items = [
            Item(plain(question.query), (plain(doc.text),), (question.qid, doc.docno))
            for question in questions
            for doc in question.docs
        ]
        template = cast(ChoiceTemplate, plainly(self.prompt, plain))
        prompts, lost = self._fitted(template, items, [SLACK] * len(items))
        labels = template.options(1)
        stated = [
            replace(prompt, answer=f"{prompt.answer}{label}") for label in (labels[0], labels[-1]) for prompt in prompts
        ]
        read = hidden_states(self.model, stated)
        priors = [None] * len(questions) if self.prior is None else self.prior(questions)
        answers, start = [], 0
        for question, prior in zip(questions, priors, strict=True):
            end = start + len(question.docs)
            sides = [read[start:end], read[len(items) + start : len(items) + end]]
            usage = sum((cost for side in sides for _, cost in side), Usage(0, truncated_tokens=sum(lost[start:end])))
            scores = self._scores(*([state for state, _ in side] for side in sides))
            shown: Scores = -np.arange(len(scores), dtype=np.float64)
            agreed = directed(scores, shown if prior is None else prior.scores)
            answers.append(Answer(agreed, usage if prior is None else usage + prior.usage))
            start = end
        return answers

    def _scores(self, direct: list[Scores], negated: list[Scores]) -> Scores:
        """Scores up to their sign."""
        import torch

        from pyterrier_llmrank.networks.consistency import consistent_scores

        if not direct:
            return np.empty(0)
        sides = [torch.from_numpy(np.stack(side)) for side in (direct, negated)]
        scores: Scores = consistent_scores(*sides, margin=self.margin).numpy()
        return scores


def directed(scores: Scores, prior: Scores) -> Scores:
    """Scores or their negatives, whichever go with the prior's; NaN there says nothing."""
    known = ~np.isnan(prior)
    centred = prior[known] - prior[known].mean() if known.any() else prior[known]
    return -scores if float(scores[known] @ centred) < 0 else scores
