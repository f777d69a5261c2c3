"""``Teachable``: how a dense retriever learns, from judgments or from a teacher."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyterrier as pt

from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.models.hf.encoders import Pooling

from .indexing import Indexing
from .teaching import (
    Teaching,
    judged_lists,
    learnt_from_judgments,
    learnt_from_teacher,
    query_lists,
    teacher_lists,
)

if TYPE_CHECKING:
    from typing_extensions import Self


class Teachable(Indexing, pt.Estimator):
    """Trains its encoder, and goes on with what was trained.

    Attributes:
        history: A row for each step of the last training: step, loss, rate, and measure where it was measured.
    """

    folder: str | None
    teaching: Teaching
    history: list[dict[str, float]]
    model: Any
    texts: pt.Transformer | None
    pooling: Pooling | None
    normalize: bool | None
    query_prefix: str | None
    doc_prefix: str | None
    max_length: int | None

    def fit(
        self,
        topics_or_res_tr: pd.DataFrame,
        qrels_tr: pd.DataFrame,
        topics_or_res_va: pd.DataFrame | None = None,
        qrels_va: pd.DataFrame | None = None,
    ) -> Self:
        """Trains on judged documents, puts the weights in ``folder``, and uses them from now on.

        What the index holds is another encoder's then: make it again, unless only the query side was trained
        (``Teaching(query_side=True)``), after which it goes on being used.

        Args:
            topics_or_res_tr: Results to learn from, the first ``teaching.depth`` of each query; or topics, for which
                the retriever finds them itself. Of the query side alone: topics.
            qrels_tr: Their labels; documents without one are not relevant.
            topics_or_res_va: The same to choose the best weights by; by default the last ones are taken.
            qrels_va: Their labels; those of the training by default.

        Returns:
            Itself.

        Raises:
            ConfigurationError: There is no ``folder``.
            InputError: There is nothing to learn from, or texts are missing.
        """
        folder, made = self._folder(), query_lists if self.teaching.query_side else partial(judged_lists, self)
        lists = made(topics_or_res_tr, qrels_tr)
        valid = []
        if topics_or_res_va is not None:
            valid = made(topics_or_res_va, qrels_tr if qrels_va is None else qrels_va)
        return self._learnt(learnt_from_judgments(self, lists, valid, folder), folder)

    def distill(self, teacher: pt.Transformer, queries: pd.DataFrame, valid: pd.DataFrame | None = None) -> Self:
        """Learns to score as a teacher does, puts the weights in ``folder``, and uses them from now on.

        What the teacher says is kept in ``folder`` and asked for once. Its scores are taken from 0 to 1, by their
        percentiles 1 and 99.

        Args:
            teacher: A pipeline from queries to scored results, such as ``bm25 % 50 >> text >> reranker``; ``texts`` of
                this retriever is added to it.
            queries: Columns qid and query; no judgment is needed.
            valid: Other queries, on which the best weights are chosen by agreement with the teacher; by default the
                last ones are taken.

        Returns:
            Itself.

        Raises:
            ConfigurationError: There is no ``folder``; or no index, where only the query side is to be trained.
            InputError: The teacher's results have no texts, or nothing can be learnt from them.
        """
        folder = self._folder()
        lists = teacher_lists(self, teacher, queries, folder)
        other = [] if valid is None else teacher_lists(self, teacher, valid, folder)
        return self._learnt(learnt_from_teacher(self, lists, other, folder), folder)

    def _folder(self) -> Path:
        """Where training puts its weights."""
        if self.folder is None:
            raise ConfigurationError(
                "this retriever has no folder for what it learns: give it one, folder=path; in a pipeline of which "
                "only later parts are to be trained, put retriever.retriever() in its place"
            )
        folder = Path(os.path.expanduser(self.folder))
        if (
            folder.exists()
            and Path(self.encoder.bi_encoder.name).exists()
            and folder.samefile(self.encoder.bi_encoder.name)
        ):
            raise ConfigurationError(f"{folder} holds the weights that training begins with; choose another folder")
        return folder

    def _learnt(self, history: list[dict[str, float]], folder: Path) -> Self:
        """Goes on with the weights of a folder, which say themselves how they are used."""
        self.history, self.model, self._kept = history, os.fspath(folder), {}
        self.pooling = self.normalize = self.query_prefix = self.doc_prefix = self.max_length = None
        self.reuse_index = self.teaching.query_side  # whatever was said of the weights before
        return self
