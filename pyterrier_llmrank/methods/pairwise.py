"""``PairwiseLLM``: two documents at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pyterrier_llmrank.aggregates import additive, bradley_terry
from pyterrier_llmrank.core import Strategy
from pyterrier_llmrank.designs import all_pairs, random_pairs
from pyterrier_llmrank.presets.registry import Common, Name
from pyterrier_llmrank.prompts import PairPrompt
from pyterrier_llmrank.prompts.base import Template
from pyterrier_llmrank.scorers import BothOrders
from pyterrier_llmrank.strategies import Bubble, Heapsort, Sampled

from .base import DEFAULT_MODEL, Demonstrations, Method, chosen

if TYPE_CHECKING:
    from typing_extensions import Unpack

STRATEGIES: dict[str, Strategy] = {
    "heapsort": Heapsort(2),
    "sliding": Bubble(2),
    "allpair": Sampled(all_pairs, additive),
    "sparse": Sampled(random_pairs(8), bradley_terry),
}


class PairwiseLLM(Method):
    """Shows a language model two documents at a time and asks which is better (PRP).

    ``bm25 >> PairwiseLLM()``. Each pair is shown both ways round: two calls; where the answers contradict each other it
    is a tie, which keeps the order. A checkpoint that was trained as a pairwise reranker (see ``presets.list()``) is
    asked as it was trained to be.

    Args:
        model: A name on the Hugging Face hub, a folder, or a ``Model`` such as ``HFModel(name, thinking=True)``.
        strategy: Which pairs are asked about, for 100 documents and ``top_k=10``: "heapsort" (about 265 pairs),
            "sliding" (passes from the bottom, as many as ``top_k``: up to 945 pairs), "allpair" (4,950 pairs in one
            round), "sparse" (8 random pairs a document, put together by Bradley-Terry: 800 pairs in one round); or a
            strategy object.
        both_orders: Whether each pair is shown both ways round.
        decode: "choices" compares the probabilities of the two answers; "generate" lets the model write one.
        prompt: What is asked, in place of ``PairPrompt(decode)``.
        top_k: Positions to settle; the rest stay in input order. None for all.
        demonstrations: Solved examples, shown before each question.
        max_doc_tokens: Tokens to keep of any document; 256 by default, or what the checkpoint was trained on.
        **options: What every method takes; see ``Common``.

    Raises:
        ConfigurationError: An unknown strategy or decode mode, or parts that do not fit together.
        ModelNotFound: A folder that does not exist, or a name that the hub does not know. Where the hub cannot be
            reached this waits for the first use, or for ``load()``, and comes before any prompt is run.
    """

    family = "pairwise"

    def __init__(
        self,
        model: Name = DEFAULT_MODEL,
        *,
        strategy: Literal["heapsort", "sliding", "allpair", "sparse"] | Strategy = "heapsort",
        both_orders: bool = True,
        decode: Literal["choices", "generate"] = "choices",
        prompt: Template | None = None,
        top_k: int | None = 10,
        demonstrations: Demonstrations = (),
        max_doc_tokens: int | None = None,
        **options: Unpack[Common],
    ) -> None:
        self.model, self.prompt, self.told = model, prompt, strategy
        self.both_orders, self.decode, self.top_k = both_orders, decode, top_k
        self.demonstrations, self.max_doc_tokens = demonstrations, max_doc_tokens
        scorer, _ = self._asked(PairPrompt(decode), 256, options)
        if both_orders and not isinstance(scorer, BothOrders):
            scorer = BothOrders(scorer)
        self._build(chosen(strategy, STRATEGIES), scorer, options)
