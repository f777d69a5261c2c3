"""Pipelines that worker processes build: factories of a module that they can import."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_llmrank import (
    Answer,
    Evidence,
    PointwiseLLM,
    Question,
    Rerank,
    Sampled,
    SlidingWindow,
    Usage,
    additive,
    random_pairs,
)


@dataclass(frozen=True)
class Noted:
    """Reads relevance from texts; notes in a folder who was asked, by process, and takes its time."""

    folder: str = ""
    seconds: float = 0.0
    gives: Evidence = Evidence.SCORE
    max_docs: int | None = None

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        if self.folder:
            with Path(self.folder, str(os.getpid())).open("a", encoding="utf-8") as file:
                file.writelines(f"{qid}\n" for qid in dict.fromkeys(question.qid for question in questions))
        time.sleep(self.seconds * len(questions))
        return [Answer(np.array([float(doc.text) for doc in q.docs]), Usage(1, 10 * len(q.docs))) for q in questions]


@dataclass(frozen=True)
class Picky:
    """Fails on a query while a file is there."""

    qid: str
    while_there: str
    gives: Evidence = Evidence.SCORE
    max_docs: int | None = None

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        if Path(self.while_there).exists() and any(question.qid == self.qid for question in questions):
            raise ConnectionError("the server went away")
        return Noted()(questions)


def windows(folder: str = "", seconds: float = 0.0) -> pt.Transformer:
    return Rerank(SlidingWindow(4, 2), Noted(folder, seconds))


def drawn() -> pt.Transformer:
    """Pairs drawn at random for each query, and fewer rows than came in."""
    return Rerank(Sampled(random_pairs(2, seed=7), additive), Noted(), num_results=5)


def two_stages() -> pt.Transformer:
    return Rerank(SlidingWindow(4, 2), Noted(), depth=6) >> Rerank(SlidingWindow(2, 1), Noted(), depth=3)


def language_model(checkpoint: str) -> pt.Transformer:
    return PointwiseLLM(checkpoint, dtype="float32")


def picky(qid: str, while_there: str) -> pt.Transformer:
    return Rerank(SlidingWindow(4, 2), Picky(qid, while_there))


def broken() -> pt.Transformer:
    return pt.apply.generic(partial(_raise, "no such thing"))


def killer(qid: str) -> pt.Transformer:
    """Dies wherever it meets a query, as for want of memory."""
    return pt.apply.generic(partial(_die, qid))


def surroundings() -> pt.Transformer:
    return pt.apply.generic(_surroundings)


def _surroundings(frame: pd.DataFrame) -> pd.DataFrame:
    told = {name: os.environ.get(name, "") for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")}
    return frame.assign(pid=os.getpid(), **told)


def _raise(message: str, frame: pd.DataFrame) -> pd.DataFrame:
    raise LookupError(message)


def _die(qid: str, frame: pd.DataFrame) -> pd.DataFrame:
    if qid in set(frame["qid"]):
        os.kill(os.getpid(), 9)
    return frame


def only(kept: list[str]) -> pt.Transformer:
    return pt.apply.generic(partial(_only, kept))


def _only(kept: list[str], frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["qid"].isin(kept)]
