"""``InContextRanker``: documents by the attention that the query pays to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_llmrank.core import Question, Strategy
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.presets.registry import Name, Options, engine
from pyterrier_llmrank.prompts import InContextPrompt
from pyterrier_llmrank.scorers import Attention
from pyterrier_llmrank.scorers.finding import Criterion, Judged, best_heads, grade_heads, ndcg
from pyterrier_llmrank.scorers.heads import Heads
from pyterrier_llmrank.seeds import generator
from pyterrier_llmrank.strategies import OneShot

from .base import DEFAULT_MODEL, Method
from .explaining import Explanation, as_docs, explained
from .judged import check_relevant, judged_lists

if TYPE_CHECKING:
    from typing_extensions import Unpack


class InContextRanker(Method, pt.Estimator):
    """Ranks documents by the attention that a query pays to them inside a language model (ICR).

    ``bm25 % 100 >> InContextRanker()``. All documents are shown in one prompt that is read once; nothing is generated.
    One call in one round. For lists that exceed the model's context there is ``strategy=SlidingWindow(20, 10)``; the
    authors found that windows rank worse.

    ``fit`` finds the heads that tell relevance best (QRHead, CoRe), on results of a few judged queries; afterwards
    ``heads`` names them, and so does the repr, from which the ranker can be built again. ``explain`` shows what the
    query looked at.

    Args:
        model: A local decoder: a name on the Hugging Face hub, a folder, or an ``HFModel``.
        heads: "all" (ICR); "middle", a band of layers that also saves those behind it (Selective-ICR), or a ``Band``;
            "qr" or "core", as published for some models; or pairs of a layer and a head, from 0.
        calibrate: Whether the attention of the query "N/A" is taken off.
        order: "reversed" shows the first document last, nearest to the query; "input" shows it first.
        instruction: "IE", or "QA" for questions, as the authors of ICR ask; or a text of one's own.
        strategy: Which documents are shown together, in place of all at once.
        prompt: What is shown, in place of ``InContextPrompt(instruction)``.
        max_words: Words to keep of a document; None for all.
        max_doc_tokens: Tokens to keep of it.
        slowly: Whether a network that does not attend in the ordinary way is run as it is (see ``Attention``).
        find: What ``fit`` looks for in a head: "ndcg" (QRHead) or "contrast" (CoRe).
        n_heads: Heads that ``fit`` keeps; with validation data it may be half or a quarter of them.
        seed: Shuffles the candidates that ``fit`` shows, so that no head is found for looking at places.
        **options: What every method takes; see ``Options``.

    Raises:
        ConfigurationError: An argument out of range, no published heads for the model, or parts that do not fit.
        ModelNotFound: A folder that does not exist, or a name that the hub does not know. Where the hub cannot be
            reached this waits for the first use, or for ``load()``, and comes before any prompt is run.
        Unsupported: The model is not a local one. On first use: it does not attend in the ordinary way.

    Reference:
        Chen et al., 2025 (ICR); Zhang et al., 2025 (QRHead); Tran et al., 2025 (CoRe); Chen et al., 2026
        (Selective-ICR).
    """

    family = "in-context"
    scorer: Attention
    prompt: InContextPrompt | None  # type: ignore[assignment]

    def __init__(
        self,
        model: Name = DEFAULT_MODEL,
        *,
        heads: Heads | Sequence[tuple[int, int]] = "all",
        calibrate: bool = True,
        order: Literal["reversed", "input"] = "reversed",
        instruction: str = "IE",
        strategy: Strategy | None = None,
        prompt: InContextPrompt | None = None,
        max_words: int | None = 300,
        max_doc_tokens: int | None = None,
        slowly: bool = False,
        find: Criterion = "ndcg",
        n_heads: int = 16,
        seed: int = 0,
        **options: Unpack[Options],
    ) -> None:
        self._check(options)
        if prompt is not None and instruction != "IE":
            raise ConfigurationError(f"instruction={instruction!r} is without effect beside prompt={prompt!r}")
        if find not in ("ndcg", "contrast"):
            raise ConfigurationError(f"find must be 'ndcg' or 'contrast', got {find!r}")
        if n_heads < 1:
            raise ConfigurationError(f"n_heads must be at least 1, got {n_heads}")
        self.model, self.prompt, self.told = model, prompt, strategy
        self.calibrate, self.order, self.instruction = calibrate, order, instruction
        self.max_words, self.max_doc_tokens, self.slowly = max_words, max_doc_tokens, slowly
        self.find, self.n_heads, self.seed = find, n_heads, seed
        scorer = Attention(
            engine(model, options),
            heads,  # type: ignore[arg-type]
            calibrate=calibrate,
            order=order,
            prompt=prompt or InContextPrompt(instruction),
            max_words=max_words,
            max_doc_tokens=max_doc_tokens,
            slowly=slowly,
        )
        self.heads = scorer.heads
        self._build(strategy or OneShot(), scorer, options)

    def fit(
        self,
        topics_or_res_tr: pd.DataFrame,
        qrels_tr: pd.DataFrame,
        topics_or_res_va: pd.DataFrame | None = None,
        qrels_va: pd.DataFrame | None = None,
    ) -> InContextRanker:
        """Finds the heads that rank best, each by itself, and ranks by their sum from now on; returns self.

        The authors of QRHead took 128 queries. Each costs one pass of all layers.

        Args:
            topics_or_res_tr: Candidates of the queries, with their texts, as a first stage gives them.
            qrels_tr: Judgments of them: qid, docno, label.
            topics_or_res_va: Candidates of other queries, on which it is decided whether all ``n_heads`` are kept, or
                half or a quarter of them.
            qrels_va: Judgments of those; the same as of the others by default.

        Raises:
            InputError: No query has both relevant and other documents among its candidates, or no validation result is
                relevant.
            InputValidationError: A column is missing.
        """
        judged = self._judged(topics_or_res_tr, qrels_tr)
        valid: list[Judged] = []
        if topics_or_res_va is not None:
            held = self._judged(topics_or_res_va, qrels_tr if qrels_va is None else qrels_va)
            check_relevant(one.grades for one in held)
            valid = [one for one in held if (one.grades > 0).any()]
        grades = grade_heads(self.scorer, judged, self.find)
        found = best_heads(grades, self.n_heads)
        if valid:
            sizes = sorted({max(1, len(found) // share) for share in (1, 2, 4)})  # of equals, the fewest
            found = max((found[:size] for size in sizes), key=lambda heads: self._quality(heads, valid))
        self.heads = found
        self.scorer = replace(self.scorer, heads=found)
        return self

    def explain(self, query: str, docs: Any) -> Explanation:  # noqa: ANN401 - a frame, or a sequence of several kinds
        """Which of the documents, and which of their words, attract the attention of a query, shown all at once.

        Args:
            query: The query.
            docs: A frame with docno and text, such as the results of one query, in the order of a first stage; or
                texts.

        Raises:
            InputError: There are no documents, or a column is missing.
        """
        found = as_docs(docs)
        [looked] = self.scorer.look([Question(query, tuple(found))])
        return explained(query, found, looked.docs)

    def _judged(self, results: pd.DataFrame, qrels: pd.DataFrame) -> list[Judged]:
        """The queries of a frame with their candidates, in an order drawn at random, and judgments of these."""
        judged = []
        for question, labels in judged_lists(results, qrels, self):
            drawn = generator(self.seed, question.qid).permutation(len(labels))
            group = tuple(question.docs[place] for place in drawn)
            judged.append(Judged(Question(question.query, group, question.qid), labels[drawn]))
        return judged

    def _quality(self, heads: Heads, judged: Sequence[Judged]) -> float:
        """nDCG@10 of a set of heads."""
        answers = replace(self.scorer, heads=heads)([one.question for one in judged])
        found = [float(ndcg(answer.scores, one.grades)) for answer, one in zip(answers, judged, strict=True)]
        return float(np.mean(found))
