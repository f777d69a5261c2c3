"""``Scoring``: a learner that gives every document of a list a score, and a loss on these."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pyterrier_llmrank.core import Question
from pyterrier_llmrank.errors import InputError
from pyterrier_llmrank.models.hf.batching import Budget, plan
from pyterrier_llmrank.training.data import TrainingList, padded
from pyterrier_llmrank.training.learner import Micro
from pyterrier_llmrank.training.named import Loss, loss_of


class Scoring(Micro):
    """Learns to score: ``loss(scores, targets, mask)`` over lists, whatever gives the scores.

    Losses that are means over lists come to the same with any ``micro``; those that are means over the documents or
    pairs of a batch weigh these a little differently.

    Args:
        loss: A name of ``training.losses``, or a function ``(scores, targets, mask) -> scalar`` with shapes (lists,
            docs).
        micro: Lists that are read at once; all by default.

    Raises:
        ConfigurationError: ``micro`` is below 1, or the loss has no known name.
    """

    network: nn.Module

    def __init__(self, loss: str | Loss, micro: int | None) -> None:
        super().__init__(micro)
        self.named, self._loss = loss, loss_of(loss)

    @abstractmethod
    def scores(self, questions: Sequence[Question]) -> Tensor:
        """A score of each document of each question in turn, (documents,), with gradients."""

    def loss(self, lists: Sequence[TrainingList]) -> Tensor:
        """What the loss makes of the scores of lists, a scalar.

        Raises:
            InputError: A list has no documents, or a target is no number.
        """
        if empty := [one.qid for one in lists if not one.docs]:
            raise InputError(f"the list of query {empty[0]!r} has no documents to learn from; leave it out")
        scores = self.scores([Question(one.query, one.docs, one.qid) for one in lists])
        targets, mask = (torch.from_numpy(own).to(scores.device) for own in padded(lists))
        found = scores.new_zeros(mask.shape).masked_scatter(mask, scores)  # (lists, docs)
        value: Tensor = self._loss(found, targets.to(found.dtype), mask)
        return value


def by_length(lengths: Sequence[int], tokens: int, read: Callable[[list[int]], Tensor]) -> Tensor:
    """What is read of inputs in passes of similar length, (inputs, …), in their order.

    Args:
        lengths: Of each input, in tokens.
        tokens: Of a pass at most, padding included; one that is longer goes alone.
        read: From the places of a pass's inputs to what is read of them, in that order.
    """
    passes = plan(range(len(lengths)), lengths, [1] * len(lengths), Budget(tokens, len(lengths)))
    found = torch.cat([read(places) for places in passes])
    order = torch.tensor([place for places in passes for place in places], device=found.device)
    return found[order.argsort()]


def compute_again(network: Any, *, on: bool) -> None:  # noqa: ANN401 - of transformers
    """Lets a network compute the states within its layers again for the gradient, or keep them."""
    if on:
        newer = getattr(network, "activation_checkpointing_enable", None)
        (newer or network.gradient_checkpointing_enable)({"use_reentrant": False})
