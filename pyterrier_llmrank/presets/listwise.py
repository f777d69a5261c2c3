"""Published listwise checkpoints that answer without reasoning."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pyterrier_llmrank.models import Model
from pyterrier_llmrank.prompts import ListPrompt, OneMessage, Preparation
from pyterrier_llmrank.prompts.passages import VERBATIM
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import Prompted
from pyterrier_llmrank.strategies import OneShot, SlidingWindow

from .registry import Name, Options, engine, preset, reranker

if TYPE_CHECKING:
    from typing_extensions import Unpack

# The formats that checkpoints were trained on; where each stands is said beside it.

RANK_LLM = "You are RankLLM, an intelligent assistant that can rank passages based on their relevancy to the query"
OPENING = (  # castorini/rank_llm, rank_zephyr_template.yaml and its kin; the documents follow
    "I will provide you with {{n}} passages, each indicated by {kind} identifier []. Rank the passages based on their "
    "relevance to the search query: {{query}}.\n"
)
CLOSING = (  # the same; how to answer follows
    "Search Query: {query}.\nRank the {n} passages above based on their relevance to the search query. All the "
    "passages should be included and listed using identifiers, in descending order of relevance. "
)
CONCISE = (  # the same
    "The output format should be [] > [], e.g., {order}, Answer concisely and directly and only respond with the "
    "ranking results, do not say any word or explain."
)
ONLY = (  # castorini/rank_llm before 0.20 (RankVicuna), gangiswag/llm-reranker, RUC-NLPIR/fullrank
    "The output format should be [] > [], e.g., {order}, Only respond with the ranking results, do not say any word or "
    "explain."
)
NUMBERS = OPENING.format(kind="a numerical")
LETTERS = OPENING.format(kind="an alphabetical")

WORDS_300 = Preparation(markers="numbers", max_words=300, repair=True)
QUERY = Preparation(fold="none", markers="numbers")


def shown(template: str, words: int = 300, *, system: str = "", answer: str = "", raw: bool = False) -> OneMessage:
    """A message of the RankLLM family, whose documents are lines of at most so many words."""
    return OneMessage(
        template,
        system=system,
        document="[{label}] {text}\n",
        between="",
        answer=answer,
        raw=raw,
        passage=Preparation(markers="numbers", max_words=words, repair=True),
        question=QUERY,
    )


RANK_ZEPHYR = shown(NUMBERS + "{passages}" + CLOSING + CONCISE.format(order="[2] > [1]"), system=RANK_LLM)
FIRST_MISTRAL = shown(LETTERS + "{passages}" + CLOSING + CONCISE.format(order="[B] > [A]"), system=RANK_LLM, answer="[")
FIRST = replace(
    FIRST_MISTRAL,
    template=OPENING.format(kind="a alphabetical") + "\n{passages}" + CLOSING + ONLY.format(order="[B] > [A]"),
    passage=replace(WORDS_300, markers="letters"),
    question=VERBATIM,
)
OF_TWO = NUMBERS + "\n{passages}" + CLOSING + ONLY.format(order="[2] > [1]")
RANK_VICUNA = shown(f"{RANK_LLM}. USER: {OF_TWO} ASSISTANT:", raw=True)  # lm-sys/FastChat, vicuna_v1.1
FULL_RANK = shown(f"[INST] {RANK_LLM}.\n{OF_TWO} [/INST]", words=100, raw=True)  # lm-sys/FastChat, mistral


RANK_LLM_TABLES = "castorini/rank_llm, reproduction tables, BM25 top 100"
CONTEXT = 4096


def small(model: Name, options: Options) -> Model:
    """The model of a checkpoint that was trained with a context of 4096 tokens."""
    return engine(model, options, max_length=CONTEXT)


def letters(layout: OneMessage) -> ListPrompt:
    """The order by the probabilities of letters."""
    return ListPrompt("letters", "first", layout=layout)


@preset(
    paper="Pradeep et al., 2023, RankVicuna: Zero-Shot Listwise Document Reranking with Open-Source Large Language "
    "Models",
    family="listwise",
    checkpoints=(
        "castorini/rank_vicuna_7b_v1",
        "castorini/rank_vicuna_7b_v1_fp16",
        "castorini/rank_vicuna_7b_v1_noda",
        "castorini/rank_vicuna_7b_v1_noda_fp16",
    ),
    published={"DL19": 67.9, "DL20": 65.82, "DL21": 61.94, "DL22": 43.36, "DL23": 39.88},
    source=f"{RANK_LLM_TABLES}; DL19 is 66.8 in the paper",
)
def rank_vicuna(model: Name = "castorini/rank_vicuna_7b_v1", **options: Unpack[Options]) -> Rerank:
    """Windows of 20 documents by 10, at most 300 words each, in 4096 tokens; the order is written out (RankVicuna).

    The conversation is FastChat's (vicuna_v1.1), spelled out: the tokenizer has no chat template.
    """
    return reranker(SlidingWindow(), Prompted(ListPrompt(layout=RANK_VICUNA), small(model, options)), **options)


@preset(
    paper="Pradeep et al., 2023, RankZephyr: Effective and Robust Zero-Shot Listwise Reranking is a Breeze!",
    family="listwise",
    checkpoints=("castorini/rank_zephyr_7b_v1_full",),
    published={"DL19": 73.65, "DL20": 70.8, "DL21": 70.16, "DL22": 51.52, "DL23": 43.73},
    source=RANK_LLM_TABLES,
    licence="MIT",
)
def rank_zephyr(
    model: Name = "castorini/rank_zephyr_7b_v1_full", *, passes: int = 1, **options: Unpack[Options]
) -> Rerank:
    """Windows of 20 documents by 10, at most 300 words each, in 4096 tokens; the order is written out (RankZephyr).

    Three ``passes`` are what the authors call RankZephyr-rho. The chat template is the tokenizer's.
    """
    scorer = Prompted(ListPrompt(layout=RANK_ZEPHYR), small(model, options))
    return reranker(SlidingWindow(passes=passes), scorer, **options)


@preset(
    paper="Reddy et al., 2024, FIRST: Faster Improved Listwise Reranking with Single Token Decoding",
    family="listwise",
    checkpoints=("rryisthebest/First_Model",),
    licence="MIT",
)
def first(model: Name = "rryisthebest/First_Model", **options: Unpack[Options]) -> Rerank:
    """Windows of 20 documents by 10, ordered by the probabilities of the first identifier, A to T (FIRST).

    One forward pass a window, and nothing is written. The chat template is the tokenizer's (Zephyr).
    """
    return reranker(SlidingWindow(), Prompted(letters(FIRST), small(model, options)), **options)


@preset(
    paper="Chen et al., 2024, An Early FIRST Reproduction and Improvements to Single-Token Decoding for Fast Listwise "
    "Reranking",
    family="listwise",
    checkpoints=("castorini/first_mistral",),
    published={"DL19": 72.94, "DL20": 70.43, "DL21": 68.49, "DL22": 48.93, "DL23": 44.7},
    source=RANK_LLM_TABLES,
    licence="MIT",
)
def first_mistral(model: Name = "castorini/first_mistral", **options: Unpack[Options]) -> Rerank:
    """Windows of 20 documents by 10, ordered by the probabilities of the first identifier, in RankLLM's format."""
    return reranker(SlidingWindow(), Prompted(letters(FIRST_MISTRAL), small(model, options)), **options)


@preset(
    paper="Liu et al., 2025, Sliding Windows Are Not the End: Exploring Full Ranking with Long-Context Large Language "
    "Models",
    family="listwise",
    checkpoints=("liuwenhan/RankMistral100",),
)
def full_rank(model: Name = "liuwenhan/RankMistral100", **options: Unpack[Options]) -> Rerank:
    """All of the first 100 documents in one question, at most 100 words each (RankMistral100).

    The conversation is FastChat's (mistral), spelled out, as the authors use it, in 32,768 tokens.
    """
    options.setdefault("depth", 100)
    scorer = Prompted(ListPrompt(layout=FULL_RANK), engine(model, options, max_length=32_768))
    return reranker(OneShot(), scorer, **options)
