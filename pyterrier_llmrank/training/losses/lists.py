"""What every loss starts from: lists of scores and targets, checked once, whose padding cannot reach the result."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyterrier_llmrank.errors import InputError


class Lists(NamedTuple):
    """Lists of documents, one a row, shorter ones padded at any place.

    Attributes:
        scores: What the model says, (batch, docs), float32 or wider; 0 at padding, which thus gets no gradient.
        targets: What it should say, (batch, docs), same type; 0 at padding.
        mask: True where a document is real, (batch, docs).
    """

    scores: Tensor
    targets: Tensor
    mask: Tensor


def prepared(scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> Lists:
    """Lists whose padding is 0 and takes no gradient, in float32 at least.

    Args:
        scores: (batch, docs), any float type.
        targets: (batch, docs), any type.
        mask: True where a document is real, (batch, docs); None where all are.

    Raises:
        InputError: The shapes differ or are not those of lists, or a real document's target is NaN or infinite.
    """
    if scores.dim() != 2 or targets.shape != scores.shape or (mask is not None and mask.shape != scores.shape):
        shapes = [tuple(scores.shape), tuple(targets.shape), None if mask is None else tuple(mask.shape)]
        raise InputError(
            "scores, targets and mask are all of shape (batch, docs), got {}, {} and {}; one list alone is "
            "scores[None]".format(*shapes)
        )
    kind = torch.promote_types(scores.dtype, torch.float32)
    real = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask.bool()
    wanted = torch.where(real, targets.to(kind), 0.0)
    lost = ~wanted.isfinite()
    if bool(lost.any()):
        rows = lost.any(dim=1).nonzero().flatten().tolist()
        raise InputError(
            f"{int(lost.sum())} targets are NaN or infinite, in the lists {rows[:5]} of {len(scores)}; leave those "
            "documents out, or set their mask to False"
        )
    return Lists(torch.where(real, scores.to(kind), 0.0), wanted, real)


def differences(values: Tensor) -> Tensor:
    """``values[i] - values[j]`` of every two documents, (batch, docs, docs)."""
    return values.unsqueeze(2) - values.unsqueeze(1)


def both(mask: Tensor) -> Tensor:
    """Where two documents are real and not the same, (batch, docs, docs)."""
    pairs = mask.unsqueeze(2) & mask.unsqueeze(1)
    return pairs & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)


def ordered(lists: Lists) -> Tensor:
    """Where the first of two real documents has the higher target, (batch, docs, docs)."""
    return both(lists.mask) & (differences(lists.targets) > 0)


def average(values: Tensor, where: Tensor) -> Tensor:
    """Mean over ``where``; 0, with a gradient of 0, where that is nowhere."""
    return torch.where(where, values, 0.0).sum() / where.sum().clamp(min=1)


def log_shares(scores: Tensor, mask: Tensor) -> Tensor:
    """Log-softmax over the real documents of each list; 0 at padding."""
    lowest = torch.finfo(scores.dtype).min  # -inf would make a list of nothing but padding NaN
    return scores.masked_fill(~mask, lowest).log_softmax(dim=1).masked_fill(~mask, 0.0)


def shares(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the real documents of each list; 0 at padding."""
    return torch.where(mask, log_shares(scores, mask).exp(), 0.0)


def ranks(values: Tensor, mask: Tensor) -> Tensor:
    """Place of each document from the highest value, from 1, as floats; equals in order, padding last."""
    lowest = torch.finfo(values.dtype).min
    order = values.detach().masked_fill(~mask, lowest).argsort(dim=1, descending=True, stable=True)
    return order.argsort(dim=1).to(values.dtype) + 1


def shared_ranks(lists: Lists) -> Tensor:
    """Ranks of the targets from 1, (batch, docs); equals share the mean of theirs."""
    higher, reached = spans(lists)
    return (higher + 1 + reached).to(lists.scores) / 2


def spans(lists: Lists) -> tuple[Tensor, Tensor]:
    """How many documents have a higher target than each, and how many a higher or the same, (batch, docs) both."""
    worst_last = -sort_keys(lists)
    order = worst_last.sort(dim=1).values
    return torch.searchsorted(order, worst_last), torch.searchsorted(order, worst_last, right=True)


def sort_keys(lists: Lists) -> Tensor:
    """Targets, and lower than any of them at padding."""
    return lists.targets.detach().masked_fill(~lists.mask, float("-inf"))


def levels(lists: Lists) -> Tensor:
    """How many different targets of the list are higher than a document's, (batch, docs), as floats."""
    equal = lists.targets.unsqueeze(2) == lists.targets.unsqueeze(1)
    repeated = (equal & both(lists.mask)).tril(-1).any(dim=2)  # the same target stands further left
    higher = ordered(lists).transpose(1, 2) & ~repeated.unsqueeze(1)  # (batch, i, j): j is above i
    return higher.sum(dim=2).to(lists.scores)


def gains(lists: Lists) -> Tensor:
    """``2 ** target - 1``, (batch, docs); a target below 0 is worth 0."""
    return torch.exp2(lists.targets.clamp(min=0.0)) - 1


def discounts(places: Tensor) -> Tensor:
    """What a document at each place (from 1) is worth: ``1 / log2(1 + place)``."""
    return 1 / torch.log2(1 + places)


def ideal_dcg(lists: Lists, k: int | None = None) -> Tensor:
    """The DCG of each list's best order, (batch, 1); 0 where nothing is relevant."""
    best = gains(lists).sort(dim=1, descending=True).values[:, :k]
    return (best * discounts(torch.arange(1, best.shape[1] + 1).to(best))).sum(dim=1, keepdim=True)


def shares_of_ideal(lists: Lists, k: int | None = None) -> Tensor:
    """Gains as parts of the best DCG, (batch, docs); 0 in a list without anything relevant."""
    ideal = ideal_dcg(lists, k)
    return torch.where(ideal > 0, gains(lists) / ideal.clamp(min=1e-10), 0.0)
