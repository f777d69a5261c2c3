"""Runs a pipeline with stand-ins for its rerankers, which note what they would have asked."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyterrier as pt

from pyterrier_llmrank.core import Answer, Cost, Evidence, Flow, Question, Scores, Usage
from pyterrier_llmrank.costs import held
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.ledger import Ledger
from pyterrier_llmrank.parts import is_scorer, reads
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.seeds import derived

OPERATORS = ("pyterrier._ops", "pyterrier_alpha.fusion")  # modules of what only puts other transformers together


@dataclass
class Watched:
    """What one reranker of a pipeline would have asked; as a scorer, it answers by a random order of the documents.

    The order is drawn for each query and ``turn``, and no answer contradicts it.

    Attributes:
        reranker: The one that it stands for; see ``asks``.
        seed: Of the orders.
        keep: Questions to keep as a sample of all.
        turn: Which run of the pipeline it is.
        sizes: (n, k) of every list that was ranked.
        rounds: Rounds, all queries together.
        asked: How many questions there were, by documents.
        sample: Some of them, each with the same chance.
        examples: One of each number of documents.
    """

    reranker: Any
    seed: int
    keep: int
    turn: int = 0
    sizes: list[tuple[int, int]] = field(default_factory=list)
    rounds: int = 0
    asked: Counter[int] = field(default_factory=Counter)
    sample: list[Question] = field(default_factory=list)
    examples: dict[int, Question] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._relevance: dict[tuple[int, str, str], int] = {}

    @property
    def gives(self) -> Evidence:
        """As the scorer that it stands for."""
        return self.reranker.scorer.gives  # type: ignore[no-any-return]

    @property
    def max_docs(self) -> int | None:
        """As the scorer that it stands for."""
        return self.reranker.scorer.max_docs  # type: ignore[no-any-return]

    @property
    def reads(self) -> tuple[str, ...]:
        """As the scorer that it stands for."""
        return reads(self.reranker.scorer)

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """The order of each question's documents, as one round."""
        self.rounds += 1
        return [self._answer(question) for question in questions]

    def _answer(self, question: Question) -> Answer:
        size, before = len(question.docs), self.asked.total()
        self.asked[size] += 1
        self.examples.setdefault(size, question)
        if before < self.keep:
            self.sample.append(question)
        elif (place := self._draw.randrange(before + 1)) < self.keep:  # reservoir sampling
            self.sample[place] = question
        return Answer(np.array([self._value(question.qid, doc.docno) for doc in question.docs], dtype=float), Usage())

    def _value(self, qid: str, docno: str) -> int:
        key = (self.turn, qid, docno)
        if key not in self._relevance:
            self._relevance[key] = derived(self.seed, *key)
        return self._relevance[key]

    @property
    def docs(self) -> int:
        """Documents of all lists that were ranked; those that were shown, where lists grow on the way."""
        return sum(n for n, _ in self.sizes) if isinstance(self.reranker, Rerank) else len(self._relevance)

    def costs(self) -> list[Cost] | None:
        """What the strategy says of every list that was ranked; None where it says nothing."""
        cost = getattr(getattr(self.reranker, "strategy", None), "cost", None)
        return None if cost is None else [cost(n, k) for n, k in self.sizes]

    def stand_in(self) -> pt.Transformer:
        """A reranker with the same questions."""
        one = self.reranker
        if not isinstance(one, Rerank):
            return pt.inspect.transformer_apply_attributes(one, scorer=self)
        strategy = Noted(one.strategy, self.sizes)
        options: dict[str, Any] = {name: getattr(one, name) for name in ("top_k", "depth", "num_results", "text_field")}
        return Rerank(strategy, self, **options)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Noted:
    """A strategy that notes the sizes of the lists that it ranks."""

    strategy: Any
    sizes: list[tuple[int, int]]

    @property
    def needs(self) -> Evidence:
        """As the strategy."""
        return getattr(self.strategy, "needs", Evidence.CHOICE)

    @property
    def group_size(self) -> int | None:
        """As the strategy; a generator function does not say."""
        return getattr(self.strategy, "group_size", 0)

    def __call__(self, n: int, k: int) -> Flow[Scores]:
        """As the strategy; what it would make of the last answer is left out where that is known.

        A fit to all answers can take seconds, and asks nothing.
        """
        self.sizes.append((n, k))
        flow: Flow[Scores] = self.strategy(n, k)
        cost = getattr(self.strategy, "cost", None)
        known: Cost | None = None if cost is None else cost(n, k)
        if known is None or not known.exact:
            return (yield from flow)
        answers: list[Scores] | None = None
        for _ in range(known.rounds):
            try:
                groups = next(flow) if answers is None else flow.send(answers)
            except StopIteration as stop:
                scores: Scores = stop.value
                return scores
            answers = yield groups
        flow.close()
        return np.zeros(n)


def asks(part: object) -> bool:
    """Whether it is a reranker, or another transformer that asks a scorer and books what that costs (SlideGAR)."""
    books = isinstance(part, pt.Transformer) and isinstance(getattr(part, "ledger", None), Ledger)
    return isinstance(part, Rerank) or (books and is_scorer(getattr(part, "scorer", None)))


def rerankers_in(part: object) -> bool:
    """Whether there is a reranker in a transformer, or in a list of them."""
    if isinstance(part, list):
        return any(map(rerankers_in, part))
    if asks(part) or not isinstance(part, pt.Transformer):
        return asks(part)
    return any(map(rerankers_in, held(part).values()))


def replaced(part: pt.Transformer, stand_in: Callable[[pt.Transformer], pt.Transformer]) -> pt.Transformer:
    """A pipeline with a stand-in for each reranker, in order; everything else stays the same object.

    What holds a single one and is no operator, such as a cache, is left out around it: it must not keep made-up scores.

    Raises:
        ConfigurationError: Something that is no operator holds several.
    """
    if asks(part):
        return stand_in(part)
    if not rerankers_in(part):
        return part
    inside = {name: value for name, value in held(part).items() if rerankers_in(value)}
    if type(part).__module__ in OPERATORS:
        made: dict[str, Any] = {
            name: [replaced(one, stand_in) for one in value] if isinstance(value, list) else replaced(value, stand_in)
            for name, value in inside.items()
        }
        return pt.inspect.transformer_apply_attributes(part, **made)
    own = [one for value in inside.values() for one in (value if isinstance(value, list) else [value])]
    if len(own) > 1:
        raise ConfigurationError(
            f"{type(part).__name__} holds several transformers, and what it does with rerankers is not known; plan the "
            "rerankers in it one by one, with candidates="
        )
    return replaced(own[0], stand_in)
