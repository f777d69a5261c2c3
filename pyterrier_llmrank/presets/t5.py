"""Published T5 checkpoints that read one document, or two, and answer with one token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyterrier_llmrank.aggregates import additive
from pyterrier_llmrank.designs import all_ordered_pairs
from pyterrier_llmrank.prompts import LabelLogit, PairPrompt, YesNo
from pyterrier_llmrank.prompts.passages import VERBATIM
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import Prompted
from pyterrier_llmrank.strategies import Pointwise, Sampled

from .registry import Name, Options, engine, preset, reranker

if TYPE_CHECKING:
    from typing_extensions import Unpack

MONO = "Query: {query} Document: {text} Relevant:"  # castorini/pygaggle, MonoT5
DUO = "Query: {query} Document0: {first} Document1: {second} Relevant:"  # castorini/pygaggle, DuoT5
RANK_T5 = "Query: {query} Document: {text}"  # soyoung97/ListT5, run_monot5_rankt5.py

TOKENS = 512  # of a prompt: what T5 was trained on


@preset(
    paper="Nogueira et al., 2020, Document Ranking with a Pretrained Sequence-to-Sequence Model",
    family="pointwise",
    checkpoints=(
        "castorini/monot5-3b-msmarco-10k",
        "castorini/monot5-base-msmarco",
        "castorini/monot5-base-msmarco-10k",
        "castorini/monot5-large-msmarco",
        "castorini/monot5-large-msmarco-10k",
        "castorini/monot5-3b-msmarco",
    ),
    published={"DL19": 71.73, "DL20": 68.87},
    source="castorini/rank_llm, BM25 top 100",
)
def mono_t5(model: Name = "castorini/monot5-3b-msmarco-10k", **options: Unpack[Options]) -> Rerank:
    """Log-odds of true against false; they order documents like monoT5's log-probability of true, which saturates."""
    prompt = YesNo(MONO, "true", "false", raw=True, passage=VERBATIM, question=VERBATIM)
    return reranker(Pointwise(), Prompted(prompt, engine(model, options, max_length=TOKENS)), **options)


@preset(
    paper="Zhuang et al., 2022, RankT5: Fine-Tuning T5 for Text Ranking with Ranking Losses",
    family="pointwise",
    checkpoints=("Soyoung97/RankT5-base", "Soyoung97/RankT5-large", "Soyoung97/RankT5-3b"),
)
def rank_t5(model: Name = "Soyoung97/RankT5-base", **options: Unpack[Options]) -> Rerank:
    """The logit of ``<extra_id_10>`` as the first token of the answer."""
    prompt = LabelLogit(RANK_T5, "<extra_id_10>", raw=True, passage=VERBATIM, question=VERBATIM)
    return reranker(Pointwise(), Prompted(prompt, engine(model, options, max_length=TOKENS)), **options)


@preset(
    paper="Pradeep et al., 2021, The Expando-Mono-Duo Design Pattern for Text Ranking",
    family="pairwise",
    checkpoints=(
        "castorini/duot5-3b-msmarco-10k",
        "castorini/duot5-base-msmarco",
        "castorini/duot5-base-msmarco-10k",
        "castorini/duot5-3b-msmarco",
    ),
    published={"DL19": 73.02, "DL20": 69.13},
    source="castorini/rank_llm, BM25 top 100",
)
def duo_t5(model: Name = "castorini/duot5-3b-msmarco-10k", **options: Unpack[Options]) -> Rerank:
    """All ordered pairs of the first 50 documents, each worth the probability that its first is the better (SYM-SUM).

    A document's score is the sum of p_ij + 1 - p_ji over all others: 2450 calls in one round for 50 documents. Made
    for the order that ``mono_t5`` leaves: ``mono_t5() >> duo_t5()``; ``depth`` says how many are compared.
    """
    options.setdefault("depth", 50)
    prompt = PairPrompt(template=DUO, labels=("true", "false"), raw=True, passage=VERBATIM, question=VERBATIM)
    scorer = Prompted(prompt, engine(model, options, max_length=TOKENS))
    return reranker(Sampled(all_ordered_pairs, additive), scorer, **options)
