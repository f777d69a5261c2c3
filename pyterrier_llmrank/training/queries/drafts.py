"""What writes queries for documents, and the frame of what was written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import pandas as pd

from pyterrier_llmrank.core import Doc, Usage, brief
from pyterrier_llmrank.errors import ConfigurationError

COLUMNS = ["qid", "query", "docno", "kind"]


class Written(NamedTuple):
    """A query that a document answers.

    Attributes:
        kind: What sort of query, such as "question" or "title".
        query: Its text, one line.
    """

    kind: str
    query: str


class Draft(NamedTuple):
    """What was written for one document.

    Attributes:
        queries: Those that are fit for use.
        dropped: Why each of the others is not, such as "long" or "copied".
        usage: What they cost; nothing where no model is asked.
    """

    queries: tuple[Written, ...]
    dropped: tuple[str, ...] = ()
    usage: Usage = Usage()


class Writer(Protocol):
    """Writes queries for documents: one draft per document, in order; who else is in the call never changes one."""

    def __call__(self, docs: Sequence[Doc]) -> list[Draft]:
        """The drafts of these documents."""
        ...


@dataclass(frozen=True, repr=False)
class AllOf:
    """Every query that several writers write, document by document.

    Args:
        writers: One or more.

    Raises:
        ConfigurationError: There is none.
    """

    writers: tuple[Writer, ...]

    __repr__ = brief

    def __post_init__(self) -> None:
        if not isinstance(self.writers, tuple) or not self.writers:
            raise ConfigurationError(f"AllOf takes a tuple of writers, got {self.writers!r}")

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns that the writers read of a document."""
        return tuple(dict.fromkeys(name for writer in self.writers for name in columns_of(writer)))

    def __call__(self, docs: Sequence[Doc]) -> list[Draft]:
        """The drafts of all writers, put together."""
        return [joined(drafts) for drafts in zip(*(writer(docs) for writer in self.writers), strict=True)]


def joined(drafts: Iterable[Draft]) -> Draft:
    """The drafts of one document as one."""
    known = list(drafts)
    return Draft(
        tuple(query for one in known for query in one.queries),
        tuple(reason for one in known for reason in one.dropped),
        sum((one.usage for one in known), Usage()),
    )


def columns_of(writer: Writer) -> tuple[str, ...]:
    """Columns that a writer reads of a document: "text", unless its attribute ``reads`` names others."""
    return tuple(getattr(writer, "reads", ("text",)))


QueryRow: TypeAlias = tuple[str, str, str, str]


def rows_of(docno: str, queries: Iterable[Written]) -> list[QueryRow]:
    """The queries of one document as rows: qid, query, docno, kind.

    A qid names the document, the kind, and the number among the document's queries of that kind, from 1:
    ``d7:question:2``.
    """
    seen: Counter[str] = Counter()
    rows = []
    for kind, query in queries:
        seen[kind] += 1
        rows.append((f"{docno}:{kind}:{seen[kind]}", query, docno, kind))
    return rows


def query_frame(rows: Iterable[QueryRow]) -> pd.DataFrame:
    """Rows as a frame, with columns qid, query, docno and kind, all text."""
    return pd.DataFrame(list(rows), columns=COLUMNS, dtype=str)
