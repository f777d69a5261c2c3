"""``QueryLikelihood``: how likely a language model finds the query, given the document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from pyterrier_llmrank.core import Answer, Question, brief
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.models import Model, TokenLogprobs
from pyterrier_llmrank.prompts.demonstrations import plainly
from pyterrier_llmrank.prompts.pointwise import QueryPrompt
from pyterrier_llmrank.prompts.truncation import Renderer, fit

from .alone import Alone, regrouped
from .showing import is_probed

END = 2  # tokens that may close a query


@dataclass(frozen=True, repr=False)
class QueryLikelihood(Alone):
    """Scores each document by the log-probability of the query's tokens after it; NaN for an empty query.

    Scores are natural logs: the mean over the query's tokens, or their sum. For one query both order documents alike;
    the mean can be compared between queries of different lengths. Encoder-decoders count their end token, as UPR does.

    Args:
        model: Must offer ``continuation``.
        prompt: Shows the document, e.g. ``QueryPrompt(template="Document: {text} Query:", raw=True)`` for RankingGPT;
            ``Demonstrated(QueryPrompt(), examples)`` for few-shot query likelihood (PaRaDe).
        reduce: "mean" or "sum".
        max_doc_tokens: Tokens to keep of any document; all that fit by default.

    Raises:
        ConfigurationError: ``reduce`` is neither, or the model does not offer ``continuation``.

    Reference:
        Sachan et al., 2022 (UPR), eq. 3; Zhang et al., 2023 (RankingGPT) for the mean.
    """

    model: Model
    prompt: Renderer = field(default_factory=QueryPrompt)
    reduce: Literal["mean", "sum"] = "mean"
    max_doc_tokens: int | None = None

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.reduce not in ("mean", "sum"):
            raise ConfigurationError(f"reduce must be 'mean' or 'sum', got {self.reduce!r}")
        if not is_probed(self.model):
            self._check_model()

    def _check_model(self) -> None:
        if "continuation" not in self.model.can:
            raise ConfigurationError(f"QueryLikelihood needs log-probabilities of a text, which {self.model!r} lacks")

    def load(self) -> None:
        """Loads the model; of a server it is known then whether it tells log-probabilities of a text."""
        self.model.load()
        self._check_model()

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question; all documents of all questions go to the model together."""
        if not questions:
            return []
        queries = [self.model.plain(" ".join(question.query.split())) for question in questions]
        items = [
            (q, [self.model.plain(doc.text)]) for q, one in zip(queries, questions, strict=True) for doc in one.docs
        ]
        reserve = [len(ends) + END for ends in self.model.token_ends([query for query, _ in items])]
        prompt = plainly(self.prompt, self.model.plain)
        fitted = fit(prompt, items, self.model, reserve=reserve, max_doc_tokens=self.max_doc_tokens)
        read = self.model.continuation([one.prompt for one in fitted], [query for query, _ in items])
        costs = (
            replace(tokens.usage, truncated_tokens=one.lost, failures=int(not tokens.logprobs.size))
            for tokens, one in zip(read, fitted, strict=True)
        )
        return regrouped(questions, zip(map(self._reduced, read), costs, strict=True))

    def _reduced(self, tokens: TokenLogprobs) -> float:
        """Mean or sum; NaN of nothing."""
        if not tokens.logprobs.size:
            return np.nan
        return float(tokens.logprobs.mean() if self.reduce == "mean" else tokens.logprobs.sum())
