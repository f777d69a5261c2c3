"""``OpenAIModel``: a language model behind any server that speaks OpenAI's HTTP interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, TypeVar

from pyterrier_llmrank.core import Prompt
from pyterrier_llmrank.errors import ConfigurationError, Unsupported
from pyterrier_llmrank.models.base import ChoiceScores, Generation, Permutation, Primitive, Sampling, TokenLogprobs
from pyterrier_llmrank.models.hearing import overheard
from pyterrier_llmrank.models.hf.constraints import check_held
from pyterrier_llmrank.models.hf.replicas import pick
from pyterrier_llmrank.models.hf.stopping import check_stops
from pyterrier_llmrank.models.hf.text import TextSide

from . import estimate
from .asking import Asker, check_fit
from .guided import Drawing
from .holding import constrained
from .probing import Facts, agreed, probe
from .remote import Remote
from .tokenizing import local_text, rendered

A = TypeVar("A", ChoiceScores, TokenLogprobs, Generation)

NEEDS = {
    "choices": "log-probabilities of its next token, which this prompt needs; use a prompt whose answer is written "
    "(ScorePrompt(), ListPrompt(), or decode='generate' of PairPrompt and SetPrompt), or a server that tells them, "
    "such as vLLM or llama-server",
    "continuation": "the right log-probabilities of a prompt (echo), which this needs; use vLLM, or a model that runs "
    "here, such as HFModel(name)",
    "constrained": "which of several tokens or texts comes next, from the beginning of an answer on, which an answer "
    "held to a permutation needs; use decode='generate', a server that does, such as vLLM or llama-server (say "
    "tokenizer= where it cannot be asked), or HFModel(name)",
}


@dataclass(frozen=True, repr=False)
class OpenAIModel(Remote):
    """A language model behind a server: vLLM, SGLang, llama.cpp, Ollama or a hosted service.

    What the server can do is tried out at first use, with a few requests of one token. Labels are scored by the best
    way that it has: by token id over the whole vocabulary, which is exact and takes 64 prompts a request (vLLM; SGLang;
    llama-server), or else among the likeliest tokens of a chat, where the value of an absent label is an upper bound
    and flagged. A request that fails is retried; one that still fails leaves its prompts without an answer (labels that
    are all missing, no text), which is counted, and never becomes a score.

    Takes the arguments of ``Remote`` (``base_url``, ``key_env``, ``concurrency``, ``budget`` …), and:

    Args:
        name: The model, as the server calls it.
        tokenizer: The model's tokenizer: a folder, or a name on the Hugging Face hub. Prompts are then rendered and
            counted here, which is exact and saves requests; else the server is asked where it can be, and lengths are
            estimated from above where it cannot.
        chat: Whether to put prompts as chats; by default wherever that is possible.
        thinking: Whether the model may reason before it answers (see ``HFModel``); a server's template is told so.
        max_length: Tokens of a prompt and its answer; what the server says by default.

    Raises:
        ModelNotFound: On first use: there is no server, or it has no such model.
        AccessDenied: On first use: the key is missing or wrong, or no request can carry it.
        ConfigurationError: On first use: of several servers, one tells the log-probabilities of labels in another way.
        ServerError: On first use: the server fails in a way that may pass, so that it is not known what it can do; the
            next use tries again. Later: too many requests in a row failed; what was answered before is its ``partial``.
        BudgetSpent: The next request could pass the budget.

    Examples:
        A vLLM server, asked in the fastest way::

            OpenAIModel("Qwen/Qwen3-8B", "http://localhost:8000/v1", tokenizer="Qwen/Qwen3-8B")

        Four of them::

            OpenAIModel("Qwen/Qwen3-8B", [f"http://gpu-{i}:8000/v1" for i in range(4)], tokenizer="Qwen/Qwen3-8B")
    """

    tokenizer: str | None = field(default=None, kw_only=True)
    chat: bool | None = field(default=None, kw_only=True)
    thinking: bool = field(default=False, kw_only=True)
    max_length: int | None = field(default=None, kw_only=True)

    tells: ClassVar[bool] = True  # of each answer as it comes (see ``hearing``)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_length is not None and self.max_length < 1:
            raise ConfigurationError(f"max_length must be at least 1 token, got {self.max_length}")

    @property
    def can(self) -> frozenset[Primitive]:
        """What the server was seen to do."""
        return self._facts.can

    @property
    def context(self) -> int | None:
        """Tokens that a prompt and its answer may hold together; None where nobody says."""
        limits = [limit for limit in (self.max_length, self._facts.context) if limit is not None]
        return min(limits, default=None)

    def load(self) -> None:
        """Finds out what the server can do, unless that is known."""
        self._facts  # noqa: B018 - a property that remembers

    def plain(self, text: str) -> str:
        """``text`` with a space inside every control token; of an unknown tokenizer, inside what looks like one."""
        return self._local.plain(text) if self._local else estimate.plain(text)

    def token_ends(self, texts: Sequence[str]) -> list[list[int]]:
        """Where each token of each text ends, in characters; an estimate from above where no tokenizer can be asked."""
        text = self._local or self._facts.text
        if text:
            return text.ends(texts)
        if self._facts.tokenizer:
            return TextSide(self._facts.tokenizer, encoder_decoder=False, chat=False, thinking=False).ends(texts)  # type: ignore[arg-type]
        return [estimate.ends(text) for text in texts]

    def lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt, rendered; an estimate from above where no tokenizer can be asked."""
        text = self._local or self._facts.text
        if text:
            return [len(row) for row in text.prompts(rendered(text, prompts))]
        if self._facts.tokenizer:
            ends = iter(self.token_ends([part for prompt in prompts for part in estimate.contents(prompt)]))
            return [
                estimate.TURN * (len(prompt.messages) + 1) + sum(len(next(ends)) for _ in estimate.contents(prompt))
                for prompt in prompts
            ]
        return [estimate.length(prompt) for prompt in prompts]

    def choices(self, prompts: Sequence[Prompt], labels: Sequence[Sequence[str]]) -> list[ChoiceScores]:
        """Log-probability of each label as the next token; where it is not to be had, an upper bound flagged missing.

        Where a tokenizer is known, values are those of ``HFModel.choices``. Without one a label is known by its text,
        so that one of several tokens is always missing.

        Raises:
            SeveralTokens: A label is more than one token after its prompt.
            LabelError: Two labels are the same to the tokenizer.
            PromptTooLong: A prompt exceeds the context.
        """
        if not prompts:
            return []
        if self._several:
            return self._shared(prompts, lambda one, some: one.choices(pick(prompts, some), pick(labels, some)))
        self._check("choices")
        self._check_fit(prompts, 1)
        return self._asker.choices(prompts, labels)

    def continuation(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[TokenLogprobs]:
        """Log-probability of each token of a text after its prompt; of no token where the request failed.

        Prompt and text are tokenised together, so a token that spans both belongs to the text.
        """
        if not prompts:
            return []
        if self._several:
            return self._shared(prompts, lambda one, some: one.continuation(pick(prompts, some), pick(texts, some)))
        self._check("continuation")
        return self._asker.continuation(prompts, texts)

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
        """Answers of at most ``max_tokens`` tokens; an empty one, cut off and counted, where the request failed.

        The same seed gives the same answer as far as the server keeps to it. With a constraint a server is asked item
        by item, and all of these requests are counted; it can be where it tells log-probabilities by token id (then an
        answer is that of ``HFModel``), or writes one of several texts ("structured_outputs", "guided_choice").

        Raises:
            ConfigurationError: Sampling without one seed per prompt, a stop text that is empty, or a constraint with a
                stop text or a limit that could cut an answer off.
            Unsupported: A constraint for a server that cannot be asked item by item.
            LabelError: Two items of a constraint are the same to the tokenizer.
            PromptTooLong: A prompt with its answer exceeds the context.
        """
        check_stops(stop)
        if sampling is not None and (seeds is None or len(seeds) != len(prompts)):
            found = "none" if seeds is None else len(seeds)
            raise ConfigurationError(f"sampling needs one seed per prompt: {len(prompts)} prompts, seeds: {found}")
        if not prompts:
            return []
        if self._several:
            return self._shared(
                prompts,
                lambda one, some: one.generate(
                    pick(prompts, some),
                    max_tokens=max_tokens,
                    stop=stop,
                    sampling=sampling,
                    seeds=pick(seeds, some) if seeds else None,
                    constraint=constraint,
                ),
            )
        if constraint is not None:
            self._check("constrained")
            check_held(max_tokens, stop, ())
        self._check_fit(prompts, max_tokens)
        if constraint is not None:
            drawings = [Drawing(sampling, seed) for seed in (seeds if sampling and seeds else [0] * len(prompts))]
            return constrained(self._asker, prompts, max_tokens, constraint, drawings)
        return self._asker.generate(prompts, max_tokens, stop, sampling, seeds or ())

    @cached_property
    def _local(self) -> TextSide | None:
        """The tokenizer that is at hand, if one was named."""
        return local_text(self.tokenizer, chat=self.chat, thinking=self.thinking) if self.tokenizer else None

    @property
    def _several(self) -> bool:
        """Whether there are several servers."""
        return len(self._members) > 1

    def _shared(self, prompts: Sequence[Prompt], call: Callable[[OpenAIModel, list[int]], Sequence[A]]) -> list[A]:
        """One answer per prompt, of whichever server."""
        texts = ["\n".join(estimate.contents(prompt)) for prompt in prompts]
        return self._fleet.ask(texts, overheard(call), lambda answer: bool(answer.usage.failures))

    @property
    def _facts(self) -> Facts:
        """What the server does, found out once per process; of several, what all of them do."""
        if self._several:
            return agreed(self._fleet.reached(lambda one: (str(one.base_url), one._facts)))
        wire, key = self._wire, (self.tokenizer, self.chat, self.thinking)
        with wire.lock:
            if key not in wire.known:
                wire.known[key] = probe(wire, local=self._local, chat=self.chat, thinking=self.thinking)
            facts: Facts = wire.known[key]
            return facts

    @property
    def _asker(self) -> Asker:
        return Asker(self._wire, self._facts, self.context)

    def _check(self, primitive: Primitive) -> None:
        if primitive not in self.can:
            raise Unsupported(f"{self.name} at {self.base_url} does not tell {NEEDS[primitive]}")

    def _check_fit(self, prompts: Sequence[Prompt], reserve: int) -> None:
        """Refuses prompts that exceed the context, where they can be counted here, but are sent as texts."""
        if self._local and self._facts.text is None and self.context is not None:
            check_fit(self.lengths(prompts), reserve, self.context, self._wire.address)
