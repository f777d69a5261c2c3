"""Sampling whose draws belong to a row: no answer depends on who else is in the batch, or how many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.models.base import Sampling

if TYPE_CHECKING:
    from torch import Tensor


class GumbelNoise:
    """Adds Gumbel noise to logits, so that the largest of a row is a draw from its softmax (the Gumbel-max trick).

    Every row has a generator of its own, which gives as many numbers at each step whatever the other rows do.

    Args:
        seeds: One per row.
        device: Where the logits are. Other kinds of device draw other numbers from the same seed.
    """

    def __init__(self, seeds: Sequence[int], device: Any) -> None:  # noqa: ANN401 - torch is imported lazily
        import torch

        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Logits with noise, (rows, vocabulary)."""
        import torch

        size, device = scores.shape[-1], scores.device
        uniform = torch.stack([torch.rand(size, generator=one, device=device) for one in self.generators])
        return scores - (-uniform.log()).log()


def processors(sampling: Sampling | None, seeds: Sequence[int], device: Any) -> list[Any]:  # noqa: ANN401
    """What turns logits into such whose largest is the token to take; nothing for greedy decoding.

    Temperature comes first, then the cut to ``top_k``, then that to ``top_p`` of what is left.
    """
    if sampling is None:
        return []
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    chain: list[Any] = [TemperatureLogitsWarper(float(sampling.temperature))]
    if sampling.top_k is not None:
        chain.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        chain.append(TopPLogitsWarper(float(sampling.top_p)))
    return [*chain, GumbelNoise(seeds, device)]


def drawn_from(logprobs: NDArray[np.float64], draws: Sequence[Any]) -> int:
    """The place of the token to go on with, of a few whose log-probabilities are known, (tokens,).

    Args:
        logprobs: Minus infinity for what must not be taken.
        draws: From ``processors``; none for the likeliest.
    """
    import torch

    scores = torch.tensor(logprobs)[None]
    for draw in draws:
        scores = draw(None, scores)
    return int(scores.argmax())
