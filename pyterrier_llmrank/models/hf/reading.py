"""Log-probabilities of chosen (or the likeliest) tokens at chosen positions, from one forward pass per batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.errors import Unsupported

from .batching import Budget, in_batches
from .loading import Loaded

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


class Read(NamedTuple):
    """One sequence, and what is to be read of it.

    Attributes:
        ids: What the network reads (its encoder, for an encoder-decoder).
        decoder: What the decoder reads, start token first; empty for a decoder-only network.
        wanted: (position, token) pairs: the log-probability of ``token`` coming after ``position``.
    """

    ids: list[int]
    decoder: list[int]
    wanted: list[tuple[int, int]]

    @property
    def positions(self) -> list[int]:
        """Positions whose logits are needed, each once."""
        return sorted({position for position, _ in self.wanted})


def read_plainly(loaded: Loaded, reads: Sequence[Read], budget: Budget) -> list[NDArray[np.float64]]:
    """What is wanted of each read, (2, wanted), in float32 or better.

    The first row holds natural log-probabilities over the full vocabulary, the second the log of the sum of exp(logit)
    over the vocabulary at the same positions.

    Batches are padded on the right: what comes after a position cannot reach it in a causal network, so no mask is
    needed and attention keeps its fastest path. Logits are computed at the positions wanted, nowhere else.
    """

    def read(chosen: Sequence[Read], arguments: dict[str, Any]) -> list[NDArray[np.float64]]:
        return values_at(loaded, chosen, arguments, range(len(chosen)), [0] * len(chosen))

    return run(loaded, reads, budget, read)


def run(
    loaded: Loaded, reads: Sequence[Read], budget: Budget, read: Callable[[Sequence[Read], dict[str, Any]], Sequence[T]]
) -> list[T]:
    """What ``read(reads of a batch, arguments of the network)`` makes of each read."""
    results: dict[int, T] = {}
    forward = _both_sides if loaded.network.config.is_encoder_decoder else _decoder

    def work(batch: list[int]) -> None:
        chosen = [reads[item] for item in batch]
        results.update(zip(batch, read(chosen, forward(loaded, chosen)), strict=True))

    lengths = [len(read.ids) + len(read.decoder) for read in reads]
    in_batches(lengths, [len(read.positions) for read in reads], budget, work)
    return [results[item] for item in range(len(reads))]


def _decoder(loaded: Loaded, reads: Sequence[Read]) -> dict[str, Any]:
    """What a causal network is given."""
    import torch

    ids, _ = right_padded([read.ids for read in reads], 0, loaded.device)
    return {"input_ids": ids, "position_ids": torch.arange(ids.shape[1], device=loaded.device)[None]}


def _both_sides(loaded: Loaded, reads: Sequence[Read]) -> dict[str, Any]:
    """What an encoder-decoder is given."""
    ids, mask = right_padded([read.ids for read in reads], 0, loaded.device)
    decoder, _ = right_padded([read.decoder for read in reads], 0, loaded.device)
    return {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": decoder}


def values_at(
    loaded: Loaded, reads: Sequence[Read], arguments: dict[str, Any], rows: Sequence[int], starts: Sequence[int]
) -> list[NDArray[np.float64]]:
    """What is wanted of each read, from one forward pass.

    Args:
        loaded: The network.
        reads: What to read.
        arguments: What the network is given.
        rows: The row of its input that each read is in.
        starts: The place in that row where the read's position 0 is, or would be.
    """
    import torch

    where = list(zip(reads, rows, starts, strict=True))
    spots = [(row, start + position) for read, row, start in where for position in read.positions]
    place = {spot: index for index, spot in enumerate(spots)}
    pairs = [(place[row, start + position], token) for read, row, start in where for position, token in read.wanted]
    with torch.inference_mode():
        logits = logits_at(loaded, spots, arguments).float()  # (spots, vocabulary)
        index, token = torch.tensor(pairs, dtype=torch.long, device=logits.device).reshape(-1, 2).T
        totals = logits.logsumexp(-1)[index]
        both = torch.stack([logits[index, token] - totals, totals]).double().cpu().numpy()
    ends = np.cumsum([0, *(len(read.wanted) for read in reads)])
    return [both[:, ends[place] : ends[place + 1]] for place in range(len(reads))]


def likeliest(loaded: Loaded, reads: Sequence[Read], budget: Budget, k: int) -> list[list[tuple[int, float]]]:
    """The ``k`` likeliest tokens after each read's one position, with their natural log-probabilities."""
    import torch

    def read(chosen: Sequence[Read], arguments: dict[str, Any]) -> list[list[tuple[int, float]]]:
        spots = [(row, position) for row, one in enumerate(chosen) for position in one.positions]
        with torch.inference_mode():
            logprobs = logits_at(loaded, spots, arguments).float().log_softmax(-1)
            # networks may have more rows than the tokenizer has tokens
            values, tokens = logprobs[:, : len(loaded.tokenizer)].topk(min(k, len(loaded.tokenizer)))
        return [list(zip(*row, strict=True)) for row in zip(tokens.tolist(), values.tolist(), strict=True)]

    return run(loaded, reads, budget, read)


def last_states(loaded: Loaded, reads: Sequence[Read], budget: Budget) -> list[NDArray[np.float64]]:
    """What the head sees at each read's one position, (width,): the hidden state of the last layer, normalised."""
    import torch

    def read(chosen: Sequence[Read], arguments: dict[str, Any]) -> Sequence[NDArray[np.float64]]:
        spots = [(row, position) for row, one in enumerate(chosen) for position in one.positions]
        with torch.inference_mode(), _only(loaded, spots) as seen:
            loaded.network(**{"use_cache": False, **arguments})
            rows: NDArray[np.float64] = seen[0].double().cpu().numpy()
        return list(rows)

    return run(loaded, reads, budget, read)


def logits_at(loaded: Loaded, spots: Sequence[tuple[int, int]], arguments: dict[str, Any]) -> Tensor:
    """Logits at (row, position) spots, (spots, vocabulary); the shape proves that the head saw nothing else."""
    with _only(loaded, spots):
        logits: Tensor = loaded.network(**{"use_cache": False, **arguments}).logits
    if logits.shape[:2] != (1, len(spots)):
        raise Unsupported(f"expected logits at {len(spots)} positions, the network gave {tuple(logits.shape)}")
    return logits[0]


@contextmanager
def _only(loaded: Loaded, spots: Sequence[tuple[int, int]]) -> Iterator[list[Tensor]]:
    """Lets the network's head see only the hidden states at ``spots``, as one row; yields what it saw.

    Works on any architecture and keeps what it does to logits afterwards (soft caps, scales).
    """
    import torch

    head = loaded.network.get_output_embeddings()  # type: ignore[no-untyped-call]
    if head is None:
        raise Unsupported(f"{type(loaded.network).__name__} has no language-model head to read logits from")
    rows = torch.tensor([row for row, _ in spots], dtype=torch.long, device=loaded.device)
    columns = torch.tensor([column for _, column in spots], dtype=torch.long, device=loaded.device)

    seen: list[Tensor] = []

    def keep(_: object, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        seen.append(args[0][rows, columns])
        return (seen[-1][None], *args[1:])

    handle = head.register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def right_padded(sequences: Sequence[Sequence[int]], pad: int, device: object) -> tuple[Tensor, Tensor]:
    """Ids and mask, both (batch, longest)."""
    import torch

    longest = max(map(len, sequences))
    ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in sequences])
    mask = torch.arange(longest)[None] < torch.tensor([len(row) for row in sequences])[:, None]
    return ids.to(device), mask.long().to(device)  # type: ignore[call-overload]
