"""``ReplayedModel``: a model's answers from a recorded log, to run a pipeline again without weights or server."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np

from pyterrier_llmrank.core import USAGE_FIELDS, Message, Prompt, Usage
from pyterrier_llmrank.errors import ConfigurationError, LLMRankWarning, ReplayMiss

from .base import ChoiceScores, Generation, Model, Permutation, Primitive, Sampling, TokenLogprobs
from .http import estimate
from .partial import KINDS

Key: TypeAlias = tuple[Any, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class ReplayedModel:
    """Answers each prompt with what was recorded for the same prompt, its labels, its text or its sampling and seed.

    Takes the place of the model that a ``Recorded`` was around. Of answers to the same prompt with other limits
    (``max_tokens``) the one with the same limit is given, or else the last; of the same in all, the last.

    Args:
        name: What was recorded; two replays of the same name are equal.
        records: The log, as ``Recorded`` writes it around a model.
        model: The model that was recorded, for its tokenizer, where documents were shortened to its context or to
            ``max_doc_tokens``; it is asked nothing. By default prompts are as long as they are.

    Raises:
        ConfigurationError: A record is not of a model.
    """

    name: str
    records: Iterable[Mapping[str, Any]] = field(repr=False, compare=False, default=())
    model: Model | None = None
    can: frozenset[Primitive] = field(init=False, repr=False, compare=False)
    _answers: dict[Key, Mapping[str, Any]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "records", tuple(self.records))
        can: set[Primitive] = set()
        for number, record in enumerate(self.records, 1):
            if not is_of_model(record):
                raise ConfigurationError(
                    f"record {number} of {self.name} is not of a model: it needs primitive (one of "
                    f"{', '.join(KINDS)}), prompt and answer, as Recorded writes them around a model"
                )
            key, limit = _asked(record)
            self._answers[(*key, limit)] = self._answers[key] = record
            can |= {record["primitive"], *(("constrained",) if record.get("constraint") else ())}
        object.__setattr__(self, "can", frozenset(can))

    @property
    def context(self) -> int | None:
        """Tokens that a prompt and its answer may hold together; None where no model was given."""
        return None if self.model is None else self.model.context

    def load(self) -> None:
        """There is nothing to load."""

    def plain(self, text: str) -> str:
        """``text`` as the model that was recorded shows it; as it is where none was given."""
        return text if self.model is None else self.model.plain(text)

    def token_ends(self, texts: Sequence[str]) -> list[list[int]]:
        """Where each token of each text ends, in characters; an estimate where no model was given."""
        return [estimate.ends(text) for text in texts] if self.model is None else self.model.token_ends(texts)

    def lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt, rendered; an estimate where no model was given."""
        return [estimate.length(prompt) for prompt in prompts] if self.model is None else self.model.lengths(prompts)

    def choices(self, prompts: Sequence[Prompt], labels: Sequence[Sequence[str]]) -> list[ChoiceScores]:
        """The recorded log-probabilities of each label.

        Raises:
            ReplayMiss: A prompt was never recorded with these labels.
        """
        return [self._found(_choice, "choices", one, tuple(own)) for one, own in zip(prompts, labels, strict=True)]

    def continuation(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[TokenLogprobs]:
        """The recorded log-probabilities of one text after each prompt.

        Raises:
            ReplayMiss: A prompt was never recorded with this text.
        """
        return [self._found(_tokens, "continuation", one, text) for one, text in zip(prompts, texts, strict=True)]

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
        """The recorded answers.

        Raises:
            ReplayMiss: A prompt was never recorded with this sampling, seed, constraint or stop text.
        """
        own = [seeds[at] if seeds is not None else None for at in range(len(prompts))]
        how = (tuple(stop), *(None if one is None else repr(one) for one in (sampling, constraint)))
        return [
            self._found(_text, "generate", prompt, (*how, seed), max_tokens)
            for prompt, seed in zip(prompts, own, strict=True)
        ]

    def _found(
        self,
        made: Callable[[Mapping[str, Any]], T],
        primitive: str,
        prompt: Prompt,
        how: object,
        limit: int | None = None,
    ) -> T:
        """What is made of the record of a prompt."""
        key = (primitive, prompt.messages, prompt.answer, prompt.raw, how)
        record = self._answers.get((*key, limit)) or self._answers.get(key)
        if record is None:
            text = prompt.messages[-1].content if prompt.messages else ""
            other = "; it was with other arguments" if any(key[:4] == one[:4] for one in self._answers) else ""
            raise ReplayMiss(
                f"{self.name} holds no answer of {primitive!r} to the prompt {text[:60]!r} … {text[-60:]!r} with "
                f"{how!r}{other}: the prompt, the documents or their order differ from those recorded; where documents "
                "were shortened, give the model that was recorded, for its tokenizer (model=)"
            )
        return made(record)


def is_of_model(record: object) -> bool:
    """Whether it is a record that ``Recorded`` writes around a model."""
    return isinstance(record, Mapping) and record.get("primitive") in KINDS and {"prompt", "answer"} <= record.keys()


def log_of(path: str | PathLike[str]) -> list[Any]:
    """The records of a file of one JSON record per line; of a line that was torn as it was written, a warning tells.

    Raises:
        ConfigurationError: No line of the file is JSON.
    """
    records: list[Any] = []
    torn: list[tuple[int, json.JSONDecodeError]] = []
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                records += [json.loads(line)] if line.strip() else []
            except json.JSONDecodeError as error:
                torn.append((number, error))
    if torn and not records:
        first, fault = torn[0]
        raise ConfigurationError(f"line {first} of {path} is not JSON, nor is any other: {fault}") from fault
    if torn:
        warnings.warn(
            f"{len(torn)} of {len(torn) + len(records)} lines of {path} are no JSON and were left out, the first of "
            f"them line {torn[0][0]}: they were torn as they were written, as by a kill or a full disk",
            LLMRankWarning,
            stacklevel=3,  # who reads a log
        )
    return records


def _asked(record: Mapping[str, Any]) -> tuple[Key, int | None]:
    """What an answer is found by, and the limit that it had."""
    primitive = record["primitive"]
    turns = tuple(Message(**turn) for turn in record["prompt"])
    how: object = tuple(record["answer"]) if primitive == "choices" else record.get("text")
    if primitive == "generate":
        how = (tuple(record.get("stop") or ()), *(record.get(name) for name in ("sampling", "constraint", "seed")))
    key = (primitive, turns, record.get("begins", ""), record.get("raw", False), how)
    return key, record.get("max_tokens")


def _choice(record: Mapping[str, Any]) -> ChoiceScores:
    values, missing = record["answer"], record.get("missing", ())
    gone = np.array([label in missing for label in values], dtype=bool)
    log_total = record.get("log_total")
    return ChoiceScores(_floats(values.values()), gone, _usage(record), np.nan if log_total is None else log_total)


def _tokens(record: Mapping[str, Any]) -> TokenLogprobs:
    return TokenLogprobs(_floats(record["answer"]), _usage(record))


def _text(record: Mapping[str, Any]) -> Generation:
    return Generation(record["answer"], record.get("finish", "stop"), _usage(record))


def _floats(values: Iterable[float | None]) -> Any:  # noqa: ANN401 - an array
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _usage(record: Mapping[str, Any]) -> Usage:
    return Usage(**{name: int(record.get(name) or 0) for name in USAGE_FIELDS})
