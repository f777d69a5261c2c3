"""Losses on what a language model writes, alone and together with a ranking read from one of its positions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pyterrier_llmrank.errors import InputError

from .lists import average
from .pairwise import by_teacher_ranks, rank_net

IGNORED = -100
"""The label of a token that is not to be predicted: prompt and padding."""


def language_modelling(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Negative log-probability of the tokens to be written.

    Args:
        logits: Of the token after each position, (batch, tokens, vocabulary).
        labels: The tokens themselves, not shifted; ``IGNORED`` for prompt and padding, (batch, tokens).
        weights: Of each label, (batch, tokens); None for evenly. The sum is still divided by the number of labels.

    Returns:
        Mean over labels, in nats, a scalar.
    """
    wanted, kind = labels[:, 1:], torch.promote_types(logits.dtype, torch.float32)
    losses = functional.cross_entropy(
        logits[:, :-1].to(kind).transpose(1, 2), wanted, ignore_index=IGNORED, reduction="none"
    )
    return average(losses if weights is None else losses * weights[:, 1:], wanted != IGNORED)


def answer_starts(labels: Tensor) -> Tensor:
    """The position of each row's first label, (batch,).

    Counted from the labels, not from padding: where the padding token also stands in the prompt, as in Zephyr's chat
    template, FIRST's own code reads its ranking two positions early.

    Args:
        labels: ``IGNORED`` for prompt and padding, (batch, tokens).

    Raises:
        InputError: A row has no label.
    """
    told = labels != IGNORED
    if not bool(told.any(dim=1).all()):
        raise InputError(f"rows {(~told.any(dim=1)).nonzero().flatten().tolist()} have no token to learn from")
    return told.int().argmax(dim=1)


def first_joint(
    logits: Tensor,
    labels: Tensor,
    label_tokens: Tensor,
    targets: Tensor,
    mask: Tensor | None = None,
    *,
    positions: Tensor | None = None,
    weight: float = 10.0,
) -> Tensor:
    """What the model writes, and the order in which it would name the documents first.

    Args:
        logits: Of the token after each position, (batch, tokens, vocabulary).
        labels: The tokens of the answer, not shifted; ``IGNORED`` elsewhere, (batch, tokens).
        label_tokens: The token of each document's letter, (docs,) or (batch, docs).
        targets: Higher is better, (batch, docs); only their order counts.
        mask: True where a document is real, (batch, docs); None where all are.
        positions: Whose logits predict the first letter, (batch,). By default the first label, which is the ``[`` of
            ``[B] > [A]``; where the prompt ends with the bracket it is one before.
        weight: Of the ranking loss.

    Returns:
        Mean over labels of their negative log-probability, plus ``weight`` times ``rank_net`` weighed
        ``by_teacher_ranks``, in nats, a scalar.

    Raises:
        InputError: A row has no label, a target is NaN or infinite, or shapes differ.

    Reference:
        Reddy et al., 2024 (FIRST).
    """
    places = answer_starts(labels) if positions is None else positions
    rows = torch.arange(len(logits), device=logits.device)
    scores = logits[rows, places].gather(1, label_tokens.expand(targets.shape))
    return language_modelling(logits, labels) + weight * rank_net(scores, targets, mask, weight=by_teacher_ranks)


def importance_weighted(logits: Tensor, labels: Tensor, ranks: Tensor) -> Tensor:
    """What the model writes, where the identifiers of the best documents count most: ``1 + 1 / log2(1 + rank)``.

    Args:
        logits: Of the token after each position, (batch, tokens, vocabulary).
        labels: The tokens of the answer, not shifted; ``IGNORED`` elsewhere, (batch, tokens).
        ranks: From 1, of the document that a token names; 0 for other tokens, which weigh 1, (batch, tokens). See
            ``identifier_ranks``.

    Returns:
        Weighted sum over labels by their number, in nats, a scalar.

    Reference:
        Liu et al., 2025 (full ranking).
    """
    weights = torch.where(ranks > 0, 1 + 1 / torch.log2(1 + ranks.clamp(min=1).float()), 1.0)
    return language_modelling(logits, labels, weights)


def identifier_ranks(labels: Tensor, separator: int) -> Tensor:
    """The rank whose identifier each label belongs to, from 1; 0 for separators and where there is no label.

    Args:
        labels: The tokens of the answer, ``IGNORED`` elsewhere, (batch, tokens).
        separator: The token between identifiers, such as that of `` >``.

    Returns:
        (batch, tokens). What follows the last identifier, as the end of the text, counts to it.
    """
    told = (labels != IGNORED) & (labels != separator)
    return torch.where(told, 1 + (labels == separator).cumsum(dim=1), 0)


def stepwise_list_mle(logits: Tensor, order: Tensor, mask: Tensor | None = None) -> Tensor:
    """Negative log-probability of naming documents in a given order, one a step, never one twice.

    Args:
        logits: Of each document at each step, (batch, steps, docs).
        order: Which document is due at each step, (batch, steps).
        mask: True where a step is real, (batch, steps), the real ones first; None where all are. Documents that no
            step names are out of the choice.

    Returns:
        Mean over steps of all lists, in nats, a scalar; the last step of a list is no choice, and counts 0.

    Reference:
        Liu et al., 2024 (PE-Rank).
    """
    real = torch.ones_like(order, dtype=torch.bool) if mask is None else mask.bool()
    steps = torch.arange(order.shape[1], device=order.device)
    due = torch.full(logits[:, 0].shape, -1, device=order.device)  # the step that names a document; -1 for none
    due = due.scatter(1, torch.where(real, order, order[:, :1]), torch.where(real, steps, 0))
    left = due.unsqueeze(1) >= steps[:, None]  # (batch, steps, docs)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    shares = logits.masked_fill(~left, torch.finfo(logits.dtype).min).log_softmax(dim=2)
    return average(-shares.gather(2, order.unsqueeze(2)).squeeze(2), real)
