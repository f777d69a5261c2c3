"""Finds the heads of a model whose attention tells relevant documents from others, on a few judged queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Question, Scores
from pyterrier_llmrank.errors import InputError

from .attention import Attention
from .heads import Head

Criterion: TypeAlias = Literal["ndcg", "contrast"]
DEPTH = 10  # ranks that nDCG looks at


class Judged(NamedTuple):
    """A question whose documents are judged.

    Attributes:
        question: The query and its candidates.
        grades: How relevant each is, (docs,); 0 for not at all.
    """

    question: Question
    grades: Scores


def grade_heads(
    scorer: Attention, judged: Sequence[Judged], by: Criterion = "ndcg", *, temperature: float = 0.001
) -> NDArray[np.float64]:
    """How well each head alone ranks, mean over queries, (layers, heads). One pass of all layers a query.

    Queries without a relevant candidate, or without another one, tell nothing and are left out.

    Args:
        scorer: How documents are shown; its own heads do not matter.
        judged: What heads are tried on. Candidates that were not found relevant are the negatives.
        by: "ndcg": nDCG@10 of the ranking by calibrated attention (QRHead); "contrast": the share of a relevant
            document in a softmax of attention over it and the negatives, without calibration (CoRe).
        temperature: Of that softmax; CoRe used 0.001 for Mistral and Granite, 0.1 for Llama and Phi.

    Raises:
        InputError: No query is left.

    Reference:
        Zhang et al., 2025 (QRHead), section 3; Tran et al., 2025 (CoRe), with the softmax of its published code.
    """
    told = [one for one in judged if 0 < (one.grades > 0).sum() < len(one.grades)]
    if not told:
        raise InputError(
            f"none of {len(judged)} queries has both relevant and other documents among its candidates; retrieve more "
            "candidates, or give judgments of these queries"
        )
    whole = replace(scorer, heads="all", calibrate=scorer.calibrate and by == "ndcg")
    total: NDArray[np.float64] | float = 0.0
    for one in told:  # one at a time: the weights of every head are large
        [looked] = whole.look([one.question], by_head=True)
        scores = np.stack([doc.weights.sum(-1) for doc in looked.docs], axis=-1)  # (heads, docs)
        total = total + (ndcg(scores, one.grades) if by == "ndcg" else contrast(scores, one.grades, temperature))
    return (np.asarray(total) / len(told)).reshape(whole._attentive.attention_heads)


def best_heads(grades: NDArray[np.float64], n: int) -> tuple[Head, ...]:
    """The ``n`` heads of the highest grade, (layers, heads); best first, equal ones by layer and head."""
    best = np.argsort(-grades, axis=None, kind="stable")[:n]
    return tuple((int(layer), int(head)) for layer, head in zip(*np.unravel_index(best, grades.shape), strict=True))


def ndcg(scores: NDArray[np.float64], grades: Scores, depth: int = DEPTH) -> NDArray[np.float64]:
    """NDCG of rankings by ``scores``, (…, docs) -> (…,), with grades as gains; equal scores keep their order."""
    gains = np.maximum(grades, 0.0)
    discounts = 1 / np.log2(np.arange(2, min(depth, len(gains)) + 2))
    order = np.argsort(-scores, axis=-1, kind="stable")[..., :depth]
    best = (np.sort(gains)[::-1][:depth] * discounts).sum()
    return np.asarray((gains[order] * discounts).sum(-1) / best)


def contrast(scores: NDArray[np.float64], grades: Scores, temperature: float) -> NDArray[np.float64]:
    """Share of relevant documents, each in a softmax over it and the negatives, (…, docs) -> (…,): their mean."""
    right, wrong = scores[..., grades > 0, None], scores[..., None, grades <= 0]
    margins = (wrong - right) / temperature  # (…, relevant, negatives)
    return np.asarray(np.exp(-np.logaddexp.reduce(margins, axis=-1, initial=0.0)).mean(-1))
