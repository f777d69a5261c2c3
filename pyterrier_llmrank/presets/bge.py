"""Decoders of the BGE family, whose score is the logit of Yes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyterrier_llmrank.prompts import LabelLogit
from pyterrier_llmrank.prompts.passages import VERBATIM
from pyterrier_llmrank.prompts.turn import literal
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import Prompted
from pyterrier_llmrank.strategies import Pointwise

from .registry import Name, Options, engine, preset, reranker

if TYPE_CHECKING:
    from typing_extensions import Unpack

TASK = (  # FlagOpen/FlagEmbedding, inference/reranker/decoder_only/base.py
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
    "prediction of either 'Yes' or 'No'."
)
PASSAGE_TOKENS = 512


@preset(
    paper="Chen et al., 2024, BGE M3-Embedding (its rerankers, FlagEmbedding)",
    family="pointwise",
    checkpoints=("BAAI/bge-reranker-v2-gemma",),
)
def bge_gemma(
    model: Name = "BAAI/bge-reranker-v2-gemma",
    *,
    task: str = TASK,
    **options: Unpack[Options],
) -> Rerank:
    """The logit of Yes after ``A: query``, ``B: passage`` and a task; the logistic function makes it a probability.

    The text is tokenised whole; the authors' code tokenises query, passage and task apart, so that where one of them
    ends or begins in white space the line break between them is a token of its own there, and may be part of another
    here. For a decoder that was trained to answer behind an earlier layer, give ``HFModel(name, layers=…)``; the
    layerwise rerankers of the family need code of their own, and are not for this.

    Args:
        model: The checkpoint.
        task: What Yes means.
        **options: See ``Options``; 512 tokens of a passage are read.
    """
    prompt = LabelLogit(
        f"A: {{query}}\nB: {{text}}\n{literal(task)}", "Yes", raw=True, passage=VERBATIM, question=VERBATIM
    )
    return reranker(Pointwise(), Prompted(prompt, engine(model, options), PASSAGE_TOKENS), **options)
