"""Writing answers that are held to a permutation: the network runs where there is a choice, and nowhere else.

Tokens that leave no choice (brackets, separators, the whole last item) are not asked for: they are read together, in
one pass, on the way to the next choice. An answer of n items whose names differ in one token takes n - 1 passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .batching import Budget, in_batches
from .constraints import Path, Spelling
from .growing import Growing, planner
from .loading import Loaded
from .sampling import processors
from .writing import Manner, end_tokens, pad_token

if TYPE_CHECKING:
    from torch import Tensor


class Held(NamedTuple):
    """What was written after one sequence.

    Attributes:
        named: Items of the permutation, by their places.
        tokens: New token ids.
        cached: How many tokens of the sequence were read before, for another one.
    """

    named: list[int]
    tokens: list[int]
    cached: int


def write_held(
    loaded: Loaded,
    sequences: Sequence[list[int]],
    starts: Sequence[list[int]],
    budget: Budget,
    manner: Manner,
    spellings: Sequence[Spelling],
) -> list[Held]:
    """What follows each sequence: all of its permutation, and no end token.

    Args:
        loaded: Network and tokenizer.
        sequences: What the network reads.
        starts: What the decoder's side starts with (encoder-decoders only; else empty lists).
        budget: What a batch may hold; new tokens count.
        manner: How to draw among the tokens that are allowed; nothing else of it counts here.
        spellings: What each answer is held to.
    """
    import torch

    ends, pad = end_tokens(loaded), pad_token(loaded)
    results: dict[int, Held] = {}

    def work(batch: list[int]) -> None:
        paths = [Path(spellings[item], ends) for item in batch]
        seeds = [[manner.seeds[item]] if manner.sampling else [] for item in batch]
        draws = [processors(manner.sampling, own, loaded.device) for own in seeds]
        with torch.inference_mode():
            rows = Growing(loaded, [sequences[item] for item in batch], [starts[item] for item in batch], pad)
            _grow(rows, paths, draws)
        for row, (item, path) in enumerate(zip(batch, paths, strict=True)):
            results[item] = Held(path.named, path.tokens, rows.shared if row else 0)

    lengths = [len(ids) + spelling.most for ids, spelling in zip(sequences, spellings, strict=True)]
    in_batches(lengths, [1] * len(sequences), budget, work, planner(loaded, sequences))
    return [results[item] for item in range(len(sequences))]


def _grow(rows: Growing, paths: Sequence[Path], draws: Sequence[Sequence[Any]]) -> None:
    """Writes every row to the end of its path."""
    for row, path in enumerate(paths):
        rows.write(row, path.forced())
    while left := [row for row, path in enumerate(paths) if not path.done]:
        ready, logits = rows.run(left)
        for row, own in zip(ready, logits.float(), strict=True):
            token = _chosen(own, sorted(paths[row].allowed()), draws[row])
            rows.write(row, [*paths[row].write(token), *paths[row].forced()])


def _chosen(logits: Tensor, allowed: Sequence[int], draws: Sequence[Any]) -> int:
    """The token to go on with, of those allowed."""
    import torch

    held = torch.full_like(logits, float("-inf"))
    held[allowed] = logits[allowed]
    held = held[None]
    for draw in draws:
        held = draw(None, held)
    return int(held.argmax())
