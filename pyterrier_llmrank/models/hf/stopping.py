"""Stop texts: where an answer ends because of what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pyterrier_llmrank.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


def check_stops(stop: Sequence[str]) -> None:
    """Refuses stop texts that would end every answer, or that are not a list.

    Raises:
        ConfigurationError: One is empty, or ``stop`` is a single text.
    """
    if isinstance(stop, str) or not all(stop):
        raise ConfigurationError(f"stop must be a list of texts that are not empty, got {stop!r}")


def before_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """What comes before the first stop text, and whether there was one."""
    found = [place for place in (text.find(one) for one in stop) if place >= 0]
    return (text[: min(found)], True) if found else (text, False)


class StopTexts:
    """Ends each row of a batch once it has written one of the stop texts, within a token or across several.

    Only the end of a row is decoded at each step: a stop text of n bytes is within its last n tokens, and one more
    stands before them, since decoding strips the space that a first token begins with.

    Args:
        tokenizer: Decodes.
        stop: Texts that end an answer.
        start: How many ids of each row are not part of its answer.
        rows: Rows of the batch.

    Attributes:
        lengths: New tokens of each row that ended, with those of its stop text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str], start: int, rows: int) -> None:
        self.tokenizer = tokenizer
        self.stop = stop
        self.start = start
        self.window = max((len(one.encode()) for one in stop), default=0) + 1
        self.lengths: dict[int, int] = {}
        self.rows = rows

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # noqa: ANN401 - as transformers calls it
        """Which rows have ended, (rows,)."""
        import torch

        new = input_ids.shape[1] - self.start
        tails = input_ids[:, self.start :][:, -self.window :].tolist()
        for row in range(self.rows):
            if row not in self.lengths and before_stop(str(self.tokenizer.decode(tails[row])), self.stop)[1]:
                self.lengths[row] = new
        return torch.tensor([row in self.lengths for row in range(self.rows)], device=input_ids.device)
