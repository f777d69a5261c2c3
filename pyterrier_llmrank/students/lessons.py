"""What students learn from: lists that teach something, and a teacher's answers on disk."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, overload

import ir_measures
import pandas as pd
import pyterrier as pt

from pyterrier_llmrank.errors import ConfigurationError, InputError, LLMRankWarning
from pyterrier_llmrank.training.data import StoredLists, TrainingList, distil, judgments


class Some(Sequence[TrainingList]):
    """Some of a file's lists, read as they are needed.

    Args:
        lists: All of them.
        places: Which.
    """

    def __init__(self, lists: Sequence[TrainingList], places: Sequence[int]) -> None:
        self._lists, self._places = lists, places

    def __len__(self) -> int:
        """How many there are."""
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> TrainingList: ...

    @overload
    def __getitem__(self, place: slice) -> list[TrainingList]: ...

    def __getitem__(self, place: int | slice) -> TrainingList | list[TrainingList]:
        """One list, or several."""
        if isinstance(place, slice):
            return [self._lists[one] for one in self._places[place]]
        return self._lists[self._places[place]]


def learnable(lists: Sequence[TrainingList], *, alone: bool, qids: Collection[str] | None = None) -> Some:
    """The lists that teach something; how many do not is said.

    Args:
        lists: All of them.
        alone: Whether any document teaches something, rather than differences between those of a list.
        qids: Queries to learn from; all by default.

    Raises:
        InputError: None does.
    """
    asked = [place for place in range(len(lists)) if qids is None or lists[place].qid in qids]
    kept = [place for place in asked if len(set(lists[place].targets)) > (0 if alone else 1)]
    if not kept:
        raise InputError(
            f"none of the {len(asked)} lists has documents with different targets; check that qids and docnos of "
            "results and qrels are the same, and that the teacher returned something"
        )
    if lost := len(asked) - len(kept):
        warnings.warn(
            f"{lost} of {len(asked)} queries teach nothing and are left out: their documents all have the same target",
            LLMRankWarning,
            stacklevel=4,
        )
    return Some(lists, kept)


def taught(
    teacher: pt.Transformer,
    topics: pd.DataFrame,
    where: str | Path,
    chunk: int,
    device: str | None,
    told: Mapping[str, Any],
) -> Sequence[TrainingList]:
    """A teacher's lists for some queries, asked by the first of several processes and kept on disk.

    Args:
        teacher: Retrieves and ranks.
        topics: Columns qid and query.
        where: A file, or a folder to make one in.
        chunk: Queries at a time.
        device: Of the training, where processes have none of their own.
        told: Options of ``training_lists``.
    """
    from pyterrier_llmrank.training.workers import Workers

    path = Path(where)
    if path.suffix != ".jsonl":
        path = path / f"teacher-{_digest(teacher, told)}.jsonl"
    workers = Workers.here(device)
    if workers.first:
        distil(topics, teacher.transform, path, chunk=chunk, **told)
    workers.told(None)  # nobody reads the file before it is whole
    stored, asked = StoredLists(path), set(topics["qid"].astype(str))
    if stored.qids <= asked:
        return stored
    return Some(stored, [place for place in range(len(stored)) if stored[place].qid in asked])


class Validation(NamedTuple):
    """What a training is measured on.

    Attributes:
        results: Results to rerank.
        qrels: Judgments of their queries.
        measure: Of ir_measures.
    """

    results: pd.DataFrame
    qrels: pd.DataFrame
    measure: Any

    def value(self, ranked: pd.DataFrame) -> float:
        """The measure of an order of the results."""
        [value] = pt.Evaluate(ranked, self.qrels, metrics=[self.measure]).values()
        return float(value)


def validation(res: pd.DataFrame, qrels: pd.DataFrame | None, measure: Any, text_field: str) -> Validation:  # noqa: ANN401
    """Results and judgments as they are measured: qids and docnos as texts, judgments of the results' queries alone.

    Args:
        res: Results to rerank.
        qrels: Judgments.
        measure: Of ir_measures, or its name.
        text_field: The documents' column.

    Raises:
        InputError: They cannot be measured: there are no judgments, a column is missing, a label is no number or one
            that the measure does not take, or nothing of the results is judged.
    """
    if qrels is None:
        raise InputError("there are validation results and no judgments of them; pass qrels_va, or leave both out")
    if missing := [name for name in ("qid", "query", "docno", text_field) if name not in res]:
        raise InputError(f"validation results need the columns {missing}, but there are {list(res.columns)}")
    results = res.astype({"qid": str, "docno": str})
    known = judgments(qrels)
    known = known[known["qid"].isin(results["qid"])]
    if not len(results.merge(known, on=["qid", "docno"])):
        raise InputError(
            f"none of the {len(results)} validation results is judged; check that qids and docnos of results and "
            "judgments are the same, or pass qrels_va"
        )
    if (known["label"] % 1 == 0).all():
        known = known.astype({"label": "int64"})  # measures by gain take no others
    held = Validation(results, known, measure_of(measure))
    try:
        held.value(results.assign(score=0.0))
    except (TypeError, ValueError) as error:
        raise InputError(f"{held.measure} cannot be had from the validation judgments: {error}") from error
    return held


def measure_of(measure: Any) -> Any:  # noqa: ANN401 - of ir_measures
    """A measure by its name, such as "nDCG@10", or the measure itself.

    Raises:
        ConfigurationError: There is none of this name.
    """
    if not isinstance(measure, str):
        return measure
    try:
        return ir_measures.parse_measure(measure)
    except (NameError, ValueError, SyntaxError, TypeError) as error:
        raise ConfigurationError(f"measure must be one of ir_measures, such as 'nDCG@10', got {measure!r}") from error


def _digest(teacher: pt.Transformer, told: Mapping[str, Any]) -> str:
    """What tells a teacher's lists from another's, in this process and the next."""
    lasting = re.sub(r" at 0x[0-9a-f]+", "", repr(teacher))
    return blake2b(f"{lasting} {sorted(told.items())}".encode(), digest_size=6).hexdigest()
