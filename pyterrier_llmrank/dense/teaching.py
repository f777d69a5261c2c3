"""What a dense retriever is taught with: lists from results and judgments, or from a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd
import pyterrier as pt

from pyterrier_llmrank.core import Doc, brief
from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.students.lessons import taught
from pyterrier_llmrank.students.usage import usage
from pyterrier_llmrank.training.data import TrainingList, informative, judgments, scaled_lists, training_lists
from pyterrier_llmrank.training.settings import Training

from .encoding import Vectors
from .measuring import Found, found_by, measured_by, ordered_by

if TYPE_CHECKING:
    from .teachable import Teachable

History: TypeAlias = list[dict[str, float]]
"""Of a training: a row for each step."""


@dataclass(frozen=True, repr=False)
class Teaching:
    """How ``fit`` and ``distill`` teach a dense retriever.

    Args:
        loss: A name of ``training.learners.named.LOSSES`` or a ``VectorLoss``; by default CADET's where a teacher
            scores ("cadet"), and "info_nce" where documents are judged. Of the query side by judgments: a function
            ``(scores, targets, mask) -> scalar``, by default ADORE's.
        settings: Of the loss, such as ``{"temperature": 0.02}``.
        depth: Documents of a list that are learnt from; of the query side by judgments, that are
            found in each step.
        query_side: Whether only queries are trained, on the index as it is, whose documents keep their vectors: by
            judgments on what they find at each step (ADORE), or by a teacher's scores.
        query_tokens: Of a query that are read in training; by default as many as are read afterwards, of a query as of
            a document.
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
    query_tokens: int | None = field(default=None, kw_only=True)
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
    told = {"targets": "score", "k": own.teaching.depth, "text_field": own.text_field}
    lists = taught(asked, queries[["qid", "query"]], folder, 32, own.teaching.training.device, told)
    found = informative(lists)
    if not found:
        raise InputError(f"the teacher {teacher!r} said nothing to learn from about {len(queries)} queries")
    return scaled_lists(found)


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
    labels = judgments(qrels).assign(label=lambda judged: judged["label"].clip(lower=0))
    lists = training_lists(frame, targets="label", qrels=labels, k=own.teaching.depth, text_field=own.text_field)
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
    known = judgments(qrels)
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


def learnt_from_judgments(
    own: Teachable, lists: Sequence[TrainingList], valid: Sequence[TrainingList], folder: Path
) -> History:
    """Trains on lists with labels; of the query side alone, on what it finds in the index."""
    if own.teaching.query_side:
        learner = _query_learner(own)
        return _trained(own, learner, lists, valid, found_by(own, learner, valid), folder)
    learner = _learner(own, "info_nce")
    return _trained(own, learner, lists, valid, ordered_by(learner, valid), folder)


def learnt_from_teacher(
    own: Teachable, lists: Sequence[TrainingList], valid: Sequence[TrainingList], folder: Path
) -> History:
    """Trains on lists with a teacher's scores; of the query side alone, with documents as the index has them."""
    if not own.teaching.query_side:
        learner = _learner(own, "cadet")
        return _trained(own, learner, lists, valid, ordered_by(learner, valid), folder)
    opened = own.opened()
    docnos = {doc.text: doc.docno for one in [*lists, *valid] for doc in one.docs}

    def vectors(texts: Sequence[str]) -> Vectors:
        return opened.vectors([docnos[text] for text in texts])

    learner = _learner(own, "cadet", document_vectors=vectors)
    return _trained(own, learner, lists, valid, ordered_by(learner, valid, vectors), folder)


def _trained(
    own: Teachable,
    learner: Any,  # noqa: ANN401 - torch is not imported for a type
    lists: Sequence[TrainingList],
    valid: Sequence[TrainingList],
    found: Found,
    folder: Path,
) -> History:
    """Puts what is trained on lists in a folder; the history of the training."""
    from pyterrier_llmrank.training.loop import train

    teaching = own.teaching
    measure = measured_by(teaching.measure, valid, found) if valid else None
    about = {
        "title": "A dense retriever",
        "base": own.encoder.bi_encoder.name,
        "measure": teaching.measure,
        "data": f"{len(lists)} lists",
        "usage": usage("DistilledRetriever(folder)", "retriever"),
    }
    return train(learner, lists, folder, teaching.training, measure=measure, about=about).history


def _learner(own: Teachable, loss: str, **options: Any) -> Any:  # noqa: ANN401 - likewise
    """What trains queries, and documents."""
    from pyterrier_llmrank.training.learners import BiEncoderLearner

    teaching = own.teaching
    return BiEncoderLearner(
        **_reading(own),
        loss=teaching.loss or loss,
        **options,
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
        docnos=[str(name) for name in names],
        vectors=vectors,
        depth=teaching.depth,
        **_reading(own),
        **told,
        **teaching.options,
        **teaching.settings,
    )


def _reading(own: Teachable) -> dict[str, Any]:
    """Which weights, and how texts are read, as arguments of a learner.

    Raises:
        ConfigurationError: It is not whole weights.
    """
    encoder = own.encoder.bi_encoder
    if encoder.adapter is not None or encoder.quantization is not None or encoder.layers is not None:
        raise ConfigurationError(f"whole weights are trained, not an adapter, part or quantized copy: {encoder!r}")
    names = ("name", "revision", "pooling", "normalize", "query_prefix", "doc_prefix")
    tokens = own.teaching.doc_tokens or encoder.max_length or 256
    told = {"query_tokens": own.teaching.query_tokens or tokens, "doc_tokens": tokens}
    return {**{name: getattr(encoder, name) for name in names}, **told}
