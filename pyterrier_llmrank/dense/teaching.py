"""What a dense retriever is taught with: lists from results and judgments, or from a teacher."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_llmrank.core import Doc, brief
from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.training.data import TrainingList, distil, informative, training_lists
from pyterrier_llmrank.training.settings import Training

from .measuring import found_by, measured_by, ordered_by

if TYPE_CHECKING:
    from .teachable import Teachable


@dataclass(frozen=True, repr=False)
class Teaching:
    """How ``fit`` and ``distill`` teach a dense retriever.

    Args:
        loss: A name of ``training.learners.vectors.LOSSES`` or a ``VectorLoss``; by default CADET's where a teacher
            scores ("cadet"), and "info_nce" where documents are judged. Of the query side alone: a function
            ``(scores, targets, mask) -> scalar``, by default ADORE's.
        settings: Of the loss, such as ``{"temperature": 0.02}``.
        depth: Documents of a list that are learnt from; of the query side alone, that are found in each step.
        query_side: Whether only queries are trained, on the index as it is (ADORE): documents keep their vectors.
        query_tokens: Of a query that are read in training.
        doc_tokens: Of a document; by default as many as the encoder reads, 256 where it does not say.
        options: Further arguments of ``BiEncoderLearner``, such as ``{"held_tokens": 8192, "dims": (64, 128)}``.
        measure: What the best weights are chosen by, where there is something to measure on: a name as ir_measures
            has it.
        training: Steps, learning rate, checkpoints …

    Raises:
        ConfigurationError: ``depth`` is below 2.
    """

    loss: Any = None
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    depth: int = 20
    query_side: bool = field(default=False, kw_only=True)
    query_tokens: int = field(default=64, kw_only=True)
    doc_tokens: int | None = field(default=None, kw_only=True)
    options: Mapping[str, Any] = field(default_factory=dict, hash=False, kw_only=True)
    measure: str = field(default="nDCG@10", kw_only=True)
    training: Training = field(default_factory=Training, kw_only=True)

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.depth < 2:
            raise ConfigurationError(f"a list to learn from has at least 2 documents, got depth={self.depth}")


def teacher_lists(own: Teachable, teacher: pt.Transformer, queries: pd.DataFrame, folder: Path) -> list[TrainingList]:
    """What a teacher says of queries, scores from 0 to 1; on disk as it goes on, so that it is asked once.

    Raises:
        InputError: The teacher's results have no texts or scores, or nothing can be learnt from them.
    """
    asked = teacher if own.texts is None else teacher >> own.texts
    named = blake2b(repr(asked).encode(), digest_size=4).hexdigest()
    lists = distil(
        queries[["qid", "query"]],
        asked.transform,
        folder / f"teacher-{named}.jsonl",
        k=own.teaching.depth,
        text_field=own.text_field,
    )
    wanted = {*queries["qid"].astype(str)}
    found = informative(one for one in lists if one.qid in wanted)
    if not found:
        raise InputError(f"the teacher {teacher!r} said nothing to learn from about {len(queries)} queries")
    return scaled(found)


def scaled(lists: Sequence[TrainingList], percentiles: tuple[float, float] = (1.0, 99.0)) -> list[TrainingList]:
    """Lists whose targets go from 0 to 1, as ``training.data.scaled_scores`` makes those of a frame."""
    low, high = np.percentile(np.concatenate([one.targets for one in lists]), percentiles)
    span = high - low if high > low else 1.0
    return [replace(one, targets=tuple(((np.array(one.targets) - low) / span).clip(0, 1).tolist())) for one in lists]


def judged_lists(own: Teachable, frame: pd.DataFrame, qrels: pd.DataFrame) -> list[TrainingList]:
    """The lists of results, or of what the retriever itself finds for topics, with labels; best first.

    Raises:
        InputError: There are no texts, or no list has documents of different labels.
    """
    if "docno" not in frame:
        frame = own.apply_attributes(num_results=own.teaching.depth).transform(frame)
    if own.text_field not in frame:
        if own.texts is None:
            raise InputError(
                "documents without texts cannot be learnt from; give the retriever texts=dataset.text_loader()"
            )
        frame = own.texts.transform(frame)
    lists = training_lists(frame, targets="label", qrels=qrels, k=own.teaching.depth, text_field=own.text_field)
    if not (found := informative(lists)):
        raise InputError(
            f"none of {len(lists)} lists has documents with different labels among its first {own.teaching.depth}; "
            "check that qids and docnos of results and judgments are the same, or raise depth"
        )
    return found


def query_lists(topics: pd.DataFrame, qrels: pd.DataFrame) -> list[TrainingList]:
    """The judged documents of each topic, without their texts.

    Raises:
        InputError: No topic has a relevant document.
    """
    known = qrels.astype({"qid": str, "docno": str})
    known = known[known["label"] > 0]
    texts = topics.astype({"qid": str}).drop_duplicates("qid").set_index("qid")["query"]
    lists = [
        TrainingList(str(qid), str(texts[qid]), tuple(Doc(name, "") for name in some["docno"]), tuple(some["label"]))
        for qid, some in known.groupby("qid", sort=False)
        if qid in texts.index
    ]
    if not lists:
        raise InputError(f"none of {len(topics)} topics has a relevant document in the judgments")
    return lists


def taught(
    own: Teachable,
    lists: Sequence[TrainingList],
    valid: Sequence[TrainingList],
    folder: Path,
    loss: str,
) -> list[dict[str, float]]:
    """Trains a copy of the retriever's encoder on lists, and puts it in a folder; the history of the training."""
    from pyterrier_llmrank.training.loop import train

    teaching, encoder = own.teaching, own.encoder.bi_encoder
    if encoder.adapter is not None or encoder.quantization is not None or encoder.layers is not None:
        raise ConfigurationError(f"whole weights are trained, not an adapter, part or quantized copy: {encoder!r}")
    learner = _query_learner(own) if teaching.query_side else _learner(own, loss)
    measure = None
    if valid:
        found = found_by(own, learner, valid) if teaching.query_side else ordered_by(learner, valid)
        measure = measured_by(teaching.measure, valid, found)
    about = {
        "title": "A dense retriever",
        "base": encoder.name,
        "measure": teaching.measure,
        "data": f"{len(lists)} lists",
    }
    usage = f"DistilledRetriever({os.fspath(folder)!r}, index=…)"
    return train(learner, lists, folder, teaching.training, measure=measure, about={**about, "usage": usage}).history


