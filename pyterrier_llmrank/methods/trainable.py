"""What trainable rerankers over lists share: the folder of the network, and ``fit``."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_llmrank.errors import InputError
from pyterrier_llmrank.networks.saving import kinds, save
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.strategies import OneShot
from pyterrier_llmrank.training.fitting import Epoch, Example, Fitting, fit

from .judged import check_relevant, judged_lists


class Trainable(Rerank, pt.Estimator):
    """A ``Rerank`` of whole lists by a small network in a folder, which ``fit`` trains and puts there.

    Attributes:
        history: Loss, and nDCG on the validation lists, of each epoch of the last ``fit``; empty before.
    """

    folder: str
    loss: Any
    fitting: Fitting
    history: list[Epoch]

    def _build(self, scorer: Any, depth: int | None, num_results: int | None, verbose: bool) -> None:  # noqa: ANN401
        """Becomes a ``Rerank`` of this scorer."""
        self.history = []
        Rerank.__init__(self, OneShot(), scorer, depth=depth, num_results=num_results, verbose=verbose)

    def fit(
        self,
        topics_or_res_tr: pd.DataFrame,
        qrels_tr: pd.DataFrame,
        topics_or_res_va: pd.DataFrame | None = None,
        qrels_va: pd.DataFrame | None = None,
    ) -> Trainable:
        """Trains a new network, saves it in ``folder`` in place of what is there, and uses it from now on.

        Of each query the first ``depth`` candidates are learnt from; those without a label are not relevant. The same
        data and seed give the same network on the same machine.

        Args:
            topics_or_res_tr: Results with the columns that the scorer reads.
            qrels_tr: Their labels: qid, docno and label, higher is better.
            topics_or_res_va: Results to stop by: the epoch with the best nDCG on them is kept. By default those that
                are learnt from.
            qrels_va: Their labels; those of the training results by default.

        Returns:
            Itself.

        Raises:
            InputValidationError: A column is missing.
            InputError: A value is no number, lists differ in width, no list has documents of different relevance, or
                no validation result is relevant.
        """
        train = self._examples(topics_or_res_tr, qrels_tr)
        valid = []
        if topics_or_res_va is not None:
            valid = self._examples(topics_or_res_va, qrels_tr if qrels_va is None else qrels_va)
            check_relevant(one.labels for one in valid)
        if widths := sorted({one.inputs.shape[1] for one in [*train, *valid] if len(one.labels)}):
            if len(widths) > 1:
                raise InputError(f"documents of different queries have different numbers of values: {widths}")
        make = partial(self._network, *widths[:1])
        read: Callable[..., Any] = self.scorer.read  # type: ignore[attr-defined]
        network, self.history = fit(make, train, valid, loss=self._loss(), fitting=self.fitting, read=read)
        save(network, self.folder)
        return self

    def _network(self, width: int = 0) -> Any:  # noqa: ANN401 - a torch module
        """A new network for lists whose rows have so many numbers."""
        scorer: Any = self.scorer
        return kinds()[scorer.kind](width - scorer.width(0), **self._shape())

    def _shape(self) -> dict[str, Any]:
        """Arguments of the network beside its number of inputs."""
        raise NotImplementedError

    def _loss(self) -> Any:  # noqa: ANN401 - see ``fit``
        return self.loss

    def _examples(self, frame: pd.DataFrame, qrels: pd.DataFrame) -> list[Example]:
        scorer: Any = self.scorer
        judged = judged_lists(frame, qrels, self)
        if not judged:
            raise InputError("there are no results to learn from")
        inputs = scorer.inputs([question for question, _ in judged])
        return [Example(one.rows, np.maximum(labels, 0.0)) for one, (_, labels) in zip(inputs, judged, strict=True)]


def located(folder: str | os.PathLike[str]) -> str:
    """A folder as an argument: a text, with the home folder spelled out."""
    return os.path.expanduser(os.fspath(folder))
