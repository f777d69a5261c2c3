"""Published T5 checkpoints that encode each document alone and order them in one decoder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pyterrier_llmrank.prompts.fused import LIST_T5, LIT5
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import CrossAttention, FusionInDecoder
from pyterrier_llmrank.strategies import MultiwayTournament, OneShot, SlidingWindow

from .registry import Name, Options, engine, preset, reranker

if TYPE_CHECKING:
    from typing_extensions import Unpack

Decode = Literal["generate", "constrained"]

TOKENS = 150  # of one passage with the query: castorini/LiT5, LiT5-Distill.sh and LiT5-Score.sh

LIT5_TABLES = "castorini/LiT5 README, BM25 top 100"
LIT5_PAPER = (
    "Tamber et al., 2023, Scaling Down, LiTting Up: Efficient Zero-Shot Listwise Reranking with Seq2seq "
    "Encoder-Decoder Models"
)


@preset(
    paper=LIT5_PAPER,
    family="listwise",
    checkpoints=(
        "castorini/LiT5-Distill-base-v2",
        "castorini/LiT5-Distill-large-v2",
        "castorini/LiT5-Distill-xl-v2",
        "castorini/LiT5-Distill-base",
        "castorini/LiT5-Distill-large",
        "castorini/LiT5-Distill-xl",
    ),
    published={"DL19": 71.7, "DL20": 66.7, "DL19 (SPLADE++ ED)": 78.3, "DL20 (SPLADE++ ED)": 75.1},
    source=LIT5_TABLES,
)
def lit5_distill(
    model: Name = "castorini/LiT5-Distill-base-v2",
    *,
    window: int = 20,
    decode: Decode = "generate",
    **options: Unpack[Options],
) -> Rerank:
    """Windows of 20 passages by 10, each passage encoded alone with the query, the order written (LiT5-Distill).

    Args:
        model: The checkpoint.
        window: Passages of a window, which goes on by half of them; checkpoints of the second version know up to 100.
        decode: "generate" as the authors do, or "constrained": the decoder runs only where there is a choice.
        **options: See ``Options``; 150 tokens of a passage with the query unless ``max_length`` says otherwise.
    """
    scorer = FusionInDecoder(engine(model, options, max_length=TOKENS), prompt=replace(LIT5, decode=decode))
    return reranker(SlidingWindow(window, max(1, window // 2)), scorer, **options)


@preset(
    paper=LIT5_PAPER,
    family="listwise",
    checkpoints=("castorini/LiT5-Score-base", "castorini/LiT5-Score-large", "castorini/LiT5-Score-xl"),
    published={"DL19": 68.9, "DL20": 66.2, "DL19 (SPLADE++ ED)": 68.4, "DL20 (SPLADE++ ED)": 68.5},
    source=LIT5_TABLES,
)
def lit5_score(model: Name = "castorini/LiT5-Score-base", **options: Unpack[Options]) -> Rerank:
    """Cross-attention to each of the first 100 passages while the query is answered from all of them (LiT5-Score)."""
    options.setdefault("depth", 100)
    return reranker(OneShot(), CrossAttention(engine(model, options, max_length=TOKENS)), **options)  # type: ignore[arg-type]


@preset(
    paper="Yoon et al., 2024, ListT5: Listwise Reranking with Fusion-in-Decoder Improves Zero-shot Retrieval",
    family="listwise",
    checkpoints=("Soyoung97/ListT5-base", "Soyoung97/ListT5-3b"),
    published={"TREC-COVID": 78.29},
    source="soyoung97/ListT5 README, BM25 top 100, keep=2",
)
def list_t5(
    model: Name = "Soyoung97/ListT5-base",
    *,
    keep: int = 2,
    decode: Decode = "generate",
    **options: Unpack[Options],
) -> Rerank:
    """The best 10 by a tournament of groups of 5, whose order is written from the worst to the best (ListT5).

    A title goes before the text. The authors read 256 tokens of a passage with the query where passages are short, and
    512 or 1024 elsewhere.

    Args:
        model: The checkpoint.
        keep: How many of a group go on, 1 or 2: the authors' r.
        decode: "generate" as the authors do, or "constrained": the decoder runs only where there is a choice.
        **options: See ``Options``; ``top_k`` is 10, and ``max_length`` 256, unless they say otherwise.
    """
    options.setdefault("top_k", 10)
    scorer = FusionInDecoder(engine(model, options, max_length=256), prompt=replace(LIST_T5, decode=decode))
    return reranker(MultiwayTournament(5, keep), scorer, **options)
