"""What a retriever learns from: the vectors of a batch, and losses over them."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor, nn
from torch.nn.functional import normalize

from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.training import losses

Guide: TypeAlias = Any
"""A ``BiEncoder``, or a function from texts to vectors (texts, width)."""


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

    def extra_repr(self) -> str:
        """Its settings, by which a training that goes on knows itself."""
        told = {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "training"}
        return ", ".join(f"{name}={getattr(value, '__name__', repr(value))}" for name, value in told.items())


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
