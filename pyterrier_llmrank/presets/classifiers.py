"""Published decoders with a classification head, which score a query and a document in one reading."""

from __future__ import annotations

from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import CrossEncoder
from pyterrier_llmrank.strategies import Pointwise

from .registry import ENGINE, Name, Options, preset, reranker

if TYPE_CHECKING:
    from typing_extensions import Unpack

QUERY, DOCUMENT = "query: {query}", "document: {text}"  # texttron/tevatron, examples/rankllama; DeAR, simple_rerank.py
QUERY_TOKENS = 32


def classifier(model: Name, options: Options, **own: Any) -> CrossEncoder:  # noqa: ANN401 - arguments of CrossEncoder
    """The network of a preset, in the text format that both methods here use."""
    if not isinstance(model, str | PathLike):
        raise ConfigurationError(f"this method reads a classification network: pass its name or folder, not {model!r}")
    told: dict[str, Any] = {name: options[name] for name in ENGINE if options.get(name) is not None}  # type: ignore[literal-required]
    scorer = CrossEncoder(
        fspath(model), query_template=QUERY, doc_template=DOCUMENT, max_query_tokens=QUERY_TOKENS, **own, **told
    )
    scorer.check()
    return scorer


@preset(
    paper="Ma et al., 2024, Fine-Tuning LLaMA for Multi-Stage Text Retrieval",
    family="pointwise",
    checkpoints=(
        "castorini/rankllama-v1-7b-lora-passage",
        "castorini/rankllama-v1-7b-lora-doc",
        "castorini/rankllama-v1-13b-lora-passage",
        "castorini/rankllama-v1-13b-lora-doc",
    ),
)
def rank_llama(
    model: Name = "castorini/rankllama-v1-7b-lora-passage",
    *,
    max_doc_tokens: int | None = None,
    closed: bool = True,
    **options: Unpack[Options],
) -> Rerank:
    """The score of a Llama 2 that reads ``query: …`` and ``document: …`` (RankLLaMA); a LoRA adapter, which needs peft.

    Args:
        model: The checkpoint: an adapter, or a merged model.
        max_doc_tokens: Tokens to keep of a document; by default 161 for passages, and 2045 for the checkpoints whose
            name ends in "-doc": the authors' 164 and 2048 less 3 for special tokens. A title goes before the text.
        closed: Whether the end token closes an input, and the score is read off it, as in the paper (section 3.2);
            False reads the last token of the document, as tevatron's example for this checkpoint does.
        **options: See ``Options``.

    Raises:
        ConfigurationError: ``model`` is not the name of a checkpoint.
    """
    usual = 2045 if isinstance(model, str) and model.rstrip("/").endswith("-doc") else 161
    scorer = classifier(model, options, max_doc_tokens=max_doc_tokens or usual, closed=closed)
    return reranker(Pointwise(), scorer, **options)


@preset(
    paper="Abdallah et al., 2025, DeAR: Dual-Stage Document Reranking with Reasoning Agents via LLM Distillation",
    family="pointwise",
    checkpoints=(
        "abdoelsayed/dear-8b-reranker-ranknet-v1",
        "abdoelsayed/dear-8b-reranker-ce-v1",
        "abdoelsayed/dear-3b-reranker-ranknet-v1",
        "abdoelsayed/dear-3b-reranker-ce-v1",
    ),
)
def dear_pointwise(model: Name = "abdoelsayed/dear-8b-reranker-ranknet-v1", **options: Unpack[Options]) -> Rerank:
    """The score of a Llama 3 that reads ``query: …`` and ``document: …``: DeAR's first stage, 228 tokens in all."""
    return reranker(Pointwise(), classifier(model, options, max_doc_tokens=193), **options)
