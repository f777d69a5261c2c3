"""Fits small networks to lists with known relevance: a plain loop, stopped by nDCG."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Scores, brief, descending
from pyterrier_llmrank.errors import ConfigurationError, InputError

from .named import Loss, loss_of

if TYPE_CHECKING:
    from torch import Tensor, nn

MEASURED = 64  # lists that are measured at once


class Example(NamedTuple):
    """One list.

    Attributes:
        inputs: What the network reads, (rows, width); a row per document, perhaps after others.
        labels: Relevance of each document, (docs,); 0 or less for none.
    """

    inputs: NDArray[np.float64]
    labels: NDArray[np.float64]


Batch: TypeAlias = "tuple[Sequence[Example], tuple[Tensor, Tensor, Tensor]]"
"""Examples, and their inputs, labels and mask."""


@dataclass(frozen=True, repr=False)
class Fitting:
    """How a network is fitted.

    Args:
        epochs: Times that each list is seen, at most.
        batch_size: Lists of one step.
        learning_rate: Of Adam.
        weight_decay: Of AdamW, a step.
        patience: Epochs without a better nDCG on the validation lists after which it ends; it ends at once at 1.
        k: Documents that nDCG looks at.
        seed: Of first weights, the order of lists and dropout.

    Raises:
        ConfigurationError: A number is out of range.
    """

    epochs: int = 100
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    patience: int = 10
    k: int = 10
    seed: int = field(default=0, kw_only=True)

    __repr__ = brief

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "k"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise ConfigurationError(
                f"learning_rate must be above 0 and weight_decay at least 0, got {self.learning_rate} and "
                f"{self.weight_decay}"
            )


class Epoch(NamedTuple):
    """What an epoch came to: the mean loss of its steps, and nDCG on the validation lists (0 to 1) after it."""

    loss: float
    ndcg: float


class Fitted(NamedTuple):
    """A network with the weights of its best epoch, and what every epoch came to."""

    network: nn.Module
    history: list[Epoch]


def fit(
    make: Callable[[], nn.Module],
    train: Sequence[Example],
    valid: Sequence[Example],
    *,
    loss: str | Loss,
    fitting: Fitting,
    read: Callable[[NDArray[np.float64]], Scores] = lambda output: output,
) -> Fitted:
    """Trains a new network, the same every time on the same machine; the caller's random state stays as it is.

    Args:
        make: Makes the network, whose forward pass takes (batch, rows, width) and a mask (batch, docs); its
            ``standardise``, where it has one, is shown all training inputs first.
        train: Lists to learn from; those whose documents are all equally relevant teach nothing.
        valid: Lists to stop by; the training lists where there are none.
        loss: From the network's output, labels and mask to what is minimised.
        fitting: How.
        read: From the network's output for one list to a score per document.

    Raises:
        InputError: No list has documents of different relevance.
    """
    import torch

    useful = [one for one in train if len(one.labels) and np.ptp(one.labels) > 0]
    if not useful:
        raise InputError(
            f"none of the {len(train)} training lists has documents of different relevance; check that qids and docnos "
            "of results and qrels are the same"
        )
    judged = [one for one in valid if (one.labels > 0).any()] or useful
    wanted = loss_of(loss)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(fitting.seed)
        network = make()
        if (standardise := getattr(network, "standardise", None)) is not None:
            standardise(torch.from_numpy(np.concatenate([one.inputs for one in useful])).float())
        return _trained(network, useful, judged, wanted, fitting, read)


def _trained(
    network: nn.Module,
    train: Sequence[Example],
    valid: Sequence[Example],
    loss: Loss,
    fitting: Fitting,
    read: Callable[[NDArray[np.float64]], Scores],
) -> Fitted:
    """The loop."""
    import torch

    optimizer = torch.optim.AdamW(network.parameters(), lr=fitting.learning_rate, weight_decay=fitting.weight_decay)
    history: list[Epoch] = []
    best, kept = -1.0, copy.deepcopy(network.state_dict())
    last = 0
    lots = [valid[start : start + MEASURED] for start in range(0, len(valid), MEASURED)]
    batches = [(lot, padded(lot)) for lot in lots]
    for epoch in range(fitting.epochs):
        order = torch.randperm(len(train)).tolist()
        losses = []
        network.train()
        for start in range(0, len(order), fitting.batch_size):
            inputs, labels, mask = padded([train[i] for i in order[start : start + fitting.batch_size]])
            value = loss(network(inputs, mask), labels, mask)
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            losses.append(float(value.detach()))
        history.append(Epoch(float(np.mean(losses)), mean_ndcg(network, batches, read, fitting.k)))
        if history[-1].ndcg > best:
            best, last, kept = history[-1].ndcg, epoch, copy.deepcopy(network.state_dict())
        if best == 1.0 or epoch - last >= fitting.patience:  # no later epoch would be kept
            break
    network.load_state_dict(kept)
    return Fitted(network.eval(), history)


def padded(examples: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs (batch, rows, width), labels and mask (batch, docs), 0 and False where a list is shorter; float32."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    inputs = pad_sequence([torch.from_numpy(one.inputs).float() for one in examples], batch_first=True)
    labels = pad_sequence([torch.from_numpy(one.labels).float() for one in examples], batch_first=True)
    sizes = torch.tensor([len(one.labels) for one in examples])
    return inputs, labels, torch.arange(labels.shape[1])[None] < sizes[:, None]


def mean_ndcg(
    network: nn.Module, batches: Sequence[Batch], read: Callable[[NDArray[np.float64]], Scores], k: int
) -> float:
    """The mean nDCG of what a network makes of lists; 0 to 1.

    Args:
        network: What is measured.
        batches: Examples with their padded inputs.
        read: From the network's output for one list to a score per document.
        k: Documents that nDCG looks at.
    """
    import torch

    network.eval()
    found = []
    with torch.no_grad():
        for examples, (inputs, _, mask) in batches:
            outputs = network(inputs, mask).double().numpy()
            for one, output in zip(examples, outputs, strict=True):
                own = tuple([slice(len(one.labels))] * output.ndim)
                found.append(ndcg(read(output[own]), one.labels, k))
    return float(np.mean(found))


def ndcg(scores: Scores, labels: NDArray[np.float64], k: int) -> float:
    """The nDCG of one list, gains ``2 ** label - 1``, 0 to 1; 0 where nothing is relevant. Ties keep their order."""
    gains = np.exp2(np.maximum(labels, 0.0)) - 1
    discounts = 1 / np.log2(np.arange(2, len(gains) + 2))
    order = descending(range(len(gains)), scores)
    ideal = float((np.sort(gains)[::-1] * discounts)[:k].sum())
    return float((gains[order] * discounts)[:k].sum()) / ideal if ideal else 0.0
