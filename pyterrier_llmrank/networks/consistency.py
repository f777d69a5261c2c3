"""A direction in hidden states that orders documents, found without labels (Contrast-Consistent Ranking)."""

from __future__ import annotations

import torch
from torch import Tensor

STEPS, RATE = 200, 0.05


def consistent_scores(direct: Tensor, negated: Tensor, *, margin: float = 1.0, weight_decay: float = 1e-3) -> Tensor:
    """Scores of documents along the direction on which statements and their negations contradict each other most.

    States of each side are centred over the documents and scaled to a mean length of 1, so that what all statements
    have in common says nothing. A linear probe s is fitted so that ``s(direct) = -s(negated)`` for each document
    (consistency) while documents lie ``margin`` apart. It starts from the first principal direction of the
    differences, so that nothing is drawn at random. Which end is the better one is not known.

    Args:
        direct: States of the statements that are true of good documents, (docs, width).
        negated: Those of statements that are true of the others, same shape.
        margin: What two documents' scores should be apart.
        weight_decay: Of the probe.

    Returns:
        (docs,), float64; all 0 for one document, or for documents without a difference.

    Reference:
        Stoehr et al., 2024 (contrast-consistent ranking), the max-margin loss, over one statement and one negation of
        each document; Burns et al., 2023, for consistency of a statement with its negation.
    """
    sides = [_normalised(side.double()) for side in (direct, negated)]
    gaps = (sides[0] - sides[1]) / 2  # (docs, width); s of a document is its gap along the probe
    if len(gaps) < 2 or not bool(gaps.abs().max() > 1e-9):
        return torch.zeros(len(gaps), dtype=torch.float64)
    _, lengths, directions = torch.linalg.svd(gaps, full_matrices=False)
    start = directions[0] * (margin * len(gaps) ** 0.5 / lengths[0])  # scores of deviation ``margin``
    start = start * torch.sign(start[start.abs().argmax()])
    return _fitted(sides, gaps, start, margin, weight_decay)


def _fitted(sides: list[Tensor], gaps: Tensor, start: Tensor, margin: float, weight_decay: float) -> Tensor:
    """Scores after steps of Adam from a first probe."""
    pairs = torch.triu_indices(len(gaps), len(gaps), 1)
    probe = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([probe], lr=RATE * float(start.abs().mean()))
    with torch.enable_grad():
        for _ in range(STEPS):
            scores = gaps @ probe
            apart = (scores[pairs[0]] - scores[pairs[1]]).abs()
            contradiction = ((sides[0] @ probe + sides[1] @ probe) ** 2).mean()
            loss = contradiction + (margin - apart).clamp(min=0).mean() + weight_decay * (probe**2).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return (gaps @ probe.detach()).round(decimals=9)


def _normalised(states: Tensor) -> Tensor:
    """Centred over documents, and of length 1 on average."""
    centred = states - states.mean(dim=0)
    length = centred.norm(dim=1).mean()
    return centred / length if bool(length > 1e-9) else torch.zeros_like(centred)
