"""``Student``: a reranker in a folder that ``fit`` or ``distill`` puts there. One file a kind."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyterrier as pt

from pyterrier_llmrank.core import Evidence, Scorer, Strategy
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.training.data import TrainingList, judgments, training_lists
from pyterrier_llmrank.training.named import ALONE, Loss, check_loss
from pyterrier_llmrank.training.settings import Training

from .lessons import Validation, learnable, measure_of, taught, validation
from .untrained import Untrained
from .usage import usage

TRAINING = Training()
CONFIG = "config.json"  # of every checkpoint; written anew by every training


class Student(Rerank, pt.Estimator):
    """A ``Rerank`` by weights in a folder, which are trained by labels (``fit``) or by another pipeline (``distill``).

    A subclass says in ``_learner`` what is trained, and in ``_trained`` what reads the folder; it calls ``_enrol`` when
    it is made. Its learner has a ``scorer`` that ranks with the weights as they are.

    Attributes:
        history: A row for each step of the last training, see ``Trained``; empty before.
    """

    folder: str
    start: str
    loss: str | Loss
    training: Training
    measure: Any
    gives = Evidence.SCORE

    def _enrol(
        self,
        strategy: Strategy,
        *,
        depth: int | None = None,
        num_results: int | None = None,
        text_field: str = "text",
        verbose: bool = False,
    ) -> None:
        """Becomes a ``Rerank`` by what is in the folder, if anything is."""
        check_loss(self.loss)
        measure_of(self.measure)
        self.history: list[dict[str, float]] = []
        told = {"depth": depth, "num_results": num_results, "text_field": text_field, "verbose": verbose}
        Rerank.__init__(self, strategy, Untrained(self.folder, self.gives), **told)  # type: ignore[arg-type]
        self._seen: int | None = None

    @abstractmethod
    def _learner(self) -> Any:  # noqa: ANN401 - a Learner with a scorer
        """What is trained, anew."""

    @abstractmethod
    def _trained(self) -> Scorer:
        """What reads the folder."""

    @abstractmethod
    def _code(self) -> str:
        """The same in Python, of the name ``folder``; for the model card."""

    def load(self) -> Student:
        """Loads the weights in the folder, anew if they are others than before; returns self.

        Raises:
            ModelNotFound: There are none yet.
        """
        config = Path(self.folder, CONFIG)
        written = config.stat().st_mtime_ns if config.is_file() else None
        if written is not None and written != self._seen:
            self.scorer, self._seen = self._trained(), written
        super().load()
        return self

    def fit(
        self,
        topics_or_res_tr: pd.DataFrame,
        qrels_tr: pd.DataFrame,
        topics_or_res_va: pd.DataFrame | None = None,
        qrels_va: pd.DataFrame | None = None,
    ) -> Student:
        """Trains on labels from ``start`` on, saves the weights in ``folder`` and uses them from now on.

        Of each query the first ``depth`` candidates are learnt from; those without a label are not relevant. With
        ``training.checkpoint_every`` the same call goes on where a killed one was.

        Args:
            topics_or_res_tr: Results with columns qid, query, docno and the text, such as those of ``with_negatives``.
            qrels_tr: Columns qid, docno and label, higher is better.
            topics_or_res_va: Results to rerank now and then: the weights that are best at it by ``measure`` are kept.
            qrels_va: Their labels; those of the training results by default.

        Returns:
            Itself.

        Raises:
            InputError: A column is missing, a label is no number, there is nothing to learn, or nothing to measure on.
            ModelError: The loss is not finite, or memory was exceeded.
        """
        held = self._held_out(topics_or_res_va, qrels_tr if qrels_va is None else qrels_va)
        labels = judgments(qrels_tr).assign(label=lambda frame: frame["label"].clip(lower=0))
        told = {"targets": "label", "k": self.depth, "text_field": self.text_field}
        lists = training_lists(topics_or_res_tr, qrels=labels, **told)  # type: ignore[arg-type]
        return self._taught(lists, "labels", held)

    def distill(
        self,
        teacher: pt.Transformer,
        topics: pd.DataFrame,
        res_va: pd.DataFrame | None = None,
        qrels_va: pd.DataFrame | None = None,
        *,
        targets: str = "score",
        answers: str | Path | None = None,
        chunk: int = 32,
    ) -> Student:
        """Trains on what another pipeline says about queries, without any label; otherwise as ``fit``.

        Args:
            teacher: Retrieves and ranks, such as ``bm25 % 100 >> GroupwiseLLM() >> pt.text.get_text(...)``.
            topics: Columns qid and query.
            res_va: Results to rerank now and then: the weights that are best at it by ``measure`` are kept.
            qrels_va: Their labels.
            targets: "score", "rank" for an order without distances, or another column of the teacher's results.
            answers: File for what the teacher said, so that it is asked about a query once, also after a crash. By
                default one in ``folder`` whose name depends on the teacher's ``repr``: two teachers with the same need
                files of their own.
            chunk: Queries the teacher is given at a time.

        Returns:
            Itself.

        Raises:
            InputError: The teacher's results lack a column, there is nothing to learn; or, before the teacher is asked,
                there is nothing to measure on.
            ModelError: The loss is not finite, or memory was exceeded.
        """
        held = self._held_out(res_va, qrels_va)
        told = {"targets": targets, "k": self.depth, "text_field": self.text_field}
        lists = taught(teacher, topics, answers or self.folder, chunk, self.training.device, told)
        return self._taught(lists, repr(teacher), held)

    def _held_out(self, res: pd.DataFrame | None, qrels: pd.DataFrame | None) -> Validation | None:
        """What is measured on, where anything is."""
        return None if res is None else validation(res, qrels, self.measure, self.text_field)

    def _taught(self, lists: Sequence[TrainingList], by: str, held: Validation | None) -> Student:
        """Trains, and reads what came of it."""
        from pyterrier_llmrank.training.loop import train

        lists = learnable(lists, alone=callable(self.loss) or self.loss in ALONE)
        learner = self._learner()
        measure = None if held is None else partial(self._measured, learner, held)
        about = {**self._about(), "data": f"{len(lists)} lists, targets by {by}", "measure": str(self.measure)}
        self.history = train(learner, lists, self.folder, self.training, measure=measure, about=about).history
        self._seen = None
        return self

    def _measured(self, learner: Any, held: Validation) -> float:  # noqa: ANN401
        """What the weights as they are make of some results."""
        ranker = Rerank(self.strategy, self._asked(learner.scorer), depth=self.depth, text_field=self.text_field)
        return held.value(ranker.transform(held.results))

    def _asked(self, scorer: Scorer) -> Scorer:
        """How a scorer is asked, while it learns and afterwards."""
        return scorer

    def _about(self) -> dict[str, str]:
        """For the model card."""
        start = Path(self.start).name if Path(self.start).is_dir() else self.start
        told = {"depth": self.depth, "num_results": self.num_results}
        options = [f", {name}={value}" for name, value in told.items() if value is not None]
        options += [f", text_field={self.text_field!r}"] * (self.text_field != "text")
        call = f"Rerank({self.strategy!r}, {self._code()}{''.join(options)})"
        return {"title": Path(self.folder).name, "base": start, "usage": usage(call)}
