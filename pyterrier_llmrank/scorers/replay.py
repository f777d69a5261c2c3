"""``Replay``: answers from a recorded log, to reproduce a run without its model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np

from pyterrier_llmrank.core import Answer, Evidence, Question, Usage, from_order
from pyterrier_llmrank.errors import ConfigurationError, ReplayMiss
from pyterrier_llmrank.models import Model, ReplayedModel
from pyterrier_llmrank.models.replayed import is_of_model, log_of
from pyterrier_llmrank.prompts import ListPrompt
from pyterrier_llmrank.prompts.base import Parsed

Key = tuple[str, tuple[str, ...]]


@dataclass(frozen=True)
class Replay:
    """Answers each question with what was recorded for the same query and documents, in the same order.

    A record is a mapping with ``qid``, ``docnos`` (in the order shown) and one of: ``scores`` (one float per
    document, null for no answer), ``ranking`` (docnos, best first; those left out have no answer), or ``response``
    (what a model wrote, with identifiers from 1). ``prompt_tokens`` and ``output_tokens`` are taken over where they
    are there. What ``Recorded`` wrote around a model is a model again, with ``Replay.read``.

    Args:
        name: What was recorded; two replays of the same name and evidence are equal.
        records: The log.
        gives: What the recorded scores tell.
        legacy: Whether responses are read exactly as rank_llm does.

    Raises:
        ConfigurationError: A record lacks what it must hold.
    """

    name: str
    records: Iterable[Mapping[str, Any]] = field(repr=False, compare=False, default=())
    gives: Evidence = Evidence.ORDER
    legacy: bool = False
    _answers: dict[Key, Answer] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for number, record in enumerate(self.records, 1):
            if fault := _fault(record):
                raise ConfigurationError(f"record {number} of {self.name} {fault}")
            docnos = tuple(map(str, record["docnos"]))
            self._answers[str(record["qid"]), docnos] = self._answer(record, docnos)

    @classmethod
    def read(
        cls,
        path: str | PathLike[str],
        *,
        gives: Evidence = Evidence.ORDER,
        legacy: bool = False,
        model: Model | None = None,
    ) -> Any:  # noqa: ANN401 - a scorer or a model, as the log says
        """A log in a file of one JSON record per line; lines that were torn are left out, and counted in a warning.

        Args:
            path: What ``Recorded`` wrote, or another log of such records.
            gives: What recorded scores tell.
            legacy: Whether responses are read exactly as rank_llm does.
            model: Where the log is a model's: that model, for its tokenizer (see ``ReplayedModel``).

        Returns:
            A ``Replay``; where the log is a model's, a ``ReplayedModel``, which takes the model's place.

        Raises:
            ConfigurationError: No line is JSON, or a record lacks what it must hold.
        """
        records = log_of(path)
        if records and is_of_model(records[0]):
            return ReplayedModel(str(path), records, model)
        return cls(str(path), records, gives, legacy)

    @property
    def max_docs(self) -> int | None:
        """Whatever was recorded."""
        return None

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        """The recorded answers.

        Raises:
            ReplayMiss: A question was never recorded.
        """
        answers = []
        for question in questions:
            docnos = tuple(doc.docno for doc in question.docs)
            answer = self._answers.get((question.qid, docnos))
            if answer is None:
                raise ReplayMiss(
                    f"{self.name} holds no answer for query {question.qid} and the {len(docnos)} documents "
                    f"{', '.join(docnos[:3])}, …: the strategy, its first stage or its depth differ from those recorded"
                )
            answers.append(answer)
        return answers

    def _answer(self, record: Mapping[str, Any], docnos: Sequence[str]) -> Answer:
        scores, status = self._read(record, docnos)
        tokens = {name: int(record.get(name) or 0) for name in ("prompt_tokens", "output_tokens")}
        counts = {"failures": int(np.isnan(scores).all()), "repaired": int(status == "repaired")}
        return Answer(scores, Usage(calls=1, **counts, **tokens))

    def _read(self, record: Mapping[str, Any], docnos: Sequence[str]) -> Parsed:
        if "scores" in record:
            given = [np.nan if score is None else score for score in record["scores"]]
            return Parsed(np.array(given, dtype=np.float64), "ok")
        if "ranking" in record:
            return Parsed(from_order([docnos.index(str(docno)) for docno in record["ranking"]], len(docnos)), "ok")
        return ListPrompt(legacy=self.legacy).parse(record["response"], len(docnos))


def _fault(record: Mapping[str, Any]) -> str:
    """What is wrong with a record; empty for a good one."""
    if not isinstance(record, Mapping):
        return f"is no mapping: {record!r}"
    if {"qid", "docnos"} - record.keys() or not {"scores", "ranking", "response"} & record.keys():
        return f"has {sorted(record)}; it needs qid, docnos and one of scores, ranking or response"
    docnos = list(map(str, record["docnos"]))
    if "scores" in record and len(record["scores"]) != len(docnos):
        return f"has {len(record['scores'])} scores for {len(docnos)} docnos; use null for no answer"
    ranked = list(map(str, record.get("ranking", ())))
    for place, docno in enumerate(ranked):
        if docno not in docnos:
            return f"ranks {docno!r}, which is not among its docnos"
        if docno in ranked[:place]:
            return f"ranks {docno!r} twice"
    return ""
