"""Log-probabilities of chosen tokens at chosen positions, from one forward pass per batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.errors import Unsupported

from .batching import Budget, in_batches
from .loading import Loaded

if TYPE_CHECKING:
    from torch import Tensor


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


def read_logprobs(loaded: Loaded, reads: Sequence[Read], budget: Budget) -> list[NDArray[np.float64]]:
    """Natural log-probabilities over the full vocabulary, in float32 or better, one array per read.

    Batches are padded on the right: what comes after a position cannot reach it in a causal network, so no mask is
    needed and attention keeps its fastest path. Logits are computed at the positions wanted, nowhere else.
    """
    import torch

    results: list[NDArray[np.float64]] = [np.empty(0)] * len(reads)
    encoder_decoder = bool(loaded.network.config.is_encoder_decoder)
    forward = _forward_both if encoder_decoder else _forward_decoder

    def work(batch: list[int]) -> None:
        chosen = [reads[item] for item in batch]
        spots = [(row, position) for row, read in enumerate(chosen) for position in read.positions]
        if not spots:
            return
        place = {spot: index for index, spot in enumerate(spots)}
        with torch.inference_mode():
            logits = forward(loaded, chosen, spots).float()  # (spots, vocabulary)
            pairs = [(place[row, p], token) for row, read in enumerate(chosen) for p, token in read.wanted]
            index, token = torch.tensor(pairs, device=logits.device).T
            values = (logits[index, token] - logits.logsumexp(-1)[index]).double().cpu().numpy()
        ends = np.cumsum([len(read.wanted) for read in chosen])
        for item, part in zip(batch, np.split(values, ends[:-1]), strict=True):
            results[item] = part

    lengths = [len(read.ids) + len(read.decoder) for read in reads]
    in_batches(lengths, [len(read.positions) for read in reads], budget, work)
    return results


def _forward_decoder(loaded: Loaded, reads: Sequence[Read], spots: Sequence[tuple[int, int]]) -> Tensor:
    """Logits at ``spots``, (spots, vocabulary), of a causal network."""
    import torch

    ids, _ = right_padded([read.ids for read in reads], 0, loaded.device)
    positions = torch.arange(ids.shape[1], device=loaded.device)[None]
    with _logits_at(loaded, spots):
        out = loaded.network(input_ids=ids, position_ids=positions, use_cache=False)
    return _flat(out.logits, len(spots))


def _forward_both(loaded: Loaded, reads: Sequence[Read], spots: Sequence[tuple[int, int]]) -> Tensor:
    """Logits at ``spots`` of the decoder's side, (spots, vocabulary), of an encoder-decoder."""
    ids, mask = right_padded([read.ids for read in reads], 0, loaded.device)
    decoder, _ = right_padded([read.decoder for read in reads], 0, loaded.device)
    with _logits_at(loaded, spots):
        out = loaded.network(input_ids=ids, attention_mask=mask, decoder_input_ids=decoder, use_cache=False)
    return _flat(out.logits, len(spots))


def right_padded(sequences: Sequence[Sequence[int]], pad: int, device: object) -> tuple[Tensor, Tensor]:
    """Ids and mask, both (batch, longest)."""
    import torch

    longest = max(map(len, sequences))
    ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in sequences])
    mask = torch.arange(longest)[None] < torch.tensor([len(row) for row in sequences])[:, None]
    return ids.to(device), mask.long().to(device)  # type: ignore[call-overload]


@contextmanager
def _logits_at(loaded: Loaded, spots: Sequence[tuple[int, int]]) -> Iterator[None]:
    """Lets the network's head see only the hidden states at ``spots``, as one row.

    Works on any architecture and keeps what it does to logits afterwards (soft caps, scales).
    """
    import torch

    head = loaded.network.get_output_embeddings()  # type: ignore[no-untyped-call]
    if head is None:
        raise Unsupported(f"{type(loaded.network).__name__} has no language-model head to read logits from")
    rows, columns = torch.tensor(list(spots), device=loaded.device).T

    def keep(_: object, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0][rows, columns][None], *args[1:])

    handle = head.register_forward_pre_hook(keep)
    try:
        yield
    finally:
        handle.remove()


def _flat(logits: Tensor, spots: int) -> Tensor:
    """(1, spots, vocabulary) -> (spots, vocabulary); the shape proves that the head saw the spots and nothing else."""
    if logits.shape[:2] != (1, spots):
        raise Unsupported(f"expected logits at {spots} positions, the network gave {tuple(logits.shape)}")
    return logits[0]
