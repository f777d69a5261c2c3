"""Rankings by attention as they were published: which heads, which prompt, which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyterrier_llmrank.prompts import InContextPrompt
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import Attention, Band
from pyterrier_llmrank.strategies import OneShot

from .registry import Name, Options, engine, preset, reranker

if TYPE_CHECKING:
    from typing_extensions import Unpack


@preset(
    paper="Chen et al., 2025, Attention in Large Language Models Yields Efficient Zero-Shot Re-Rankers",
    family="in-context",
)
def icr(
    model: Name = "meta-llama/Llama-3.1-8B-Instruct",
    *,
    instruction: str = "IE",
    calibrate: bool = True,
    **options: Unpack[Options],
) -> Rerank:
    """The attention of all heads to 100 documents of 300 words, shown once, the first one last (ICR).

    Args:
        model: Any local decoder; the authors' code was tested with Mistral and Llama-3.1.
        instruction: "QA" for TREC-COVID, FiQA, Touché, DBpedia, NQ and the multi-hop sets, "IE" for all others.
        calibrate: Whether the attention of the query "N/A" is taken off.
        options: See ``Options``.
    """
    options.setdefault("depth", 100)
    scorer = Attention(engine(model, options), calibrate=calibrate, prompt=InContextPrompt(instruction))
    return reranker(OneShot(), scorer, **options)


@preset(
    paper="Zhang et al., 2025, Query-Focused Retrieval Heads Improve Long-Context Reasoning and Re-ranking",
    family="in-context",
)
def qr_head(model: Name = "meta-llama/Llama-3.1-8B-Instruct", **options: Unpack[Options]) -> Rerank:
    """The attention of the 16 heads that were found on NQ (32 of the 70B model), documents in input order (QRHead).

    Texts are a title, a line end and the passage, where there is a title.

    Args:
        model: Llama-3.1-8B, -70B, Llama-3.2-1B, -3B or Qwen2.5-7B, each -Instruct, or Qwen3-8B, for which heads were
            published; others find theirs with ``InContextRanker.fit``.
        options: See ``Options``.
    """
    scorer = Attention(engine(model, options), "qr", order="input", max_words=None)
    return reranker(OneShot(), scorer, **options)


@preset(
    paper="Tran et al., 2025, Contrastive Retrieval Heads Improve Attention-Based Re-Ranking",
    family="in-context",
)
def core_heads(model: Name = "mistralai/Mistral-7B-Instruct-v0.2", **options: Unpack[Options]) -> Rerank:
    """The attention of the 8 heads that tell relevant from near documents, 40 documents in input order (CoRe).

    The authors' code also counts the one token after each passage, and after the query, for some tokenizers; this does
    not.

    Args:
        model: Mistral-7B-Instruct-v0.2 or Llama-3.1-8B-Instruct, whose heads are known here; others find theirs with
            ``InContextRanker.fit``, ``find="contrast"``.
        options: See ``Options``.
    """
    options.setdefault("depth", 40)
    scorer = Attention(engine(model, options), "core", order="input", prompt=InContextPrompt(layout="core"))
    return reranker(OneShot(), scorer, **options)


@preset(
    paper="Chen et al., 2026, Where Relevance Emerges: A Layer-Wise Study of Internal Attention for Zero-Shot "
    "Re-Ranking",
    family="in-context",
)
def selective_icr(
    model: Name = "Qwen/Qwen3-8B", *, start: float = 0.4, end: float = 0.7, **options: Unpack[Options]
) -> Rerank:
    """The attention of all heads of the middle layers; those behind them are not run (Selective-ICR).

    The paper's idea; the ends of the band are ours.

    Args:
        model: Any local decoder.
        start: Where the band begins, as a share of the layers.
        end: Where it ends.
        options: See ``Options``.
    """
    options.setdefault("depth", 100)
    return reranker(OneShot(), Attention(engine(model, options), Band(start, end)), **options)
