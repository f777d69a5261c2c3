"""Rerankers over what other rankers said, each trained with a plain ``fit``."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pyterrier_llmrank.aggregates import heaviest_path
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.scorers.embedding import Encoder
from pyterrier_llmrank.scorers.list_encoder import ListEncoder
from pyterrier_llmrank.scorers.over_lists import BestPath, ContextAware
from pyterrier_llmrank.training.fitting import Fitting
from pyterrier_llmrank.training.named import Loss, check_loss

from .trainable import Trainable, located

if TYPE_CHECKING:
    from pyterrier_llmrank.networks.context import Positions

FITTING = Fitting()


class ContextRanker(Trainable):
    """Reranks by self-attention over the feature vectors of a whole list: learning to rank in context.

    ::

        pipeline = bm25 % 100 >> (monot5 ** tct ** bm25) >> ContextRanker("context-model")
        pipeline.fit(train_topics, train_qrels, valid_topics, valid_qrels)
        pipeline(test_topics)

    A network of some 10,000 weights, trained in seconds to minutes on a CPU. Without ``positions`` the order of the
    candidates does not matter.

    Args:
        folder: Where ``fit`` saves the network, and where it is read from; one that is there is used as it is.
        fields: Columns whose numbers, side by side, are a document's features: vectors, or scores such as ``"score"``.
        width: Of a document's hidden state.
        layers: Blocks of self-attention.
        heads: Of attention; they divide ``width``.
        hidden: Width within the feed-forward part of a block.
        dropout: Share of values dropped in training.
        positions: "fixed" or "learned" positions for the first stage's ranks; none by default.
        loss: A name of ``training.losses``, or a function ``(scores, targets, mask) -> scalar``.
        fitting: How it is trained.
        depth: Candidates to rerank and to learn from; all by default.
        num_results: Rows to return for a query; all by default.
        verbose: Whether to show a progress bar.

    Raises:
        ConfigurationError: Sizes that do not fit together, or a loss of no known name.
        ModelNotFound: On first use: there is no trained network in ``folder``.

    Reference:
        Pobrotyn et al., 2020 (context-aware learning to rank with self-attention).
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        fields: tuple[str, ...] = ("features",),
        width: int = 64,
        layers: int = 2,
        heads: int = 2,
        hidden: int = 128,
        dropout: float = 0.1,
        positions: Positions | None = None,
        loss: str | Loss = "softmax_cross_entropy",
        fitting: Fitting = FITTING,
        depth: int | None = None,
        num_results: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.folder, self.fields, self.loss, self.fitting = located(folder), fields, loss, fitting
        self.width, self.layers, self.heads, self.hidden = width, layers, heads, hidden
        self.dropout, self.positions = dropout, positions
        check_sizes(width=width, heads=heads, layers=layers, dropout=dropout)
        check_loss(loss)
        if positions not in (None, "fixed", "learned"):
            raise ConfigurationError(f"positions must be 'fixed', 'learned' or None, got {positions!r}")
        scorer = ContextAware(self.folder, fields, ranks=positions is not None)
        self._build(scorer, depth, num_results, verbose)

    def _shape(self) -> dict[str, Any]:
        """Arguments of the network beside its number of inputs."""
        sizes = {"width": self.width, "layers": self.layers, "heads": self.heads, "hidden": self.hidden}
        return {**sizes, "dropout": self.dropout, "positions": self.positions}


