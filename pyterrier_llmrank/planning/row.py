"""One reranker's row of a plan: from what was asked in its place to what a whole run takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pyterrier_llmrank.core import Cost

from .dry import Tally, dry
from .rates import Rates, Tokens
from .watching import Watched

COLUMNS = (
    "reranker",
    "queries",
    "docs",
    "exact",
    "calls",
    "calls_at_most",
    "rounds",
    "rounds_at_most",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "truncated_tokens",
    "seconds",
    "seconds_at_most",
    "money",
    "money_at_most",
    "counted",
)


@dataclass(frozen=True)
class Scope:
    """How much of a run was watched.

    Attributes:
        turns: How often.
        seen: Queries of each turn.
        whole: Queries of the run.
        alike: Whether the queries that were not seen are known to have as many candidates.
        texts: Whether documents had their texts.
        answer_tokens: Tokens that a written answer is expected to have; None for as many as it may.
    """

    turns: int
    seen: int
    whole: int
    alike: bool
    texts: bool
    answer_tokens: int | None

    @property
    def scale(self) -> float:
        """From everything that was watched to one run."""
        return self.whole / max(1, self.seen) / self.turns


class PerQuestion(NamedTuple):
    """What questions take, on average.

    Attributes:
        calls: By the number of documents.
        varies: Whether calls depend on anything else.
        prompt: Prompt tokens.
        output: Output tokens, as many as are expected.
        longest: Output tokens, as many as there may be.
        truncated: Tokens of documents that do not fit.
        counted: How tokens were counted.
    """

    calls: dict[int, float]
    varies: bool
    prompt: float
    output: float
    longest: float
    truncated: float
    counted: str


def row(one: Watched, rates: Rates, scope: Scope) -> dict[str, Any]:
    """What one reranker takes, by ``COLUMNS``."""
    each, costs, scale = _per_question(one, scope), one.costs(), scope.scale
    questions = one.asked.total() * scale
    calls = sum(count * each.calls[size] for size, count in one.asked.items()) * scale
    told = costs is not None and all(cost.exact for cost in costs)
    exact = told and not each.varies and (scope.seen == scope.whole or scope.alike)
    rounds = one.rounds / scope.turns
    most_calls = calls if exact else _most_questions(costs, scope) * max(each.calls.values(), default=1.0)
    most_rounds = rounds if exact else np.nan if costs is None else max((cost.rounds for cost in costs), default=0)
    tokens, counted = _tokens(each, questions, calls, rates)
    more = most_calls / calls if calls else 1.0
    most = Tokens(tokens.prompt * more, tokens.cached * more, max(each.longest * questions, tokens.output) * more)
    values = (
        repr(one.reranker), scope.whole, one.docs * scale / max(1, scope.whole), exact,
        calls, most_calls, rounds, most_rounds, *tokens, each.truncated * questions,
        rates.seconds(calls, tokens), rates.seconds(most_calls, most),
        rates.money(tokens), rates.money(most), counted,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _per_question(one: Watched, scope: Scope) -> PerQuestion:
    """Renders the sampled questions, and one of each size, and counts."""
    tally = Tally()
    scorer = dry(one.reranker.scorer, tally, scope.answer_tokens)
    examples = list(one.examples.values())
    found: dict[int, list[int]] = defaultdict(list)
    for question, answer in zip(examples, scorer(examples), strict=True):
        found[len(question.docs)].append(answer.usage.calls)
    tally.output = 0
    usages = [answer.usage for answer in scorer(one.sample)]
    for question, usage in zip(one.sample, usages, strict=True):
        found[len(question.docs)].append(usage.calls)
    calls = {size: float(np.mean(own)) for size, own in found.items()}
    varies = any(len(set(own)) > 1 for own in found.values())
    if not scope.texts or "unknown" in tally.counted:
        return PerQuestion(calls, varies, np.nan, np.nan, np.nan, np.nan, "unknown")
    n = max(1, len(usages))
    names = ("prompt_tokens", "output_tokens", "truncated_tokens")
    prompt, output, truncated = (sum(getattr(usage, name) for usage in usages) / n for name in names)
    return PerQuestion(calls, varies, prompt, output, tally.output / n, truncated, " and ".join(sorted(tally.counted)))


def _most_questions(costs: Sequence[Cost] | None, scope: Scope) -> float:
    """The strategy's bound for the whole run; queries that were not seen count as the dearest one that was."""
    if costs is None:
        return np.nan
    unseen = (scope.whole - scope.seen) * max((cost.calls for cost in costs), default=0)
    return sum(cost.calls for cost in costs) / scope.turns + unseen


def _tokens(each: PerQuestion, questions: float, calls: float, rates: Rates) -> tuple[Tokens, str]:
    """Tokens of the run, and how they were counted; those of an earlier run tell what was not known."""
    prompt, output, counted, cached = each.prompt * questions, each.output * questions, each.counted, 0.0
    if rates.earlier is not None:
        usage = rates.earlier.total.usage
        output = calls * usage.output_tokens / usage.calls
        if np.isnan(prompt):
            prompt, counted = calls * usage.prompt_tokens / usage.calls, "earlier run"
        cached = usage.cached_tokens / max(1, usage.prompt_tokens)
    return Tokens(prompt, prompt * cached, output), counted
