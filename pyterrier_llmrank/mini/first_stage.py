"""Candidates to rerank without Java: BM25 in memory over ``bm25s``, or PISA where it is installed."""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyterrier as pt
from numpy.typing import NDArray

from pyterrier_llmrank.errors import ConfigurationError, MissingExtra

ENGINES = ("auto", "pisa", "bm25s")
K1, B = 0.9, 0.4
"""The BM25 parameters of Anserini and PISA, for passages and web pages alike; both engines use them."""

STOP_WORDS = "english_plus"
"""bm25s's name for NLTK's English list: unlike Lucene's, it holds how, why, when and do."""


class _Index:
    """Scores of every document for a query, over stemmed words without stop words.

    Raises:
        MissingExtra: bm25s or PyStemmer is not installed.
        ConfigurationError: Nothing to index.
    """

    def __init__(self, texts: list[str], *, k1: float, b: float) -> None:
        try:
            import bm25s
            import Stemmer
        except ImportError as error:
            raise MissingExtra("BM25", "bm25s and PyStemmer", "demo") from error
        self._split = bm25s.tokenize
        self._stemmer = Stemmer.Stemmer("english")
        tokens = self._tokens(texts)
        if not any(tokens):
            raise ConfigurationError(f"BM25 found no word to index in {len(texts)} documents; pass documents with text")
        self._scorer = bm25s.BM25(k1=k1, b=b)
        self._scorer.index(tokens, show_progress=False)

    def _tokens(self, texts: list[str]) -> list[list[str]]:
        """Stems of each text, in order."""
        split: list[list[str]] = self._split(
            texts, stopwords=STOP_WORDS, stemmer=self._stemmer, return_ids=False, show_progress=False
        )
        return split

    def scores(self, query: str) -> NDArray[np.float64] | None:
        """BM25 of each document, (documents,); None where no document has a word of the query."""
        ids = self._scorer.get_tokens_ids(self._tokens([query])[0])
        return np.asarray(self._scorer.get_scores_from_ids(ids), dtype=np.float64) if ids else None


