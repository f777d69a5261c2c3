"""``DistilledRetriever``: a dense retriever from a checkpoint to results; encodes, indexes, retrieves and reranks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyterrier as pt

from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.models.hf.encoders import Pooling
from pyterrier_llmrank.scorers import BiEncoder

from .encoder import DenseEncoder
from .indexed import Search
from .reranking import DenseReranker
from .searching import DenseSearcher
from .teachable import Teachable
from .teaching import Teaching
from .transformers import QUERY

if TYPE_CHECKING:
    from pyterrier_dr import FlexIndex

TEACHING = Teaching()


class DistilledRetriever(Teachable):
    """Retrieves by the inner product of vectors, from an index of pyterrier_dr; reranks what it is given.

    ::

        dense = DistilledRetriever("manveertamber/cadet-embed-base-v1", index="cadet.flex", texts=dataset.text_loader())
        dense.index(dataset.get_corpus_iter())
        pipeline = dense % 100 >> ListwiseLLM()

    From queries it retrieves, and from results it reranks: by vectors of the frame, else of the index, else of texts
    that it encodes. An index holds no texts: ``texts`` joins them to what is retrieved; without it a pipeline does,
    by ``>> pt.text.get_text(dataset, "text") >>``. Feedback of a reranker into the query needs vectors in the frame::

        first = DistilledRetriever(name, index=path, texts=dataset.text_loader(), vectors=True) % 100
        pipeline = first >> ListwiseLLM() >> QueryFeedback() >> DistilledRetriever(name, index=path)

    An index knows the weights and settings of documents that it was made with, and is not used with others, unless
    ``reuse_index`` says so.

    Args:
        model: A folder, a name on the Hugging Face hub (see ``dense.checkpoints()``), a ``BiEncoder``, or a
            ``DenseEncoder``, which is taken as it is.
        index: Folder of the index, which ``index`` makes; or a ``FlexIndex`` of pyterrier_dr.
        pooling: As of ``DenseEncoder``, which says what these are by default.
        normalize: Whether vectors have the length 1.
        query_prefix: What goes before a query.
        doc_prefix: What goes before a document.
        max_length: Tokens of a text that are read.
        num_results: Rows for a query, also of results that are reranked.
        searcher: How documents are found: "np" (exact, from disk), "torch" (exact, in memory, also of a GPU), or an
            approximate searcher of ``FlexIndex``, such as "faiss_hnsw", "voyager", "flatnav" or "scann"; or a function
            from the index, with ``num_results=``, to a transformer.
        searcher_options: Arguments of that searcher, such as ``{"ef_search": 64}``.
        texts: A transformer that adds the documents' texts to results by docno, such as ``dataset.text_loader()``.
        vectors: Whether results keep ``query_vec`` and get ``doc_vec``.
        reuse_index: Whether an index is used that other weights made, or that does not say which.
        folder: Where ``fit`` and ``distill`` put what they train.
        teaching: How they do it.
        text_field: Column, and key, of the documents' text.
        device: As of ``Local``; the best there is by default.
        dtype: As of ``Local``; half precision on a GPU, float32 on a CPU by default.
        batch_tokens: Tokens of one forward pass.

    Raises:
        ConfigurationError: ``num_results`` is below 1. On first use: an argument is out of range, there is no whole
            index, or one that other weights made.
        ModelNotFound: On first use: there are no such weights.
        MissingExtra: On first use: pyterrier_dr is not installed.

    Reference:
        Tamber et al., 2025 (CADET), for what to train it with; MacAvaney and Macdonald's pyterrier_dr, for the index.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | BiEncoder | DenseEncoder,
        *,
        index: str | os.PathLike[str] | FlexIndex | None = None,
        pooling: Pooling | None = None,
        normalize: bool | None = None,
        query_prefix: str | None = None,
        doc_prefix: str | None = None,
        max_length: int | None = None,
        num_results: int = 1000,
        searcher: Search = "np",
        searcher_options: Mapping[str, Any] | None = None,
        texts: pt.Transformer | None = None,
        vectors: bool = False,
        reuse_index: bool = False,
        folder: str | os.PathLike[str] | None = None,
        teaching: Teaching = TEACHING,
        text_field: str = "text",
        device: str | tuple[str, ...] | None = None,
        dtype: str | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        super().__init__()
        if num_results < 1:
            raise ConfigurationError(f"num_results must be at least 1, got {num_results}")
        self.model = model if isinstance(model, BiEncoder | DenseEncoder) else os.fspath(model)
        self.pooling, self.normalize, self.max_length = pooling, normalize, max_length
        self.query_prefix, self.doc_prefix, self.text_field = query_prefix, doc_prefix, text_field
        self.device, self.dtype, self.batch_tokens = device, dtype, batch_tokens
        self._index = os.fspath(index) if isinstance(index, str | os.PathLike) else index
        self.num_results, self.searcher, self.searcher_options = num_results, searcher, searcher_options
        self.texts, self.vectors, self.reuse_index = texts, vectors, reuse_index
        self.folder, self.teaching = None if folder is None else os.fspath(folder), teaching
        self.history: list[dict[str, float]] = []
        self._kept: dict[str, Any] = {}  # what is opened and loaded, shared with clones

    @property
    def encoder(self) -> DenseEncoder:
        """What makes the vectors."""
        if isinstance(self.model, DenseEncoder):
            return self.model
        if "encoder" not in self._kept:
            self._kept["encoder"] = DenseEncoder(
                self.model,
                pooling=self.pooling,
                normalize=self.normalize,
                query_prefix=self.query_prefix,
                doc_prefix=self.doc_prefix,
                max_length=self.max_length,
                text_field=self.text_field,
                device=self.device,
                dtype=self.dtype,
                batch_tokens=self.batch_tokens,
            )
        found: DenseEncoder = self._kept["encoder"]
        return found

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Documents for queries, or results reranked, as the columns say.

        Returns:
            Query by query, best first, with ``score`` (the inner product) and ``rank``; columns of the input stay.
            Documents with equal scores stand in the order of the index, or of the results.

        Raises:
            InputValidationError: The frame has neither queries nor results.
            ConfigurationError: See the class.
            InputError: A query without text, a document that the index does not have, or vectors of another width.
        """
        with pt.validate.any(inp, context=self) as v:
            v.query_frame(extra_columns=["query"], mode="retrieve")
            v.query_frame(extra_columns=[QUERY], mode="retrieve")
            v.result_frame(extra_columns=["query"], mode="rerank")
            v.result_frame(extra_columns=[QUERY], mode="rerank")
        return DenseSearcher(self).transform(inp) if v.mode == "retrieve" else self.reranker().transform(inp)

    def retriever(self) -> DenseSearcher:
        """A transformer that retrieves, and is not trained with the pipeline that it is part of."""
        return DenseSearcher(self)

    def reranker(self) -> DenseReranker:
        """A transformer that reranks results: by vectors of the frame, else of the index, else of texts."""
        return DenseReranker(self)

    def query_encoder(self) -> pt.Transformer:
        """A transformer that adds ``query_vec`` to queries."""
        return self.encoder.query_encoder()

    def doc_encoder(self) -> pt.Transformer:
        """A transformer that adds ``doc_vec`` to documents."""
        return self.encoder.doc_encoder()

    def text_scorer(self) -> pt.Transformer:
        """A transformer that reranks by texts."""
        return self.encoder.text_scorer()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes weights, tokenizer and settings, for sentence-transformers and for ``DistilledRetriever``.

        Raises:
            ConfigurationError: It is the folder that they were loaded from.
        """
        self.encoder.save(folder)

    def fuse_rank_cutoff(self, k: int) -> pt.Transformer:
        """``% k`` as an argument: fewer documents are looked for."""
        return self if self.num_results <= k else self.apply_attributes(num_results=k)

    def apply_attributes(self, **changes: Any) -> DistilledRetriever:  # noqa: ANN401 - PyTerrier's protocol
        """A copy with other arguments, which shares what is loaded where it can."""
        made: DistilledRetriever = super().apply_attributes(**changes)  # type: ignore[assignment]
        if changes.keys() <= {"num_results", "texts", "vectors"}:
            made._kept = self._kept
        return made
