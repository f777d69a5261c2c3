"""Queries for documents that have none: written by a model or out of the documents, chosen and filtered. No torch."""

from __future__ import annotations

from .apart import without_source
from .asked import Asked
from .choosing import mmr, near_centroid, quotas, representatives
from .clusters import Clusters, k_means
from .documents import distinct, long_enough, without_near_duplicates
from .drafts import AllOf, Draft, Writer, Written
from .filters import Sifted, confident, deduplicated, first_by, found_by, sift
from .kinds import CLAIM, KEYWORDS, KINDS, QUESTION, SEARCH, TITLE, Kind
from .offline import Keywords, Sentences, Titles, offline_queries, offline_writer
from .stored import StoredQueries, write_queries
from .taught import Taught, sifted_by_teacher
from .words import WordCounts

__all__ = [
    "CLAIM",
    "KEYWORDS",
    "KINDS",
    "QUESTION",
    "SEARCH",
    "TITLE",
    "AllOf",
    "Asked",
    "Clusters",
    "Draft",
    "Keywords",
    "Kind",
    "Sentences",
    "Sifted",
    "StoredQueries",
    "Taught",
    "Titles",
    "WordCounts",
    "Writer",
    "Written",
    "confident",
    "deduplicated",
    "distinct",
    "first_by",
    "found_by",
    "k_means",
    "long_enough",
    "mmr",
    "near_centroid",
    "offline_queries",
    "offline_writer",
    "quotas",
    "representatives",
    "sift",
    "sifted_by_teacher",
    "without_near_duplicates",
    "without_source",
    "write_queries",
]
