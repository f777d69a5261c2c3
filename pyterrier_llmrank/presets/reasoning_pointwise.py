"""Published checkpoints that reason about one document before they judge it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyterrier_llmrank.core import Scorer
from pyterrier_llmrank.models import Sampling
from pyterrier_llmrank.prompts import Graded, ScorePrompt, YesNo
from pyterrier_llmrank.prompts.passages import VERBATIM
from pyterrier_llmrank.prompts.turn import literal
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import Prompted, Reasoned, Repeated
from pyterrier_llmrank.strategies import Pointwise

from .registry import Name, Options, engine, preset, reranker

if TYPE_CHECKING:
    from typing_extensions import Unpack

RANK1 = (  # orionw/rank1, rank1.return_prompt; "<think>" follows, with which the reasoning is opened
    "Determine if the following passage is relevant to the query. Answer only with 'true' or 'false'.\n"
    "Query: {query}\nPassage: {text}\n"
)

ERANK = """\
Given a query and a document, please give a relevance score of 0 to 10.
The goal or relevance definition is: {instruction}

Here is the query:
{{query}}

Here is the document:
{{text}}

After thinking, directly choose a relevance score from [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10].
- 0 represents completely not related.
- 10 means perfectly related.

Desired output format:
<think>put your thinking here</think><answer>Only allows an integer here</answer>

Your output:"""  # the paper's figure 5, whose line breaks do not show

RETRO_STAR = """\
Here is the **relevance definition** in a retrieval task: {definition}

Now given a **query** ({query_type}) and a **document** ({document_type}) in this retrieval task, your mission is to \
perform the following steps.

1. Query Analysis: Think to reason and describe what information would be most helpful in answering the query.
2. Document Analysis: Discuss how the information provided by the document fulfills or fails to fulfill the \
requirements implied by the query.
3. Relevance Annotation: Based on the relevance definition and the insights from the previous two steps, clearly \
justify your final relevance annotation result and annotate an integer score from a scale of 0 to 100. Please use the \
following guide:
    - **80-100 (Highly Relevant):** The document directly and comprehensively addresses the query's intent. It is a \
core and authoritative answer.
    - **60-80 (Relevant):** The document substantially addresses the query's intent, providing most of the key \
information, but might miss some minor details.
    - **40-60 (Moderately Relevant):** The document is on-topic and addresses a part of the query's intent, but it is \
not a comprehensive answer.
    - **20-40 (Slightly Relevant):** The document mentions keywords from the query, but its main topic is different. \
It offers very limited value.
    - **0-20 (Irrelevant):** The document does not address the query's intent at all and is off-topic.

After providing your detailed analysis and justification for all the steps above, conclude your entire response with \
the final relevance score. The score must be placed strictly between the <score> tags. There should be no other text \
or explanation inside the tags:
<score>
[From a scale of 0 to 100, annotate the degree of relevance between the query and the document.]
</score>

Query ({query_type}):
[Begin of Query]
{{query}}
[End of Query]

