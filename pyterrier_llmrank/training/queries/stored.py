"""Queries on disk: written as documents go by, and never twice for one document."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from pyterrier_llmrank.core import Doc, spelled
from pyterrier_llmrank.errors import ConfigurationError, InputError, LLMRankWarning
from pyterrier_llmrank.training.data.lines import Lines, touched

from .documents import distinct
from .drafts import Draft, QueryRow, Writer, Written, columns_of, query_frame, rows_of


class StoredQueries(Lines):
    """The queries of a file.

    Args:
        path: Written by ``write_queries``. A last line that a crash cut off is not read.

    Attributes:
        docnos: Of every document that was dealt with, also of those without a query.
        dropped: How many queries were not fit for use, by reason.
        options: Who wrote them.

    Raises:
        InputError: There is no such file, or it is not of this kind.
    """

    what = "queries of documents"
    written_by = "write_queries"

    def __init__(self, path: str | Path) -> None:
        self.docnos: set[str] = set()
        self.dropped: Counter[str] = Counter()
        self._rows: list[QueryRow] = []
        super().__init__(path)

    def frame(self) -> pd.DataFrame:
        """All queries, with columns qid, query, docno and kind."""
        return query_frame(self._rows)

    def _note(self, row: dict[str, Any], start: int) -> None:
        """Takes down the queries of a document."""
        written = [Written(kind, query) for kind, query in row["queries"]]
        self.dropped.update(row["dropped"])
        self.docnos.add(row["docno"])
        self._rows += rows_of(row["docno"], written)

    def _add(self, drafts: Iterable[tuple[Doc, Draft]]) -> None:
        """Appends what was written for documents."""
        self._append({"docno": doc.docno, "queries": draft.queries, "dropped": draft.dropped} for doc, draft in drafts)


def write_queries(
    corpus: Iterable[Mapping[str, Any]],
    writer: Writer,
    path: str | Path,
    *,
    text_field: str = "text",
    chunk: int = 64,
) -> StoredQueries:
    """Queries for the documents of a corpus, on disk, of which a few at a time are held in memory.

    Stopped at any time, the same call goes on where it was.

    Args:
        corpus: Dictionaries with docno and ``text_field``, as ``get_corpus_iter`` yields.
        writer: Who writes them.
        path: A file of queries; another writer needs another.
        text_field: Where the text is.
        chunk: Documents that the writer is given at a time.

    Returns:
        The file's queries. How many more were not fit for use is said, by reason.

    Raises:
        ConfigurationError: ``chunk`` is below 1, or another writer wrote the file's queries.
        InputError: The file holds something else, or a document lacks what the writer reads.
    """
    known, told = StoredQueries(touched(path)), {"writer": spelled(writer), "text_field": text_field}
    if known.end and known.options != told:
        raise ConfigurationError(f"{path} holds queries made with {known.options}, not with {told}; use another file")
    known.options = told
    before = known.dropped.copy()
    left = (row for row in corpus if str(row["docno"]) not in known.docnos)
    for docs in chunks(left, writer, text_field=text_field, chunk=chunk):
        known._add(zip(docs, writer(docs), strict=True))
    say_dropped(known.dropped - before)
    return known


def chunks(
    corpus: Iterable[Mapping[str, Any]], writer: Writer, *, text_field: str = "text", chunk: int = 64
) -> Iterator[list[Doc]]:
    """The documents of a corpus, a few at a time and each docno once, with the columns that a writer reads.

    Raises:
        ConfigurationError: ``chunk`` is below 1.
        InputError: A document lacks a column.
    """
    if chunk < 1:
        raise ConfigurationError(f"a writer is given one document or more at a time, got chunk={chunk}")
    rows, seen = iter(corpus), set[str]()
    fields = [name for name in columns_of(writer) if name != "text"]
    while taken := list(islice(rows, chunk)):
        frame = pd.DataFrame(taken, dtype=object)
        check_columns(frame, ["docno", text_field, *fields])
        docs = distinct(frame, text_field, fields, seen)
        seen.update(doc.docno for doc in docs)
        yield docs


def check_columns(frame: pd.DataFrame, needed: Iterable[str]) -> None:
    """Whether documents have these columns.

    Raises:
        InputError: They lack one.
    """
    if missing := [name for name in needed if name not in frame.columns]:
        raise InputError(
            f"queries are made of documents with the columns {missing}, but there are {list(frame.columns)}; name the "
            "texts' column with text_field="
        )


def say_dropped(dropped: Mapping[str, int]) -> None:
    """Warns of queries that were not fit for use, by reason, if there are any."""
    if dropped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
        warnings.warn(f"queries that were not fit for use were dropped: {reasons}", LLMRankWarning, stacklevel=3)
