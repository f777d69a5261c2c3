"""``VLLMModel``: a language model that vLLM runs in this process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from pyterrier_llmrank.core import Prompt, brief
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
from pyterrier_llmrank.models.hf.constraints import check_held, spellings
from pyterrier_llmrank.models.hf.loading import Checkpoint
from pyterrier_llmrank.models.hf.prefixes import common_prefix
from pyterrier_llmrank.models.hf.sampling import processors
from pyterrier_llmrank.models.hf.stopping import check_stops
from pyterrier_llmrank.models.hf.text import Rendered, TextSide

from .engine import Loaded, load
from .holding import write_held
from .options import check_options
from .reading import Read, read_along, read_next
from .writing import manners, written

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, repr=False)
class VLLMModel:
    """A language model that vLLM runs in this process: ``VLLMModel("Qwen/Qwen3-8B")``. Decoders only.

    Renders and reads prompts just as ``HFModel`` does. All prompts of a call are handed over at once, those that begin
    alike next to each other, so that vLLM's prefix cache computes what they share once; vLLM chooses the batches.

    A value: models with equal arguments share one engine, which starts on first use and stops with ``close()``. So do
    those that differ in ``adapter`` only, where one engine has room for both. vLLM may start processes, for which a
    script needs ``if __name__ == "__main__":`` around what it runs.

    Args:
        name: A folder, or a name on the Hugging Face hub.
        revision: Branch, tag or commit on the hub.
        dtype: "float32", "bfloat16" or "float16"; by default float32 on a CPU, and on a GPU what the checkpoint is in
            (half precision where that is float32).
        max_length: Tokens of one input, answer included; by default the model's own limit, or what fits in memory.
        trust_remote_code: Whether code that comes with the weights may be run.
        adapter: A LoRA adapter, by folder or name on the hub, on top of the weights of ``name``. Where ``name`` itself
            is an adapter, its base is found by what the adapter says of it.
        chat: Whether to use the chat template; by default where the tokenizer has one.
        thinking: Whether the model may reason before it answers (see ``HFModel``).
        engine: Further arguments of ``vllm.LLM``, such as ``{"tensor_parallel_size": 2}``.

    Raises:
        MissingExtra: On first use: vLLM is not installed, or peft for an adapter.
        ModelNotFound: On first use (a missing folder: at once); says what to do.
        ModelError: On first use: vLLM cannot run it.
        ConfigurationError: An argument is out of range, or ``engine`` holds what has an argument of its own.
    """

    name: str
    _: KW_ONLY
    revision: str | None = None
    dtype: str | None = None
    max_length: int | None = None
    trust_remote_code: bool = False
    adapter: str | None = None
    chat: bool | None = None
    thinking: bool = False
    engine: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in ("name", "adapter"):
            value = getattr(self, name)
            if isinstance(value, str | os.PathLike):
                path = os.path.expanduser(value)
                object.__setattr__(self, name, path if os.path.isdir(path) else os.fspath(value))
        self._checkpoint()
        if self.dtype not in (None, *DTYPES):
            raise ConfigurationError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.max_length is not None and self.max_length < 2:
            raise ConfigurationError(f"max_length must be at least 2 tokens, got {self.max_length}")
        check_options(self.engine)

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(self.name, self.revision, None, self.dtype, self.trust_remote_code, self.adapter)

    @cached_property
    def _loaded(self) -> Loaded:
        return load(self._checkpoint(), self.max_length, self.engine)

    @cached_property
    def _text(self) -> TextSide:
        return TextSide(self._loaded.engine.tokenizer, encoder_decoder=False, chat=self.chat, thinking=self.thinking)

    @property
    def can(self) -> frozenset[Primitive]:
        """Everything but attention, which vLLM shows nobody."""
        return frozenset({"choices", "continuation", "generate", "constrained"})

    @property
    def context(self) -> int:
        """Tokens of one input and its answer, which is one token at least: vLLM always writes."""
        return self._loaded.engine.context

    def check(self) -> None:
        """Refuses a name that the hub does not know, without loading anything.

        Raises:
            ModelNotFound: There is no such model.
        """
        self._checkpoint().check()

    def load(self) -> None:
        """Starts the engine, unless it runs already."""
        self._loaded.engine.llm  # noqa: B018 - a property

    def close(self) -> None:
        """Stops the engine and gives its memory back; it starts again when it is asked, by this model or another."""
        if "_loaded" in vars(self):
            self._loaded.engine.close()

    def plain(self, text: str) -> str:
        """``text`` with a space inside every control token of this tokenizer."""
        return self._text.plain(text)

    def token_ends(self, texts: Sequence[str]) -> list[list[int]]:
        """Where each token of each text ends, in characters."""
        return self._text.ends(texts)

    def lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt, rendered."""
        return [len(ids) for ids in self._text.prompts([self._text.render(prompt) for prompt in prompts])]

    def choices(self, prompts: Sequence[Prompt], labels: Sequence[Sequence[str]]) -> list[ChoiceScores]:
        """Log-probability of each label as the next token; logits are not told.

        Where all labels begin with the same tokens (such as that of a space), the log-probability of those is part of
        ``logprobs``.

        Raises:
            SeveralTokens: A label is more than one token after its prompt.
            LabelError: Two labels are the same to the tokenizer.
            PromptTooLong: A prompt exceeds the context.
        """
        rendered, ids = self._ready(prompts)
        reads = []
        for one, row, names in zip(rendered, ids, labels, strict=True):
            tokens = self._text.labels(one, names)
            kept = row[: len(row) - tokens.dropped]
            if not kept:
                raise ModelError(EMPTY)
            reads.append(Read(self._fitting(kept + tokens.shared), len(kept), tokens.ids))
        return [
            ChoiceScores(logprobs, np.zeros(len(logprobs), dtype=bool), usage)
            for logprobs, usage in read_next(self._loaded, reads)
        ]

    def continuation(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[TokenLogprobs]:
        """Log-probability of each token of a text after its prompt.

        Prompt and text are tokenised together, so a token that spans both belongs to the text. vLLM computes shared
        prefixes anew for each.

        Raises:
            PromptTooLong: A prompt with its text exceeds the context.
        """
        rendered, ids = self._ready(prompts)
        sides = self._text.prompts(rendered, [one.glue + text for one, text in zip(rendered, texts, strict=True)])
        starts = [common_prefix(row, self._fitting(side)) for row, side in zip(ids, sides, strict=True)]
        if not all(starts):
            raise ModelError(EMPTY)
        return [TokenLogprobs(logprobs, usage) for logprobs, usage in read_along(self._loaded, sides, starts)]

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

        The tokens of a stop text are counted, but it is no part of the answer. With a constraint an answer ends with
        its last item, and the tokens that are allowed are asked for once a choice.

        Raises:
            ConfigurationError: Sampling without one seed per prompt or at a temperature that vLLM does not take, a stop
                text that is empty, or a constraint with a stop text or a limit that could cut an answer off.
            LabelError: Two items of a constraint are the same to the tokenizer.
            PromptTooLong: A prompt with its answer exceeds the context.
        """
        check_stops(stop)
        drawn = manners(sampling, seeds, len(prompts))
        rendered, ids = self._ready(prompts, max_tokens)
        if constraint is not None:
            own = spellings(self._text, rendered, constraint)
            check_held(max_tokens, stop, own)
            draws = [processors(sampling, [seed], "cpu") for seed in (seeds if sampling and seeds else [0] * len(ids))]
            return write_held(self._loaded, ids, constraint, own, draws)
        # a stop text may be a control token
        shared = {"max_tokens": max_tokens, "stop": list(stop), "skip_special_tokens": False}
        outputs = self._loaded.run(ids, [shared | own for own in drawn])
        return [written(output, self._text.tokenizer, stop) for output in outputs]

    def _ready(self, prompts: Sequence[Prompt], reserve: int = 1) -> tuple[list[Rendered], list[list[int]]]:
        """Prompts as text and as ids, none longer than the context allows."""
        rendered = [self._text.render(prompt) for prompt in prompts]
        ids = self._text.prompts(rendered)
        if not all(ids):
            raise ModelError(EMPTY)
        return rendered, [self._fitting(row, reserve) for row in ids]

    def _fitting(self, ids: list[int], reserve: int = 1) -> list[int]:
        """The ids, unless they exceed the context together with an answer.

        Raises:
            PromptTooLong: They do.
        """
        if len(ids) + reserve > self.context:
            raise PromptTooLong(
                f"a prompt of {len(ids)} tokens with an answer of {reserve} exceeds the {self.context} tokens of "
                f"{self.name}; use fewer or shorter documents (window=, max_doc_tokens=), or max_length= if the model "
                "takes more"
            )
        return ids

    __repr__ = brief

    def __getstate__(self) -> dict[str, Any]:
        """Its arguments: the engine is started again where it is unpickled."""
        return {name: value for name, value in vars(self).items() if name in self.__dataclass_fields__}
