"""Networks that turn positions in one way within their first reach, and in another beyond it (LongRoPE).

transformers goes by the longest sequence of a pass. Here each goes by itself: those that exceed the reach, answers
included, are read apart from the others, and from their first token on as what they are.

Source: Ding et al., "LongRoPE: Extending LLM Context Window Beyond 2 Million Tokens" (ICML 2024), arXiv:2402.13753.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .loading import Loaded


def reach_of(config: Any) -> int | None:  # noqa: ANN401 - of every network its own
    """Tokens of a sequence up to which it is turned as in the first training; None where all are turned alike."""
    told = getattr(config, "rope_parameters", None) or {}
    kinds = [told, *(one for one in told.values() if isinstance(one, dict))]  # or one for each kind of layer
    return min(
        (one["original_max_position_embeddings"] for one in kinds if one.get("rope_type") == "longrope"), default=None
    )


def by_reach(loaded: Loaded, items: Sequence[int], lengths: Sequence[int]) -> dict[bool, list[int]]:
    """Items that are within the network's reach (False) and beyond it (True), where there are any.

    Args:
        loaded: The network.
        items: Which of the sequences.
        lengths: Tokens of each sequence.
    """
    found: dict[bool, list[int]] = {}
    for item in items:
        found.setdefault(loaded.reach is not None and lengths[item] > loaded.reach, []).append(item)
    return found


@contextmanager
def reaching(loaded: Loaded, *, beyond: bool) -> Iterator[None]:
    """Lets a network turn positions as it does beyond its reach, however short the rows are that it is given."""
    turning = loaded.rotary if beyond else []
    handles = [handle for part in turning for handle in _hooked(part, loaded.reach or 0)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hooked(part: nn.Module, reach: int) -> list[Any]:
    """Adds a far position to those that a module turns, and takes its turn away again."""

    def lengthen(_: object, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if "position_ids" in given:
            return args, given | {"position_ids": _and_far(given["position_ids"], reach)}
        return (args[0], _and_far(args[1], reach), *args[2:]), given

    def shorten(_: object, __: object, turns: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(turn[..., :-1, :] for turn in turns)

    return [part.register_forward_pre_hook(lengthen, with_kwargs=True), part.register_forward_hook(shorten)]


def _and_far(positions: Tensor, reach: int) -> Tensor:
    """(…, tokens) to (…, tokens + 1): the last is the first one beyond the reach."""
    import torch

    return torch.cat([positions, positions.new_full((*positions.shape[:-1], 1), reach)], -1)
