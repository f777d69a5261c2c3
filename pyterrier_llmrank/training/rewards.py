"""Rewards of the published rerankers that learn by reinforcement: pure functions of what a model wrote.

``advantages`` turns the rewards of one prompt's answers into what GRPO learns from.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyterrier_llmrank.core import descending
from pyterrier_llmrank.errors import InputError
from pyterrier_llmrank.prompts import parse_permutation

_REASONED = re.compile(r"(?s)<think>.*?</think>\s*<answer>(.*?)</answer>")
_RANKING = re.compile(r"\s*\[\d+\](?:\s*>\s*\[\d+\])*\s*")


def rearank(text: str, grades: Sequence[float], *, k: int = 10) -> float:
    """What REARANK's listwise answers earn: how far they go from the shown order to the best, and their format.

    Args:
        text: The answer, reasoning and all.
        grades: Relevance of the documents as they were shown, at least 0.
        k: Cutoff of nDCG, whose gains are the grades themselves.

    Returns:
        0.8 times the part of the possible gain in nDCG that was made (negative if it was lost), 0.1 for both pairs of
        tags, and 0.1 for a ranking such as ``[3] > [1] > [2]`` between them. Where the shown order is the best, what
        is lost of nDCG counts instead, as there is no gain to be part of. Documents that the answer leaves out follow
        in order.

    Reference:
        Zhang et al., 2025, eq. 5 and 6 (REARANK), who leave out lists without a possible gain.
    """
    n = len(grades)
    named = parse_permutation(text, n).order
    order = [*named, *(place for place in range(n) if place not in named)]
    before, after, best = (
        ndcg(ranked, grades, k=k) for ranked in (range(n), order, descending(range(n), _array(grades)))
    )
    gained = after - best if best == before else (after - before) / (best - before)
    answer = re.search(r"(?s)<answer>(.*?)</answer>", text)
    tags = bool(answer) and "<think>" in text and "</think>" in text
    listed = bool(answer and _RANKING.fullmatch(answer[1]))
    return 0.8 * gained + 0.1 * tags + 0.1 * listed


def rank_r1(text: str, label: str) -> float:
    """What Rank-R1's setwise answers earn: 1 for the right label after reasoning, each between its tags, else 0.

    Args:
        text: The answer, reasoning and all.
        label: Of the relevant document, as the prompt shows it, such as ``[3]``.

    Reference:
        Zhuang et al., 2025 (Rank-R1).
    """
    found = _REASONED.search(text)
    return float(bool(found) and found[1].strip() == label)  # type: ignore[index]


def reason_rank(text: str, relevant: Collection[int], wanted: Sequence[int], *, k: int = 10) -> float:
    """What ReasonRank's listwise answers earn, in three views: nDCG, recall, and likeness to a teacher's order.

    Args:
        text: The answer, reasoning and all.
        relevant: Places of the relevant documents in the window, from 0.
        wanted: The teacher's order of the whole window, by places from 0.
        k: Cutoff of nDCG and recall.

    Returns:
        ``nDCG + 0.2 recall + 0.1 RBO``; 0 for an answer that is no permutation of the window, -1 for one without
        reasoning and answer between their tags.

    Reference:
        Liu et al., 2025 (ReasonRank), with the weights of its code, where identifiers that are out of range are left
        out, and 0 is the last passage. Here such an answer is no permutation.
    """
    found = _REASONED.search(text)
    if not found:
        return -1.0
    order = [int(number) - 1 for number in re.findall(r"\d{1,9}", found[1])]
    if sorted(order) != list(range(len(wanted))):
        return 0.0
    grades = [float(place in relevant) for place in range(len(wanted))]
    recall = sum(grades[place] for place in order[:k]) / max(sum(grades), 1.0)
    return ndcg(order, grades, k=k) + 0.2 * recall + 0.1 * average_overlap(order, wanted)


def erank(
    scores: ArrayLike,
    relevant: Sequence[bool],
    reference: Sequence[float],
    *,
    penalty: float = 1.0,
    highest: float = 10.0,
) -> NDArray[np.float64]:
    """What ERank's pointwise scores earn by their place among all scores that a query's documents were given.

    Args:
        scores: Of each document's samples, (docs, samples); NaN where no score was to be read.
        relevant: Which documents are, (docs,).
        reference: Each document's score by the model before, (docs,).
        penalty: For a score that is missing, or of an irrelevant document not below all relevant ones.
        highest: Score.

    Returns:
        Rewards, (docs, samples): the reciprocal rank of a relevant document's score, equals sharing the best rank; the
        negated square of how far a well placed irrelevant one is from its reference, as part of ``highest``; and
        ``-penalty``.

    Raises:
        InputError: Shapes differ.

    Reference:
        Cai et al., 2025 (ERank), sec. 3.3; the size of penalty and squares is not told there.
    """
    given = np.asarray(scores, dtype=np.float64)
    if given.ndim != 2 or not len(given) == len(relevant) == len(reference):
        raise InputError(
            f"erank takes scores of shape (docs, samples) and one mark and reference a document, got {given.shape}, "
            f"{len(relevant)} and {len(reference)}"
        )
    good = np.asarray(relevant, dtype=bool)[:, None] & ~np.isnan(given)
    ranks = 1 + (given.ravel() > given[..., None]).sum(axis=-1)  # (docs, samples)
    last = ranks[good].max(initial=0)
    far = ((given - np.asarray(reference, dtype=np.float64)[:, None]) / highest) ** 2
    placed = np.where(ranks > last, -far, -penalty)
    return np.where(np.isnan(given), -penalty, np.where(good, 1 / ranks, placed))


def dynamic_rag(answer: str, expected: str, *, selected: int, semantic: float, judged: float) -> float:
    """What a choice of documents earns by the answer that a generator wrote from them.

    Args:
        answer: What was written.
        expected: What should have been.
        selected: Documents that were chosen.
        semantic: Likeness of both texts, such as BERTScore's F1, 0 to 1.
        judged: A model's mark for the answer, 0 to 1.

    Returns:
        Mean of five parts from 0 to 1: whether the expected answer is in the text, ``semantic``, ``rouge_l``,
        ``1 / (1 + selected)``, and ``judged``.

    Raises:
        InputError: A likeness or mark is not from 0 to 1; that of a scale to 100 would drown the rest, as in the
            authors' code.

    Reference:
        Sun et al., 2025 (DynamicRAG), with the weights of its code.
    """
    for name, value in (("semantic", semantic), ("judged", judged)):
        if not 0 <= value <= 1:
            raise InputError(f"dynamic_rag takes {name} from 0 to 1, got {value}; divide it by the highest mark")
    inside = bool(expected.strip()) and " ".join(_words(expected)) in " ".join(_words(answer))
    return (inside + semantic + rouge_l(answer, expected) + 1 / (1 + selected) + judged) / 5


def advantages(rewards: ArrayLike) -> NDArray[np.float64]:
    """Rewards of one prompt's answers as standard deviations from their mean; all 0 where all are equal.

    Args:
        rewards: (…, answers).

    Reference:
        Shao et al., 2024 (GRPO).
    """
    given = np.asarray(rewards, dtype=np.float64)
    centred = given - given.mean(axis=-1, keepdims=True)
    spread = given.std(axis=-1, keepdims=True)
    scaled: NDArray[np.float64] = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-12)
    return scaled


def ndcg(order: Sequence[int], grades: Sequence[float], *, k: int = 10) -> float:
    """The nDCG at k of documents in an order, by places; gains are the grades; 0 where nothing is relevant."""
    ideal = _dcg(sorted(grades, reverse=True)[:k])
    return _dcg([grades[place] for place in order[:k]]) / ideal if ideal else 0.0


def average_overlap(one: Sequence[int], other: Sequence[int]) -> float:
    """Mean over depths of how much of both orders' heads is shared: RBO whose persistence is 1."""
    depths = range(1, min(len(one), len(other)) + 1)
    return float(np.mean([len({*one[:d]} & {*other[:d]}) / d for d in depths])) if depths else 0.0


def rouge_l(text: str, expected: str) -> float:
    """F1 of the longest common subsequence of words, lower-cased (Lin, 2004)."""
    left, right = _words(text), _words(expected)
    row = [0] * (len(right) + 1)
    for word in left:
        steps = zip(row, row[1:], right, strict=False)
        row = [0, *accumulate((up if word != w else diagonal + 1 for diagonal, up, w in steps), max)]
    return 2 * row[-1] / (len(left) + len(right)) if row[-1] else 0.0


def _dcg(gains: Sequence[float]) -> float:
    return float(sum(gain / np.log2(place + 2) for place, gain in enumerate(gains)))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _array(values: Sequence[float]) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)
