"""Published rerankers that read documents as vectors, or compare their vectors with that of a longer query."""

from __future__ import annotations

from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.prompts import EmbeddedPrompt
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import E2Rank, PERank
from pyterrier_llmrank.strategies import OneShot, SlidingWindow
from pyterrier_llmrank.vectors import Candidates

from .registry import ENGINE, Name, Options, preset, reranker

if TYPE_CHECKING:
    from typing_extensions import Unpack


def weights(model: Name, options: Options) -> tuple[str, dict[str, Any]]:
    """The name of a checkpoint, and those of the options that are for it.

    Raises:
        ConfigurationError: It is a model, where only weights will do.
    """
    if not isinstance(model, str | PathLike):
        raise ConfigurationError(f"this method reads a network's states: pass its name or folder, not {model!r}")
    return fspath(model), {name: options[name] for name in ENGINE if options.get(name) is not None}  # type: ignore[literal-required]


@preset(
    paper="Liu et al., 2024, Leveraging Passage Embeddings for Efficient Listwise Reranking with Large Language Models",
    family="listwise",
    checkpoints=("liuqi6777/pe-rank-mistral-jina",),
)
def pe_rank(
    model: Name = "liuqi6777/pe-rank-mistral-jina",
    *,
    texts: bool = False,
    vectors: Candidates | None = None,
    trust_remote_code: bool = False,
    window: int = 20,
    stride: int = 10,
    passes: int = 1,
    **options: Unpack[Options],
) -> Rerank:
    """A Mistral 7B that reads one vector for each passage, and answers with them (PE-Rank).

    As published, DL19's top 100 take 3.62 seconds a query where the passages' texts take 16.20, at less than 2% of
    nDCG. The official code encodes passages again for every window; here, each is encoded once.

    Args:
        model: The checkpoint.
        texts: Whether the passages' texts are read beside their vectors.
        vectors: Makes the vectors, or looks them up, such as ``Stored(encoder, path)``; by default the checkpoint's own
            encoder, jinaai/jina-embeddings-v2-base-en.
        trust_remote_code: Whether code that comes with the encoder may be run, as that of Jina's has to be.
        window: Passages read at once.
        stride: How far the window moves.
        passes: Times it moves through the list.
        **options: See ``Options``.

    Raises:
        ConfigurationError: ``model`` is not the name of a checkpoint.
    """
    name, told = weights(model, options)
    prompt = EmbeddedPrompt(texts=texts)
    scorer = PERank(name, prompt=prompt, vectors=vectors, trust_remote_code=trust_remote_code, **told)
    scorer.check()
    return reranker(SlidingWindow(window, stride, passes), scorer, **options)


@preset(
    paper="Liu et al., 2025, E2Rank: Your Text Embedding can Also be an Effective and Efficient Listwise Reranker",
    family="listwise",
    checkpoints=("Alibaba-NLP/E2Rank-0.6B", "Alibaba-NLP/E2Rank-4B", "Alibaba-NLP/E2Rank-8B"),
)
def e2rank(
    model: Name = "Alibaba-NLP/E2Rank-0.6B",
    *,
    shown: int = 20,
    vectors: Candidates | None = None,
    **options: Unpack[Options],
) -> Rerank:
    """An embedding model that reads a query with its first documents, and compares what comes of it with all of them.

    One reading orders the whole list, as in the authors' evaluation (a window of 100, of which 20 are shown).

    Args:
        model: The checkpoint.
        shown: Documents to read with the query.
        vectors: Makes the vectors of documents, or looks them up, such as ``Stored(encoder, path)``; by default the
            checkpoint itself.
        **options: See ``Options``.

    Raises:
        ConfigurationError: ``model`` is not the name of a checkpoint.
    """
    name, told = weights(model, options)
    scorer = E2Rank(name, shown=shown, vectors=vectors, **told)
    scorer.check()
    return reranker(OneShot(), scorer, **options)
