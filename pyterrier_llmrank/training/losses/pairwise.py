"""Losses over pairs of documents of one list, of which one should come before the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from pyterrier_llmrank.errors import InputError

from .lists import Lists, average, both, differences, ordered, prepared, ranks, shared_ranks

PairWeight: TypeAlias = Callable[[Lists, "int | None"], Tensor]
"""From lists, and a cutoff or None, to the weight of each pair of documents, (batch, docs, docs)."""


def rank_net(
    scores: Tensor,
    targets: Tensor,
    mask: Tensor | None = None,
    *,
    weight: PairWeight | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Negative log-probability that of two documents the better one wins.

    Args:
        scores: Log-odds up to a constant of each list, (batch, docs).
        targets: Higher is better, (batch, docs); only their order counts. Those of a teacher's order are made by
            ``permutation_targets``.
        mask: True where a document is real, (batch, docs); None where all are.
        weight: How much a pair counts: ``by_teacher_ranks`` (FIRST), ``by_difference``, ``by_squares``; None for
            evenly. The sum of weighted losses is still divided by the number of pairs, as the papers' code does.
        temperature: Scores are divided by it.

    Returns:
        Mean over the pairs of documents with different targets, of all lists together, in nats, a scalar.

    Raises:
        InputError: A target is NaN or infinite, or shapes differ.

    Reference:
        Burges et al., 2005; Sun et al., 2023 (permutation distillation); Reddy et al., 2024 (FIRST).
    """
    lists = prepared(scores, targets, mask)
    losses = functional.softplus(-differences(lists.scores) / temperature)
    return average(losses if weight is None else weight(lists, None) * losses, ordered(lists))


def by_teacher_ranks(lists: Lists, k: int | None = None) -> Tensor:
    """Weights of FIRST: ``1 / (r_i + r_j)`` by ranks of the targets in their own list, from 1; equals share theirs."""
    places = shared_ranks(lists)
    return 1 / (places.unsqueeze(2) + places.unsqueeze(1))


def by_difference(lists: Lists, k: int | None = None) -> Tensor:
    """Weights ``|y_i - y_j|``."""
    return differences(lists.targets).abs()


def by_squares(lists: Lists, k: int | None = None) -> Tensor:
    """Weights ``|y_i ** 2 - y_j ** 2|``: a step counts for more among the best."""
    return differences(lists.targets**2).abs()


def permutation_targets(order: Tensor, docs: int) -> tuple[Tensor, Tensor]:
    """Targets and mask of a teacher's order.

    Args:
        order: Places of documents in their list, best first, (batch, any number); -1 after the last of a shorter order.
        docs: Documents of the longest list.

    Returns:
        Targets ``docs``, ``docs - 1``, … and True where the teacher ranked a document, both (batch, docs). A document
        it did not rank has no target: it is masked, not last.

    Raises:
        InputError: A place is out of range, or named twice for one list.
    """
    if bool((order >= docs).any()) or bool((order < -1).any()):
        found = sorted(set(order.flatten().tolist()))
        raise InputError(f"places of {docs} documents are 0 to {docs - 1}, and -1 for none, got {found}")
    spare = torch.where(order < 0, docs, order)  # one column more, for those that are none
    times = torch.zeros(len(order), docs + 1, dtype=torch.long, device=order.device)
    times.scatter_add_(1, spare, torch.ones_like(spare))
    if bool((times[:, :docs] > 1).any()):
        raise InputError("an order names a document twice; keep the first")
    targets = torch.zeros(len(order), docs + 1, device=order.device)
    values = docs - torch.arange(order.shape[1], dtype=targets.dtype, device=order.device)
    targets.scatter_(1, spare, values.expand(order.shape))
    return targets[:, :docs], times[:, :docs] > 0


def novelty_targets(scores: Tensor, targets: Tensor, subtopics: Tensor, mask: Tensor | None = None) -> Tensor:
    """Targets that leave one document a subtopic: the highest scored gets the highest target there, the others 0.

    Args:
        scores: The model's, (batch, docs).
        targets: Above 0, (batch, docs).
        subtopics: Integers, the same for documents that say the same, (batch, docs).
        mask: True where a document is real, (batch, docs); None where all are.

    Returns:
        Targets for ``rank_net`` at these scores, (batch, docs).

    Raises:
        InputError: A target is NaN or infinite, or shapes differ.

    Reference:
        Schlatt et al., 2025 (Set-Encoder, novelty).
    """
    lists = prepared(scores, targets, mask)
    alike = (subtopics.unsqueeze(2) == subtopics.unsqueeze(1)) & lists.mask.unsqueeze(2) & lists.mask.unsqueeze(1)
    places = ranks(lists.scores, lists.mask)
    first = ~(alike & (differences(places) > 0)).any(dim=2)  # no document of its subtopic stands above
    best = lists.targets.unsqueeze(1).expand(alike.shape).masked_fill(~alike, 0.0).amax(dim=2)
    return torch.where(first & lists.mask, best, 0.0)


def margin_mse(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Squared error between the score margins of student and teacher.

    Args:
        student: Scores, (batch, docs), any scale.
        teacher: Scores, same shape; log-odds for cross-encoders.
        mask: True where a document is real, (batch, docs); None where all are.

    Returns:
        Mean over all pairs of real documents of a list, of all lists together, a scalar. Documents the teacher scores
        alike are a pair too: their margin should be 0.

    Raises:
        InputError: A teacher's score is NaN or infinite, or shapes differ.

    Reference:
        Hofstätter et al., 2020, eq. 3.
    """
    lists = prepared(student, teacher, mask)
    return average((differences(lists.scores) - differences(lists.targets)) ** 2, both(lists.mask))
