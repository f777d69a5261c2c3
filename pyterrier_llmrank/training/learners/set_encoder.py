"""``SetEncoderLearner``: trains a cross-encoder whose documents see one another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pyterrier_llmrank.core import Question, spelled
from pyterrier_llmrank.models.hf.fresh import Live, fresh_own
from pyterrier_llmrank.models.hf.loading import Checkpoint
from pyterrier_llmrank.networks.set_encoder import SetEncoderNetwork, from_encoder
from pyterrier_llmrank.networks.set_inputs import row_of
from pyterrier_llmrank.scorers import SetEncoder
from pyterrier_llmrank.training.named import Loss

from .scoring import Scoring, compute_again


class SetEncoderLearner(Scoring):
    """Trains a Set-Encoder with a loss over lists: as many documents of a query as fit, in any order.

    What it reads is put together by ``SetEncoder`` itself. Rank-DistiLLM, which the released checkpoints were trained
    on, is "rank_net" (or "adr_mse") on the order that a teacher gave 100 documents (``targets="rank"``), after
    "softmax_cross_entropy" on one relevant document and seven others.

    Args:
        start: Folder or name of a Set-Encoder, or of an encoder built like BERT, which gets a head with random weights
            and an interaction token.
        loss: A name of ``training.losses``, or a function ``(scores, targets, mask) -> scalar``.
        micro: Lists that are read at once; all of a batch by default.
        checkpointing: Whether states within the network are computed again for the gradient, to save memory.
        seed: Of new weights.
        max_query_tokens: Tokens to keep of a query; those of the start, or 32, by default. Saved with the weights.
        max_doc_tokens: Tokens to keep of a document; those of the start, or 256, by default. Saved with the weights.

    Attributes:
        network: What is trained.

    Raises:
        ConfigurationError: An argument is out of range.
        ModelNotFound: There are no such weights.
        ModelError: They are of an encoder that is not built like BERT.

    Reference:
        Schlatt et al., 2025 (Set-Encoder), section 4; Schlatt et al., 2025 (Rank-DistiLLM).
    """

    def __init__(
        self,
        start: str | os.PathLike[str],
        *,
        loss: str | Loss = "rank_net",
        micro: int | None = None,
        checkpointing: bool = False,
        seed: int = 0,
        max_query_tokens: int | None = None,
        max_doc_tokens: int | None = None,
    ) -> None:
        super().__init__(loss, micro)
        self.checkpointing, self.seed = checkpointing, seed
        self._told = SetEncoder(os.fspath(start), max_query_tokens=max_query_tokens, max_doc_tokens=max_doc_tokens)
        network: Any
        network, tokenizer = fresh_own(SetEncoderNetwork, Checkpoint(self._told.name), from_encoder, seed=seed)
        for name, told in (("query_length", max_query_tokens), ("doc_length", max_doc_tokens)):
            if told is not None:
                setattr(network.config, name, told)
        self.network, self._live = network, Live(self._told, network, tokenizer)
        self.scorer.load()
        compute_again(network, on=checkpointing)

    @property
    def scorer(self) -> SetEncoder:
        """Ranks with the weights as they are now."""
        return self._live.reader

    def scores(self, questions: Sequence[Question]) -> Tensor:
        """A score of each document of each question in turn, (documents,), with gradients."""
        scores: Tensor = self.network(row_of(self.scorer.inputs(questions), self._live.loaded.device))
        return scores

    def save(self, folder: Path) -> None:
        """Writes a checkpoint that ``SetEncoder`` loads."""
        self._live.save(folder)

    def __repr__(self) -> str:
        """What makes it, and all that its weights depend on."""
        return f"SetEncoderLearner({self._told!r}, loss={spelled(self.named)}, micro={self.micro}, seed={self.seed})"
