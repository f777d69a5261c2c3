"""``FusedModel``: an encoder-decoder that reads every message of a prompt by itself (fusion in the decoder)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

from pyterrier_llmrank.core import Prompt
from pyterrier_llmrank.errors import ModelError, Unsupported
from pyterrier_llmrank.models.base import EMPTY

from .batching import Budget
from .fusing import fused
from .loaded import Loaded
from .model import HFModel
from .replicas import Work
from .text import Rendered

R = TypeVar("R")


@dataclass(frozen=True, repr=False)
class FusedModel(HFModel):
    """A local encoder-decoder whose encoder reads the messages of a prompt apart, and whose decoder reads them all.

    Takes the arguments of ``HFModel``; ``max_length`` and the model's own limit bound each message, not the prompt.
    The encoder's work grows with the number of messages, not with its square. Chat templates are not used.

    Raises:
        Unsupported: On first use, if the model has no encoder of its own, or no token that ends a text.

    Reference:
        Izacard and Grave, 2021 (Fusion-in-Decoder), section 3.
    """

    def load(self) -> None:
        """Loads weights and tokenizer, unless they are there already, and checks that they can do it."""
        super().load()
        if not self._loaded.network.config.is_encoder_decoder:
            raise Unsupported(
                f"fusion in the decoder needs an encoder-decoder such as T5, and {self.name} is a "
                f"{type(self._loaded.network).__name__}; show its documents in one prompt: Prompted(ListPrompt(), "
                f"HFModel({self.name!r}))"
            )
        if self._loaded.tokenizer.eos_token_id is None:
            raise Unsupported(f"{self.name} has no end token, which tells the messages of a prompt apart")

    def lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt, all of its messages together."""
        return [sum(map(len, parts)) for parts in self._parts(prompts)]

    def _spread(self, sequences: Sequence[Sequence[int]], work: Work[R], reserve: int = 0) -> list[R]:
        """As every local model does it, with the encoder reading messages apart."""

        def apart(on: Loaded, budget: Budget, places: list[int]) -> Sequence[R]:
            with fused(on):
                return work(on, budget, places)

        return super()._spread(sequences, apart, reserve)

    def _ready(self, prompts: Sequence[Prompt], reserve: int = 0) -> tuple[list[Rendered], list[list[int]]]:
        """Prompts as text and as ids, no message of them longer than the context allows."""
        self.load()
        rendered = [self._text.render(prompt) for prompt in prompts]
        rows = self._parts(prompts)
        for parts in rows:
            if not parts:
                raise ModelError(EMPTY)
            for part in parts:
                self._check_length(len(part))
        return rendered, [[*chain.from_iterable(parts)] for parts in rows]

    def _parts(self, prompts: Sequence[Prompt]) -> list[list[list[int]]]:
        """Token ids of each message, each with an end token behind it and none before.

        Raises:
            ModelError: The text of a message spells the end token.
        """
        end = self._loaded.tokenizer.eos_token_id
        texts = [turn.content for prompt in prompts for turn in prompt.messages]
        encoded = iter(self._text.encode(texts, special=True))
        rows = [[_closed(next(encoded), int(end)) for _ in prompt.messages] for prompt in prompts]
        if any(end in part[:-1] for parts in rows for part in parts):
            raise ModelError(f"a message spells the end token {self._loaded.tokenizer.eos_token!r}; break it up")
        return rows


def _closed(part: list[int], end: int) -> list[int]:
    """A part with the end token behind it, where the tokenizer does not put one there."""
    return part if part[-1:] == [end] else [*part, end]