class BM25(pt.Transformer):
    """Retrieves documents by their words, from memory: small collections, no Java, no files.

    Words are lowercased, English stop words dropped, the rest stemmed (Snowball English). It returns the text as
    well, since it holds it. Documents that share no word with the query are not returned; equal scores go as evaluation
    tools order them, by docno from the last to the first, so that ``rank`` is the ranking that is evaluated.

    Args:
        docs: ``{"docno": ..., "text": ...}`` for each document; other fields are dropped.
        num_results: Rows to return for a query, at most.
        k1: How fast repetitions of a word stop to count.
        b: How much long documents are held back, 0 to 1.
        verbose: Whether to show a progress bar over queries.

    Raises:
        ConfigurationError: ``num_results`` below 1, a docno twice, or nothing to index.
        MissingExtra: bm25s or PyStemmer is not installed.

    Reference:
        Robertson and Zaragoza, 2009; the variant is Lucene's (Kamphuis et al., 2020).
    """

    def __init__(
        self,
        docs: Iterable[Mapping[str, Any]],
        *,
        num_results: int = 100,
        k1: float = K1,
        b: float = B,
        verbose: bool = False,
    ) -> None:
        super().__init__()
        if num_results < 1:
            raise ConfigurationError(f"num_results must be at least 1, got {num_results}")
        self.docs = tuple({"docno": str(doc["docno"]), "text": str(doc["text"])} for doc in docs)
        self.num_results = num_results
        self.k1 = k1
        self.b = b
        self.verbose = verbose
        docnos = pd.Index([doc["docno"] for doc in self.docs])
        if docnos.has_duplicates:
            raise ConfigurationError(f"document {docnos[docnos.duplicated()][0]!r} comes twice; docnos must be unique")
        self._ties = docnos.argsort()[::-1]
        self._index = _Index([doc["text"] for doc in self.docs], k1=k1, b=b)

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Results of each row of a query frame, with docno, text, score and rank; other columns are kept.

        Raises:
            InputValidationError: Not a query frame with the column ``query``.
        """
        pt.validate.query_frame(inp, extra_columns=["query"], context=self)
        rows, places, ranks, scores = list[int](), list[int](), list[int](), [np.empty(0)]
        queries = inp["query"].tolist()
        for row, query in enumerate(pt.tqdm(queries, desc="BM25", unit="q") if self.verbose and queries else queries):
            found, values = self._search("" if pd.isna(query) else str(query))
            rows.extend([row] * len(found))
            places.extend(found)
            scores.append(values)
            ranks.extend(range(len(found)))
        out = inp.drop(columns=["docno", "text", "score", "rank"], errors="ignore").iloc[rows].reset_index(drop=True)
        return out.assign(
            docno=pd.Series([self.docs[place]["docno"] for place in places], dtype=str),
            text=pd.Series([self.docs[place]["text"] for place in places], dtype=str),
            score=np.concatenate(scores),
            rank=pd.Series(ranks, dtype="int64"),
        )

    def _search(self, query: str) -> tuple[list[int], NDArray[np.float64]]:
        """Places of the documents found, best first, and their scores."""
        scores = self._index.scores(query)
        if scores is None:
            return [], np.empty(0)
        best = self._ties[np.argsort(-scores[self._ties], kind="stable")][: self.num_results]
        best = best[scores[best] > 0]
        return best.tolist(), scores[best]

    def transform_iter(self, inp: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        """The same for an iterable of rows; nothing in, nothing out."""
        rows = list(inp)
        out: list[dict[str, Any]] = self.transform(pd.DataFrame(rows)).to_dict(orient="records") if rows else []  # type: ignore[assignment]
        return out

    def subtransformers(self) -> dict[str, pt.Transformer]:
        """None."""
        return {}

    def fuse_rank_cutoff(self, k: int) -> BM25:
        """``% k`` as an argument; the clone shares documents and index."""
        if self.num_results <= k:
            return self
        clone = copy.copy(self)
        clone.num_results = k
        return clone

    def schematic(self, *, input_columns: list[str] | None = None) -> dict[str, Any]:
        """How it is drawn: its parameters, but not its documents."""
        settings = {name: getattr(self, name) for name in ("num_results", "k1", "b")}
        return {"label": "BM25", "help_url": None, "settings": settings}

    def __repr__(self) -> str:
        """Its documents counted, its parameters named."""
        return f"BM25(<{len(self.docs)} documents>, num_results={self.num_results}, k1={self.k1}, b={self.b})"

    def __eq__(self, other: object) -> bool:
        """Same documents, same parameters."""
        if not isinstance(other, BM25):
            return NotImplemented
        return repr(self) == repr(other) and (self.docs is other.docs or self.docs == other.docs)

    def __hash__(self) -> int:
        return hash(repr(self))


class Collection(Protocol):
    """What ``first_stage`` needs of a dataset."""

    def get_corpus_iter(self, *, verbose: bool = ...) -> Iterable[dict[str, Any]]:
        """Yields documents with docno and text."""

    def text_loader(self, fields: list[str] | str = ..., *, verbose: bool = ...) -> pt.Transformer:
        """A transformer that adds texts."""


def first_stage(dataset: Collection, *, num_results: int = 100, engine: str = "auto") -> pt.Transformer:
    """A BM25 pipeline from queries to qid, query, docno, text, score and rank.

    Args:
        dataset: A collection with texts, e.g. ``pt.get_dataset("llmrank:mini")``.
        num_results: Rows for a query, at most.
        engine: ``"pisa"``, ``"bm25s"`` (in memory), or ``"auto"``: PISA where it can be imported, else bm25s.

    Raises:
        ConfigurationError: Another engine was named.
        MissingExtra: The engine is not installed.
    """
    if engine not in ENGINES:
        raise ConfigurationError(f"no engine {engine!r}; use one of {', '.join(map(repr, ENGINES))}")
    if engine == "pisa" or (engine == "auto" and _has_pisa()):
        return _pisa(dataset, num_results) >> pt.text.get_text(dataset, "text")
    return BM25(dataset.get_corpus_iter(verbose=False), num_results=num_results)


def _has_pisa() -> bool:
    """Whether PISA can be imported; it has no builds for some systems."""
    try:
        import pyterrier_pisa  # noqa: F401 - only whether it loads
    except ImportError:
        return False
    return True


def _pisa(dataset: Collection, num_results: int) -> pt.Transformer:
    """PISA's BM25 over an index in a temporary folder, which goes when nothing holds the index any more.

    Raises:
        MissingExtra: PISA is not installed.
    """
    if not _has_pisa():
        raise MissingExtra("first_stage(engine='pisa')", "pyterrier_pisa (or use engine='bm25s')", "test")
    from pyterrier_pisa import PisaIndex

    folder = tempfile.mkdtemp(prefix="llmrank-pisa-")
    index = PisaIndex(f"{folder}/index", text_field="text")
    weakref.finalize(index, shutil.rmtree, folder, ignore_errors=True)
    with _quiet():
        index.index(dataset.get_corpus_iter(verbose=False))
        retriever: pt.Transformer = index.bm25(k1=K1, b=B, num_results=num_results)
    return retriever


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences PISA, which writes hundreds of progress lines to the process's own stdout and stderr from C++."""
    kept = [os.dup(1), os.dup(2)]
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        for place, descriptor in zip((1, 2), kept, strict=True):
            os.dup2(descriptor, place)
            os.close(descriptor)
