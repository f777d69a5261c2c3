"""``AdoreLearner``: queries learn what to find in an index whose documents stay as they are (ADORE)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyterrier_llmrank.core import spelled
from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.training.data import TrainingList
from pyterrier_llmrank.training.losses import lambda_loss, mrr

from .bi_encoder import BiEncoderLearner
from .collating import Texts

Loss: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
ADORE: Loss = partial(lambda_loss, weight=mrr)
"""LambdaRank whose pairs are worth what exchanging them moves in reciprocal rank, as the authors train."""


class AdoreLearner:
    """Trains queries alone: each step finds documents with the queries as they are now, and learns to order them.

    Documents keep their vectors, so that no index is made again. What is found are the negatives of a moment; a
    relevant document that is not found stands behind them. The documents of a list say what is relevant by targets
    above 0; their texts are not read.

    Args:
        name: A folder, or a name on the Hugging Face hub.
        docnos: Of the index.
        vectors: Of these documents, (documents, width), float32.
        depth: Documents that each query finds in a step.
        loss: Of found documents' scores, ``(scores, targets, mask) -> scalar`` of one list.
        temperature: Products are divided by it before the loss; by default 1, and 0.05 for vectors of length 1, whose
            products are close together.
        **options: Of ``BiEncoderLearner``: pooling, normalize, query_prefix, query_tokens, batch_tokens …

    Attributes:
        network: What is trained.

    Raises:
        ConfigurationError: An argument is out of range, or vectors do not fit.
        ModelNotFound: There are no such weights.

    Reference:
        Zhan et al., 2021 (STAR and ADORE).
    """

    def __init__(
        self,
        name: str,
        docnos: Sequence[str],
        vectors: NDArray[np.float32],
        *,
        depth: int = 200,
        loss: Loss = ADORE,
        temperature: float | None = None,
        **options: Any,  # noqa: ANN401 - those of BiEncoderLearner
    ) -> None:
        if depth < 1 or (temperature is not None and not temperature > 0):
            raise ConfigurationError(f"depth is at least 1 and temperature above 0, got {depth} and {temperature}")
        self.learner = BiEncoderLearner(name, **options)
        self.network = self.learner.network
        width = self.network.encoder.config.get_text_config().hidden_size
        if vectors.shape != (len(docnos), width):
            raise ConfigurationError(
                f"{len(docnos)} documents need vectors of the shape {(len(docnos), width)} for queries of {name}, got "
                f"{vectors.shape}"
            )
        self.places = {docno: place for place, docno in enumerate(docnos)}
        self.depth, self.loss = min(depth, len(docnos)), loss
        self.temperature = temperature or (0.05 if self.network.normalize else 1.0)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*not writable")  # mapped from a file, and never written
            self._vectors = torch.from_numpy(vectors)

    def learn(self, lists: Sequence[TrainingList], backward: Callable[[Tensor], None]) -> float:
        """The mean loss over lists.

        Raises:
            InputError: A list has no relevant document, or one that the index does not have.
        """
        if not lists:
            return 0.0
        relevant = [self._relevant(one) for one in lists]
        texts = {text: place for place, text in enumerate(dict.fromkeys(one.query for one in lists))}
        values: list[float] = []

        def differentiate(queries: Tensor) -> Tensor:
            leaves = queries.requires_grad_(True)
            own = leaves[[texts[one.query] for one in lists]]  # (lists, width)
            losses = [
                self._of_list(query, found, wanted)
                for query, found, wanted in zip(own, self._found(own.detach()), relevant, strict=True)
            ]
            value = torch.stack(losses).mean()
            values.append(float(value.detach()))
            return torch.autograd.grad(value, leaves)[0]

        self.learner._passes(Texts([*texts], [])).learn(differentiate, backward)
        return values[0]

    def _relevant(self, one: TrainingList) -> dict[int, float]:
        """The places of a list's relevant documents, with their targets."""
        wanted = {doc.docno: target for doc, target in zip(one.docs, one.targets, strict=True) if target > 0}
        lost = [docno for docno in wanted if docno not in self.places]
        if not wanted or lost:
            what = f"document {lost[0]!r}, which is not in the index" if lost else "no document with a target above 0"
            raise InputError(f"the list of query {one.qid!r} has {what}; leave it out")
        return {self.places[docno]: target for docno, target in wanted.items()}

    def _found(self, queries: Tensor) -> Tensor:
        """Places of the documents that queries find, best first, (queries, depth)."""
        with torch.no_grad():
            self._vectors = self._vectors.to(queries.device)
            return (queries.float() @ self._vectors.T).topk(self.depth, dim=1).indices

    def _of_list(self, query: Tensor, found: Tensor, relevant: dict[int, float]) -> Tensor:
        """The loss of one query's documents: those found, and behind them the relevant ones that were not."""
        places = [*dict.fromkeys([*found.tolist(), *relevant])]
        scores = self._vectors[places] @ query.float() / self.temperature
        targets = torch.tensor([relevant.get(place, 0.0) for place in places], device=scores.device)
        return self.loss(scores[None], targets[None], torch.ones_like(targets, dtype=torch.bool)[None])

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors that the network makes of queries now, (texts, width)."""
        return self.learner.encode_queries(texts)

    def save(self, folder: str | Path) -> None:
        """Writes a folder that ``BiEncoder`` and sentence-transformers load."""
        self.learner.save(folder)

    def __repr__(self) -> str:
        """What tells its training from others'."""
        told = f"depth={self.depth}, loss={spelled(self.loss)}, temperature={self.temperature}"
        return f"AdoreLearner({self.learner!r}, {len(self.places)} documents, {told})"
