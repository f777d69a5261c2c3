"""What counts a model's tokens without its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pyterrier_llmrank.core import Prompt
from pyterrier_llmrank.errors import MissingExtra, ModelError
from pyterrier_llmrank.models import HFModel, OpenAIModel, VLLMModel
from pyterrier_llmrank.models.hf.weightless import weightless

CHARACTERS = 4  # of a token, in English text and the usual vocabularies


class Ruler(Protocol):
    """What rendering a prompt needs of a model.

    A model may have a method ``ruler()`` that returns one, without loading its weights or running a prompt.
    """

    @property
    def context(self) -> int | None:
        """Tokens that a prompt and its answer may hold together; None if unbounded."""
        ...

    def plain(self, text: str) -> str:
        """``text`` with every control token broken up."""
        ...

    def token_ends(self, texts: Sequence[str]) -> list[list[int]]:
        """Where each token of each text ends, in characters."""
        ...

    def lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt, rendered."""
        ...


@dataclass(frozen=True)
class Estimate:
    """Four characters a token, where there is no tokenizer to ask: too few tokens for scripts other than Latin."""

    counted = "estimate"

    @property
    def context(self) -> int | None:
        """Unknown."""
        return None

    def plain(self, text: str) -> str:
        """``text``."""
        return text

    def token_ends(self, texts: Sequence[str]) -> list[list[int]]:
        """Every four characters."""
        return [[*range(CHARACTERS, len(text), CHARACTERS), len(text)] if text else [] for text in texts]

    def lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of all turns together; those that a chat template adds are not known."""
        texts = ["".join(turn.content for turn in prompt.messages) + prompt.answer for prompt in prompts]
        return [len(ends) for ends in self.token_ends(texts)]


@dataclass(frozen=True)
class Named:
    """A model of a server whose tokenizer was named, without a look at the server."""

    model: OpenAIModel

    @property
    def context(self) -> int | None:
        """What the model was told; what the server takes is not asked for."""
        return self.model.max_length

    def plain(self, text: str) -> str:
        """As the model does it."""
        return self.model.plain(text)

    def token_ends(self, texts: Sequence[str]) -> list[list[int]]:
        """As the model does it."""
        return self.model.token_ends(texts)

    def lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """As the model does it."""
        return self.model.lengths(prompts)


def ruler_of(model: Any) -> Ruler:  # noqa: ANN401 - any model
    """The model's own ruler, or its tokenizer, or an estimate where neither is to be had without asking a server."""
    own = getattr(model, "ruler", None)
    if callable(own):
        ruler: Ruler = own()
        return ruler
    try:
        if isinstance(model, HFModel):
            return weightless(model)
        if isinstance(model, VLLMModel):  # which renders and reads as an HFModel does
            told = ("name", "revision", "max_length", "trust_remote_code", "adapter", "chat", "thinking")
            return weightless(HFModel(**{name: getattr(model, name) for name in told}))
        if isinstance(model, OpenAIModel) and model.tokenizer is not None:
            model.token_ends([""])  # there is a tokenizer of this name
            return Named(model)
    except (ModelError, MissingExtra):
        pass  # it is said in the table how tokens were counted
    return Estimate()
