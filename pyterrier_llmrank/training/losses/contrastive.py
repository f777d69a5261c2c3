"""Contrast with the other documents of a batch, and the rules that say which of them are no negatives.

All work on one matrix of queries and columns, where columns are the batch's documents, and more if ``in_batch`` is told
so. A rule returns a mask of that shape; rules are joined with ``&``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pyterrier_llmrank.errors import InputError

from .lists import average, prepared


def info_nce(scores: Tensor, targets: Tensor, mask: Tensor | None = None, *, temperature: float = 1.0) -> Tensor:
    """Negative log-probability of a relevant document against all that are not.

    Args:
        scores: Similarities of queries and columns, (batch, docs).
        targets: Above 0 for a query's relevant documents, (batch, docs).
        mask: False where a column must not count for a query, (batch, docs); None where all do.
        temperature: Scores are divided by it.

    Returns:
        Mean over relevant documents, each alone against the irrelevant ones, in nats, a scalar.

    Raises:
        InputError: A target is NaN or infinite, or shapes differ.

    Reference:
        van den Oord et al., 2018; Karpukhin et al., 2020, for batches.
    """
    lists = prepared(scores, targets, mask)
    relevant = lists.mask & (lists.targets > 0)
    lowest = torch.finfo(lists.scores.dtype).min
    logits = lists.scores / temperature
    rivals = logits.masked_fill(relevant | ~lists.mask, lowest).logsumexp(dim=1, keepdim=True)
    return average(functional.softplus(rivals - logits), relevant)


class Contrast(NamedTuple):
    """What ``info_nce`` takes.

    Attributes:
        scores: Cosines, or whatever the vectors' products are, (queries, columns).
        targets: 1 for each query's own document, (queries, columns).
        mask: False for a query or document with itself and for copies of its document, (queries, columns).
    """

    scores: Tensor
    targets: Tensor
    mask: Tensor


def in_batch(
    queries: Tensor,
    documents: Tensor,
    positives: Tensor,
    *,
    ids: Tensor | None = None,
    query_pairs: bool = False,
    document_pairs: bool = False,
) -> Contrast:
    """Every query of a batch against every document, and if told so against the other queries and positives.

    Args:
        queries: Vectors, (queries, width).
        documents: Vectors of positives and hard negatives in any order, (documents, width).
        positives: Which document is each query's own, (queries,).
        ids: An integer for each document, the same for the same document, (documents,): the copies of a query's
            document that stand elsewhere in the batch do not count against it.
        query_pairs: Whether queries are contrasted with queries (GIST, Qwen3-Embedding): more columns.
        document_pairs: Whether a query's document is contrasted with those of other queries: more columns.

    Returns:
        Similarities with targets and mask. Of other vectors (those of GIST's guide) the scores fit the same places.

    Reference:
        Solatorio, 2024 (GISTEmbed); Zhang et al., 2025 (Qwen3-Embedding).
    """
    n = len(queries)
    own = documents[positives]
    columns = [(queries, documents), *[(queries, queries)] * query_pairs, *[(own, own)] * document_pairs]
    scores = torch.cat([left @ right.T for left, right in columns], dim=1)
    targets = torch.zeros_like(scores)
    targets[torch.arange(n, device=positives.device), positives] = 1.0
    mask = torch.ones_like(scores, dtype=torch.bool)
    for extra in range(len(columns) - 1):
        start = len(documents) + extra * n
        mask[:, start : start + n].fill_diagonal_(False)
    if ids is not None:
        named = [
            ids,
            *[(ids.min() - 1).expand(n)] * query_pairs,
            *[ids[positives]] * document_pairs,
        ]
        mask &= same_document(torch.cat(named), ids[positives], targets)
    return Contrast(scores, targets, mask)


def same_document(columns: Tensor, own: Tensor, targets: Tensor) -> Tensor:
    """False where a column shows a query's relevant document once more.

    Args:
        columns: An integer for each column's document, (columns,).
        own: That of each query's relevant document, (queries,).
        targets: Above 0 for a query's relevant column, (queries, columns); it stays.

    Returns:
        Mask, (queries, columns).
    """
    return (columns != own.unsqueeze(1)) | (targets > 0)


def below_positive(similarity: Tensor, targets: Tensor, *, margin: float = 0.0) -> Tensor:
    """False where a column is more similar to the query than its relevant document and ``margin`` more.

    GIST's rule with a guide's similarities and no margin; Qwen3-Embedding's with the model's own and a margin of 0.1.

    Args:
        similarity: Of queries and columns, (queries, columns).
        targets: Above 0 for a query's relevant columns, (queries, columns); they stay, the most similar sets the bound.
        margin: In the unit of similarities; below 0, also those a little less similar go.

    Returns:
        Mask, (queries, columns).

    Reference:
        Solatorio, 2024; Zhang et al., 2025.
    """
    relevant = targets > 0
    lowest = torch.finfo(similarity.dtype).min
    bound = similarity.detach().masked_fill(~relevant, lowest).amax(dim=1, keepdim=True) + margin
    return (similarity.detach() <= bound) | relevant


def below_teacher_ratio(
    teacher: Tensor, ids: Tensor, columns: Tensor, targets: Tensor, *, ratio: float = 0.6
) -> Tensor:
    """False where a column shows a document that the query's teacher scored above ``ratio`` times its best.

    Args:
        teacher: Scores of each query's own list, at least 0, (queries, docs); NaN for padding.
        ids: An integer for each of these documents, (queries, docs).
        columns: An integer for each column's document, (columns,).
        targets: Above 0 for a query's relevant columns, (queries, columns); they stay.
        ratio: Of the highest score.

    Returns:
        Mask, (queries, columns): wherever the document stands in the batch, also in another query's list.

    Raises:
        InputError: A teacher's score is below 0, where a ratio of scores means nothing.

    Reference:
        Tamber et al., 2025 (CADET).
    """
    if bool((teacher < 0).any()):
        raise InputError("a ratio of a teacher's scores needs them at least 0; scale them to 0 … 1 first")
    high = teacher > ratio * teacher.nan_to_num(0.0).amax(dim=1, keepdim=True)
    return not_listed(high, ids, columns, targets)


def not_listed(chosen: Tensor, ids: Tensor, columns: Tensor, targets: Tensor) -> Tensor:
    """False where a column shows a document that is chosen in the query's own list.

    Args:
        chosen: True for such documents, (queries, docs).
        ids: An integer for each document of the lists, (queries, docs).
        columns: An integer for each column's document, (columns,).
        targets: Above 0 for a query's relevant columns, (queries, columns); they stay.

    Returns:
        Mask, (queries, columns): wherever the document stands in the batch, also in another query's list.
    """
    distinct, numbers = torch.unique(torch.cat([columns, ids.flatten()]), return_inverse=True)
    known, (rows, _) = numbers[len(columns) :].view(ids.shape), chosen.nonzero(as_tuple=True)
    excluded = torch.zeros(len(chosen), len(distinct), dtype=torch.bool, device=chosen.device)
    excluded[rows, known[chosen]] = True  # by document, so that no query compares its list with every column
    return ~excluded.index_select(1, numbers[: len(columns)]) | (targets > 0)
