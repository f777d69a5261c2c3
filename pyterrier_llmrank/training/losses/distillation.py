"""Losses that make a student's scores say what a teacher's say."""

from __future__ import annotations

from torch import Tensor

from .lists import average, log_shares, prepared, shares
from .listwise import softmax_cross_entropy
from .pairwise import rank_net


def kl_divergence(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor | None = None,
    *,
    student_temperature: float = 1.0,
    teacher_temperature: float = 1.0,
) -> Tensor:
    """How far the student's belief in which document is best is from the teacher's, KL(teacher || student).

    CADET's distillation is ``kl_divergence(cosines, teacher, student_temperature=0.05, teacher_temperature=0.3)`` with
    teachers' scores scaled to 0 … 1; the whole of its loss is ``cadet``.

    Args:
        student: Scores, (batch, docs).
        teacher: Scores, (batch, docs).
        mask: True where a document is real, (batch, docs); None where all are.
        student_temperature: The student's scores are divided by it.
        teacher_temperature: The teacher's scores are divided by it.

    Returns:
        Mean over lists, in nats, a scalar; 0 where the divided scores differ by a constant. Gradients are not scaled
        by the temperatures' square.

    Raises:
        InputError: A teacher's score is NaN or infinite, or shapes differ.

    Reference:
        Tamber et al., 2025 (CADET); Hinton et al., 2015.
    """
    lists = prepared(student, teacher, mask)
    ours = log_shares(lists.scores / student_temperature, lists.mask)
    theirs = log_shares(lists.targets / teacher_temperature, lists.mask)
    belief = shares(lists.targets / teacher_temperature, lists.mask)
    return average((belief * (theirs - ours)).sum(dim=1), lists.mask.any(dim=1))


def dear(
    student: Tensor,
    teacher: Tensor,
    targets: Tensor,
    mask: Tensor | None = None,
    *,
    alpha: float = 0.1,
    beta: float = 0.5,
    temperature: float = 2.0,
) -> Tensor:
    """Cross-entropy and RankNet on labels, with the divergence from a teacher.

    Args:
        student: Scores, (batch, docs).
        teacher: Scores, (batch, docs).
        targets: 1 for the relevant document and 0 for others, (batch, docs).
        mask: True where a document is real, (batch, docs); None where all are.
        alpha: Share of the divergence, which is multiplied by the temperature's square.
        beta: Share of RankNet in the rest.
        temperature: Scores of both are divided by it for the divergence.

    Returns:
        In nats, a scalar.

    Raises:
        InputError: A target or a teacher's score is NaN or infinite, or shapes differ.

    Reference:
        Abdallah et al., 2025 (DeAR, stage 1). RankNet is that of ``rank_net``: their code's binary targets also pull
        documents of equal relevance together, and want a relevant one ahead by no more than 1.
    """
    labels = beta * rank_net(student, targets, mask) + (1 - beta) * softmax_cross_entropy(student, targets, mask)
    distance = kl_divergence(student, teacher, mask, student_temperature=temperature, teacher_temperature=temperature)
    return (1 - alpha) * labels + alpha * temperature**2 * distance
