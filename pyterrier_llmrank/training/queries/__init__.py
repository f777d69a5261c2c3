"""Queries for documents that have none: written by a model or out of the documents, chosen and filtered. No torch."""

from __future__ import annotations

from .documents import distinct, long_enough, without_near_duplicates
from .drafts import AllOf, Draft, Writer, Written
from .offline import Keywords, Sentences, Titles, offline_queries, offline_writer
from .stored import StoredQueries, write_queries
from .words import WordCounts

__all__ = [
    "AllOf",
    "Draft",
    "Keywords",
    "Sentences",
    "StoredQueries",
    "Titles",
    "WordCounts",
    "Writer",
    "Written",
    "distinct",
    "long_enough",
    "offline_queries",
    "offline_writer",
    "without_near_duplicates",
    "write_queries",
]
