"""A ``FlexIndex`` that was looked at before it is used: whole, and made by the encoder of the queries."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
import pyterrier as pt
from numpy.typing import NDArray

from pyterrier_llmrank.errors import ConfigurationError, InputError, MissingExtra

from .building import DOCNOS, MADE_BY, META, VECTORS
from .encoding import Vectors

if TYPE_CHECKING:
    from pyterrier_dr import FlexIndex

Search: TypeAlias = str | Callable[..., pt.Transformer]


def flex_index(path: Path) -> FlexIndex:
    """The index of pyterrier_dr at a place, which may be empty.

    Raises:
        MissingExtra: pyterrier_dr is not installed.
    """
    try:
        from pyterrier_dr import FlexIndex
    except ImportError as error:
        raise MissingExtra("an index of vectors", "pyterrier-dr", "dense") from error
    return FlexIndex(str(path), verbose=False)


def metadata(path: Path) -> dict[str, Any]:
    """What an index says of itself, after a look at its size.

    Raises:
        ConfigurationError: There is no whole index.
    """
    remedy = "build it with retriever.index(dataset.get_corpus_iter())"
    if not path.is_dir():
        begun = path.with_name(f"{path.name}.part").is_dir()
        more = "; one was begun, and the same call goes on with it" if begun else ""
        raise ConfigurationError(f"there is no index at {path}; {remedy}{more}")
    try:
        meta: dict[str, Any] = json.loads((path / META).read_text(encoding="utf-8"))
        if (meta["type"], meta["format"]) != ("dense_index", "flex"):
            raise ConfigurationError(f"{path} holds a {meta['type']} of the format {meta['format']}, no FlexIndex")
        found, whole = (path / VECTORS).stat().st_size, 4 * meta["vec_size"] * meta["doc_count"]
        (path / DOCNOS).stat()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} is no whole index ({error}); {remedy.replace(')', ', overwrite=True)')}"
        ) from error
    if found != whole:
        raise ConfigurationError(f"{path / VECTORS} has {found} bytes where {whole} belong; build the index again")
    return meta


def check_made_by(path: Path, meta: Mapping[str, Any], identity: Callable[[], str]) -> None:
    """Whether an index holds vectors of this encoder.

    Raises:
        ConfigurationError: It holds another's, or does not say whose.
    """
    maker = meta.get(MADE_BY)
    if maker is None:
        raise ConfigurationError(
            f"the index {path} does not say which encoder made its vectors; if it is this one, say reuse_index=True"
        )
    if maker != identity():
        raise ConfigurationError(
            f"the index {path} was made with other weights or settings than the encoder now has; build it again "
            "(retriever.index(corpus, overwrite=True)), or say reuse_index=True if only the query side was trained"
        )


class Opened:
    """An index in use, and what searches it.

    Args:
        index: Of pyterrier_dr; its files were looked at.
    """

    def __init__(self, index: FlexIndex) -> None:
        self.index = index
        self._searchers: dict[int, pt.Transformer] = {}
        self._table: dict[str, int] | None = None

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return int(self.index.payload(return_docnos=False)[0].shape[1])

    def search(
        self, queries: pd.DataFrame, search: Search, options: Mapping[str, Any], num_results: int
    ) -> pd.DataFrame:
        """Documents for queries, each query's best first; equal scores in the order of the index.

        Args:
            queries: With ``qid`` and ``query_vec``, which are of the index's width, and finite.
            search: What finds them (see ``_searcher``).
            options: Its arguments.
            num_results: Documents for a query.

        Returns:
            The columns of the queries, docno, score (float64) and rank.
        """
        if num_results not in self._searchers:
            self._searchers[num_results] = _searcher(self.index, search, options, num_results)
        queries = queries.assign(_place=range(len(queries)))
        found = self._searchers[num_results].transform(queries)
        keys = [found[name].to_numpy() for name in ("docid", "score", "_place")]
        order = np.lexsort((keys[0], -keys[1], keys[2]))
        found = found.iloc[order].drop(columns=["docid", "rank"]).reset_index(drop=True)
        return found.assign(
            score=found["score"].astype("float64"), rank=found.groupby("_place").cumcount().astype("int64")
        ).drop(columns="_place")

    def vectors(self, docnos: Sequence[str]) -> Vectors:
        """The vectors of documents, (docnos, width).

        Raises:
            InputError: The index does not have one of them.
        """
        wanted = {docno: place for place, docno in enumerate(dict.fromkeys(docnos))}
        ids = self._places(list(wanted))
        lost = [docno for docno, place in zip(wanted, ids, strict=True) if place < 0]
        if lost:
            raise InputError(
                f"{len(lost)} of {len(wanted)} documents are not in the index {self.index.index_path}, the first is "
                f"{lost[0]!r}; rerank them by their texts, without index="
            )
        made: Vectors = self.index.payload(return_docnos=False)[0][ids]
        return made if len(wanted) == len(docnos) else made[[wanted[docno] for docno in docnos]]

    def _places(self, docnos: list[str]) -> NDArray[np.int64]:
        """Places of distinct documents in the index; -1 for those that it does not have.

        npids 0.1.3 misses some docnos of the form prefix and number, such as the last of p001 … p200: what it does not
        find is looked up in a table of all docnos, made when it is needed.
        """
        names = self.index.docnos()
        ids = np.asarray(names.inv[np.array(docnos)], dtype=np.int64)
        sure = (ids >= 0) & (names.fwd[np.maximum(ids, 0)] == np.array(docnos))
        if not sure.all():
            if self._table is None:
                self._table = {str(docno): place for place, docno in enumerate(names)}
            for row in np.flatnonzero(~sure):
                ids[row] = self._table.get(docnos[row], -1)
        return ids


def _searcher(index: FlexIndex, search: Search, options: Mapping[str, Any], num_results: int) -> pt.Transformer:
    """What finds documents for vectors.

    Args:
        index: Of pyterrier_dr.
        search: "np", "torch", "faiss_hnsw", … for its method ``…_retriever``, or a function that is given the index.
        options: Arguments of the method.
        num_results: Documents for a query.

    Raises:
        ConfigurationError: It has no such method, or the method takes other arguments.
    """
    if callable(search):
        return search(index, num_results=num_results, **options)
    make = getattr(index, f"{search}_retriever", None)
    if make is None:
        names = sorted(name.removesuffix("_retriever") for name in dir(index) if name.endswith("_retriever"))
        raise ConfigurationError(f"searcher must be one of {', '.join(names)}, or a function, got {search!r}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable")  # its vectors are mapped read-only
        try:
            found: pt.Transformer = make(num_results=num_results, **options)
        except TypeError as error:
            if "num_results" not in str(error):
                raise ConfigurationError(f"searcher={search!r} does not take {dict(options)}: {error}") from error
            found = make(**options) % num_results  # faiss' own take the number from what they are asked for
    return found
