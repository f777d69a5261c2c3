"""Queries out of the documents themselves: no language model, nothing drawn but by a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from pyterrier_llmrank.core import Doc, brief
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.seeds import generator

from .documents import distinct
from .drafts import AllOf, Draft, Writer, Written, query_frame, rows_of
from .stored import check_columns
from .words import WordCounts, sentences, words

Offline = Literal["title", "keywords", "sentence"]


@dataclass(frozen=True, repr=False)
class Titles:
    """A document's title, or its first sentence where no column holds titles; cut after ``most`` words.

    Args:
        field: Column of titles; None for first sentences.
        most: Words.

    Raises:
        ConfigurationError: No word may be left.
    """

    field: str | None = None
    most: int = 20

    __repr__ = brief

    def __post_init__(self) -> None:
        _check("Titles", most=self.most)

    @property
    def reads(self) -> tuple[str, ...]:
        """The column of titles, or the text."""
        return (self.field or "text",)

    def __call__(self, docs: Sequence[Doc]) -> list[Draft]:
        """One query a document, or none where there is no word."""
        return [self._draft(self._title(doc)) for doc in docs]

    def _title(self, doc: Doc) -> str:
        if self.field is not None:
            title = dict(doc.fields).get(self.field, "")
            return title if isinstance(title, str) else ""
        return next(iter(sentences(doc.text)), "")

    def _draft(self, title: str) -> Draft:
        return _draft("title", [title] if words(title) else [], self.most)


@dataclass(frozen=True, repr=False)
class Keywords:
    """The words that tell a document from its corpus, the most telling first, by tf-idf.

    A word weighs ``(1 + ln tf) * ln((1 + N) / (1 + df))``; the earlier of equals comes first, and words that every
    document has are none.

    Args:
        counts: Of the corpus: ``WordCounts.of(texts)``.
        most: Words of a query.

    Raises:
        ConfigurationError: No word may be left.
    """

    counts: WordCounts
    most: int = 5

    __repr__ = brief

    def __post_init__(self) -> None:
        _check("Keywords", most=self.most)

    def __call__(self, docs: Sequence[Doc]) -> list[Draft]:
        """One query a document, or none where no word tells it from others."""
        return [_draft("keywords", self._query(doc.text), self.most) for doc in docs]

    def _query(self, text: str) -> list[str]:
        weights = {
            word: (1 + np.log(count)) * self.counts.rarity(word)
            for word, count in Counter(words(text)).items()  # in order of first appearance
            if len(word) > 1
        }
        best = sorted((word for word in weights if weights[word] > 0), key=lambda word: -weights[word])
        return [" ".join(best[: self.most])] if best else []


@dataclass(frozen=True, repr=False)
class Sentences:
    """Sentences drawn from a document, as an inverse cloze task asks them; cut after ``most`` words.

    Args:
        per_doc: Different sentences of a document, as far as it has them.
        most: Words of a query.
        seed: Decides the draw, together with the docno.

    Raises:
        ConfigurationError: A number is below 1.

    Reference:
        Lee et al., 2019 (ORQA, sec. 4), whose documents lose the sentence in nine of ten cases; here they keep it.
    """

    per_doc: int = 1
    most: int = 20
    seed: int = 0

    __repr__ = brief

    def __post_init__(self) -> None:
        _check("Sentences", per_doc=self.per_doc, most=self.most)

    def __call__(self, docs: Sequence[Doc]) -> list[Draft]:
        """As many queries a document as asked for, in the order of the text."""
        return [_draft("sentence", self._drawn(doc), self.most) for doc in docs]

    def _drawn(self, doc: Doc) -> list[str]:
        found = list(dict.fromkeys(sentences(doc.text)))
        places = generator(self.seed, doc.docno, "sentence").permutation(len(found))[: self.per_doc]
        return [found[place] for place in sorted(places)]


def offline_writer(
    counts: WordCounts,
    *,
    kinds: Sequence[Offline] = ("title", "keywords", "sentence"),
    per_doc: int = 1,
    title_field: str | None = None,
    seed: int = 0,
) -> Writer:
    """A writer of several kinds of queries that needs no language model.

    Args:
        counts: Of the corpus, for keywords.
        kinds: Any of "title", "keywords" and "sentence".
        per_doc: Sentences of a document.
        title_field: Column of titles; first sentences by default.
        seed: Of the draw of sentences.

    Raises:
        ConfigurationError: No kind, or one that is none of them.
    """
    known: dict[str, Writer] = {
        "title": Titles(title_field),
        "keywords": Keywords(counts),
        "sentence": Sentences(per_doc, seed=seed),
    }
    if not kinds or any(kind not in known for kind in kinds):
        raise ConfigurationError(f"kinds are some of {', '.join(known)}, got {list(kinds)}; others need a model")
    return AllOf(tuple(known[kind] for kind in kinds))


def offline_queries(
    docs: pd.DataFrame | Iterable[Mapping[str, Any]],
    *,
    kinds: Sequence[Offline] = ("title", "keywords", "sentence"),
    per_doc: int = 1,
    text_field: str = "text",
    title_field: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Queries that a corpus in memory asks of itself, deterministic and without a language model.

    Args:
        docs: A frame, or dictionaries as ``get_corpus_iter`` yields, with docno and ``text_field``.
        kinds: Any of "title" (or the first sentence), "keywords" (tf-idf within these documents) and "sentence".
        per_doc: Sentences of a document.
        text_field: Column of texts.
        title_field: Column of titles; first sentences by default.
        seed: Of the draw of sentences.

    Returns:
        Columns qid, query, docno and kind, by document. The same query may come twice; see ``deduplicated``.

    Raises:
        InputError: A column is missing.
        ConfigurationError: An argument is out of range.
    """
    frame = docs if isinstance(docs, pd.DataFrame) else pd.DataFrame(list(docs), dtype=object)
    if frame.empty:
        return query_frame([])
    fields = [] if title_field is None else [title_field]
    check_columns(frame, ["docno", text_field, *fields])
    known = distinct(frame, text_field, fields)
    writer = offline_writer(
        WordCounts.of(doc.text for doc in known), kinds=kinds, per_doc=per_doc, title_field=title_field, seed=seed
    )
    drafts = writer(known)
    return query_frame(
        row for doc, draft in zip(known, drafts, strict=True) for row in rows_of(doc.docno, draft.queries)
    )


def _draft(kind: str, queries: Sequence[str], most: int) -> Draft:
    """Queries of one kind, each cut after so many words."""
    return Draft(tuple(Written(kind, " ".join(query.split()[:most])) for query in queries))


def _check(owner: str, **numbers: int) -> None:
    """Whether all are at least 1.

    Raises:
        ConfigurationError: One is not.
    """
    for name, number in numbers.items():
        if number < 1:
            raise ConfigurationError(f"{owner} needs {name} of at least 1, got {number}")
