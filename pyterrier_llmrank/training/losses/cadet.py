"""CADET's loss for dense retrievers: each list's distribution from a teacher, and contrast with the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from .contrastive import below_teacher_ratio, in_batch, info_nce
from .distillation import kl_divergence


def cadet(
    queries: Tensor,
    documents: Tensor,
    teacher: Tensor,
    ids: Tensor,
    mask: Tensor | None = None,
    *,
    temperature: float = 0.05,
    teacher_temperature: float = 0.3,
    contrast_temperature: float = 0.01,
    ratio: float = 0.6,
    weight: float = 0.1,
) -> Tensor:
    """Divergence from a teacher on each list, and InfoNCE of its best document against all lists' documents.

    Args:
        queries: Vectors, (queries, width), of length 1.
        documents: Vectors of each query's list, (queries, docs, width), of length 1.
        teacher: Scores, 0 to 1, (queries, docs).
        ids: An integer for each document, the same for the same document, (queries, docs).
        mask: True where a document is real, (queries, docs); None where all are.
        temperature: Cosines are divided by it for the divergence.
        teacher_temperature: The teacher's scores are divided by it.
        contrast_temperature: Cosines are divided by it for InfoNCE.
        ratio: Documents that the teacher scored above it times its best are no negatives; 1 for all but the best.
        weight: Of InfoNCE.

    Returns:
        In nats, a scalar.

    Raises:
        InputError: A teacher's score is NaN, infinite or below 0, or shapes differ.

    Reference:
        Tamber et al., 2025 (CADET).
    """
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    cosines = (queries.unsqueeze(1) * documents).sum(dim=2)
    settings = {"student_temperature": temperature, "teacher_temperature": teacher_temperature}
    divergence = kl_divergence(cosines, teacher, real, **settings)
    known = teacher.masked_fill(~real, float("nan"))
    best = teacher.masked_fill(~real, float("-inf")).argmax(dim=1, keepdim=True)
    places = real.flatten().cumsum(dim=0).view(real.shape) - 1  # of each document among the real ones
    contrast = in_batch(queries, documents[real], places.gather(1, best).squeeze(1))
    negatives = below_teacher_ratio(known, ids, ids[real], contrast.targets, ratio=ratio)
    return divergence + weight * info_nce(
        contrast.scores, contrast.targets, negatives, temperature=contrast_temperature
    )
