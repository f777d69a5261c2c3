"""``BiEncoderLearner``: what a retriever is trained by, from lists of documents with targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.models.hf.batching import Budget
from pyterrier_llmrank.models.hf.encoders import Encoded, Limits, Pooling, encode, filled, run_encoder, spot_of
from pyterrier_llmrank.models.hf.loading import Checkpoint, Loaded, load
from pyterrier_llmrank.models.hf.sentence import Settings, write_settings
from pyterrier_llmrank.models.hf.text import TextSide
from pyterrier_llmrank.training.data import TrainingList
from pyterrier_llmrank.training.workers import joined, of_all

from .caching import Passes, alike
from .collating import DocumentVectors, Lists, Texts, collated, distinct, fixed, guided
from .gathering import gathered
from .named import Matryoshka, vector_loss
from .retriever import RetrieverNetwork
from .vectors import VectorLoss

GPU_TOKENS, CPU_TOKENS = 16_384, 2_048  # of a pass
HELD_TOKENS = 16_384
REMEMBERED = 100_000  # texts whose tokens are kept
ENDLESS = 1 << 40  # rows of a pass: tokens alone decide

_numbers = count(1)


class BiEncoderLearner:
    """Trains a retriever: texts to vectors, whose products say what a list's targets say.

    Each distinct text of a batch is encoded once, with others of its length. What memory cannot hold activations for
    is read twice (GradCache), so that batches may be of any size. Several processes see each other's vectors.

    Args:
        name: A folder, or a name on the Hugging Face hub.
        pooling: "mean", "cls" or "last", as the checkpoint was trained.
        normalize: Whether vectors are scaled to length 1.
        query_prefix: What the checkpoint expects before a query.
        doc_prefix: What it expects before a document.
        query_tokens: Of a query at most, special ones included.
        doc_tokens: Of a document.
        loss: A name of ``learners.named.LOSSES``, or a ``VectorLoss``. "cadet", "info_nce" and "bixse" look at the
            whole batch, the others at each list by itself.
        document_vectors: A function from texts to vectors, (texts, width), for documents that stay as they are, such
            as those of an index: only queries are trained then, which costs little.
        dims: Widths to which vectors are also cut, for the same loss (Matryoshka).
        dropout: Whether the checkpoint's dropout is on in training.
        batch_tokens: Tokens of one pass, padding included; by default 16,384 on a GPU and 2,048 on a CPU.
        held_tokens: Tokens whose activations are held; what exceeds them is read twice.
        revision: Branch, tag or commit on the hub.
        **settings: Of the loss.

    Attributes:
        network: What is trained.

    Raises:
        ConfigurationError: An argument is out of range, or no setting of the loss.
        ModelNotFound: There are no such weights.

    Reference:
        Tamber et al., 2025 (CADET); Gao et al., 2021 (GradCache).
    """

    def __init__(
        self,
        name: str,
        *,
        pooling: Pooling = "mean",
        normalize: bool = True,
        query_prefix: str = "",
        doc_prefix: str = "",
        query_tokens: int = 64,
        doc_tokens: int = 256,
        loss: str | VectorLoss = "cadet",
        document_vectors: DocumentVectors | None = None,
        dims: tuple[int, ...] = (),
        dropout: bool = False,
        batch_tokens: int | None = None,
        held_tokens: int = HELD_TOKENS,
        revision: str | None = None,
        **settings: Any,  # noqa: ANN401 - the loss's own
    ) -> None:
        if pooling not in ("mean", "cls", "last"):
            raise ConfigurationError(f"pooling must be 'mean', 'cls' or 'last', got {pooling!r}")
        sizes = {"query_tokens": query_tokens, "doc_tokens": doc_tokens, "batch_tokens": batch_tokens or 1}
        if low := {key: value for key, value in sizes.items() if value < 1}:
            raise ConfigurationError(f"a number of tokens is 1 or more, got {low}")
        wanted = vector_loss(loss, **settings)
        wanted = Matryoshka(wanted, dims) if dims else wanted
        # a copy of its own: loaded networks are shared with all who ask for the same
        loaded = load("encoder", Checkpoint(name, revision, "cpu", "float32", copy=-next(_numbers)))
        self.tokenizer = loaded.tokenizer
        self.query_tokens, self.doc_tokens = (
            min(tokens, loaded.context or tokens) for tokens in (query_tokens, doc_tokens)
        )
        encoder = loaded.network.requires_grad_(True)
        self.network = RetrieverNetwork(encoder, wanted, pooling=pooling, normalize=normalize, dropout=dropout)
        self.query_prefix, self.doc_prefix = query_prefix, doc_prefix
        self.batch_tokens, self.held_tokens = batch_tokens, held_tokens
        self.document_vectors = document_vectors
        fixed = document_vectors is not None
        self._told = {"name": name, "revision": revision, "dropout": dropout, "fixed": fixed}
        self._plain = TextSide(self.tokenizer, encoder_decoder=False, chat=False, thinking=False).plain
        self._known: dict[tuple[str, int], Encoded] = {}

    def __repr__(self) -> str:
        told = {**self._told, "settings": self._settings, "query_tokens": self.query_tokens, "loss": self.network.loss}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in told.items())})"

    def learn(self, lists: Sequence[TrainingList], backward: Callable[[Tensor], None]) -> float:
        """The mean loss of a batch, over all workers.

        Args:
            lists: This worker's part of it; of several workers, some may have none.
            backward: Called on scalars whose gradients sum up to those of the loss, so that the mean over workers, by
                their numbers of lists, is right.

        Raises:
            InputError: There are no lists, one has no document, or a target is NaN or of a kind that the loss refuses.
            ModelError: A pass does not fit in memory.
        """
        encoder, loss = self.network.encoder, self.network.loss
        texts, own = distinct(lists, encoder.config.get_text_config().hidden_size)
        parts = of_all(own)
        everyone = sum(len(part.rows) for part in parts)
        if not everyone:
            raise InputError("there are no lists to learn from")
        guide = None if loss.guide is None else self._together(parts, *guided(loss.guide, texts, encoder.device))
        values: list[float] = []

        def differentiate(vectors: Tensor) -> Tensor:
            leaves = vectors.requires_grad_(bool(lists))
            queries, documents = leaves.tensor_split([len(texts.queries)])
            if self.document_vectors is not None:
                documents = fixed(self.document_vectors, texts.documents, queries.device)
            value = loss(collated(parts, *self._together(parts, queries, documents), guide))
            values.append(float(value.detach()))
            if not lists:
                return vectors
            trained = [one for one in loss.parameters() if one.requires_grad]
            by_vectors, *others = torch.autograd.grad(value, [leaves, *trained])
            if trained:
                backward(torch.stack([(one * by).sum() for one, by in zip(trained, others, strict=True)]).sum())
            return by_vectors * (everyone / len(lists))  # others' losses are no part of this worker's mean

        if lists:
            self._passes(texts).learn(differentiate, backward)
        else:
            differentiate(torch.empty(0, own.width, device=encoder.device))
        return values[0]

    def _together(self, parts: Sequence[Lists], queries: Tensor, documents: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors of all workers, of which the own ones keep their gradients."""
        if joined()[1] == 1:
            return queries, documents
        width = max(of_all(queries.shape[1]))
        return (
            gathered(queries, [(part.queries, width) for part in parts]),
            gathered(documents, [(len(part.documents), width) for part in parts]),
        )

    def _passes(self, texts: Texts) -> Passes:
        """What is read at once: texts of about the same length, queries or documents, the longest first."""
        inputs = self._inputs(texts.queries, self.query_prefix, self.query_tokens)
        if self.document_vectors is None:
            inputs += self._inputs(texts.documents, self.doc_prefix, self.doc_tokens)
        lengths = [len(one.ids) for one in inputs]
        batches = alike(lengths, self._budget.tokens)
        sizes = [len(batch) * max(lengths[item] for item in batch) for batch in batches]
        pad = self.tokenizer.pad_token_id or 0
        return Passes(
            batches, sizes, self.held_tokens, lambda batch: self.network([inputs[item] for item in batch], pad)
        )

    @property
    def _budget(self) -> Budget:
        default = CPU_TOKENS if self.network.encoder.device.type == "cpu" else GPU_TOKENS
        return Budget(self.batch_tokens or default, ENDLESS)

    def _inputs(self, texts: Sequence[str], prefix: str, tokens: int) -> list[Encoded]:
        """Token ids, which are remembered: epochs show the same texts."""
        whole = [prefix + self._plain(text) for text in texts]
        if len(self._known) > REMEMBERED:
            self._known.clear()
        new = [text for text in whole if (text, tokens) not in self._known]
        loaded = Loaded(self.network.encoder, self.tokenizer)
        made = filled(loaded, encode(loaded, new, None, Limits(tokens)))
        self._known.update(zip(((text, tokens) for text in new), made, strict=True))
        return [self._known[text, tokens] for text in whole]

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors that the network makes of queries now, (texts, width)."""
        return self._encoded(self._inputs(texts, self.query_prefix, self.query_tokens))

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors that the network makes of documents now, (texts, width)."""
        return self._encoded(self._inputs(texts, self.doc_prefix, self.doc_tokens))

    def _encoded(self, inputs: list[Encoded]) -> NDArray[np.float32]:
        training = self.network.training
        self.network.eval()
        loaded = Loaded(self.network.encoder, self.tokenizer)
        vectors = run_encoder(loaded, inputs, self._budget, self.network.vectors, spot_of(self.network.pooling))
        self.network.train(training)
        return vectors.astype(np.float32)

    def save(self, folder: str | Path) -> None:
        """Writes a folder that ``BiEncoder`` and sentence-transformers load."""
        encoder = self.network.encoder
        encoder.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        write_settings(folder, self._settings, width=encoder.config.get_text_config().hidden_size)

    @property
    def _settings(self) -> Settings:
        own = self.network
        return Settings(own.pooling, own.normalize, self.query_prefix, self.doc_prefix, self.doc_tokens)
