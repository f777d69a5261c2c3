"""``CrossEncoderLearner``: trains a network that reads query and document together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from pyterrier_llmrank.core import Question, spelled
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.models.hf.encoders import pad_token, read_batch
from pyterrier_llmrank.models.hf.exactness import Way
from pyterrier_llmrank.models.hf.fresh import Live
from pyterrier_llmrank.scorers import CrossEncoder
from pyterrier_llmrank.training.named import Loss

from .scoring import Scoring, by_length, compute_again


class CrossEncoderLearner(Scoring):
    """Trains a cross-encoder with a loss over lists.

    What it reads is put together by ``CrossEncoder`` itself, with the same options. Recipes of the literature are a
    loss and the targets of the lists: monoBERT is "binary_cross_entropy" on labels, RankT5 "softmax_cross_entropy" on
    one relevant document and sampled others, RankGPT's specialisation and Instruction Distillation are "rank_net" on a
    teacher's order (``targets="rank"``), FIRST's weights are ``partial(rank_net, weight=by_teacher_ranks)``, and
    Rank-DistiLLM is "adr_mse" on an order.

    Args:
        start: Folder or name of the weights to start from: a cross-encoder with one or two labels, or any encoder or
            decoder, such as a retriever, which gets a head with random weights.
        loss: A name of ``training.losses``, or a function ``(scores, targets, mask) -> scalar``.
        micro: Lists that are read at once; all of a batch by default.
        batch_tokens: Tokens of one forward pass at most, padding included. Inputs are sorted by length.
        packed: Whether layers compute no padding, which saves as much time as there is of it. Attention then has no
            dropout; gradients are the same otherwise.
        checkpointing: Whether states within the network are computed again for the gradient, to save memory.
        seed: Of a new head's weights.
        **reading: Options of ``CrossEncoder`` by which inputs are made, such as ``max_length``. A tokenizer saves
            ``max_length`` with the weights; templates must be told the scorer again.

    Attributes:
        network: What is trained.

    Raises:
        ConfigurationError: An argument is out of range, or an option is not one of ``CrossEncoder``.
        ModelNotFound: There are no such weights.
        ModelError: They have more than two labels, or need code of their own.

    Reference:
        Nogueira and Cho, 2019 (monoBERT); Zhuang et al., 2022 (RankT5); Sun et al., 2023 (RankGPT), section 5;
        Schlatt et al., 2025 (Rank-DistiLLM).
    """

    def __init__(
        self,
        start: str | os.PathLike[str],
        *,
        loss: str | Loss = "softmax_cross_entropy",
        micro: int | None = None,
        batch_tokens: int = 4_096,
        packed: bool = False,
        checkpointing: bool = False,
        seed: int = 0,
        **reading: Any,  # noqa: ANN401 - of CrossEncoder
    ) -> None:
        super().__init__(loss, micro)
        if batch_tokens < 1:
            raise ConfigurationError(f"batch_tokens must be at least 1 token, got {batch_tokens}")
        reader = CrossEncoder(os.fspath(start), **reading)
        self.batch_tokens, self.packed, self.seed = batch_tokens, packed, seed
        self._told, self._live = reader, Live.start(reader, seed=seed)
        self.network = self._live.network
        self.scorer.load()
        compute_again(self.network, on=checkpointing)

    @property
    def scorer(self) -> CrossEncoder:
        """Ranks with the weights as they are now."""
        return self._live.reader

    def scores(self, questions: Sequence[Question]) -> Tensor:
        """A score of each document of each question in turn, (documents,), with gradients."""
        scorer = self.scorer
        inputs, loaded = scorer.inputs(questions), self._live.loaded
        pad = pad_token(loaded, inputs)
        lengths = [len(one.ids) for one in inputs]
        read = partial(read_batch, loaded, pad=pad, read=scorer.read, way=Way(self.packed))
        return by_length(lengths, self.batch_tokens, lambda batch: read([inputs[at] for at in batch])[:, 0])

    def save(self, folder: Path) -> None:
        """Writes a checkpoint that ``CrossEncoder`` loads."""
        self._live.save(folder, self._told.max_length)

    def __repr__(self) -> str:
        """What makes it, and all that its weights depend on."""
        told = f"loss={spelled(self.named)}, micro={self.micro}{', packed=True' * self.packed}, seed={self.seed}"
        return f"CrossEncoderLearner({self._told!r}, {told})"
