"""Local weights that read prompts in ways of their own, beside the primitives of a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from pyterrier_llmrank.core import Prompt

from .local import Local
from .text import TextSide


class LocalReader(Local):
    """Reads prompts through the chat template of its tokenizer; measures them, so that truncation can cut documents."""

    @cached_property
    def _text(self) -> TextSide:
        return TextSide(self._loaded.tokenizer, encoder_decoder=False, chat=None, thinking=False)

    def plain(self, text: str) -> str:
        """``text`` with a space inside every control token of this tokenizer."""
        return self._text.plain(text)

    def token_ends(self, texts: Sequence[str]) -> list[list[int]]:
        """Where each token of each text ends, in characters."""
        return self._text.ends(texts)

    def lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt, rendered."""
        return [len(ids) for ids in self.tokens(prompts)]

    def tokens(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Token ids of each prompt, rendered."""
        return self._text.prompts([self._text.render(prompt) for prompt in prompts])
