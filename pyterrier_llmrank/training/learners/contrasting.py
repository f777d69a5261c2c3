"""Losses that contrast each query with the documents of the whole batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from pyterrier_llmrank.training import losses
from pyterrier_llmrank.training.losses.contrastive import not_listed
from pyterrier_llmrank.training.losses.lists import average, prepared

from .vectors import Guide, VectorLoss, Vectors

SCALE, BIAS = 10.0, -10.0  # where BiXSE's begin: ours, those of sigmoid losses elsewhere


class InfoNCE(VectorLoss):
    """The best document of each list against all documents of the batch that no rule excludes.

    Never a negative: another copy of the best document, and what the query's own list holds for just as good.

    Args:
        temperature: Similarities are divided by it.
        ratio: Documents that the teacher scored above it times the list's best are no negatives (CADET); needs
            targets of at least 0.
        margin: Nor are those more similar to the query than its best document, and this much more (Qwen3-Embedding:
            0.1).
        guide: Nor those that a guide finds more similar than the best document (GIST): a ``BiEncoder``, or a function
            from texts to vectors.
        guide_margin: By which they must be more similar, to the guide.
        query_pairs: Whether queries are contrasted with queries.
        document_pairs: Whether best documents are contrasted with those of other queries.
    """

    def __init__(
        self,
        *,
        temperature: float = 0.05,
        ratio: float | None = None,
        margin: float | None = None,
        guide: Guide | None = None,
        guide_margin: float = 0.0,
        query_pairs: bool = False,
        document_pairs: bool = False,
    ) -> None:
        super().__init__()
        self.temperature, self.ratio, self.margin = temperature, ratio, margin
        self.guide, self.guide_margin = guide, guide_margin
        self.pairs = {"query_pairs": query_pairs, "document_pairs": document_pairs}

    def forward(self, batch: Vectors) -> Tensor:
        """Mean over queries, in nats."""
        real, columns = batch.mask, batch.ids[batch.mask]
        best = batch.best.unsqueeze(1)
        places = (real.flatten().cumsum(dim=0).view(real.shape) - 1).gather(1, best).squeeze(1)
        contrast = losses.in_batch(batch.queries, batch.documents[real], places, ids=columns, **self.pairs)
        mask = contrast.mask & self._negatives(batch, contrast.targets, self._columns(columns, places))
        if self.margin is not None:
            mask &= losses.below_positive(contrast.scores, contrast.targets, margin=self.margin)
        if batch.guide is not None:
            queries, documents = batch.guide
            theirs = losses.in_batch(queries, documents[real], places, **self.pairs).scores
            mask &= losses.below_positive(theirs, contrast.targets, margin=self.guide_margin)
        return losses.info_nce(contrast.scores, contrast.targets, mask, temperature=self.temperature)

    def _columns(self, documents: Tensor, places: Tensor) -> Tensor:
        """An integer for each column's document; of a query, one that no document has."""
        queries = documents.new_full((len(places),), -1)
        return torch.cat(
            [
                documents,
                *[queries] * self.pairs["query_pairs"],
                *[documents[places]] * self.pairs["document_pairs"],
            ]
        )

    def _negatives(self, batch: Vectors, targets: Tensor, columns: Tensor) -> Tensor:
        """False where the query's teacher says that a column's document is good, (lists, columns)."""
        wanted = batch.targets.masked_fill(~batch.mask, float("nan"))
        top = wanted.gather(1, batch.best.unsqueeze(1))
        mask = not_listed(wanted >= top, batch.ids, columns, targets)
        if self.ratio is not None:
            mask &= losses.below_teacher_ratio(wanted, batch.ids, columns, targets, ratio=self.ratio)
        return mask


class BiXSE(VectorLoss):
    """Cross-entropy of each query's probability to match each document of the batch, with scale and bias learnt.

    Targets are grades from 0 to 1 in the query's own list, and 0 in others' lists, where copies of its own documents
    do not count.

    Args:
        scale: What similarities are multiplied by at first.
        bias: What is added to them at first.

    Reference:
        Tsirigotis et al., 2025.
    """

    def __init__(self, *, scale: float = SCALE, bias: float = BIAS) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(float(scale)).log())
        self.bias = nn.Parameter(torch.tensor(float(bias)))

    def forward(self, batch: Vectors) -> Tensor:
        """Mean over pairs of queries and documents, in nats."""
        real = batch.mask
        owner = torch.arange(len(real), device=real.device).unsqueeze(1).expand(real.shape)[real]
        own = owner == torch.arange(len(real), device=real.device).unsqueeze(1)  # (lists, columns)
        grades = torch.where(own, batch.targets[real], 0.0)
        mask = not_listed(real, batch.ids, batch.ids[real], own.to(grades))
        logits = self.scale.exp() * (batch.queries @ batch.documents[real].T) + self.bias
        pairs = prepared(logits, grades, mask)
        losses.binary_cross_entropy(batch.similarities, batch.targets, real)  # refuses grades that are none
        return average(binary_cross_entropy_with_logits(pairs.scores, pairs.targets, reduction="none"), pairs.mask)