def _learner(own: Teachable, loss: str) -> Any:  # noqa: ANN401 - torch is not imported for a type
    """What trains queries and documents."""
    from pyterrier_llmrank.training.learners import BiEncoderLearner

    teaching, encoder = own.teaching, own.encoder.bi_encoder
    return BiEncoderLearner(
        encoder.name,
        **reading(own),
        doc_tokens=teaching.doc_tokens or encoder.max_length or 256,
        loss=teaching.loss or loss,
        **teaching.options,
        **teaching.settings,
    )


def _query_learner(own: Teachable) -> Any:  # noqa: ANN401 - likewise
    """What trains queries on the index."""
    from pyterrier_llmrank.training.learners.adore import AdoreLearner

    teaching, index = own.teaching, own.opened().index
    names, vectors, _ = index.payload()
    told: dict[str, Any] = {"loss": teaching.loss} if teaching.loss else {}
    return AdoreLearner(
        own.encoder.bi_encoder.name,
        [str(name) for name in names],
        vectors,
        depth=teaching.depth,
        **reading(own),
        **told,
        **teaching.options,
        **teaching.settings,
    )


def reading(own: Teachable) -> dict[str, Any]:
    """How texts are read, as arguments of a learner."""
    encoder = own.encoder.bi_encoder
    names = ("revision", "pooling", "normalize", "query_prefix", "doc_prefix")
    return {**{name: getattr(encoder, name) for name in names}, "query_tokens": own.teaching.query_tokens}
