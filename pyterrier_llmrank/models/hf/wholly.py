"""Attention weights as a network itself computes them, all pairs of tokens of one layer at a time: slow, and exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pyterrier_llmrank.errors import Unsupported

from .attention import implemented
from .layout import Span
from .loading import Loaded

if TYPE_CHECKING:
    from torch import Tensor


def read_wholly(
    loaded: Loaded, ids: Sequence[int], rows: Span, keys: Sequence[int], heads: dict[int, list[int]], *, by_head: bool
) -> Tensor:
    """Mean weights of a prompt's rows on keys, (heads or 1 for their sum, keys), float32.

    Raises:
        Unsupported: A layer that was asked for has no attention weights.
    """
    import torch

    found: dict[int, Tensor] = {}

    def note(module: Any, _: object, out: object) -> None:  # noqa: ANN401 - any attention module
        weights = out[1] if isinstance(out, tuple) and len(out) > 1 else None
        layer = getattr(module, "layer_idx", None)
        if layer in heads and isinstance(weights, torch.Tensor) and weights.ndim == 4:
            own = weights[0, heads[layer], rows[0] : rows[1]]  # (heads, rows, tokens)
            means = own.float().mean(1)[:, list(keys)]
            found[layer] = means if by_head else means.sum(0, keepdim=True)

    handles = [part.register_forward_hook(note) for part in loaded.network.modules() if hasattr(part, "layer_idx")]
    try:
        with torch.inference_mode(), implemented(loaded, "eager"):
            loaded.network.base_model(input_ids=torch.tensor([list(ids)], device=loaded.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    if gone := sorted(heads.keys() - found.keys()):
        raise Unsupported(
            f"{type(loaded.network).__name__} has no attention weights in layers {', '.join(map(str, gone))}; ask for "
            "heads of other layers, or use another model"
        )
    parts = [found[layer] for layer in sorted(found)]
    return torch.cat(parts) if by_head else torch.stack(parts).sum(0)
