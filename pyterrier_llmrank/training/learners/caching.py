"""Gradients of a loss over more vectors than memory holds activations for (GradCache)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from pyterrier_llmrank.errors import ModelError

PADDED = 8  # padding is at most that part of what a pass may hold


def alike(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Items in passes of similar length, longest first.

    Args:
        lengths: Of each item, in tokens.
        tokens: Of a pass at most, padding included, an eighth of which may be padding; one that is longer goes alone.
    """
    passes: list[list[int]] = []
    width = padding = 0
    for item in sorted(range(len(lengths)), key=lambda item: -lengths[item]):
        more = width - lengths[item]
        if not passes or (len(passes[-1]) + 1) * width > tokens or padding + more > tokens // PADDED:
            passes.append([])
            width, padding, more = lengths[item], 0, 0
        passes[-1].append(item)
        padding += more
    return passes


@dataclass(frozen=True)
class Passes:
    """A network's passes over the items of a batch, whose vectors one loss needs all at once.

    Args:
        items: What each pass reads; together, every item once.
        sizes: What each holds, in tokens.
        held: Tokens whose activations are held until the loss is known. The passes beyond it are read twice: first
            without gradients, then with the same random numbers, so that dropout drops the same.
        encode: From items to their vectors, (items, width).

    Reference:
        Gao et al., 2021.
    """

    items: Sequence[list[int]]
    sizes: Sequence[int]
    held: int
    encode: Callable[[list[int]], Tensor]

    def learn(self, differentiate: Callable[[Tensor], Tensor], backward: Callable[[Tensor], None]) -> None:
        """Calls ``backward`` on one scalar a pass; together they have the gradients of the loss.

        Args:
            differentiate: From the vectors of all items, in order, to the gradients of the loss by them.
            backward: Takes a scalar.

        Raises:
            ModelError: A pass does not fit in memory.
        """
        made: list[Tensor] = []
        states: list[Random] = []
        for items, total in zip(self.items, accumulate(self.sizes), strict=True):
            states.append(Random())
            with self._roomy(), nullcontext() if total <= self.held else torch.no_grad():
                made.append(self.encode(items))
        order = torch.tensor([item for items in self.items for item in items])
        vectors = torch.cat([one.detach() for one in made])[order.argsort()]
        with torch.autocast(vectors.device.type, enabled=False):  # a product in half precision tells too few apart
            gradients = differentiate(vectors)
        for items, own, state in zip(self.items, made, states, strict=True):
            with self._roomy():
                if not own.requires_grad:
                    with state.again():
                        own = self.encode(items)
                backward((own * gradients[items]).sum())

    @contextmanager
    def _roomy(self) -> Iterator[None]:
        """Says what to do when memory runs out.

        Raises:
            ModelError: It did.
        """
        try:
            yield
        except RuntimeError as error:  # that of a GPU is one
            if "out of memory" not in str(error) and "not enough memory" not in str(error):
                raise
            raise ModelError(
                f"memory ran out while learning from passes of up to {max(self.sizes)} tokens, with activations of "
                f"{min(self.held, sum(self.sizes))} tokens held; lower batch_tokens or held_tokens, neither of which "
                "changes what is learnt, or shorten documents (doc_tokens)"
            ) from error


class Random:
    """The state of torch's random numbers, on the CPU and on the current GPU if one is in use."""

    def __init__(self) -> None:
        self._cpu = torch.get_rng_state()
        used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        self._gpu = torch.cuda.get_rng_state() if used else None

    @contextmanager
    def again(self) -> Iterator[None]:
        """Draws the same numbers once more; afterwards all goes on where it was."""
        devices = [] if self._gpu is None else [torch.cuda.current_device()]
        with torch.random.fork_rng(devices=devices):
            torch.set_rng_state(self._cpu)
            if self._gpu is not None:
                torch.cuda.set_rng_state(self._gpu)
            yield
