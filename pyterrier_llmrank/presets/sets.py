"""Published setwise prompting, and checkpoints that choose the best document of a set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyterrier_llmrank.core import Scorer
from pyterrier_llmrank.prompts import OneMessage, SetPrompt
from pyterrier_llmrank.prompts.passages import VERBATIM
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import Prompted, Shuffled
from pyterrier_llmrank.strategies import Heapsort

from .registry import Name, Options, engine, preset, reranker

if TYPE_CHECKING:
    from typing_extensions import Unpack

# The formats that checkpoints were trained on, and prompts as they were published; where each stands is said beside it.

SETWISE = OneMessage(  # ielab/llm-rankers, setwise.py; the answer of Flan-T5 is begun with "Passage"
    'Given a query "{query}", which of the following passages is the most relevant one to the query?\n\n'
    "{passages}\n\nOutput only the passage label of the most relevant passage:",
    document='Passage {label}: "{text}"',
    identifier="{label}",
    answer="Passage ",
    raw=True,
    passage=VERBATIM,
    question=VERBATIM,
)


def boxed(template: str, system: str) -> OneMessage:
    """A format of the Rank-R1 family: documents line by line, ``[1]`` to ``[20]``."""
    return OneMessage(template, system=system, between="\n", passage=VERBATIM, question=VERBATIM)


TASK = 'Given the query: "{query}", which of the following documents is most relevant?\n{passages}\n'
LABEL = (
    "lease provide only the label of the most relevant document to the query, enclosed in square brackets, within the "
    "answer tags. For example, if the third document is the most relevant, the answer should be: "
)
SOLVES = "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The "

RANK_R1 = boxed(  # ielab/llm-rankers, Rank-R1/prompts/prompt_setwise-R1.toml
    f"{TASK}After completing the reasoning process, p{LABEL}<think> reasoning process here </think> "
    "<answer>[3]</answer>.",
    f"{SOLVES}assistant first thinks about the reasoning process in the mind and then provides the user with the "
    "answer. The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, "
    "respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>.",
)
SETWISE_SFT = boxed(  # the same, prompt_setwise.toml
    f"{TASK}P{LABEL}<answer>[3]</answer>.",
    f"{SOLVES}assistant provides the user with the answer enclosed within <answer> </answer> tags, i.e., <answer> "
    "answer here </answer>.",
)
RANK_R1_V2 = boxed(  # the same, prompt_setwise-R1-v0.2.toml
    """\
You will be presented with a query, and a set of documents.

Your task consists of the following step:

1. Analyze the query: Carefully read the query and identify the core problem or question being asked.

2. Analyze the documents: Thoroughly examine each document and briefly explain how each document is relevant or not \
relevant to the query.

3. Find the most relevant document: Based on your analysis, select the most relevant document to the query from the \
set and briefly explain why.

Important: Provide your analysis within the <think> </think> tags and answer only the label of the most relevant \
document, enclosed in square brackets, within the <answer> </answer> tags. For example, if the third document is the \
most relevant, your response should be:
<think> Your analysis here </think>
<answer>[3]</answer>

Here is the query: {query}

Here are the documents:
{passages}""",
    "You are RankLLM, an intelligent assistant capable of evaluating the relevancy of passages to a given query.",
)


@preset(
    paper="Zhuang et al., 2024, A Setwise Approach for Effective and Highly Efficient Zero-shot Ranking with Large "
    "Language Models",
    family="setwise",
    published={"DL19": 66.97, "TREC-COVID": 76.75},
    source="ielab/llm-rankers README, Flan-T5-large, heapsort with 2 children, BM25 top 100",
)
def setwise(model: Name = "google/flan-t5-large", *, group_size: int = 4, **options: Unpack[Options]) -> Rerank:
    """A heapsort whose nodes are compared with all their children at once, for the first ``top_k`` (10 by default).

    The best is read from the probabilities of the labels A, B, …; Flan-T5 can tell 23 of them apart. Passages of 128
    tokens.

    Args:
        model: The model: made for encoder-decoders such as Flan-T5, which have no chat template.
        group_size: A node and its children.
        options: See ``Options``.
    """
    options.setdefault("top_k", 10)
    scorer = Prompted(SetPrompt(layout=SETWISE), engine(model, options), max_doc_tokens=128)
    return reranker(Heapsort(group_size), scorer, **options)


def boxed_choice(layout: OneMessage, model: Name, options: Options, *, seed: int, max_tokens: int | None) -> Scorer:
    """The choice of a Rank-R1 among shuffled documents of 512 tokens."""
    own: dict[str, Any] = {"thinking": True} if layout is RANK_R1_V2 else {}
    prompt = SetPrompt("numbers", "generate", layout)
    return Shuffled(Prompted(prompt, engine(model, options, **own), 512, max_tokens=max_tokens), 1, seed=seed)


@preset(
    paper="Zhuang et al., 2025, Rank-R1: Enhancing Reasoning in LLM-based Document Rerankers via Reinforcement "
    "Learning",
    family="setwise",
    checkpoints=(
        "ielabgroup/Rank-R1-7B-v0.1",
        "ielabgroup/Rank-R1-3B-v0.1",
        "ielabgroup/Rank-R1-14B-v0.1",
        "ielabgroup/Rank-R1-32B-v0.2",
    ),
    published={"DL19 and DL20 (mean)": 70.0, "BRIGHT": 15.7},
    source="Alibaba-NLP/ERank model card, original queries, Rank-R1-7B",
)
def rank_r1(
    model: Name = "ielabgroup/Rank-R1-7B-v0.1", *, max_tokens: int = 2048, seed: int = 0, **options: Unpack[Options]
) -> Rerank:
    """A heapsort of sets of 20 documents, the best of which is named after reasoning (Rank-R1).

    Settled are the first ``top_k`` documents, 10 by default. Checkpoints of version 0.2 are asked in their own words,
    about sets of 10. The weights are LoRA adapters, which need peft. Documents are shuffled in every set, as the
    authors do; a set without a readable answer keeps its order.
    """
    options.setdefault("top_k", 10)
    newer = "v0.2" in str(model)
    scorer = boxed_choice(RANK_R1_V2 if newer else RANK_R1, model, options, seed=seed, max_tokens=max_tokens)
    return reranker(Heapsort(10 if newer else 20), scorer, **options)


@preset(
    paper="Zhuang et al., 2025, Rank-R1: Enhancing Reasoning in LLM-based Document Rerankers via Reinforcement "
    "Learning",
    family="setwise",
    checkpoints=(
        "ielabgroup/Setwise-SFT-7B-v0.1",
        "ielabgroup/Setwise-SFT-3B-v0.1",
        "ielabgroup/Setwise-SFT-14B-v0.1",
    ),
)
def setwise_sft(model: Name = "ielabgroup/Setwise-SFT-7B-v0.1", *, seed: int = 0, **options: Unpack[Options]) -> Rerank:
    """Rank-R1's control, which was trained to answer without reasoning; otherwise as ``rank_r1``."""
    options.setdefault("top_k", 10)
    scorer = boxed_choice(SETWISE_SFT, model, options, seed=seed, max_tokens=64)
    return reranker(Heapsort(20), scorer, **options)
