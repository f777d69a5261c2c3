"""Published listwise prompts for any chat model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.prompts import Dialogue, ListPrompt, OneMessage, Preparation
from pyterrier_llmrank.prompts.passages import VERBATIM
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import Inserted, Prompted
from pyterrier_llmrank.strategies import OneShot, SlidingWindow

from .listwise import QUERY, RANK_LLM, RANK_LLM_TABLES, WORDS_300
from .registry import Name, Options, engine, preset, reranker

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Prompts as they were published; where each stands is said beside it.


def rank_gpt_dialogue(end: str) -> Dialogue:
    """The dialogue of RankGPT; ``end`` is what stands before its line breaks."""
    return Dialogue(
        "I will provide you with {n} passages, each indicated by number identifier []." + end + "\n"
        "Rank the passages based on their relevance to query: {query}.",
        "Search Query: {query}." + end + "\n"
        "Rank the {n} passages above based on their relevance to the search query. The passages should be listed in "
        "descending order using identifiers. The most relevant passages should be listed first. The output format "
        "should be [] > [], e.g., [1] > [2]. Only response the ranking results, do not say any word or explain.",
        reply="Okay, please provide the passages.",
        received="Received passage [{label}].",
        system="You are RankGPT, an intelligent assistant that can rank passages based on their relevancy to the "
        "query.",
        passage=Preparation(markers="none", max_words=300) if end else WORDS_300,
        question=VERBATIM if end else QUERY,
    )


RANK_GPT = {  # sunnweiwei/RankGPT, rank_gpt.py; castorini/rank_llm, rank_gpt_template.yaml
    "original": rank_gpt_dialogue(" "),
    "rank_llm": rank_gpt_dialogue(""),
}

APEER = OneMessage(  # castorini/rank_llm, rank_gpt_apeer_template.yaml
    "In response to the query: [querystart] {query} [queryend], rank the passages. Ignore aspects like length, "
    "complexity, or writing style, and concentrate on passages that provide a comprehensive understanding of the "
    "query. Take into account any inaccuracies or vagueness in the passages when determining their relevance."
    "{passages}\nGiven the query: [querystart] {query} [queryend], produce a succinct and clear ranking of all "
    "passages, from most to least relevant, using their identifiers. The format should be [rankstart] [most relevant "
    "passage ID] > [next most relevant passage ID] > ... > [least relevant passage ID] [rankend]. Refrain from "
    "including any additional commentary or explanations in your ranking.",
    system="As RankGPT, your task is to evaluate and rank unique passages based on their relevance and accuracy to a "
    "given query. Prioritize passages that directly address the query and provide detailed, correct answers. Ignore "
    "factors such as length, complexity, or writing style unless they seriously hinder readability.",
    document="\n[{label}] {text}",
    between="",
    passage=WORDS_300,
    question=QUERY,
)

LRL = OneMessage(  # castorini/rank_llm, rank_lrl_template.yaml
    "Sort the list PASSAGES by how good each text answers the QUESTION (in descending order of relevancy).\n"
    '{passages}QUESTION: "{query}"\nPASSAGES: [{labels}]\nSort the PASSAGES by their relevance to the Query. The '
    "answer should be a sorted list of PASSAGE ids (e.g., [PASSAGE2, ..., PASSAGE1]). Do not include any additional "
    "words or explanations.\nSORTED_PASSAGES =",
    document='PASSAGE{label} = "{text}"\n',
    between="",
    identifier="PASSAGE{label}",
    passage=WORDS_300,
    question=QUERY,
)


INSERT_RANK = OneMessage(  # castorini/rank_llm 0.25.7, insert_rank_template.yaml
    "I will provide you with {n} passages, each indicated by a numerical identifier []. I will also provide the BM25 "
    "scores from a lexical retrieval system.\n\n"
    "Rank the passages based on their relevance to the search query: {query}.\n{passages}Search Query: {query}.\n"
    "Rerank the above {n} passages based on their relevance to the query. Consider both the document content and the "
    "BM25 scores as signals for relevance. All the passages should be included and listed using identifiers, in "
    "descending order of relevance. The output format should be [] > [], e.g., [2] > [1]. Return the ranking as a list "
    "of numbers from 1 to {n}, most relevant first. Answer concisely and directly and only respond with the ranking "
    "results, do not say any word or explain.",
    system=RANK_LLM,
    document="[{label}] {text}\n",
    between="",
    passage=VERBATIM,
    question=QUERY,
)
INSERT_SCORE = "{text}\nBM25 score for passge [{place}]: {score:.3f}"  # the same, as it is spelled there


@preset(
    paper="Sun et al., 2023, Is ChatGPT Good at Search? Investigating Large Language Models as Re-Ranking Agents",
    family="listwise",
    published={"DL19": 73.45, "DL20": 68.41},
    source=f"{RANK_LLM_TABLES}, gpt-4o-mini",
)
def rank_gpt(
    model: Name, *, wording: Literal["original", "rank_llm"] = "original", **options: Unpack[Options]
) -> Rerank:
    """Windows of 20 documents by 10, each document in a turn of its own, at most 300 words; for any chat model.

    Args:
        model: A model: of an API, or a local one with a chat template.
        wording: "original", or as "rank_llm" has it (line breaks without a space before them, ``[n]`` as ``(n)``).
        options: See ``Options``.

    Raises:
        ConfigurationError: ``wording`` is neither.
    """
    if wording not in RANK_GPT:
        raise ConfigurationError(f"wording must be 'original' or 'rank_llm', got {wording!r}")
    scorer = Prompted(ListPrompt(layout=RANK_GPT[wording]), engine(model, options))
    return reranker(SlidingWindow(), scorer, **options)


@preset(
    paper="Jin et al., 2024, APEER: Automatic Prompt Engineering Enhances Large Language Model Reranking",
    family="listwise",
    published={"DL19": 73.12, "DL20": 68.45},
    source=RANK_LLM_TABLES,
)
def rank_gpt_apeer(model: Name, **options: Unpack[Options]) -> Rerank:
    """Windows of 20 documents by 10 with the prompt that APEER found for RankGPT; for any chat model."""
    return reranker(SlidingWindow(), Prompted(ListPrompt(layout=APEER), engine(model, options)), **options)


@preset(
    paper="Ma et al., 2023, Zero-Shot Listwise Document Reranking with a Large Language Model",
    family="listwise",
    published={"DL19": 72.96, "DL20": 68.07},
    source=f"{RANK_LLM_TABLES}, gpt-4o-mini",
)
def lrl(model: Name, **options: Unpack[Options]) -> Rerank:
    """Windows of 20 documents by 10 as a list to sort, PASSAGE1, PASSAGE2, … (LRL); for any chat model."""
    return reranker(SlidingWindow(), Prompted(ListPrompt(layout=LRL), engine(model, options)), **options)


@preset(
    paper="Seetharaman et al., 2025, InsertRank: LLMs can reason over BM25 scores to Improve Listwise Reranking",
    family="listwise",
)
def insert_rank(model: Name, **options: Unpack[Options]) -> Rerank:
    """The whole list with the first stage's score beside each document, in rank_llm's words; for any chat model."""
    scorer = Prompted(ListPrompt(layout=INSERT_RANK), engine(model, options))
    return reranker(OneShot(), Inserted(scorer, INSERT_SCORE, WORDS_300), **options)
