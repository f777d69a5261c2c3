"""Retrieval by a dense retriever: queries in, documents of its index out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_llmrank.described import Described
from pyterrier_llmrank.errors import InputError

from .transformers import DOC, QUERY

if TYPE_CHECKING:
    from .retriever import DistilledRetriever

KINDS = {"score": "float64", "rank": "int64"}


class DenseSearcher(Described):
    """Documents for queries, or for vectors of queries, from the index of a retriever.

    Args:
        retriever: Whose encoder, index, searcher, ``num_results``, ``texts`` and ``vectors``.
    """

    def __init__(self, retriever: DistilledRetriever) -> None:
        super().__init__()
        self.retriever = retriever

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Query by query, best first; columns of the queries stay.

        Raises:
            InputValidationError: There is no column of queries.
            ConfigurationError: The index is not whole, or other weights made it.
            InputError: A query without text, or a vector of another width than the index's, or not finite.
        """
        own = self.retriever
        with pt.validate.any(inp, context=self) as v:
            v.query_frame(extra_columns=["query"])
            v.query_frame(extra_columns=[QUERY])
        kept = [name for name in inp.columns if name not in (QUERY, DOC, "score", "rank")]
        vectors = ([QUERY], [DOC]) if own.vectors else ([], [])
        names = [*kept, *vectors[0], "docno", *vectors[1], "score", "rank"]
        if len(inp):
            found = self._found(inp)[names]
        else:
            found = pd.DataFrame({name: pd.Series(dtype=KINDS.get(name, "object")) for name in names})
        return found if own.texts is None else own.texts.transform(found)

    def fuse_rank_cutoff(self, k: int) -> pt.Transformer:
        """``% k`` as an argument: fewer documents are looked for."""
        own = self.retriever
        return self if own.num_results <= k else DenseSearcher(own.apply_attributes(num_results=k))

    def _found(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The documents, with all columns that may be asked for."""
        own = self.retriever
        index = own.opened()
        queries = inp if QUERY in inp else own.encoder.query_encoder().transform(inp)
        queries = queries.drop(columns=["score", "rank", DOC], errors="ignore").reset_index(drop=True)
        made = queries[QUERY].tolist()
        if wrong := {np.shape(one) for one in made} - {(index.width,)}:
            raise InputError(
                f"query vectors have the shape {wrong.pop()}, and those of the index {own.path} {(index.width,)}"
            )
        if not np.isfinite(np.stack(made)).all():
            raise InputError("a query's vector has numbers that are not finite")
        found = index.search(queries, own.searcher, own.searcher_options or {}, own.num_results)
        if not own.vectors:
            return found
        return found.assign(**{DOC: pd.Series(list(index.vectors(found["docno"].tolist())), dtype="object")})
