"""What a dense encoder makes: transformers that add vectors of queries or documents, or score by both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_llmrank.described import Described
from pyterrier_llmrank.errors import InputError
from pyterrier_llmrank.frames import candidate_order, documents, query_texts

from .encoding import Vectors
from .scoring import ordered

if TYPE_CHECKING:
    from .encoder import DenseEncoder

QUERY, DOC = "query_vec", "doc_vec"


class QueryEncoder(Described):
    """Adds ``query_vec``, (width,) in float32, to every row; each query is encoded once."""

    def __init__(self, encoder: DenseEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The frame with its vectors.

        Raises:
            InputValidationError: There is no column ``qid`` or ``query``.
            InputError: A query has no text.
        """
        pt.validate.columns(inp, includes=["qid", "query"], context=self)
        if not len(inp):
            return inp.assign(**{QUERY: pd.Series(dtype="object")})
        order, starts = candidate_order(inp)
        rows = inp.iloc[order]
        made = self.encoder.encode_queries(query_texts(rows, starts))
        of_row = np.empty(len(inp), dtype=np.int64)
        of_row[order] = np.repeat(np.arange(len(starts)), np.diff([*starts, len(inp)]))
        return inp.reset_index(drop=True).assign(**{QUERY: pd.Series([made[row] for row in of_row], dtype="object")})


class DocEncoder(Described):
    """Adds ``doc_vec``, (width,) in float32; equal texts are encoded once."""

    def __init__(self, encoder: DenseEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.batch_size = 4096  # documents that ``Compose.index`` hands over at once

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The frame with its vectors; a missing text is encoded as an empty one, and said once.

        Raises:
            InputValidationError: There is no column of texts.
        """
        text_field = self.encoder.text_field
        pt.validate.columns(inp, includes=["docno", text_field], context=self)
        if not len(inp):
            return inp.assign(**{DOC: pd.Series(dtype="object")})
        made = self.encoder.encode_docs([doc.text for doc in documents(inp, text_field)])
        return inp.reset_index(drop=True).assign(**{DOC: pd.Series(list(made), dtype="object")})

    def fuse_rank_cutoff(self, k: int) -> pt.Transformer:
        """Cuts before encoding rather than after."""
        return pt.RankCutoff(k) >> self


class TextScorer(Described):
    """Reranks by the inner product of ``query_vec`` and ``doc_vec``; what is missing of the two is encoded.

    Args:
        encoder: Makes what is missing.
        num_results: Rows to return for a query; all by default.
    """

    def __init__(self, encoder: DenseEncoder, *, num_results: int | None = None) -> None:
        super().__init__()
        self.encoder, self.num_results = encoder, num_results

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The rows by query, best first; equal scores keep their order, of the candidates as ``Rerank`` takes them.

        Raises:
            InputValidationError: A column is missing.
            InputError: Vectors are of different widths, or not finite.
        """
        text = self.encoder.text_field
        with pt.validate.any(inp, context=self) as v:
            v.result_frame(extra_columns=["query", text])
            v.result_frame(extra_columns=["query", DOC])
            v.result_frame(extra_columns=[QUERY, text])
            v.result_frame(extra_columns=[QUERY, DOC])
        if not len(inp):
            return ordered(inp, np.empty(0), self.num_results)
        queries = inp if QUERY in inp else self.encoder.query_encoder().transform(inp)
        docs = inp if DOC in inp else self.encoder.doc_encoder().transform(inp)
        return ordered(inp, inner_products(queries[QUERY].tolist(), docs[DOC].tolist()), self.num_results)

    def fuse_rank_cutoff(self, k: int) -> pt.Transformer:
        """``% k`` as an argument."""
        return (
            self if self.num_results is not None and self.num_results <= k else TextScorer(self.encoder, num_results=k)
        )


def inner_products(queries: list[Any], docs: list[Any]) -> Vectors:
    """Of each row's two vectors, (rows,).

    Raises:
        InputError: Vectors are missing, of different widths, or not finite.
    """
    try:
        first, second = np.stack(queries).astype(np.float32), np.stack(docs).astype(np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the columns {QUERY!r} and {DOC!r} need a vector of one width on every row: {error}"
        ) from error
    if first.shape != second.shape or first.ndim != 2:
        raise InputError(
            f"query vectors have the shape {first.shape[1:]} and document vectors {second.shape[1:]}; make both with "
            "one encoder"
        )
    # a product of matrices would round equal rows apart, by their place
    products: Vectors = np.einsum("rw,rw->r", first, second)
    if lost := int((~np.isfinite(products)).sum()):
        raise InputError(f"{lost} of {len(products)} rows have vectors with numbers that are not finite")
    return products
