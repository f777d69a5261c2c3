"""Reranking by a dense retriever, which has an index or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_llmrank.described import Described

from .scoring import ordered
from .transformers import DOC, QUERY, inner_products

if TYPE_CHECKING:
    from .retriever import DistilledRetriever


class DenseReranker(Described):
    """Reranks by inner products, with vectors of documents from the frame, else of the index, else of their texts.

    Args:
        retriever: Whose encoder, index and ``num_results``.
    """

    def __init__(self, retriever: DistilledRetriever) -> None:
        super().__init__()
        self.retriever = retriever

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The rows by query, best first; equal scores keep their order.

        Raises:
            InputValidationError: A column is missing.
            ConfigurationError: The index is not whole, or other weights made it.
            InputError: The index lacks a document, or vectors are of different widths.
        """
        own = self.retriever
        stored = own._index is not None
        with pt.validate.any(inp, context=self) as v:
            for query in ("query", QUERY):
                v.result_frame(extra_columns=[query] if stored else [query, own.text_field])
                v.result_frame(extra_columns=[query, DOC])
        if not len(inp):
            return ordered(inp, np.empty(0), own.num_results)
        queries = inp if QUERY in inp else own.encoder.query_encoder().transform(inp)
        if DOC in inp:
            docs = inp[DOC].tolist()
        elif stored:
            docs = list(own.opened().vectors(inp["docno"].astype(str).tolist()))
        else:
            docs = own.encoder.doc_encoder().transform(inp)[DOC].tolist()
        return ordered(inp, inner_products(queries[QUERY].tolist(), docs), own.num_results)

    def fuse_rank_cutoff(self, k: int) -> pt.Transformer:
        """``% k`` as an argument."""
        own = self.retriever
        return self if own.num_results <= k else DenseReranker(own.apply_attributes(num_results=k))