Document ({document_type}):
[Begin of Document]
{{text}}
[End of Document]
"""  # VectorSpaceLab/agentic-search, Retro-star/evaluation/bright/reranker_sglang.py

DEFINITION = (  # the same, where none is given
    "Given a query ({query_type}) and a document ({document_type}), the document is relevant to the query if the "
    "document can help answer the query."
)


@preset(
    paper="Weller et al., 2025, Rank1: Test-Time Compute for Reranking in Information Retrieval",
    family="pointwise",
    checkpoints=(
        "jhu-clsp/rank1-7b",
        "jhu-clsp/rank1-0.5b",
        "jhu-clsp/rank1-1.5b",
        "jhu-clsp/rank1-3b",
        "jhu-clsp/rank1-14b",
        "jhu-clsp/rank1-32b",
        "jhu-clsp/rank1-llama3-8b",
        "jhu-clsp/rank1-mistral-2501-24b",
        "jhu-clsp/rank1-7b-awq",
        "jhu-clsp/rank1-14b-awq",
        "jhu-clsp/rank1-32b-awq",
        "jhu-clsp/rank1-llama3-8b-awq",
        "jhu-clsp/rank1-mistral-2501-24b-awq",
    ),
    published={"DL19 and DL20 (mean)": 67.1, "BRIGHT": 18.2},
    source="Alibaba-NLP/ERank model card, original queries",
    licence="MIT",
)
def rank1(model: Name = "jhu-clsp/rank1-7b", *, max_tokens: int = 8192, **options: Unpack[Options]) -> Rerank:
    """Log-odds of true against false after the model has thought about the passage (Rank1).

    Reasoning that does not end within ``max_tokens`` is cut after its last sentence and closed, as the authors do.
    Thousands of tokens are written per document; the context is 16,000 tokens unless ``max_length`` says otherwise.
    """
    scorer = Reasoned(
        YesNo(RANK1, " true", " false", raw=True, passage=VERBATIM, question=VERBATIM),
        engine(model, options, max_length=16_000),
        max_tokens=max_tokens,
        opening="<think>",
        closing="</think>",
    )
    return reranker(Pointwise(), scorer, **options)


@preset(
    paper="Cai et al., 2025, ERank: Fusing Supervised Fine-Tuning and Reinforcement Learning for Effective and "
    "Efficient Text Reranking",
    family="pointwise",
    checkpoints=("Alibaba-NLP/ERank-4B", "Alibaba-NLP/ERank-14B", "Alibaba-NLP/ERank-32B"),
    published={"DL19": 71.1, "DL20": 66.7, "BRIGHT": 22.7, "BEIR": 44.8},
    source="the paper, tables 3 and 11, ERank-4B, BM25 top 100 by original queries",
    licence="Apache-2.0",
)
def erank(
    model: Name = "Alibaba-NLP/ERank-4B",
    *,
    instruction: str = "Given a query, retrieval relevant passage.",
    max_tokens: int = 2048,
    **options: Unpack[Options],
) -> Rerank:
    """The likeliest score from 0 to 10 times its probability, after the model has thought about the document (ERank).

    The words of the prompt are those of the paper; its line breaks, which the paper does not show, are ours, so the
    format may differ in white space from the one that the checkpoints were trained on. Documents of 2048 tokens.

    Args:
        model: The checkpoint.
        instruction: What makes a document relevant; by default what the authors used for TREC DL and BEIR (table 7).
        max_tokens: Tokens of the reasoning at most.
        **options: See ``Options``.
    """
    grades = tuple(f"{grade}</answer>" for grade in range(11))  # 10 would begin like 1 if the tag did not end them
    scorer = Reasoned(
        Graded(grades, "likeliest", template=ERANK.format(instruction=literal(instruction)), passage=VERBATIM),
        engine(model, options, thinking=True),
        2048,
        max_tokens=max_tokens,
        closing="</think>\n<answer>",
        stop="</think>",
    )
    return reranker(Pointwise(), scorer, **options)


@preset(
    paper="Lan et al., 2025, Retro*: Optimizing LLMs for Reasoning-Intensive Document Retrieval",
    family="pointwise",
    checkpoints=(
        "ljw13/retro-star-qwen3-8b-0928",
        "ljw13/retro-star-qwen3-14b-0928",
        "ljw13/retro-star-qwen3-32b-0928",
        "ljw13/retro-star-qwen2.5-7b-instruct-0923",
        "ljw13/retro-star-qwen2.5-32b-instruct-0923",
    ),
)
def retro_star(
    model: Name = "ljw13/retro-star-qwen3-8b-0928",
    *,
    definition: str | None = None,
    query_type: str = "query",
    document_type: str = "document",
    samples: int = 1,
    max_tokens: int = 4096,
    seed: int = 0,
    **options: Unpack[Options],
) -> Rerank:
    """A score of 0 to 100 that the model writes after an analysis by the rubric; the mean of several samples.

    A sample without a score counts for nothing; the authors count it as 0. Their two stages on BRIGHT are
    ``retro_star() >> retro_star(samples=16, depth=30)``. Scores tie often, and ties keep their order. A document that
    does not fit is cut, and the prompt after it is kept.

    Args:
        model: The checkpoint.
        definition: What makes a document relevant, e.g. "Given a query (biology post) and a document (passage), the
            document is relevant to the query if …"; by default, that it can help to answer the query.
        query_type: What queries are, e.g. "biology post".
        document_type: What documents are, e.g. "passage".
        samples: Answers to average for each document.
        max_tokens: Tokens of an answer at most.
        seed: Decides what is sampled.
        **options: See ``Options``.
    """
    types = {"query_type": literal(query_type), "document_type": literal(document_type)}
    told = DEFINITION.format(**types) if definition is None else literal(definition)
    scorer: Scorer = Prompted(
        ScorePrompt(RETRO_STAR.format(definition=told, **types), passage=VERBATIM, question=VERBATIM),
        engine(model, options),
        max_tokens=max_tokens,
        sampling=Sampling(0.6, top_k=40),
        seed=seed,
    )
    return reranker(Pointwise(), scorer if samples == 1 else Repeated(scorer, samples, seed=seed), **options)
