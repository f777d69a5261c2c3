"""The model interface: primitives that answer prompts, and the little that truncation must know of a tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pyterrier_llmrank.core import Prompt, Usage
from pyterrier_llmrank.errors import ConfigurationError

Primitive = Literal["choices", "continuation", "generate", "constrained", "attention"]
EMPTY = "an empty prompt leaves nothing for the model to read; give it a text"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn, in place of greedily.

    Attributes:
        temperature: What logits are divided by, above 0.
        top_p: Probability mass to draw from, the most probable tokens first.
        top_k: Tokens to draw from, the most probable; None for all.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigurationError(f"temperature must be above 0, got {self.temperature}; sampling=None is greedy")
        if not 0 < self.top_p <= 1:
            raise ConfigurationError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigurationError(f"top_k must be at least 1 or None (all), got {self.top_k}")


@dataclass(frozen=True, slots=True)
class Permutation:
    """What an answer is held to: each item at most once, in any order, and nothing else, as in "[2] > [1] > [3]".

    Attributes:
        items: As they are written.
        between: What stands between two of them.
        length: How many the answer names; all by default.
    """

    items: tuple[str, ...]
    between: str = " > "
    length: int | None = None

    def __post_init__(self) -> None:
        if not self.items or not all(self.items) or len(set(self.items)) < len(self.items):
            raise ConfigurationError(f"items must be one or more different texts, none empty, got {self.items!r}")
        if not self.between:
            raise ConfigurationError("between must not be empty: nothing would tell two items apart")
        if self.length is not None and not 1 <= self.length <= len(self.items):
            raise ConfigurationError(f"length must be 1 to {len(self.items)}, the number of items, got {self.length}")

    def text(self, named: Sequence[int]) -> str:
        """The answer that names these items, by their places."""
        return self.between.join(self.items[place] for place in named)


class ChoiceScores(NamedTuple):
    """How probable each label is as the next token.

    Attributes:
        logprobs: Natural log-probability of each label over the full vocabulary, (labels,).
        missing: True where a label's value was not to be had and ``logprobs`` is an upper bound, (labels,).
        usage: What it cost.
        log_total: Log of the sum of exp(logit) over the vocabulary, so that ``logprobs + log_total`` are the logits of
            the labels' own tokens, as the network gave them; NaN where the model does not tell. Where labels begin
            with tokens in common, whose log-probability is part of ``logprobs``, that is taken off here.
    """

    logprobs: NDArray[np.float64]
    missing: NDArray[np.bool_]
    usage: Usage
    log_total: float = np.nan

    @property
    def mass(self) -> float:
        """Probability that the model puts on the labels together, 0 to 1."""
        return float(np.exp(self.logprobs[~self.missing]).sum())


class TokenLogprobs(NamedTuple):
    """Natural log-probability of every token of a text, given the prompt and the tokens before it, (tokens,)."""

    logprobs: NDArray[np.float64]
    usage: Usage


class Generation(NamedTuple):
    """What a model wrote.

    Attributes:
        text: Without special tokens, and without the prompt's ``answer`` that it went on from.
        finish: "stop" where the model ended, "length" where it was cut off.
        usage: What it cost.
    """

    text: str
    finish: Literal["stop", "length"]
    usage: Usage


class Attended(NamedTuple):
    """How much some of a prompt's tokens attend to spans of it.

    Attributes:
        weights: One array per span, float32: (tokens of the span,), the sum over the heads asked for of the mean over
            the attending tokens; or (heads, tokens of the span), head by head, in the order asked for.
        tokens: Where each of those tokens stands in the text of the prompt's last message: [start, end) in characters.
        usage: What it cost.
    """

    weights: list[NDArray[np.float32]]
    tokens: list[list[tuple[int, int]]]
    usage: Usage


class Model(Protocol):
    """Runs prompts. Every primitive maps a list to a list of equal length, whatever it batches."""

    @property
    def can(self) -> frozenset[Primitive]:
        """The primitives it really offers."""
        ...

    @property
    def context(self) -> int | None:
        """Tokens that a prompt and its answer may hold together; None if unbounded."""
        ...

    def load(self) -> None:
        """Gets ready to answer; idempotent.

        Raises:
            ModelNotFound: There is no such model, or it cannot be reached.
        """
        ...

    def plain(self, text: str) -> str:
        """``text`` with every control token of this model broken up, so that it reads as plain text."""
        ...

    def token_ends(self, texts: Sequence[str]) -> list[list[int]]:
        """Where each token of each text ends, in characters."""
        ...

    def lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt, rendered."""
        ...

    def choices(self, prompts: Sequence[Prompt], labels: Sequence[Sequence[str]]) -> list[ChoiceScores]:
        """Log-probability of each of a prompt's labels as its next token.

        Raises:
            SeveralTokens: A label is more than one token after this prompt; ask ``continuation``.
            LabelError: Two labels are the same to the tokenizer.
        """
        ...

    def continuation(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[TokenLogprobs]:
        """Log-probabilities of one text after each prompt (with the end token for encoder-decoders)."""
        ...

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_tokens: int,
        stop: Sequence[str] = (),
        sampling: Sampling | None = None,
        seeds: Sequence[int] | None = None,
        constraint: Permutation | None = None,
    ) -> list[Generation]:
        """The model's answers: greedily decoded, or sampled.

        Args:
            prompts: What to answer.
            max_tokens: Tokens of an answer at most.
            stop: Texts that end an answer; the answer is what came before the first of them.
            sampling: How tokens are drawn; greedily by default.
            seeds: One per prompt, with ``sampling``: an answer depends on its own seed alone.
            constraint: What every answer is held to, for models that can do "constrained": it is whole, so that
                ``max_tokens`` must be enough for the longest one, and no stop text is taken.
        """
        ...


class Attentive(Model, Protocol):
    """What a model that can do "attention" offers beside: local decoders do."""

    @property
    def attention_heads(self) -> tuple[int, int]:
        """Layers, and heads of a layer.

        Raises:
            Unsupported: It is no decoder.
        """
        ...

    @property
    def dialect(self) -> str:
        """How chat turns are written: "llama-3", "mistral", "qwen" …; "chat" for a template of its own, or "plain"."""
        ...

    def attention(
        self,
        prompts: Sequence[Prompt],
        *,
        rows: Sequence[tuple[int, int | None]],
        spans: Sequence[Sequence[tuple[int, int]]],
        heads: Sequence[tuple[int, int]] | None = None,
        by_head: bool = False,
        slowly: bool = False,
    ) -> list[Attended]:
        """How much the tokens of ``rows`` attend to each of ``spans``.

        Args:
            prompts: What to read. Nothing after the rows is read.
            rows: Which text of each prompt's last message attends, [start, end) in characters; None for the end of the
                prompt, with what a chat template puts there.
            spans: Which texts of the same message are attended to; they end before the rows begin.
            heads: Pairs of a layer and a head, from 0; all by default. Layers after the last of these are not run.
            by_head: Whether each head is told apart, instead of their sum.
            slowly: Whether the network runs with its own attention, whose weights for all pairs of tokens are in
                memory for one layer at a time: for networks that are not exact otherwise.

        Raises:
            Unsupported: The network does not attend in the ordinary way, or the tokenizer does not tell where its
                tokens stand in a text.
            PromptTooLong: A prompt exceeds the context.
        """
        ...
