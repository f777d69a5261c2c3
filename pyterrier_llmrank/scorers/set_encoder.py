"""``SetEncoder``: a cross-encoder whose documents see one another, whatever their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pyterrier_llmrank.core import Answer, Evidence, Question, Usage
from pyterrier_llmrank.models.hf.batching import Budget, in_batches, plan_in_order
from pyterrier_llmrank.models.hf.encoders import Encoded, Limits, LocalEncoder
from pyterrier_llmrank.models.hf.loaded import Loaded
from pyterrier_llmrank.models.hf.weightless import weightless

from .alone import regrouped
from .limits import check_limits

if TYPE_CHECKING:
    from pyterrier_llmrank.models.hf.own import Own
    from pyterrier_llmrank.networks.set_inputs import SetInputs


@dataclass(frozen=True, repr=False)
class SetEncoder(LocalEncoder):
    """Scores a list with a Set-Encoder: each document in the light of the others, and the same in any order of them.

    A score tells a document from others of its group, not from those of another group, whose documents it has not
    seen: ``OneShot()`` shows it the whole list, at about the cost of a cross-encoder. Documents see one another in
    every layer, by one token each. Takes the arguments of ``Local`` (``device``, ``dtype``, ``max_length`` …; a layer
    reads about ``batch_tokens`` at once, however long a list is), and:

    Args:
        max_query_tokens: Tokens to keep of a query; by default as many as in the checkpoint's training.
        max_doc_tokens: Tokens to keep of a document; likewise.
        seed: The official code fills lists that are shorter than those of training (100 documents) up with random
            ones, which makes scores of short lists depend on chance. With a seed this does the same, as the official
            code does it on a CPU after ``torch.manual_seed(seed)`` for each list by itself; by default nothing is
            made up, and scores depend on nothing but the list.

    Raises:
        ConfigurationError: An argument is out of range.
        ModelError: On first use, if the checkpoint is of another architecture, or has no interaction token.

    Examples:
        ``Rerank(OneShot(), SetEncoder("webis/set-encoder-base"))``; with ``"webis/set-encoder-novelty-base"``,
        documents that say what another one says come further down.

    Reference:
        Schlatt et al., 2025, Set-Encoder: Permutation-Invariant Inter-Passage Attention for Listwise Passage Re-Ranking
        with Cross-Encoders.
    """

    max_query_tokens: int | None = field(default=None, kw_only=True)
    max_doc_tokens: int | None = field(default=None, kw_only=True)
    seed: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_limits(self, "max_query_tokens", "max_doc_tokens")

    @property
    def gives(self) -> Evidence:
        """The order of a group."""
        return Evidence.ORDER

    @property
    def max_docs(self) -> int | None:
        """Any number, also more than in training."""
        return None

    @property
    def _of(self) -> Own:
        from pyterrier_llmrank.networks.set_encoder import SetEncoderNetwork

        return SetEncoderNetwork

    @cached_property
    def _format(self) -> SetInputs:
        from pyterrier_llmrank.networks.set_inputs import SetInputs

        limits = Limits(self.context, self.max_query_tokens, self.max_doc_tokens)
        loaded = self._loaded
        return SetInputs(loaded.tokenizer, loaded.network.config, loaded.known_ids, limits)

    def load(self) -> None:
        """Loads the network, and checks that its tokenizer is one for lists."""
        super().load()
        self._format  # noqa: B018 - a cached property

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question; each question's documents see one another, and no other's."""
        if not questions:
            return []
        inputs = self.inputs(questions)

        def run(on: Loaded, budget: Budget, places: list[int]) -> list[list[float]]:
            scores: dict[int, list[float]] = {}

            def work(batch: list[int]) -> None:
                scores.update(zip(batch, self._read(on, budget, [inputs[places[item]] for item in batch]), strict=True))

            in_batches([len(rows[item]) for item in places], [1] * len(places), budget, work, plan_in_order)
            return [scores[item] for item in range(len(places))]

        rows = [[token for one in own for token in one.ids] for own in inputs]
        every = [score for own in self._spread(rows, run) for score in own]
        return regrouped(questions, zip(every, (one.usage for own in inputs for one in own), strict=True))

    def planned(self, questions: Sequence[Question]) -> list[Usage]:
        """What questions would cost, by the tokenizer alone: no weights are loaded."""
        inputs = weightless(self).inputs(questions)
        return [sum((one.usage for one in own), Usage()) for own in inputs]

    def inputs(self, questions: Sequence[Question]) -> list[list[Encoded]]:
        """What is read for each document of each question."""
        pairs = [(self.plain(one.query), self.plain(doc.text)) for one in questions for doc in one.docs]
        read = iter(self._format([query for query, _ in pairs], [text for _, text in pairs]))
        return [[next(read) for _ in one.docs] for one in questions]

    def _read(self, on: Loaded, budget: Budget, sets: Sequence[Sequence[Encoded]]) -> list[list[float]]:
        """The scores of some sets, side by side."""
        import torch

        from pyterrier_llmrank.networks.set_inputs import row_of

        row = row_of(sets, on.device)
        if not row.lengths:
            return [[] for _ in sets]
        network: Any = on.network
        draws = None if self.seed is None else [torch.Generator().manual_seed(self.seed) for _ in sets]
        with torch.inference_mode():
            scores = network(row, draws=draws, chunk=budget.tokens)
        return [own.tolist() for own in scores.double().cpu().split(row.sizes)]
