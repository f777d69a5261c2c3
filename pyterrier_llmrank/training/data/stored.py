"""Training lists on disk, one JSON object a line: written as a teacher goes on, read one at a time."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, overload

import pandas as pd

from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.errors import ConfigurationError, LLMRankWarning

from .lines import Lines, touched
from .lists import TrainingList, training_lists


class StoredLists(Lines, Sequence[TrainingList]):
    """The lists of a file, of which only the places of its lines are held in memory.

    Args:
        path: Written by ``store`` or ``distil``. A last line that a crash cut off is not read.

    Attributes:
        qids: Of every query that was dealt with, also of those for which a teacher returned nothing.
        options: How ``distil`` made the lists; empty where ``store`` began the file.

    Raises:
        InputError: There is no such file, or it is not of this kind.
    """

    what = "training lists"
    written_by = "store or distil"

    def __init__(self, path: str | Path) -> None:
        self.qids: set[str] = set()
        self._asked: dict[str, bytes] = {}  # what tells the query that a teacher was asked from another
        self._places: list[int] = []
        super().__init__(path)

    def _note(self, row: dict[str, Any], start: int) -> None:
        """Takes down the query, and the place of a list with documents."""
        self.qids.add(row["qid"])
        if "asked" in row:
            self._asked[row["qid"]] = _mark(row["asked"])
        if row["docs"]:
            self._places.append(start)

    def _add(self, lists: Iterable[TrainingList], asked: Mapping[str, str] | None = None) -> None:
        """Appends lists, but for queries it has; beside those that a teacher was asked about, their texts."""
        self._append(
            {
                "qid": one.qid,
                "query": one.query,
                "docs": [doc[:2] for doc in one.docs],
                "targets": one.targets,
                **({"asked": asked[one.qid]} if asked and one.qid in asked else {}),
            }
            for one in lists
            if one.qid not in self.qids
        )

    def _check(self, topics: pd.DataFrame) -> None:
        """Whether the teacher was asked these queries, where it was asked any of these qids.

        Raises:
            ConfigurationError: It was asked another one.
        """
        told = zip(topics["qid"], topics["query"].astype(str), strict=True)
        other = [(qid, query) for qid, query in told if self._asked.get(qid, _mark(query)) != _mark(query)]
        if other:
            raise ConfigurationError(
                f"{self.path} holds what the teacher said about other queries of the qids of {len(other)} of "
                f"{len(topics)} topics, the first is {other[0][0]!r}, now {other[0][1]!r}; use another file, or give "
                "new queries new qids"
            )

    def __len__(self) -> int:
        """Lists with documents."""
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> TrainingList: ...

    @overload
    def __getitem__(self, place: slice) -> list[TrainingList]: ...

    def __getitem__(self, place: int | slice) -> TrainingList | list[TrainingList]:
        """One list, or several, read from the file."""
        with self.path.open("rb") as file:
            if isinstance(place, slice):
                return [_read(file, start) for start in self._places[place]]
            return _read(file, self._places[place])


def store(lists: Iterable[TrainingList], path: str | Path) -> StoredLists:
    """Appends lists to a file, but for queries that are there already; what it holds afterwards.

    Args:
        lists: Any number; each is on disk before the next is asked for.
        path: May not exist yet. What a crash left half written is written over.

    Raises:
        InputError: The file holds something else.
    """
    stored = StoredLists(touched(path))
    stored._add(lists)
    return stored


def distil(
    topics: pd.DataFrame,
    teacher: Callable[[pd.DataFrame], pd.DataFrame],
    path: str | Path,
    *,
    chunk: int = 32,
    **options: Any,  # noqa: ANN401 - those of training_lists
) -> StoredLists:
    """What a teacher says about queries, on disk: it is asked a few queries at a time, and never about one twice.

    Stopped at any time, the same call goes on where it was.

    Args:
        topics: Columns qid and query.
        teacher: A pipeline that retrieves and ranks, such as ``bm25 % 100 >> reranker``.
        path: A file of training lists; another teacher needs another.
        chunk: Queries the teacher is given at a time.
        **options: Of ``training_lists``: targets, k, …

    Returns:
        The file's lists. Queries for which the teacher returns no row are remembered, and their number is said.

    Raises:
        ConfigurationError: ``chunk`` is below 1, or the file's lists were made with other options or of other queries.
        InputError: The file holds something else, or the teacher's results lack what lists are made of.
    """
    if chunk < 1:
        raise ConfigurationError(f"distil gives a teacher some queries at a time, got chunk={chunk}")
    topics = topics.astype({"qid": str}).drop_duplicates("qid")
    known = StoredLists(touched(path))
    told = {name: value for name, value in options.items() if name != "qrels"}
    if known.end and known.options != told:
        raise ConfigurationError(f"{path} holds lists made with {known.options}, not with {told}; use another file")
    known.options = told
    known._check(topics)
    left = topics[~topics["qid"].isin(known.qids)]
    silent = 0
    for start in range(0, len(left), chunk):
        asked = left.iloc[start : start + chunk]
        found = training_lists(teacher(asked.reset_index(drop=True)), **options)
        answered = {one.qid for one in found}
        nothing = [
            TrainingList(qid, query, (), ())
            for qid, query in zip(asked["qid"], asked["query"], strict=True)
            if qid not in answered
        ]
        silent += len(nothing)
        known._add([*found, *nothing], dict(zip(asked["qid"], asked["query"].astype(str), strict=True)))
    if silent:
        warnings.warn(f"the teacher returned nothing for {silent} of {len(left)} queries", LLMRankWarning, stacklevel=2)
    return known


def _mark(query: str) -> bytes:
    return blake2b(query.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _read(file: BinaryIO, start: int) -> TrainingList:
    file.seek(start)
    row = json.loads(file.readline())
    docs = tuple(Doc(docno, text) for docno, text in row["docs"])
    return TrainingList(row["qid"], row["query"], docs, tuple(row["targets"]))
