"""What vLLM's processes do with the logits of answers that are held to a permutation.

Each request carries the spelling of its permutation, and where its answer is, a ``Path`` of its own says which tokens
may come next. vLLM runs the network for every token, also for those that leave no choice.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pyterrier_llmrank.models.hf.constraints import Path, Spelling

if TYPE_CHECKING:
    from torch import Tensor

PROCESSOR = f"{__name__}:Holding"
"""What ``vllm.LLM`` is given: the class below, by name, for the processes that it may start."""

TOLD = "llmrank_spelling"


def told(spelling: Spelling) -> dict[str, Any]:
    """Arguments of ``vllm.SamplingParams`` by which a request tells its spelling."""
    return {"extra_args": {TOLD: [list(map(list, spelling.first)), list(map(list, spelling.later)), spelling.length]}}


class Held:
    """Says of one answer which tokens may come next.

    Args:
        path: How far it has come.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def __call__(self, output_ids: list[int], logits: Tensor) -> Tensor:
        """Logits of the next token, (vocabulary,): minus infinity for all that may not come."""
        import torch

        for token in output_ids[self._read :]:
            self._path.write(token)
        self._read = len(output_ids)
        tokens = sorted(self._path.allowed() or self._path.ends)
        if not tokens:  # complete, and nothing could end it: what follows is not read
            return logits
        allowed = torch.tensor(tokens, device=logits.device)
        return torch.full_like(logits, float("-inf")).index_copy_(0, allowed, logits[allowed])


@lru_cache(1)
def _processor() -> type:
    """The class that vLLM runs; made on demand, since it has one of vLLM's as its base."""
    from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

    class Holding(AdapterLogitsProcessor):  # type: ignore[misc, unused-ignore]
        """Gives every request that tells a spelling a ``Held`` of its own."""

        def is_argmax_invariant(self) -> bool:
            """The likeliest token may be another one."""
            return False

        def new_req_logits_processor(self, params: Any) -> Held | None:  # noqa: ANN401 - vLLM is imported lazily
            """What is done to the logits of a request; nothing where it tells no spelling."""
            own = (params.extra_args or {}).get(TOLD)
            if own is None:
                return None
            first, later, length = own
            spelling = Spelling(list(map(tuple, first)), list(map(tuple, later)), length)
            return Held(Path(spelling, params.all_stop_token_ids))

    return Holding


def __getattr__(name: str) -> type:
    if name == "Holding":
        return _processor()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
