"""Batches by token budget, longest first, over everything that is to be run; halved when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pyterrier_llmrank.errors import ModelError

from .prefixes import WORTH, common_prefix

KEPT = 8  # times the tokens of a batch, that a memory of what was read once may repeat


@dataclass
class Budget:
    """What one batch may hold. Shrinks when memory runs out, and stays shrunk.

    Attributes:
        tokens: Tokens with padding.
        rows: Rows of logits (positions that are read); the vocabulary makes them expensive.
    """

    tokens: int
    rows: int

    def halve(self) -> None:
        """After a batch did not fit."""
        self.tokens = max(1, self.tokens // 2)
        self.rows = max(1, self.rows // 2)


Planner: TypeAlias = Callable[[Sequence[int], Sequence[int], Sequence[int], Budget], list[list[int]]]
"""Makes batches of items, given the lengths and rows of all sequences, that a budget allows."""


def plan(items: Sequence[int], lengths: Sequence[int], rows: Sequence[int], budget: Budget) -> list[list[int]]:
    """Items in batches of similar length, longest first; one that exceeds the budget goes alone.

    Args:
        items: Which of the sequences to plan.
        lengths: Tokens of each sequence.
        rows: Positions read of each sequence.
        budget: What a batch may hold.
    """
    batches: list[list[int]] = []
    width = height = 0
    for item in sorted(items, key=lambda item: -lengths[item]):
        full = not batches or (len(batches[-1]) + 1) * width > budget.tokens or height + rows[item] > budget.rows
        if full:
            batches.append([])
            width, height = lengths[item], 0
        batches[-1].append(item)
        height += rows[item]
    return batches


def plan_alike(sequences: Sequence[list[int]]) -> Planner:
    """``plan`` for batches that read what their sequences begin with once: equal lengths go by what they begin with."""

    def planned(items: Sequence[int], lengths: Sequence[int], rows: Sequence[int], budget: Budget) -> list[list[int]]:
        batches: list[list[int]] = []
        width = height = common = 0
        for item in sorted(items, key=lambda item: (-lengths[item], sequences[item])):
            first, n = batches[-1][0] if batches else item, len(batches[-1]) + 1 if batches else 1
            alike = common_prefix(sequences[first], sequences[item], min(common, len(sequences[item]) - 1))
            once = alike if alike >= WORTH else 0
            fits = once + n * (width - once) <= budget.tokens and n * width <= KEPT * budget.tokens
            if not batches or not fits or height + rows[item] > budget.rows:
                batches.append([])
                width, height, alike = lengths[item], 0, len(sequences[item]) - 1
            batches[-1].append(item)
            height, common = height + rows[item], alike
        return batches

    return planned


def plan_in_order(items: Sequence[int], lengths: Sequence[int], rows: Sequence[int], budget: Budget) -> list[list[int]]:
    """Items in batches that need no padding, in the order given; one that exceeds the budget goes alone.

    Args:
        items: Which of the sequences to plan.
        lengths: Tokens of each sequence.
        rows: Positions read of each sequence.
        budget: What a batch may hold.
    """
    batches: list[list[int]] = []
    tokens = height = 0
    for item in items:
        if not batches or tokens + lengths[item] > budget.tokens or height + rows[item] > budget.rows:
            batches.append([])
            tokens = height = 0
        batches[-1].append(item)
        tokens += lengths[item]
        height += rows[item]
    return batches


def in_batches(
    lengths: Sequence[int],
    rows: Sequence[int],
    budget: Budget,
    work: Callable[[list[int]], None],
    planned: Planner = plan,
) -> None:
    """Runs ``work`` on batches that cover every sequence once; a batch that does not fit is cut and run again.

    Args:
        lengths: Tokens of each sequence.
        rows: Positions read of each sequence.
        budget: What a batch may hold.
        work: Runs the sequences of a batch.
        planned: Makes the batches.

    Raises:
        ModelError: A single sequence does not fit in memory.
    """
    pending = planned(range(len(lengths)), lengths, rows, budget)
    while pending:
        batch = pending[0]
        if _fits(work, batch):
            pending.pop(0)
        elif len(batch) == 1:
            raise ModelError(
                f"a single prompt of {lengths[batch[0]]} tokens does not fit in memory; "
                "use a smaller model, half precision (dtype='bfloat16'), shorter documents or a smaller window"
            )
        else:
            budget.halve()
            pending = planned([item for items in pending for item in items], lengths, rows, budget)


def _fits(work: Callable[[list[int]], None], batch: list[int]) -> bool:
    """Runs a batch; False if memory ran out (everything it held is released by then)."""
    import torch

    try:
        work(batch)
        return True
    except torch.OutOfMemoryError:
        pass
    except RuntimeError as error:
        if "not enough memory" not in str(error) and "out of memory" not in str(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False
