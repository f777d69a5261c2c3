"""The pipelines of the demonstration, and the table that compares them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import pandas as pd
import pyterrier as pt
from ir_measures import nDCG

from pyterrier_llmrank.costs import costs
from pyterrier_llmrank.errors import LLMRankWarning, MissingExtra
from pyterrier_llmrank.methods import ListwiseLLM, PairwiseLLM, PointwiseLLM
from pyterrier_llmrank.nano import NAME
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.strategies import Pointwise

from .minilm import minilm

BASELINE = "BM25"
DEPTHS = (5, 20, 100)
FEW, FEWER, SHORT = 20, 10, 80  # documents that the language model reranks, and tokens it reads of each
LEVEL = 0.05  # of the paired t-test below which a difference counts as one


def pipelines(
    first_stage: pt.Transformer,
    *,
    model: str | None = None,
    decode: Literal["generate", "first"] = "generate",
    verbose: bool = False,
) -> dict[str, pt.Transformer]:
    """BM25 alone, reranked by all-MiniLM-L6-v2 at several depths, by llmrank-nano, and by ``ListwiseLLM(model)``.

    Where there is no MiniLM, a warning says so, and its pipelines are left out; llmrank-nano comes with the package.

    Args:
        first_stage: From queries to documents with texts.
        model: A causal or encoder-decoder checkpoint: a folder, or a name on the Hugging Face hub; none by default.
        decode: How ``ListwiseLLM`` reads the model's order.
        verbose: Whether rerankers show their progress.
    """
    rerankers: dict[str, pt.Transformer] = {}
    try:
        scorer = minilm()
    except MissingExtra as error:
        warnings.warn(f"the demonstration goes without MiniLM: {error}", LLMRankWarning, stacklevel=2)
    else:
        for depth in DEPTHS:
            rerankers[f"MiniLM, top {depth}"] = Rerank(Pointwise(), scorer, depth=depth, verbose=verbose)
    told: dict[str, Any] = {"model": NAME, "max_doc_tokens": SHORT, "verbose": verbose}
    rerankers[f"nano, pointwise, top {FEW}"] = PointwiseLLM(**told, depth=FEW)
    rerankers[f"nano, pairwise, top {FEWER}"] = PairwiseLLM(**told, depth=FEWER)
    rerankers[f"nano, listwise, top {FEW}"] = ListwiseLLM(**told, decode="first", depth=FEW)
    if model is not None:
        rerankers[f"ListwiseLLM({decode})"] = ListwiseLLM(
            model, decode=decode, depth=DEPTHS[-1], verbose=verbose
        ).load()
    return {BASELINE: first_stage, **{f"{BASELINE} >> {name}": first_stage >> one for name, one in rerankers.items()}}


def compare(systems: Mapping[str, pt.Transformer], topics: pd.DataFrame, qrels: pd.DataFrame) -> pd.DataFrame:
    """One ``pt.Experiment`` over all systems: nDCG@10, whether it beats the first one, and the cost per query.

    Returns:
        A frame with name, nDCG@10, "beats BM25" (yes or no, by a paired t-test at 0.05), p-value, and per query
        calls, prompt_tokens, output_tokens and seconds of the reranker.
    """
    results = pt.Experiment(
        list(systems.values()), topics, qrels, [nDCG @ 10], names=list(systems), baseline=0, plan="tree", verbose=False
    )
    table: pd.DataFrame = results.merge(costs(systems), on="name")
    base = table["nDCG@10"].iloc[0]
    gains = table["nDCG@10"] > base
    certain = table["nDCG@10 p-value"] < LEVEL
    table["beats BM25"] = ["-"] + [
        "yes" if gain and sure else "not significantly" if gain else "no"
        for gain, sure in zip(gains[1:], certain[1:], strict=True)
    ]
    table = table.rename(columns={"nDCG@10 p-value": "p-value"})
    return table[["name", "nDCG@10", "beats BM25", "p-value", "calls", "prompt_tokens", "output_tokens", "seconds"]]