class TSPRanker(Trainable):
    """Reranks along the heaviest path through a list: how well each document follows each other one is learnt.

    ``retriever >> TSPRanker("path-model", fields=("doc_vec",))``. The path of up to 12 documents is exact, of more
    found by local search (see ``heaviest_path``): rerank some 20 to 100. The order of the candidates counts, even among
    equal documents.

    Args:
        folder: Where ``fit`` saves the network, and where it is read from; one that is there is used as it is.
        fields: Columns whose numbers, side by side, are a document's vector.
        width: Of a document's hidden state.
        layers: Blocks of self-attention before the pairs; with none a pair's weight depends on these two alone.
        heads: Of attention; they divide ``width``.
        hidden: Width within the feed-forward part of a block.
        dropout: Share of values dropped in training.
        loss: "local" is a cross-entropy over what comes after each document, "global" a structured hinge on whole
            paths, which decodes twice a list and step; or a function ``(weights, targets, mask) -> scalar``.
        fitting: How it is trained.
        depth: Candidates to rerank and to learn from; all by default.
        num_results: Rows to return for a query; all by default.
        verbose: Whether to show a progress bar.

    Raises:
        ConfigurationError: Sizes that do not fit together, or a loss of no known name.
        ModelNotFound: On first use: there is no trained network in ``folder``.

    Reference:
        Li et al., 2025 (TSPRank).
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        fields: tuple[str, ...] = ("features",),
        width: int = 64,
        layers: int = 0,
        heads: int = 2,
        hidden: int = 128,
        dropout: float = 0.1,
        loss: Literal["local", "global"] | Loss = "local",
        fitting: Fitting = FITTING,
        depth: int | None = None,
        num_results: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.folder, self.fields, self.loss, self.fitting = located(folder), fields, loss, fitting
        self.width, self.layers, self.heads, self.hidden, self.dropout = width, layers, heads, hidden, dropout
        check_sizes(width=width, heads=heads, layers=layers, dropout=dropout)
        if not callable(loss) and loss not in ("local", "global"):
            raise ConfigurationError(f"loss must be 'local', 'global' or a function, got {loss!r}")
        self._build(BestPath(self.folder, fields, path=heaviest_path), depth, num_results, verbose)

    def _shape(self) -> dict[str, Any]:
        """Arguments of the network beside its number of inputs."""
        sizes = {"width": self.width, "layers": self.layers, "heads": self.heads, "hidden": self.hidden}
        return {**sizes, "dropout": self.dropout}

    def _loss(self) -> Any:  # noqa: ANN401 - a loss on weights of arcs
        from pyterrier_llmrank.training.paths import path_hinge, successor_cross_entropy

        named = {"local": successor_cross_entropy, "global": partial(path_hinge, path_of=heaviest_path)}
        return self.loss if callable(self.loss) else named[self.loss]


class ListConRanker(Trainable):
    """Reranks by a transformer over the vectors of query and passages, in which passages are compared with each other.

    ``bm25 % 100 >> text >> ListConRanker("list-model", BiEncoder(name, normalize=False))``. The encoder of texts stays
    as it is; ``fit`` trains the list encoder on top. The released checkpoint (Chinese) reads in Narrowing rounds:
    ``Rerank(Narrowing(), ListEncoder(folder, encoder))``, see ``networks.released``.

    Args:
        folder: Where ``fit`` saves the network, and where it is read from; one that is there is used as it is.
        encoder: Makes vectors of texts one by one: a ``BiEncoder``, any function from texts to vectors, or
            ``VectorColumns()`` for those in the frame.
        width: Of the list encoder.
        layers: Of the list encoder.
        heads: Of attention; they divide ``width``.
        hidden: Width within a layer's feed-forward part.
        dropout: Share of values dropped in training.
        loss: A name of ``training.losses``, or a function ``(scores, targets, mask) -> scalar`` of scores from 0 to 1.
        fitting: How it is trained.
        depth: Candidates to rerank and to learn from; all by default.
        num_results: Rows to return for a query; all by default.
        verbose: Whether to show a progress bar.

    Raises:
        ConfigurationError: Sizes that do not fit together, a loss of no known name, or no encoder.
        ModelNotFound: On first use: there is no trained network in ``folder``.

    Reference:
        Liu et al., 2025 (ListConRanker).
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        encoder: Encoder,
        *,
        width: int = 256,
        layers: int = 2,
        heads: int = 4,
        hidden: int = 512,
        dropout: float = 0.1,
        loss: str | Loss = "circle",
        fitting: Fitting = FITTING,
        depth: int | None = None,
        num_results: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.folder, self.encoder, self.loss, self.fitting = located(folder), encoder, loss, fitting
        self.width, self.layers, self.heads, self.hidden, self.dropout = width, layers, heads, hidden, dropout
        check_sizes(width=width, heads=heads, layers=layers, dropout=dropout)
        check_loss(loss)
        self._build(ListEncoder(self.folder, encoder), depth, num_results, verbose)

    def _shape(self) -> dict[str, Any]:
        """Arguments of the network beside its number of inputs."""
        sizes = {"width": self.width, "layers": self.layers, "heads": self.heads, "hidden": self.hidden}
        return {**sizes, "dropout": self.dropout}


def check_sizes(*, width: int, heads: int, layers: int, dropout: float) -> None:
    """Whether a network can have this shape.

    Raises:
        ConfigurationError: It cannot.
    """
    if width < 2 or heads < 1 or width % heads or layers < 0 or not 0 <= dropout < 1:
        raise ConfigurationError(
            f"a network needs a width of at least 2 that heads divide, no negative number of layers, and a dropout "
            f"from 0 to below 1, got width={width}, heads={heads}, layers={layers}, dropout={dropout}"
        )
