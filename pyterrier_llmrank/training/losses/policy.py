"""Policy gradients: the score is the policy, the measure itself the reward, no derivative of it needed."""

from __future__ import annotations

import torch
from torch import Tensor

from pyterrier_llmrank.errors import ConfigurationError

from .lists import Lists, average, discounts, prepared, shares_of_ideal


def pg_rank(
    scores: Tensor,
    targets: Tensor,
    mask: Tensor | None = None,
    *,
    samples: int = 16,
    temperature: float = 1.0,
    k: int = 10,
    to_go: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A scalar whose gradient is that of the expected nDCG of rankings drawn from the scores, negated.

    Rankings are drawn by Plackett and Luce's model; the reward of each is taken against the mean of the others', so
    that no value network is needed.

    Args:
        scores: Log-odds times ``temperature``, (batch, docs).
        targets: Grades, at least 0, (batch, docs).
        mask: True where a document is real, (batch, docs); None where all are.
        samples: Rankings drawn of each list, at least 2.
        temperature: Scores are divided by it.
        k: Cutoff of nDCG.
        to_go: Whether the choice at a place is credited with the gains from there on only; the expected gradient is
            the same, and on long lists varies far less.
        generator: Of the draws, on the scores' device; None for torch's own.

    Returns:
        Mean over lists. Its value means little: its gradient is what counts.

    Raises:
        ConfigurationError: ``samples`` is below 2: one ranking has no others to be compared with.
        InputError: A target is NaN or infinite, or shapes differ.

    Reference:
        Gao et al., 2023 (Neural PG-RANK); Kool et al., 2019, for the baseline.
    """
    if samples < 2:
        raise ConfigurationError(f"pg_rank compares a ranking with others, so samples is at least 2, got {samples}")
    lists = prepared(scores, targets, mask)
    lists = lists._replace(scores=lists.scores / temperature)
    order = _drawn(lists, samples, generator)  # (samples, batch, docs)
    gained = _taken(shares_of_ideal(lists, k), order) * _worth(order, k)
    future = gained.flip(2).cumsum(dim=2).flip(2) if to_go else gained.sum(dim=2, keepdim=True)
    advantage = (future - future.mean(dim=0)) * samples / (samples - 1)  # less the mean of the others
    chosen = (_choices(lists, order) * advantage).sum(dim=2)
    return average(-chosen.mean(dim=0), lists.mask.any(dim=1))


def _drawn(lists: Lists, samples: int, generator: torch.Generator | None) -> Tensor:
    """Orders by Plackett and Luce, padding last: perturb with Gumbel's noise, then sort."""
    noise = torch.empty(samples, *lists.scores.shape, dtype=lists.scores.dtype, device=lists.scores.device)
    noise = noise.exponential_(generator=generator).log().neg()
    lowest = torch.finfo(lists.scores.dtype).min
    return (lists.scores.detach() + noise).masked_fill(~lists.mask, lowest).argsort(dim=2, descending=True, stable=True)


def _taken(values: Tensor, order: Tensor) -> Tensor:
    """Values of documents, (batch, docs), in drawn orders, (samples, batch, docs)."""
    return values.expand(order.shape).gather(2, order)


def _worth(order: Tensor, k: int) -> Tensor:
    """Discount of each place, 0 after the first k, (docs,)."""
    places = torch.arange(1, order.shape[2] + 1, device=order.device, dtype=torch.float32)
    return torch.where(places <= k, discounts(places), 0.0)


def _choices(lists: Lists, order: Tensor) -> Tensor:
    """Log-probability of each choice of an order, (samples, batch, docs); 0 for padding."""
    real = _taken(lists.mask, order)
    lowest = torch.finfo(lists.scores.dtype).min
    drawn = _taken(lists.scores, order)
    left = drawn.masked_fill(~real, lowest).flip(2).logcumsumexp(dim=2).flip(2)  # over those not chosen yet
    return torch.where(real, drawn - left, 0.0)
