"""``QueryFeedback``: a reranker's verdict moves the query's vector, for a second retrieval (FIRST)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyterrier as pt

from .columns import check_columns, docs_read
from .core import Question, spelled
from .errors import ConfigurationError
from .frames import candidate_order, query_texts
from .parts import reads
from .scorers.columns import vectors
from .scorers.embedding import Embedded, Encoder, VectorColumns, check_encoder, embedded

if TYPE_CHECKING:
    from torch import Tensor

ORDER_SHARE = 5  # the order moves a vector by a fifth of the steps, each a fifth as long


class QueryFeedback(pt.Transformer):
    """Moves each query's vector until its products with the documents agree with how they were reranked.

    From a reranked result list to a query with a new ``query_vec``, which retrieves what the first list lacks::

        dense = encoder >> index.retriever(num_results=100)
        pipeline = dense >> index.vec_loader() >> text >> ListwiseLLM() >> QueryFeedback() >> index.retriever()

    First by the scores of a cross-encoder, where ``scores`` names their column: the divergence of its belief in the
    documents from that of the products is made smaller. Then by the order of the list: the products of the first stage,
    given to the documents in their new order, are targets of a RankNet loss that weighs pairs by ``1 / (r_i + r_j)``.
    Nothing else is trained, and no query changes another.

    Args:
        encoder: Where vectors come from: ``VectorColumns()`` of the frame (``query_vec`` and ``doc_vec``),
            ``BiEncoder(name)``, or any function from texts to vectors. It has to be the retriever's own.
        scores: Column with the scores of a cross-encoder, such as "llmrank_score" after one; none by default.
        order: Whether the order of the list counts, by ``rank``, else by ``score``.
        top_k: Documents of a list that count; all by default.
        learning_rate: Of Adam, for the scores; a fifth of it for the order.
        steps: Of Adam, for the scores; a fifth of them for the order.
        text_field: Column of the documents' text, where the encoder reads it.

    Raises:
        ConfigurationError: Nothing counts, or a number is out of range.

    Reference:
        Reddy et al., 2024 (FIRST), section 3.4; the numbers are those of the published script.
    """

    def __init__(
        self,
        encoder: Encoder | None = None,
        *,
        scores: str | None = None,
        order: bool = True,
        top_k: int | None = None,
        learning_rate: float = 0.005,
        steps: int = 100,
        text_field: str = "text",
    ) -> None:
        super().__init__()
        if scores is None and not order:
            raise ConfigurationError("QueryFeedback needs scores= or order=True, or there is nothing to learn from")
        if learning_rate <= 0 or steps < 0 or (top_k is not None and top_k < 1):
            raise ConfigurationError(
                f"learning_rate must be above 0, steps not negative and top_k at least 1, got {learning_rate}, {steps} "
                f"and {top_k}"
            )
        self.encoder = VectorColumns() if encoder is None else encoder
        check_encoder("QueryFeedback", self.encoder)
        self.scores, self.order, self.top_k = scores, order, top_k
        self.learning_rate, self.steps, self.text_field = learning_rate, steps, text_field

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """One row for each query: ``qid``, ``query`` and ``query_vec`` (float32).

        Raises:
            InputValidationError: A column is missing.
            InputError: A vector or score is missing, or vectors differ in width.
        """
        reader = _Reader(self._reads())
        check_columns(inp, reader, self.text_field, self)
        if not len(inp):
            return pd.DataFrame({name: pd.Series(dtype="object") for name in ("qid", "query", "query_vec")})
        order, starts = candidate_order(inp)
        docs = docs_read(inp, order, starts, reader, self.text_field)
        rows = inp.iloc[order]
        qids = [str(rows["qid"].iloc[start]) for start in starts]
        queries = query_texts(rows, starts)
        ends = [*starts[1:], len(docs)]
        questions = [
            Question(query, tuple(docs[start:end][: self.top_k]), qid)
            for query, qid, start, end in zip(queries, qids, starts, ends, strict=True)
        ]
        moved = [
            self._moved(question, one)
            for question, one in zip(questions, embedded(self.encoder, questions), strict=True)
        ]
        return pd.DataFrame({"qid": rows["qid"].iloc[starts].tolist(), "query": queries, "query_vec": moved})

    def _moved(self, question: Question, one: Embedded) -> Any:  # noqa: ANN401 - an array
        """The query's new vector, float32."""
        import torch

        from .networks.feedback import moved
        from .training.losses import by_teacher_ranks, kl_divergence, rank_net

        query, docs = torch.from_numpy(one.query).float(), torch.from_numpy(one.docs).float()
        if self.scores is not None:
            told = torch.from_numpy(vectors(question, (self.scores,))[:, 0]).float()
            query = moved(query, docs, told, loss=kl_divergence, learning_rate=self.learning_rate, steps=self.steps)
        if self.order:
            query = moved(
                query,
                docs,
                by_order(torch.from_numpy(one.docs @ one.query).float()),
                loss=partial(rank_net, weight=by_teacher_ranks),
                learning_rate=self.learning_rate / ORDER_SHARE,
                steps=self.steps // ORDER_SHARE,
            )
        return query.numpy().astype(np.float32)

    def _reads(self) -> tuple[str, ...]:
        columns = reads(self.encoder)
        return columns if self.scores is None else (*columns, self.scores)

    def subtransformers(self) -> dict[str, pt.Transformer]:
        """None."""
        return {}

    def __repr__(self) -> str:
        """The call that builds an equal transformer."""
        usual: dict[str, Any] = {"scores": None, "order": True, "top_k": None, "learning_rate": 0.005, "steps": 100}
        usual |= {"text_field": "text"}
        told = [] if self.encoder == VectorColumns() else [spelled(self.encoder)]
        told += [f"{name}={getattr(self, name)!r}" for name, value in usual.items() if getattr(self, name) != value]
        return f"QueryFeedback({', '.join(told)})"

    def __eq__(self, other: object) -> bool:
        """Same class, equal arguments."""
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        """By repr, which follows from the arguments."""
        return hash(repr(self))


class _Reader:
    """Stands for a scorer that reads these columns."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.reads = columns


def by_order(products: Tensor) -> Tensor:
    """The products of a list's documents from highest to lowest, given to them in the order in which they stand."""
    return products.sort(descending=True).values
