"""``QueriesFromDocuments``: documents in, queries that they answer out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyterrier as pt

from .core import spelled
from .errors import ConfigurationError
from .training.queries import StoredQueries, Writer, write_queries
from .training.queries.drafts import columns_of, query_frame, rows_of
from .training.queries.stored import chunks, say_dropped


class QueriesFromDocuments(pt.Transformer):
    """Writes queries for documents: from docno and text to qid, query, docno and kind.

    What is written for a document depends on nothing but the document and the writer's seed. Queries that are not fit
    for use, such as copied sentences, are left out, and how many is said once per call, by reason. Their qids name the
    document, the kind and a number: ``d7:question:2``.

    Args:
        writer: Who writes them: ``Asked(model)`` for a language model's, or one that needs none, such as ``Titles()``,
            ``Keywords(WordCounts.of(texts))`` and ``Sentences()``; several by ``AllOf``.
        text_field: Column of texts.
        chunk: Documents that the writer is given at a time.
        verbose: Whether to show a progress bar over documents.

    Raises:
        ConfigurationError: The writer is none, or ``chunk`` is below 1.
    """

    def __init__(self, writer: Writer, *, text_field: str = "text", chunk: int = 64, verbose: bool = False) -> None:
        super().__init__()
        if not callable(writer) or isinstance(writer, type):
            raise ConfigurationError(f"{writer!r} writes no queries; pass a writer such as Asked(model) or Titles()")
        if chunk < 1:
            raise ConfigurationError(f"a writer is given one document or more at a time, got chunk={chunk}")
        self.writer = writer
        self.text_field = text_field
        self.chunk = chunk
        self.verbose = verbose

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The queries of a frame of documents, by document.

        Raises:
            InputValidationError: Not a document frame with the columns that the writer reads.
        """
        fields = [name for name in columns_of(self.writer) if name != "text"]
        pt.validate.document_frame(inp, extra_columns=[self.text_field, *fields], context=self)
        if inp.empty:
            return query_frame([])
        columns = list(dict.fromkeys(["docno", self.text_field, *fields]))
        rows = inp[columns].to_dict(orient="records")
        return query_frame(tuple(row.values()) for row in self.transform_iter(rows))  # type: ignore[arg-type]

    def transform_iter(self, inp: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        """The same for an iterable of documents, such as ``dataset.get_corpus_iter()``, as it goes by."""
        dropped: Counter[str] = Counter()
        for docs in chunks(self._shown(inp), self.writer, text_field=self.text_field, chunk=self.chunk):
            for doc, draft in zip(docs, self.writer(docs), strict=True):
                dropped.update(draft.dropped)
                for qid, query, docno, kind in rows_of(doc.docno, draft.queries):
                    yield {"qid": qid, "query": query, "docno": docno, "kind": kind}
        say_dropped(dropped)

    def write(self, corpus: Iterable[Mapping[str, Any]], path: str | Path) -> StoredQueries:
        """The queries of a corpus in a file, where the same call goes on after it was stopped (see ``write_queries``).

        Args:
            corpus: Documents, such as ``dataset.get_corpus_iter()``.
            path: Of the file; ``StoredQueries(path).frame()`` reads it.
        """
        return write_queries(self._shown(corpus), self.writer, path, text_field=self.text_field, chunk=self.chunk)

    def _shown(self, rows: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
        """The documents, behind a progress bar if one is asked for."""
        return pt.tqdm(rows, desc="queries", unit="doc") if self.verbose else rows

    def __repr__(self) -> str:
        """The call that makes it."""
        text_field = "" if self.text_field == "text" else f", text_field={self.text_field!r}"
        return f"QueriesFromDocuments({spelled(self.writer)}{text_field})"

    def __eq__(self, other: object) -> bool:
        """Same writer, same column."""
        if not isinstance(other, QueriesFromDocuments):
            return NotImplemented
        return self.writer == other.writer and self.text_field == other.text_field

    def __hash__(self) -> int:
        return hash(repr(self))
