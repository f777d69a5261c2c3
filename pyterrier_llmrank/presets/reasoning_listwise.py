"""Published listwise checkpoints that reason before they order a window."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyterrier as pt

from pyterrier_llmrank.models import Sampling
from pyterrier_llmrank.prompts import Dialogue, ListPrompt, OneMessage, Preparation
from pyterrier_llmrank.prompts.passages import VERBATIM
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import Prompted
from pyterrier_llmrank.strategies import SlidingWindow

from .chat_listwise import RANK_GPT
from .classifiers import dear_pointwise
from .listwise import CLOSING, NUMBERS, QUERY
from .registry import Name, Options, engine, preset, reranker

if TYPE_CHECKING:
    from typing_extensions import Unpack

# The formats that checkpoints were trained on; where each stands is said beside it.

RANK_K = OneMessage(  # hltcoe/rank-k, rerank.py
    """
Determine a ranking of the passages based on how relevant they are to the query. \n\
If the query is a question, how relevant a passage is depends on how well it answers the question. \n\
If not, try analyze the intent of the query and assess how well each passage satisfy the intent. \n\
The query may have typos and passages may contain contradicting information. \n\
However, we do not get into fact-checking. We just rank the passages based on they relevancy to the query. \n\

Sort them from the most relevant to the least. \n\
Answer with the passage number using a format of `[3] > [2] > [4] = [1] > [5]`. \n\
Ties are acceptable if they are equally relevant. \n\
I need you to be accurate but overthinking it is unnecessary.
Output only the ordering without any other text.

Query: {query}

{passages}
""",
    passage=VERBATIM,
    question=VERBATIM,
)

REARANK = Dialogue(  # lezhang7/Rearank, rank_gpt.py
    "I will provide you with passages, each indicated by number identifier []. Rank the passages based on their "
    "relevance to the search query.Search Query: {query}. \nRank the {n} passages above based on their relevance to "
    "the search query.The passages should be listed in descending order using identifiers. The most relevant passages "
    "should be listed first. The output format should be <answer> [] > [] </answer>, e.g., <answer> [1] > [2] "
    "</answer>.",
    """\
Please rank these passages according to their relevance to the search query: "{query}"
            Follow these steps exactly:
            1. First, within <think> tags, analyze EACH passage individually:
            - Evaluate how well it addresses the query
            - Note specific relevant information or keywords

            2. Then, within <answer> tags, provide ONLY the final ranking in descending order of relevance using the \
format: [X] > [Y] > [Z]""",
    reply="Okay, please provide the passages.",
    received="Received passage [{label}].",
    system="You are DeepRerank, an intelligent assistant that can rank passages based on their relevancy to the search "
    "query. You first thinks about the reasoning process in the mind and then provides the user with the answer.",
    passage=Preparation(markers="none", max_chars=400),
    question=VERBATIM,
)

SYSTEM = "You are RankLLM, an intelligent assistant that can rank passages based on their relevance to the query."
TAGS = (  # 8421BCD/ReasonRank, listwise_prompt_r1.toml
    " Given a query and a passage list, you first thinks about the reasoning process in the mind and then provides the "
    "answer (i.e., the reranked passage list). The reasoning process and answer are enclosed within <think> </think> "
    "and <answer> </answer> tags, respectively, i.e., <think> reasoning process here </think> <answer> answer here "
    "</answer>."
)
REASON_RANK = OneMessage(  # the same, utils.py: rank_GPT_reasoning
    NUMBERS + "\n{passages}" + CLOSING + "The format of the answer should be [] > [], e.g., [2] > [1].",
    system=SYSTEM + TAGS,
    document="[{label}] {text}\n",
    between="",
    passage=Preparation(fold="none", markers="numbers", repair=True),
    question=QUERY,
)
REASON_RANK_QWEN3 = replace(  # the same: rank_GPT_qwen3
    REASON_RANK,
    template=NUMBERS
    + "\n{passages}"
    + CLOSING
    + "The final ranked list should be enclosed within <answer> </answer> tags, i.e., <answer> ranked list here "
    "</answer>. The format of ranked list should be [] > [], e.g., [2] > [1]. Only respond with the ranking results, "
    "do not say any word or explain.",
    system=SYSTEM,
)

DEAR = replace(  # DataScienceUIBK/DeAR-Reranking, listwise_rerank/prompts.py
    RANK_GPT["rank_llm"],
    closing="""\
