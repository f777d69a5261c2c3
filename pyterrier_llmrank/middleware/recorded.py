"""``Recorded``: a log of what was asked and answered, one JSON line each."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyterrier_llmrank.core import Answer, Prompt, Question, Scores
from pyterrier_llmrank.fields import Field, Vector
from pyterrier_llmrank.models import ChoiceScores, Generation

from .errors import StorageError
from .results import Result
from .wrapping import Request, Wrapping, carry, finished


@dataclass(frozen=True, repr=False)
class Recorded(Wrapping):
    """Adds a line to a log for every answer, as it comes; answers are not changed.

    Around a scorer a line holds ``qid``, ``query``, ``docnos``, ``fields`` (where the scorer reads any: their names and
    values, document by document) and ``scores`` (null for no answer), and
    ``scorers.Replay.read(path, gives=scorer.gives)`` answers from the log. Around a model it holds ``primitive``,
    ``prompt`` (the chat turns), ``begins`` (of the answer) and ``raw``, the arguments, and ``answer``: the text, the
    log-probability of each label, or those of the tokens; ``Replay.read(path)`` is then a model that takes its place,
    so that the whole pipeline runs again, without weights or server. Either way it holds what ``Usage`` counts, and
    ``seconds``: the answer's share, by tokens, of the time its call took.

    A call adds its lines at once, in one write, so several processes may share a log. Answers that a failed call
    carries (see ``finished``) are recorded too.

    Args:
        inner: A model or scorer. ``Recorded(Cached(model, …), log)`` also records what came from the cache, at no
            cost; ``Cached(Recorded(model, log), …)`` only what was really asked.
        path: A file of JSON lines; made if there is none.

    Raises:
        ConfigurationError: ``inner`` is neither a model nor a scorer.
        StorageError: When asked: the log cannot be written; the exception carries the answers, for a ``Cached`` around
            it to keep.
    """

    path: str | os.PathLike[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "path", os.path.expanduser(os.fspath(self.path)))

    def _answers(self, request: Request) -> list[Any]:
        """The answers, recorded."""
        began = time.perf_counter()
        try:
            answers = request.ask(self.inner)
        except Exception as error:
            self._record(request, finished(error, request), time.perf_counter() - began)
            raise
        try:
            self._record(request, dict(enumerate(answers)), time.perf_counter() - began)
        except StorageError as error:
            carry(error, request, dict(enumerate(answers)))
            raise
        return answers

    def _record(self, request: Request, answers: Mapping[int, Result], seconds: float) -> None:
        """Adds a line for each answer."""
        items = list(request.items())
        tokens = {at: one.usage.prompt_tokens + one.usage.output_tokens for at, one in answers.items()}
        whole = sum(tokens.values())
        lines = []
        for at, answer in answers.items():
            share = tokens[at] / whole if whole else 1 / len(answers)
            told = _asked(request, items[at]) | _answered(items[at], answer)
            lines.append(json.dumps(told | asdict(answer.usage) | {"seconds": seconds * share}))
        self._write("".join(f"{line}\n" for line in lines).encode())

    def _write(self, text: bytes) -> None:
        """Appends to the file in one write; after a torn line (a full disk), on a new one."""
        path = Path(self.path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab+", buffering=0) as file:
                if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                    text = b"\n" + text
                written = file.write(text)
            if written != len(text):
                raise OSError(f"only {written} of {len(text)} bytes were written")
        except OSError as error:
            raise StorageError(
                f"the log {self.path} cannot be written ({error}); free some space, or give another path"
            ) from error


def _asked(request: Request, item: tuple[Any, ...]) -> dict[str, Any]:
    """What an item was asked with."""
    asked: Question | Prompt = item[0]
    if isinstance(asked, Question):
        told: dict[str, Any] = {"qid": asked.qid, "query": asked.query, "docnos": [doc.docno for doc in asked.docs]}
        if any(doc.fields for doc in asked.docs):
            told["fields"] = [{name: _spelled(value) for name, value in doc.fields} for doc in asked.docs]
        return told
    turns = [message._asdict() for message in asked.messages]
    shared = {name: value for name, value in request.shared.items() if value is not None}
    own = dict(zip((name.removesuffix("s") for name in request.named), item[len(request.columns) :], strict=True))
    told = {"primitive": request.primitive, "prompt": turns, "begins": asked.answer, "raw": asked.raw}
    return told | {name: _plain(value) for name, value in (shared | own).items()}


def _answered(item: tuple[Any, ...], result: Result) -> dict[str, Any]:
    """What came of it."""
    if isinstance(result, Answer):
        return {"scores": _numbers(result.scores)}
    if isinstance(result, Generation):
        return {"answer": result.text, "finish": result.finish}
    if isinstance(result, ChoiceScores):
        labels = item[1]
        total = {} if np.isnan(result.log_total) else {"log_total": float(result.log_total)}
        return total | {
            "answer": dict(zip(labels, _numbers(result.logprobs), strict=True)),
            "missing": [label for label, gone in zip(labels, result.missing, strict=True) if gone],
        }
    return {"text": item[1], "answer": _numbers(result.logprobs)}


def _numbers(values: Scores) -> list[float | None]:
    """Floats for JSON, which has no NaN."""
    return [None if np.isnan(value) else float(value) for value in values]


def _spelled(value: Field) -> object:
    """A document's field for JSON."""
    if isinstance(value, str):
        return value
    numbers = _numbers(np.atleast_1d(value.values if isinstance(value, Vector) else value))
    return numbers if isinstance(value, Vector) else numbers[0]


def _plain(value: object) -> object:
    """An argument for JSON."""
    return value if value is None or isinstance(value, str | int | float | list | tuple) else repr(value)
