"""``DenseEncoder``: queries and documents to vectors, in the columns that pyterrier_dr's indexes read."""

from __future__ import annotations

import os
from functools import cached_property

import pandas as pd
import pyterrier as pt

from pyterrier_llmrank.described import Described
from pyterrier_llmrank.models.hf.encoders import Pooling
from pyterrier_llmrank.scorers import BiEncoder

from .encoding import Vectors, bi_encoder, identity, save, vectors_of
from .transformers import DOC, QUERY, DocEncoder, QueryEncoder, TextScorer


class DenseEncoder(Described):
    """Adds vectors to frames: ``query_vec`` to queries, ``doc_vec`` to documents; scores where there are both.

    A factory as pyterrier_dr's encoders are, for its ``FlexIndex``::

        encoder = DenseEncoder("intfloat/e5-base-v2")
        (encoder.doc_encoder() >> FlexIndex("e5.flex")).index(dataset.get_corpus_iter())
        pipeline = encoder.query_encoder() >> FlexIndex("e5.flex").retriever()

    How a checkpoint makes its vectors is read from its folder of sentence-transformers, or known (see
    ``dense.checkpoints()``); arguments that are given count more. Vectors are float32, whatever the precision of the
    network, and do not depend on what is encoded with them. Used as it is, it does what the columns of a frame ask for.

    Args:
        model: A folder, a name on the Hugging Face hub, or a ``BiEncoder``.
        pooling: "mean", "cls" or "last".
        normalize: Whether vectors have the length 1.
        query_prefix: What goes before a query.
        doc_prefix: What goes before a document.
        max_length: Tokens of a text that are read.
        text_field: Column of the documents' text.
        device: As of ``Local``; the best there is by default.
        dtype: As of ``Local``; half precision on a GPU, float32 on a CPU by default.
        batch_tokens: Tokens of one forward pass.

    Raises:
        ConfigurationError: On first use: an argument is out of range, or the checkpoint needs what is not there.
        ModelNotFound: On first use: there are no such weights.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | BiEncoder,
        *,
        pooling: Pooling | None = None,
        normalize: bool | None = None,
        query_prefix: str | None = None,
        doc_prefix: str | None = None,
        max_length: int | None = None,
        text_field: str = "text",
        device: str | tuple[str, ...] | None = None,
        dtype: str | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        super().__init__()
        self.model = model if isinstance(model, BiEncoder) else os.fspath(model)
        self.pooling, self.normalize, self.max_length = pooling, normalize, max_length
        self.query_prefix, self.doc_prefix, self.text_field = query_prefix, doc_prefix, text_field
        self.device, self.dtype, self.batch_tokens = device, dtype, batch_tokens

    @cached_property
    def bi_encoder(self) -> BiEncoder:
        """What makes the vectors; its weights load on first use.

        Raises:
            ConfigurationError: See ``DenseEncoder``.
        """
        return bi_encoder(
            self.model,
            {"device": self.device, "dtype": self.dtype, "batch_tokens": self.batch_tokens},
            pooling=self.pooling,
            normalize=self.normalize,
            query_prefix=self.query_prefix,
            doc_prefix=self.doc_prefix,
            max_length=self.max_length,
        )

    def encode_queries(self, texts: list[str], batch_size: int | None = None) -> Vectors:
        """Vectors of queries, (texts, width); ``batch_size`` is ignored, as batches are made by ``batch_tokens``."""
        return vectors_of(self.bi_encoder, list(texts), self.bi_encoder.query_prefix)

    def encode_docs(self, texts: list[str], batch_size: int | None = None) -> Vectors:
        """Vectors of documents, (texts, width); ``batch_size`` is ignored."""
        return vectors_of(self.bi_encoder, list(texts), self.bi_encoder.doc_prefix)

    def query_encoder(self) -> QueryEncoder:
        """A transformer that adds ``query_vec``."""
        return QueryEncoder(self)

    def doc_encoder(self) -> DocEncoder:
        """A transformer that adds ``doc_vec``."""
        return DocEncoder(self)

    def text_scorer(self, *, num_results: int | None = None) -> TextScorer:
        """A transformer that reranks by the inner product of query and document."""
        return TextScorer(self, num_results=num_results)

    def fingerprint(self) -> str:
        """The same for encoders that give documents the same vectors; reads the weights' files, once in a process."""
        return identity(self.bi_encoder)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes a folder that sentence-transformers and ``DenseEncoder`` load.

        Raises:
            ConfigurationError: It is the folder that this was loaded from.
        """
        save(self.bi_encoder, folder)

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Encodes queries or documents, or scores results, as the columns say.

        Raises:
            InputValidationError: They say none of the three.
        """
        with pt.validate.any(inp, context=self) as v:
            v.query_frame(extra_columns=["query"], mode="query")
            v.document_frame(extra_columns=[self.text_field], mode="doc")
            v.result_frame(extra_columns=[QUERY, DOC], mode="scorer")
            v.result_frame(extra_columns=["query", self.text_field], mode="scorer")
            v.result_frame(extra_columns=["query", DOC], mode="scorer")
            v.result_frame(extra_columns=[QUERY, self.text_field], mode="scorer")
        if v.mode == "query":
            return self.query_encoder().transform(inp)
        return self.doc_encoder().transform(inp) if v.mode == "doc" else self.text_scorer().transform(inp)