Search Query: {query}.
Rank the {n} passages above based on their relevance to the search query. The passages should be listed in descending \
order using identifiers.
Please follow the steps below:
Step 1. List the information requirements to answer the query.
Step 2. For each requirement, find the passages containing that information.
Step 3. Rank passages that best cover clear and diverse information. Include all passages.
Output format strictly: [2] > [1] > [3] ... Only output the ranking using identifiers; no explanations.""",
    system="You are RankLLM, an assistant that ranks passages by relevance to the query.",
    passage=Preparation(markers="none", max_words=300),
    question=VERBATIM,
)


@preset(
    paper="Yang et al., 2025, Rank-K: Test-Time Reasoning for Listwise Reranking",
    family="listwise",
    checkpoints=("hltcoe/Rank-K-32B",),
)
def rank_k(
    model: Name = "hltcoe/Rank-K-32B", *, max_tokens: int = 4000, seed: int = 0, **options: Unpack[Options]
) -> Rerank:
    """Windows of 20 documents by 10, ordered after reasoning, with ties (Rank-K).

    Documents that the model calls equal keep their order. 450 tokens a document, temperature 0.7.
    """
    scorer = Prompted(
        ListPrompt(layout=RANK_K),
        engine(model, options, thinking=True),
        450,
        max_tokens=max_tokens,
        sampling=Sampling(0.7),
        seed=seed,
    )
    return reranker(SlidingWindow(), scorer, **options)


@preset(
    paper="Zhang et al., 2025, REARANK: Reasoning Re-ranking Agent via Reinforcement Learning",
    family="listwise",
    checkpoints=("le723z/Rearank-7B",),
    published={"DL19 and DL20 (mean)": 72.5, "BRIGHT": 17.4},
    source="Alibaba-NLP/ERank model card, original queries",
)
def rearank(model: Name = "le723z/Rearank-7B", *, max_tokens: int = 4096, **options: Unpack[Options]) -> Rerank:
    """Windows of 20 documents by 10, each document in a turn of its own, ordered after reasoning (REARANK).

    Passages are cut after 400 characters, as the checkpoint was trained. ``max_tokens`` is no published number.
    """
    scorer = Prompted(ListPrompt(layout=REARANK), engine(model, options), max_tokens=max_tokens)
    return reranker(SlidingWindow(), scorer, **options)


@preset(
    paper="Liu et al., 2025, ReasonRank: Empowering Passage Ranking with Strong Reasoning Ability",
    family="listwise",
    checkpoints=("liuwenhan/reasonrank-7B", "liuwenhan/reasonrank-32B", "liuwenhan/reasonrank-8B"),
    published={"BRIGHT": 40.6, "R2MED": 42.85},
    source="8421BCD/ReasonRank README, best runs",
    licence="MIT",
)
def reason_rank(
    model: Name = "liuwenhan/reasonrank-7B",
    *,
    qwen3: bool | None = None,
    max_tokens: int = 3172,
    max_doc_tokens: int = 100,
    seed: int = 0,
    **options: Unpack[Options],
) -> Rerank:
    """Windows of 20 documents by 10, ordered after reasoning (ReasonRank).

    Args:
        model: The checkpoint.
        qwen3: Whether it is built on Qwen3, which is asked in other words and sampled (temperature 0.6) in place of
            decoded greedily; by default where its name says 8B.
        max_tokens: Tokens of an answer at most: the authors' 3072 of reasoning, and 100.
        max_doc_tokens: Tokens to keep of any document; the authors keep more on BRIGHT.
        seed: Decides what is sampled.
        options: See ``Options``.
    """
    newer = str(model).rstrip("/").casefold().endswith("8b") if qwen3 is None else qwen3
    own: dict[str, Any] = {"thinking": True} if newer else {}
    scorer = Prompted(
        ListPrompt(layout=REASON_RANK_QWEN3 if newer else REASON_RANK),
        engine(model, options, **own),
        max_doc_tokens,
        max_tokens=max_tokens,
        sampling=Sampling(0.6, top_p=0.95, top_k=20) if newer else None,
        seed=seed,
    )
    return reranker(SlidingWindow(), scorer, **options)


@preset(
    paper="Abdallah et al., 2025, DeAR: Dual-Stage Document Reranking with Reasoning Agents via LLM Distillation",
    family="listwise",
    checkpoints=("abdoelsayed/dear-8b-reranker-listwise-v1", "abdoelsayed/dear-8b-reranker-listwise-lora-v1"),
    published={"DL19": 77.91, "DL20": 75.63},
    source="DataScienceUIBK/DeAR-Reranking README, both stages",
)
def dear_listwise(
    model: Name = "abdoelsayed/dear-8b-reranker-listwise-v1", *, seed: int = 0, **options: Unpack[Options]
) -> Rerank:
    """Windows of 20 by 10 of the first 30 documents, each in a turn of its own, ordered in steps: DeAR's second stage.

    At most 300 words a document, 1024 tokens an answer, temperature 0.5.
    """
    options.setdefault("depth", 30)
    prompt = ListPrompt(layout=DEAR)
    scorer = Prompted(prompt, engine(model, options), max_tokens=1024, sampling=Sampling(0.5), seed=seed)
    return reranker(SlidingWindow(), scorer, **options)


def dear(
    pointwise: Name = "abdoelsayed/dear-8b-reranker-ranknet-v1",
    listwise: Name = "abdoelsayed/dear-8b-reranker-listwise-v1",
    **options: Unpack[Options],
) -> pt.Transformer:
    """Both stages of DeAR: ``dear_pointwise() >> dear_listwise()``, which reorders the first 30 of the former's order.

    The options are for both; ``depth``, ``top_k`` and ``num_results`` are the second stage's.
    """
    whole: Options = {**options, "depth": None, "top_k": None, "num_results": None}
    return dear_pointwise(pointwise, **whole) >> dear_listwise(listwise, **options)
