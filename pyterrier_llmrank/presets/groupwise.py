"""Published rerankers that score, or select, the documents of a group together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pyterrier_llmrank.aggregates import mean
from pyterrier_llmrank.designs import shuffled_groups
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.models import Sampling
from pyterrier_llmrank.prompts import Dialogue, GroupPrompt, OneMessage, Preparation, SelectPrompt
from pyterrier_llmrank.prompts.passages import VERBATIM
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import Prompted
from pyterrier_llmrank.strategies import OneShot, Sampled, Tournament

from .registry import Name, Options, engine, preset, reranker

if TYPE_CHECKING:
    from typing_extensions import Unpack

# The formats that checkpoints were trained on, and prompts as they were published; where each stands is said beside it.

GROUP_RANK = OneMessage(  # AQ-MedAI/Diver, Reranker/group_rerank.py
    """\
I will provide you {n} documents, each indicated by a numerical identifier []. Score these documents based on their \
Usefulness and Relevance to the query.
Query:
{query}

Documents:
{passages}

## Final Output Format
You must structure your response in exactly two parts: provide your brief reasoning process first, then output final \
scores in JSON format like below, with document IDs as string keys and integer scores as values for all {n} \
documents. \n\
The reasoning process and answer are enclosed within <reason> </reason> and <answer> </answer> tags, respectively. Do \
NOT output anything outside the specified tags. Follow this exact format:
<reason> \n\
[Analyze each document's usefulness and relevance to the query, explaining your scoring rationale]
</reason>
<answer> \n\
```json
{{"[1]": 5, "[2]": 3, "[3]": 8}}
``` \n\
</answer>
""",
    system="""\
Your task is to evaluate and rank documents based on how well they help answer the given query. Follow this \
evaluation priority:
1. PRIMARY: Usefulness & Helpfulness - Does the document provide actionable information, solutions, or direct answers \
that help address the user's needs?
2. SECONDARY: Relevance - Does the document contain information related to the query topic?

Evaluation Process:
1. First, identify the user's core intent and what kind of help they need from the query
2. For each document, assess:
   - How directly it addresses the user's intent
   - What actionable information or answers it provides
   - How much it helps solve the user's problem or need
3. Compare documents against each other to ensure proper ranking
4. Assign scores that reflect the relative usefulness ranking

Scoring Scale (0-10):
- 9-10: Extremely helpful, directly answers the query with actionable information
- 7-8: Very helpful, provides substantial useful information for the query
- 5-6: Moderately helpful, contains some useful information but incomplete
- 3-4: Minimally helpful, limited useful information despite topic relevance
- 1-2: Barely helpful, mentions related topics but provides little useful information
- 0: Not helpful at all, cannot assist with answering the query
""",
    document="[{label}]. {text}\n\n",
    between="",
    passage=Preparation(fold="lines", markers="none", max_chars=3000),
    question=VERBATIM,
)

TOUR_RANK = Dialogue(  # chenyiqun/TourRank, TourRank_multiprocessing.py
    "I will provide you with the given query and {n} documents. \nConsider the content of all the documents "
    "comprehensively and select the {keep} documents that are most relevant to the given query: {query}.",
    "The Query is: {query}.\nNow, you must output the top {keep} documents that are most relevant to the Query using "
    "the following format strictly, and nothing else. Don't output any explanation, just the following format:\n"
    "Document 3, ..., Document 1",
    reply="Okay, please provide the documents.",
    received="Received Document {label}.",
    system="You are an intelligent assistant that can compare multiple documents based on their relevancy to the given "
    "query.",
    document="Document {label}: {text}",
    identifier="Document {label}",
    passage=VERBATIM,
    question=VERBATIM,
)


def dynamic(gap: str) -> OneMessage:
    """The format of DynamicRAG, with ``gap`` between query and documents."""
    return OneMessage(
        "Query: {query}" + gap + "Retrieved Content:\n{passages}",
        system="""\
You are an expert at dynamically generating document identifiers to answer a given query.
I will provide you with a set of documents, each uniquely identified by a number within square brackets, e.g., [1], \
[2], etc.
Your task is to identify and generate only the identifiers of the documents that contain sufficient information to \
answer the query.
Stop generating identifiers as soon as the selected documents collectively provide enough information to answer the \
query.
If no documents are required to answer the query, output "None".
Output the identifiers as a comma-separated list, e.g., [1], [2] or "None" if no documents are needed.
Focus solely on providing the identifiers. Do not include any explanations, descriptions, or additional text.""",
        document="{label}. Topic: {title}\nContent: {text}",
        between="\n",
        passage=VERBATIM,
        question=VERBATIM,
    )


DYNAMIC_RAG = {"inference": dynamic("\n"), "training": dynamic("\n\n")}  # GasolSun36/DynamicRAG, inference.py and
# reranker_sequence.py: the two differ by a blank line


@preset(
    paper="Sun et al., 2025, GroupRank: A Groupwise Reranking Paradigm Driven by Reinforcement Learning",
    family="groupwise",
    checkpoints=("AQ-MedAI/Diver-GroupRank-7B", "AQ-MedAI/Diver-GroupRank-32B"),
    published={"BRIGHT": 46.8},
    source="AQ-MedAI/Diver-GroupRank-7B model card, with the authors' retriever",
    licence="Apache-2.0",
)
def group_rank(
    model: Name = "AQ-MedAI/Diver-GroupRank-7B",
    *,
    group_size: int = 10,
    epochs: int = 2,
    max_tokens: int = 8000,
    seed: int = 0,
    **options: Unpack[Options],
) -> Rerank:
    """The mean of the scores, 0 to 10, that documents get in random groups of 10, in two epochs (GroupRank).

    An answer that cannot be read counts for nothing; the authors count it as 0. They add the first stage's score (0.4
    of it to 0.6 of this one), which is left to the pipeline. Documents of 3000 characters, temperature 0.3.

    Args:
        model: The checkpoint.
        group_size: Documents of a group, at most 20.
        epochs: Scores of each document.
        max_tokens: Tokens of an answer at most.
        seed: Decides groups, and what is sampled.
        options: See ``Options``.
    """
    scorer = Prompted(
        GroupPrompt(layout=GROUP_RANK),
        engine(model, options),
        max_tokens=max_tokens,
        sampling=Sampling(0.3, top_p=0.8),
        seed=seed,
    )
    return reranker(Sampled(shuffled_groups(group_size, epochs, seed), mean), scorer, **options)


@preset(
    paper="Chen et al., 2025, TourRank: Utilizing Large Language Models for Documents Ranking with a "
    "Tournament-Inspired Strategy",
    family="groupwise",
    published={"DL19": 71.63},
    source="the paper, by second hand: gpt-3.5-turbo, 10 tournaments; 66.23 with 1 and 69.54 with 2",
)
def tour_rank(model: Name, *, repeats: int = 2, seed: int = 0, **options: Unpack[Options]) -> Rerank:
    """Tournaments of groups of 20, from which the best go on, with the authors' prompt; for any chat model (TourRank).

    13 calls in 5 rounds a tournament for 100 documents. Groups of 10 are asked for their best 5 in all stages, of which
    the second stage takes the first 4; the authors ask for 4 there. The temperature is 1, as the API's default was.

    Args:
        model: A model: of an API, or a local one with a chat template.
        repeats: Tournaments; the authors report 1, 2 and 10.
        seed: Decides the order within groups, and what is sampled.
        options: See ``Options``.
    """
    prompt = SelectPrompt({20: 10, 10: 5, 5: 2}, layout=TOUR_RANK)
    scorer = Prompted(prompt, engine(model, options), sampling=Sampling(), seed=seed)
    return reranker(Tournament(repeats, seed=seed), scorer, **options)


@preset(
    paper="Sun et al., 2025, DynamicRAG: Leveraging Outputs of Large Language Model as Feedback for Dynamic Reranking "
    "in Retrieval-Augmented Generation",
    family="groupwise",
    checkpoints=("gasolsun/DynamicRAG-8B", "gasolsun/DynamicRAG-7B"),
    licence="Apache-2.0",
)
def dynamic_rag(
    model: Name = "gasolsun/DynamicRAG-8B",
    *,
    keep_only_selected: bool = False,
    wording: Literal["inference", "training"] = "inference",
    seed: int = 0,
    **options: Unpack[Options],
) -> Rerank:
    """One question about the first 40 documents: which are needed to answer, in what order, if any (DynamicRAG).

    The first line of a text of several is its title, as in the authors' passages of Wikipedia. The chat template is the
    tokenizer's; temperature 0.4.

    Args:
        model: The checkpoint.
        keep_only_selected: Whether only the documents needed are returned, perhaps none; else the others follow them.
        wording: As the authors ask, or as they trained; the two differ by a blank line.
        seed: Decides what is sampled.
        options: See ``Options``.

    Raises:
        ConfigurationError: ``wording`` is neither.
    """
    if wording not in DYNAMIC_RAG:
        raise ConfigurationError(f"wording must be 'inference' or 'training', got {wording!r}")
    options.setdefault("depth", 40)
    prompt = SelectPrompt(layout=DYNAMIC_RAG[wording])
    scorer = Prompted(prompt, engine(model, options), max_tokens=100, sampling=Sampling(0.4), seed=seed)
    built = reranker(OneShot(), scorer, **options)
    return built.apply_attributes(keep_only_selected=True) if keep_only_selected else built
