"""What the live network of a training does on lists that are not learnt from, by a measure of ir_measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd
from numpy.typing import NDArray

from pyterrier_llmrank.students.lessons import measure_of
from pyterrier_llmrank.training.data import TrainingList

from .encoding import Vectors
from .transformers import QUERY

if TYPE_CHECKING:
    from .teachable import Teachable

FINE = 100  # steps of a teacher's score, as a measure's whole-numbered grades
FOUND = 1000  # documents that are measured of an index

Found: TypeAlias = Callable[[], list[tuple[list[str], NDArray[Any]]]]
"""Docnos and scores of each list, by the live network."""


def ordered_by(
    learner: Any,  # noqa: ANN401 - a learner
    lists: Sequence[TrainingList],
    vectors: Callable[[Sequence[str]], Vectors] | None = None,
) -> Found:
    """How the live network scores the documents of lists, whose vectors it makes too, unless they are given."""
    documents = learner.encode_documents if vectors is None else vectors

    def found() -> list[tuple[list[str], NDArray[Any]]]:
        places = {text: place for place, text in enumerate(dict.fromkeys(d.text for one in lists for d in one.docs))}
        queries = learner.encode_queries([one.query for one in lists])
        docs = documents([*places])
        rows = [[places[doc.text] for doc in one.docs] for one in lists]
        scores = [docs[row] @ query for row, query in zip(rows, queries, strict=True)]
        return [([doc.docno for doc in one.docs], of_one) for one, of_one in zip(lists, scores, strict=True)]

    return found


def found_by(own: Teachable, learner: Any, lists: Sequence[TrainingList]) -> Found:  # noqa: ANN401 - a learner
    """What the live network finds in the index."""
    searcher = own.apply_attributes(num_results=FOUND, texts=None, vectors=False)

    def found() -> list[tuple[list[str], NDArray[Any]]]:
        vectors = learner.encode_queries([one.query for one in lists])
        queries = pd.DataFrame({"qid": [one.qid for one in lists], QUERY: list(vectors)})
        groups = dict(iter(searcher.transform(queries).groupby("qid", sort=False)))
        return [(groups[one.qid]["docno"].tolist(), groups[one.qid]["score"].to_numpy()) for one in lists]

    return found


def measured_by(name: str, lists: Sequence[TrainingList], found: Found) -> Callable[[], float]:
    """A measure of what the live network does.

    Raises:
        ConfigurationError: ir_measures does not know it.
    """
    import ir_measures

    measure = measure_of(name)
    whole = all(float(value).is_integer() for one in lists for value in one.targets)
    grades = 1 if whole else FINE
    qrels = {one.qid: {d.docno: round(grades * t) for d, t in zip(one.docs, one.targets, strict=True)} for one in lists}

    def measured() -> float:
        run = {
            one.qid: dict(zip(docnos, scores.astype(float).tolist(), strict=True))
            for one, (docnos, scores) in zip(lists, found(), strict=True)
        }
        return float(ir_measures.calc_aggregate([measure], qrels, run)[measure])

    return measured
