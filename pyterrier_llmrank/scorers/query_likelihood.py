"""``QueryLikelihood``: how likely a language model finds the query, given the document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from pyterrier_llmrank.core import Answer, Evidence, Question, Scores, Usage, brief
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.models import Model
from pyterrier_llmrank.prompts.pointwise import QueryPrompt
from pyterrier_llmrank.prompts.truncation import fit

END = 2  # tokens that may close a query


@dataclass(frozen=True, repr=False)
class QueryLikelihood:
    """Scores each document by the log-probability of the query's tokens after it; NaN for an empty query.

    Scores are natural logs: the mean over the query's tokens, or their sum. For one query both order documents alike;
    the mean can be compared between queries of different lengths. Encoder-decoders count their end token, as UPR does.

    Args:
        model: Must offer ``continuation``.
        prompt: Shows the document, e.g. ``QueryPrompt(template="Document: {text} Query:", raw=True)`` for RankingGPT.
        reduce: "mean" or "sum".
        max_doc_tokens: Tokens to keep of any document; all that fit by default.

    Raises:
        ConfigurationError: ``reduce`` is neither, or the model does not offer ``continuation``.

    Reference:
        Sachan et al., 2022 (UPR), eq. 3; Zhang et al., 2023 (RankingGPT) for the mean.
    """

    model: Model
    prompt: QueryPrompt = field(default_factory=QueryPrompt)
    reduce: Literal["mean", "sum"] = "mean"
    max_doc_tokens: int | None = None

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.reduce not in ("mean", "sum"):
            raise ConfigurationError(f"reduce must be 'mean' or 'sum', got {self.reduce!r}")
        if "continuation" not in self.model.can:
            raise ConfigurationError(f"QueryLikelihood needs log-probabilities of a text, which {self.model!r} lacks")

    @property
    def gives(self) -> Evidence:
        """Log-probabilities of one and the same query."""
        return Evidence.SCORE

    @property
    def max_docs(self) -> int | None:
        """Any number: each document has a prompt of its own."""
        return None

    def load(self) -> None:
        """Loads the model."""
        self.model.load()

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question; all documents of all questions go to the model together."""
        if not questions:
            return []
        queries = [self.model.plain(" ".join(question.query.split())) for question in questions]
        items = [
            (q, [self.model.plain(doc.text)]) for q, one in zip(queries, questions, strict=True) for doc in one.docs
        ]
        reserve = [len(ends) + END for ends in self.model.token_ends([query for query, _ in items])]
        fitted = fit(self.prompt, items, self.model, reserve=reserve, max_doc_tokens=self.max_doc_tokens)
        read = self.model.continuation([one.prompt for one in fitted], [query for query, _ in items])
        scored = iter(zip(read, fitted, strict=True))
        answers = []
        for question in questions:
            scores, usage = [], Usage()
            for _ in question.docs:
                tokens, prompt = next(scored)
                scores.append(self._reduced(tokens.logprobs))
                usage += replace(tokens.usage, truncated_tokens=prompt.lost, failures=int(not tokens.logprobs.size))
            answers.append(Answer(np.array(scores), usage))
        return answers

    def _reduced(self, logprobs: Scores) -> float:
        """Mean or sum; NaN of nothing."""
        if not logprobs.size:
            return np.nan
        return float(logprobs.mean() if self.reduce == "mean" else logprobs.sum())
