"""``HFModel``: a local Hugging Face language model, decoder or encoder-decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from pyterrier_llmrank.core import Prompt, Usage
from pyterrier_llmrank.errors import ConfigurationError, ModelError, PromptTooLong
from pyterrier_llmrank.models.base import (
    EMPTY,
    ChoiceScores,
    Generation,
    Permutation,
    Primitive,
    Sampling,
    TokenLogprobs,
)

from .attending import Attends
from .chats import spoken
from .constraints import check_held, spellings
from .holding import write_held
from .prefixes import common_prefix
from .reading import Read, likeliest
from .replicas import pick
from .sharing import Reading, read_all
from .stopping import before_stop, check_stops
from .text import Rendered, TextSide
from .writing import Manner, end_tokens, write


@dataclass(frozen=True, repr=False)
class HFModel(Attends):
    """A language model of the transformers library, run on this machine: ``HFModel("Qwen/Qwen3-0.6B")``.

    A value: two with equal arguments are equal and share weights, which load on first use. Takes the arguments of
    ``Local`` (``device``, ``dtype``, ``batch_tokens``, ``max_length`` …), and:

    Args:
        name: A folder, or a name on the Hugging Face hub.
        chat: Whether to use the chat template; by default where the tokenizer has one.
        thinking: Whether the model may reason before it answers: a template that can switch reasoning on is told to. If
            not, reasoning that a template opens all the same (DeepSeek-R1, Qwen3-Thinking) is closed at once, and an
            answer begins where the template puts one (the final channel of gpt-oss).
    """

    chat: bool | None = field(default=None, kw_only=True)
    thinking: bool = field(default=False, kw_only=True)

    kind = "language"

    @cached_property
    def _text(self) -> TextSide:
        both = bool(self._loaded.network.config.is_encoder_decoder)
        return TextSide(self._loaded.tokenizer, encoder_decoder=both, chat=self.chat, thinking=self.thinking)

    @property
    def can(self) -> frozenset[Primitive]:
        """Everything; ``attention`` is refused by encoder-decoders."""
        return frozenset({"choices", "continuation", "generate", "constrained", "attention"})

    def plain(self, text: str) -> str:
        """``text`` with a space inside every control token of this tokenizer."""
        return self._text.plain(text)

    def token_ends(self, texts: Sequence[str]) -> list[list[int]]:
        """Where each token of each text ends, in characters."""
        return self._text.ends(texts)

    def lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt, rendered; of the encoder's side for an encoder-decoder."""
        return [len(ids) for ids in self._text.prompts([self._text.render(prompt) for prompt in prompts])]

    def choices(self, prompts: Sequence[Prompt], labels: Sequence[Sequence[str]]) -> list[ChoiceScores]:
        """Log-probability of each label as the next token, one forward pass per prompt.

        Where all labels begin with the same tokens (such as that of a space), the log-probability of those is part of
        ``logprobs``; ``logprobs + log_total`` are still the logits of the tokens that tell the labels apart, as the
        network gave them at the position where the labels differ.

        Raises:
            SeveralTokens: A label is more than one token after its prompt.
            LabelError: Two labels are the same to the tokenizer.
            PromptTooLong: A prompt exceeds the context.
        """
        rendered, ids = self._ready(prompts)
        starts = self._starts(rendered)
        reads = []
        for one, row, start, names in zip(rendered, ids, starts, labels, strict=True):
            tokens = self._text.labels(one, names)
            side = start if self._text.encoder_decoder else row
            kept = side[: len(side) - tokens.dropped]
            if not kept:
                raise ModelError(EMPTY)
            side = kept + tokens.shared
            common = [(place - 1, side[place]) for place in range(len(kept), len(side))]
            reads.append(self._read(row, side, common + [(len(side) - 1, token) for token in tokens.ids]))
        return [
            _choice(read, reading, len(names))
            for reading, read, names in zip(self._readings(reads), reads, labels, strict=True)
        ]

    def continuation(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[TokenLogprobs]:
        """Log-probability of each token of a text after its prompt; encoder-decoders add their end token.

        Prompt and text are tokenised together, so a token that spans both belongs to the text.
        """
        rendered, ids = self._ready(prompts)
        starts = self._starts(rendered)
        tails = [one.glue + text for one, text in zip(rendered, texts, strict=True)]
        if self._text.encoder_decoder:
            end = [self._loaded.tokenizer.eos_token_id]
            sides = [
                start[:1] + row + end for start, row in zip(starts, self._text.answers(rendered, tails), strict=True)
            ]
            bases = starts
        else:
            sides, bases = self._text.prompts(rendered, tails), ids
        reads = []
        for row, side, base in zip(ids, sides, bases, strict=True):
            first = common_prefix(base, side)
            if not first:
                raise ModelError(EMPTY)
            wanted = [(place - 1, side[place]) for place in range(first, len(side))]
            reads.append(self._read(row, side, wanted))
        return [
            TokenLogprobs(reading.logprobs, _usage(read, reading))
            for reading, read in zip(self._readings(reads), reads, strict=True)
        ]

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
        """Answers of at most ``max_tokens`` tokens, whatever the checkpoint's generation configuration says.

        The tokens of a stop text are counted, but it is no part of the answer. The same seed gives the same answer in
        any batch, on the same kind of device. With a constraint an answer ends with its last item, without an end
        token; the network runs only where more than one token may come next.

        Raises:
            ConfigurationError: Sampling without one seed per prompt, a stop text that is empty, or a constraint with a
                stop text or a limit that could cut an answer off.
            LabelError: Two items of a constraint are the same to the tokenizer.
            PromptTooLong: A prompt with its answer exceeds the context.
        """
        check_stops(stop)
        if sampling is not None and (seeds is None or len(seeds) != len(prompts)):
            found = "none" if seeds is None else len(seeds)
            raise ConfigurationError(f"sampling needs one seed per prompt: {len(prompts)} prompts, seeds: {found}")
        rendered, ids = self._ready(prompts, max_tokens)
        starts = self._starts(rendered)
        manner = Manner(max_tokens, stop, sampling, seeds or ())
        if constraint is not None:
            return self._held(rendered, ids, starts, manner, constraint)
        written = self._spread(
            ids,
            lambda on, budget, some: write(on, pick(ids, some), pick(starts, some), budget, manner.of(some)),
            max_tokens,
        )
        ends = end_tokens(self._loaded)
        answers = []
        for row, (new, cached) in zip(ids, written, strict=True):
            text, stopped = before_stop(spoken(self._loaded.tokenizer, new), stop)
            whole = str(self._loaded.tokenizer.decode(new))
            # a stop text may be a special token
            done = stopped or before_stop(whole, stop)[1] or new[-1] in ends
            usage = Usage(1, len(row), cached, len(new))
            answers.append(Generation(text, "stop" if done else "length", usage))
        return answers

    def _held(
        self,
        rendered: Sequence[Rendered],
        ids: Sequence[list[int]],
        starts: Sequence[list[int]],
        manner: Manner,
        permutation: Permutation,
    ) -> list[Generation]:
        """Answers that are held to a permutation."""
        own = spellings(self._text, rendered, permutation)
        check_held(manner.max_tokens, manner.stop, own)
        written = self._spread(
            ids,
            lambda on, budget, some: write_held(
                on, pick(ids, some), pick(starts, some), budget, manner.of(some), pick(own, some)
            ),
            manner.max_tokens,
        )
        return [
            Generation(permutation.text(one.named), "stop", Usage(1, len(row), one.cached, len(one.tokens)))
            for row, one in zip(ids, written, strict=True)
        ]

    def next_tokens(self, prompts: Sequence[Prompt], k: int) -> list[list[tuple[str, float]]]:
        """The ``k`` likeliest next tokens of each prompt, likeliest first: text and natural log-probability.

        Local models only. A text is what the token adds to the prompt, with the space that it begins with; control
        tokens go by their names. One that is a part of a character reads as "\ufffd".

        Raises:
            ConfigurationError: ``k`` is below 1.
            PromptTooLong: A prompt exceeds the context.
        """
        if k < 1:
            raise ConfigurationError(f"k must be at least 1, got {k}")
        rendered, ids = self._ready(prompts)
        sides = self._starts(rendered) if self._text.encoder_decoder else ids
        reads = [self._read(row, side, [(len(side) - 1, 0)]) for row, side in zip(ids, sides, strict=True)]
        found = self._spread(sides, lambda on, budget, some: likeliest(on, pick(reads, some), budget, k))
        return [
            [(self._text.added(side, token), logprob) for token, logprob in row]
            for side, row in zip(sides, found, strict=True)
        ]

    def _readings(self, reads: Sequence[Read]) -> list[Reading]:
        """One reading per read."""
        return self._spread(
            [read.ids for read in reads], lambda on, budget, some: read_all(on, pick(reads, some), budget)
        )

    def _ready(self, prompts: Sequence[Prompt], reserve: int = 0) -> tuple[list[Rendered], list[list[int]]]:
        """Prompts as text and as ids, none longer than the context allows."""
        rendered = [self._text.render(prompt) for prompt in prompts]
        ids = self._text.prompts(rendered)
        for row in ids:
            if not row:
                raise ModelError(EMPTY)
            self._check_length(len(row), reserve)
        return rendered, ids

    def _check_length(self, tokens: int, reserve: int = 0) -> None:
        """Refuses a sequence that exceeds the context."""
        if self.context is not None and tokens + reserve > self.context:
            raise PromptTooLong(
                f"a prompt of {tokens} tokens with an answer of {reserve} exceeds the {self.context} tokens of "
                f"{self.name}; use fewer or shorter documents (window=, max_doc_tokens=)"
            )

    def _read(self, encoder: list[int], side: list[int], wanted: list[tuple[int, int]]) -> Read:
        """What to read of the side where the answer is; a decoder-only model has no other."""
        self._check_length(len(side))
        return Read(encoder, side, wanted) if self._text.encoder_decoder else Read(side, [], wanted)

    def _starts(self, rendered: Sequence[Rendered]) -> list[list[int]]:
        """What the decoder's side starts with; empty lists for a decoder-only model."""
        if not self._text.encoder_decoder:
            return [[] for _ in rendered]
        config = self._loaded.network.config
        start = config.decoder_start_token_id
        return [[start, *row] for row in self._text.answers(rendered)]


def _choice(read: Read, reading: Reading, n: int) -> ChoiceScores:
    """Scores of ``n`` labels, the last that were read; what comes before is common to them."""
    split = len(reading.logprobs) - n
    common = float(reading.logprobs[:split].sum())
    missing = np.zeros(n, dtype=bool)
    total = float(reading.totals[-1]) - common
    return ChoiceScores(reading.logprobs[split:] + common, missing, _usage(read, reading), total)


def _usage(read: Read, reading: Reading) -> Usage:
    return Usage(calls=1, prompt_tokens=len(read.ids) + len(read.decoder), cached_tokens=reading.cached)
