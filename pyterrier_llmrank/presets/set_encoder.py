"""Published cross-encoders whose documents see one another."""

from __future__ import annotations

from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import SetEncoder
from pyterrier_llmrank.strategies import OneShot

from .registry import ENGINE, Name, Options, preset, reranker

if TYPE_CHECKING:
    from typing_extensions import Unpack

PAPER = (
    "Schlatt et al., 2025, Set-Encoder: Permutation-Invariant Inter-Passage Attention for Listwise Passage Re-Ranking "
    "with Cross-Encoders"
)


def _reranker(model: Name, seed: int | None, options: Options) -> Rerank:
    """The whole list at once."""
    if not isinstance(model, str | PathLike):
        raise ConfigurationError(f"this method reads a Set-Encoder: pass its name or folder, not {model!r}")
    told: dict[str, Any] = {name: options[name] for name in ENGINE if options.get(name) is not None}  # type: ignore[literal-required]
    scorer = SetEncoder(fspath(model), seed=seed, **told)
    scorer.check()
    return reranker(OneShot(), scorer, **options)


@preset(
    paper=PAPER,
    family="groupwise",
    checkpoints=("webis/set-encoder-base", "webis/set-encoder-large"),
    published={"DL19": 74.6, "DL20": 70.4},
    source="webis/set-encoder-base model card, BM25; large 75.0 and 72.2; on ColBERTv2 78.1 and 76.8, large 78.9 and "
    "79.1. The paper's own models, on BM25: 72.4 and 71.0, large 72.7 and 73.5",
    licence="Apache-2.0",
)
def set_encoder(
    model: Name = "webis/set-encoder-base", *, seed: int | None = None, **options: Unpack[Options]
) -> Rerank:
    """A cross-encoder that reads the whole list at once, each document in the light of the others (Set-Encoder).

    Args:
        model: The checkpoint.
        seed: Fills short lists up with random documents, as the official code does; see ``SetEncoder``.
        options: See ``Options``.

    Raises:
        ConfigurationError: ``model`` is not the name of a checkpoint.
    """
    return _reranker(model, seed, options)


@preset(
    paper=PAPER,
    family="groupwise",
    checkpoints=("webis/set-encoder-novelty-base",),
)
def set_encoder_novelty(
    model: Name = "webis/set-encoder-novelty-base", *, seed: int | None = None, **options: Unpack[Options]
) -> Rerank:
    """The same, trained to put documents that repeat what a better one says further down.

    Args:
        model: The checkpoint.
        seed: Fills short lists up with random documents, as the official code does; see ``SetEncoder``.
        options: See ``Options``.

    Raises:
        ConfigurationError: ``model`` is not the name of a checkpoint.
    """
    return _reranker(model, seed, options)
