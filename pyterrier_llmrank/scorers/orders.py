"""Scorers that undo order effects: ``BothOrders`` and ``Shuffled``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial

from pyterrier_llmrank.core import Answer, Evidence, Group, Question, Scorer, brief
from pyterrier_llmrank.seeds import generator

from .around import Around, check_scorer, check_times, in_orders
from .combining import USUAL, Aggregate, Rule, as_aggregate, check_rule, evidence

COUNTED = 20  # documents whose orders are too many to count them


@dataclass(frozen=True, repr=False)
class BothOrders(Around):
    """Asks about each group forwards and backwards, and combines the two answers.

    With "agree" a pair has a winner, (1, 0), where both answers name the same document, and is a tie, (0.5, 0.5), where
    they contradict each other or only one could be read (PRP). In a larger group this holds for each two documents of
    it, and the score is the share of pairs won. A group of one document is asked about once. Costs: 2 calls a group.

    Args:
        scorer: What is asked, e.g. ``Prompted(PairPrompt(), model)``.
        combine: "agree"; "mean" of the two scores, each document's over the answers that have one; "borda" or "votes"
            (see ``Shuffled``); or an aggregate, a function of (n, groups, answers).

    Raises:
        ConfigurationError: ``scorer`` is not a scorer, or ``combine`` none of these.

    Reference:
        Qin et al., 2024 (PRP), section 3.1.
    """

    scorer: Scorer
    combine: Rule | Aggregate = "agree"

    __repr__ = brief

    def __post_init__(self) -> None:
        check_scorer("BothOrders", self.scorer)
        check_rule("BothOrders", self.combine)

    @property
    def gives(self) -> Evidence:
        """What the scorer gives; an order at most, unless scores are averaged."""
        return evidence(self.combine, self.scorer.gives)

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question, from two calls for each; all go to the scorer together."""
        return in_orders(
            self.scorer, questions, [_both(len(one.docs)) for one in questions], as_aggregate(self.combine)
        )


@dataclass(frozen=True, repr=False)
class Shuffled(Around):
    """Asks about each group in random orders, and combines the answers (permutation self-consistency).

    Every order is drawn, the first one too: ``times=1`` shows a shuffled group (Rank-R1). No order is drawn twice, so
    a pair is asked about in two orders at most, and one document once; a question is shuffled by its own qid and
    documents, whoever else is asked about. Costs: ``min(times, n!)`` calls for a group of ``n``.

    Args:
        scorer: What is asked, e.g. ``Prompted(ListPrompt(), model)``.
        times: Orders of each group.
        combine: "mean" of the scores that a document got; "borda", its mean points in the orders (one for each that it
            is above, half for a tie; left out is last); "votes", how often it was first; "agree", its share of the
            pairs that all answers agree on; or an aggregate, a function of (n, groups, answers) such as ``additive``.
            By default what suits the scorer: "mean" for scores, "borda" for orders, "votes" for choices.
        seed: Decides the orders.

    Raises:
        ConfigurationError: ``scorer`` is not a scorer, ``times`` below 1, or ``combine`` none of these.

    Reference:
        Tang et al., 2024 (permutation self-consistency).
    """

    scorer: Scorer
    times: int
    combine: Rule | Aggregate | None = None
    seed: int = 0

    __repr__ = brief

    def __post_init__(self) -> None:
        check_scorer("Shuffled", self.scorer)
        check_times("Shuffled", self.times)
        if self.combine is not None:
            check_rule("Shuffled", self.combine)

    @property
    def gives(self) -> Evidence:
        """What the scorer gives; an order at most, unless scores are averaged."""
        return evidence(self._rule, self.scorer.gives)

    @property
    def _rule(self) -> Rule | Aggregate:
        return self.combine or USUAL[self.scorer.gives]

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question; all copies of all questions go to the scorer together."""
        return in_orders(self.scorer, questions, [self._orders(one) for one in questions], as_aggregate(self._rule))

    def _orders(self, question: Question) -> list[Group]:
        """Different random orders of a question's documents."""
        n = len(question.docs)
        draw = generator(self.seed, question.qid, *(doc.docno for doc in question.docs))
        wanted = self.times if n > COUNTED else min(self.times, factorial(n))
        orders: dict[Group, None] = {}
        while len(orders) < wanted:
            orders[tuple(draw.permutation(n).tolist())] = None
        return list(orders)


def _both(n: int) -> list[Group]:
    """``n`` documents forwards and backwards; one way where there is no other."""
    forwards = tuple(range(n))
    return [forwards, forwards[::-1]] if n > 1 else [forwards]
