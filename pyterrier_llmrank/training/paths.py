"""Losses on the weights of arcs between documents, of which a ranking is a path (TSPRank)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PathOf = Callable[[NDArray[np.float64]], Sequence[int]]
FORBIDDEN = 1e6  # more than any path weighs


def successors(targets: Tensor, mask: Tensor) -> Tensor:
    """Whether one document (column) may come right after another (row) in an ideal order, (batch, docs, docs).

    It may where it has the same target, or the next lower one of its list.

    Args:
        targets: Higher is better, (batch, docs).
        mask: True where a document is real, (batch, docs).
    """
    both = mask[:, :, None] & mask[:, None, :] & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    row, column = targets[:, :, None], targets[:, None, :]
    below = torch.where(both & (column < row), column, -torch.inf).amax(dim=2, keepdim=True)
    return both & ((column == row) | ((column == below) & (column < row)))


def successor_cross_entropy(weights: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Negative log-probability that the document after each one is one that may come there.

    Args:
        weights: Of arcs from row to column, (batch, docs, docs).
        targets: Higher is better, (batch, docs).
        mask: True where a document is real, (batch, docs).

    Returns:
        Mean over all documents with a successor, in nats, a scalar; 0 where there is none.

    Reference:
        Li et al., 2025 (TSPRank-Local).
    """
    right = successors(targets, mask)
    others = mask[:, :, None] & mask[:, None, :] & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    lowest = torch.finfo(weights.dtype).min
    shares = weights.masked_fill(~others, lowest).log_softmax(dim=2)
    surprise = -shares.masked_fill(~right, lowest).logsumexp(dim=2)
    asked = right.any(dim=2)
    return torch.where(asked, surprise, 0.0).sum() / asked.sum().clamp(min=1)


def path_hinge(weights: Tensor, targets: Tensor, mask: Tensor, *, path_of: PathOf, margin: float = 1.0) -> Tensor:
    """How much the heaviest path outweighs the best ideal one, if every wrong arc weighed ``margin`` more.

    Args:
        weights: Of arcs from row to column, (batch, docs, docs).
        targets: Higher is better, (batch, docs); equal ones may stand in any order.
        mask: True where a document is real, (batch, docs).
        path_of: From weights, (docs, docs), to the order of the heaviest path: ``aggregates.heaviest_path``.
        margin: Of a wrong arc.

    Returns:
        Sum over a list's arcs, mean over lists, a scalar, at least 0.

    Reference:
        Li et al., 2025 (TSPRank-Global), whose structured hinge this is.
    """
    wrong = ~successors(targets, mask)
    values = []
    for row, own in enumerate(mask.sum(dim=1).tolist()):
        arcs, errors = weights[row, :own, :own], wrong[row, :own, :own]
        fixed = arcs.detach().double().cpu().numpy()
        costs = errors.cpu().numpy()
        rival = _arcs(path_of(fixed + margin * costs))
        ideal = _arcs(path_of(fixed - FORBIDDEN * costs))
        values.append((arcs[rival] + margin * errors[rival]).sum() - arcs[ideal].sum())
    return torch.stack(values).clamp(min=0).mean()


def _arcs(path: Sequence[int]) -> tuple[list[int], list[int]]:
    """Rows and columns of a path's arcs."""
    return list(path[:-1]), list(path[1:])
