"""What a retriever learns from: the vectors of a batch, and the losses that look at all of them at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.training import losses
from pyterrier_llmrank.training.losses.contrastive import not_listed
from pyterrier_llmrank.training.losses.lists import average, prepared

Guide: TypeAlias = Any
"""A ``BiEncoder``, or a function from texts to vectors (texts, width)."""

SCALE, BIAS = 10.0, -10.0  # where BiXSE's begin: ours, those of sigmoid losses elsewhere


class Vectors(NamedTuple):
    """A batch as a loss sees it; of several workers, that of all of them.

    Attributes:
        queries: (lists, width), of length 1 where the retriever's are.
        documents: Of each query's list, (lists, docs, width); of no meaning at padding.
        targets: Higher is better, (lists, docs); 0 at padding.
        mask: True where a document is real, (lists, docs).
        ids: An integer for each document, the same for the same text, (lists, docs); -1 at padding.
        guide: Queries and documents as a guide sees them, for a loss that has one.
    """

    queries: Tensor
    documents: Tensor
    targets: Tensor
    mask: Tensor
    ids: Tensor
    guide: tuple[Tensor, Tensor] | None = None

    @property
    def similarities(self) -> Tensor:
        """Of each query with its own list, (lists, docs)."""
        return (self.queries.unsqueeze(1) * self.documents).sum(dim=2)

    @property
    def best(self) -> Tensor:
        """The place of each list's best document in it, (lists,); the first of equals."""
        return self.targets.masked_fill(~self.mask, float("-inf")).argmax(dim=1)

    def cut(self, width: int) -> Vectors:
        """The first ``width`` numbers of each vector, scaled to length 1 again."""
        queries, documents = (normalize(one[..., :width], dim=-1, eps=1e-12) for one in self[:2])
        return self._replace(queries=queries, documents=documents)


class VectorLoss(nn.Module):
    """From ``Vectors`` to what is minimised, a scalar. What it holds as parameters is trained along.

    Attributes:
        guide: Makes vectors of its own of all texts of a batch; None where it takes none.
    """

    guide: Guide | None = None


class OfLists(VectorLoss):
    """A loss over each list by itself, of similarities as scores.

    Args:
        loss: ``(scores, targets, mask) -> scalar``, such as those of ``training.losses``.
        temperature: Similarities are divided by it.
        **settings: Of the loss.
    """

    def __init__(self, loss: Callable[..., Tensor], *, temperature: float = 0.05, **settings: Any) -> None:  # noqa: ANN401 - the loss's own
        super().__init__()
        check_settings(loss, settings)
        self.loss, self.temperature, self.settings = loss, temperature, settings

    def forward(self, batch: Vectors) -> Tensor:
        """Mean over the lists."""
        return self.loss(batch.similarities / self.temperature, batch.targets, batch.mask, **self.settings)


class Cadet(VectorLoss):
    """``losses.cadet``, whose settings it takes; a teacher's scores are to be from 0 to 1."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - the loss's own
        super().__init__()
        check_settings(losses.cadet, settings)
        self.settings = settings

    def forward(self, batch: Vectors) -> Tensor:
        """Divergence from the teacher, and contrast with the batch."""
        queries, documents, targets, mask, ids, _ = batch
        return losses.cadet(queries, documents, targets, ids, mask, **self.settings)


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


class Matryoshka(VectorLoss):
    """The sum of a loss over vectors of several widths: whole, and cut to their first numbers and scaled again.

    Args:
        loss: Of vectors of any width.
        widths: To cut to.

    Reference:
        Kusupati et al., 2022; Hu et al., 2025 (KaLM-Embedding).
    """

    def __init__(self, loss: VectorLoss, widths: tuple[int, ...]) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ConfigurationError(f"vectors are cut to widths of 1 or more, got {widths}")
        self.loss, self.widths, self.guide = loss, widths, loss.guide

    def forward(self, batch: Vectors) -> Tensor:
        """A sum of scalars.

        Raises:
            ConfigurationError: The vectors are not wider than all of the widths.
        """
        if max(self.widths) >= batch.queries.shape[1]:
            raise ConfigurationError(f"vectors of width {batch.queries.shape[1]} cannot be cut to {max(self.widths)}")
        views = [batch, *(batch.cut(width) for width in self.widths)]
        return torch.stack([self.loss(view) for view in views]).sum()


LISTWISE = (
    *("adr_mse", "approx_mrr", "approx_ndcg", "circle", "lambda_loss", "lipo_lambda", "list_mle", "list_net"),
    *("neural_ndcg", "pearson", "position_aware_list_mle", "rank_list", "rank_net", "softmax_cross_entropy"),
)

LOSSES: dict[str, Callable[..., VectorLoss]] = {
    "cadet": Cadet,
    "info_nce": InfoNCE,
    "bixse": BiXSE,
    "kl_divergence": partial(OfLists, losses.kl_divergence, teacher_temperature=0.3),
    "margin_mse": partial(OfLists, losses.margin_mse, temperature=1.0),
    **{name: partial(OfLists, getattr(losses, name)) for name in LISTWISE},
}
"""Losses by name. ``kl_divergence`` begins with CADET's temperatures, ``margin_mse`` with margins of similarities."""


def vector_loss(loss: str | VectorLoss, **settings: Any) -> VectorLoss:  # noqa: ANN401 - the loss's own
    """A loss by its name in ``LOSSES``, with settings; or the loss itself.

    Raises:
        ConfigurationError: There is no such name or setting.
    """
    if isinstance(loss, VectorLoss):
        if settings:
            raise ConfigurationError(f"{type(loss).__name__} has its settings already, got {sorted(settings)}")
        return loss
    if loss not in LOSSES:
        raise ConfigurationError(f"loss must be one of {', '.join(map(repr, LOSSES))}, or a VectorLoss, got {loss!r}")
    check_settings(LOSSES[loss], settings)
    return LOSSES[loss](**settings)


def check_settings(loss: Callable[..., object], settings: dict[str, Any]) -> None:
    """Refuses settings that a loss does not take.

    Raises:
        ConfigurationError: There are some.
    """
    known = signature(loss).parameters
    strange = [name for name in settings if name not in known]
    if strange and all(one.kind is not one.VAR_KEYWORD for one in known.values()):
        named = [one.name for one in known.values() if one.kind is one.KEYWORD_ONLY]
        raise ConfigurationError(f"this loss has no settings {strange}; it takes {named}")
