"""Published checkpoints and prompts that read one document at a time, without reasoning in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.prompts import LabelLogit, QueryPrompt, YesNo
from pyterrier_llmrank.prompts.passages import VERBATIM, Preparation
from pyterrier_llmrank.prompts.turn import literal
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import Prompted, QueryLikelihood, Stepped
from pyterrier_llmrank.strategies import Pointwise

from .registry import Name, Options, engine, preset, reranker

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Each format as its checkpoint was trained on it; where it stands is said beside it.

UPR = "Passage: {text}. Please write a question based on this passage."  # DevSinghSachan's upr.py, empty title

QLM = "Passage: {text}\nPlease write a question based on this passage."  # ielab/llm-rankers, pointwise.py

YES_NO = "Passage: {text}\nQuery: {query}\nDoes the passage answer the query? Answer 'Yes' or 'No'"  # the same

RANKING_GPT = "Document: {text} Query:"  # Alibaba-NLP/RankingGPT, eval.py; the query follows without a space

INSTRUCTION_DISTILLATION = (  # sunnweiwei/RankGPT, InstructDistill/README.md
    "Predict whether the given passage answer the question.\n\nQuestion: {query}\n\nPassage: {text}\n\n"
    "Does the passage answer the question?"
)

QWEN3_RERANKER = (  # model cards of Qwen/Qwen3-Reranker-*; join is one line break, or two
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    "<Instruct>: {instruction}{join}<Query>: {{query}}{join}<Document>: {{text}}"
    "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
)
QWEN3_VARIANTS = {  # line breaks between the fields, and the instruction where none is given
    "card": ("\n", "Given a web search query, retrieve relevant passages that answer the query"),
    "evaluation": ("\n\n", "Given the user query, retrieval the relevant passages"),
}

MXBAI_RERANK_V2 = (  # mixedbread-ai/mxbai-rerank, mxbai_rerank_v2.py
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n{instruction}query: {{query}}\ndocument: {{text}}\n"
    "You are a search relevance expert who evaluates how well documents match search queries. For each query-document "
    "pair, carefully analyze the semantic relationship between them, then provide your binary relevance judgment (0 "
    "for not relevant, 1 for relevant).\nRelevance:<|im_end|>\n<|im_start|>assistant\n"
)

TF_RANK = (  # JOHNNY-fans/TFRank, evaluation/tfrank_demo.py and run_eval.py
    "<|im_start|>system\nBased on the relevance of the Documents to the Query and the Instruct provided to complete "
    "the task.\n<|im_end|>\n<|im_start|>user\n{user} /no think\n<|im_end|>\n<|im_start|>assistant\n"
    "<think>\n\n</think>\n\n"
)
TF_RANK_USER = """\
<Instruct>: Please judge the relevance strength between the query and the document, and directly output the relevance \
judgment (yes or no), followed by the relevance score in parentheses, e.g., yes(score) or no(score).


- Relevance scores are represented by numbers from 0 to 4, with the following meanings:
0 means completely irrelevant,
1 means weakly relevant,
2 means moderately relevant,
3 means strongly relevant,
4 means completely relevant.

- For binary relevance judgment (yes or no), the rule is:
Scores 0 and 1 are considered irrelevant and represented as "no",
Scores 2, 3, and 4 are considered relevant and represented as "yes".


<Query>: {query}


<Document>: {text}"""


@preset(
    paper="Sachan et al., 2022, Improving Passage Retrieval with Zero-Shot Question Generation",
    family="pointwise",
)
def upr(model: Name = "bigscience/T0_3B", **options: Unpack[Options]) -> Rerank:
    """Likelihood of the query as a question about the passage (UPR): the sum over its tokens and the end token.

    For instruction-tuned encoder-decoders. A passage is cut to 512 tokens with its instruction, which is kept whole.
    """
    scorer = QueryLikelihood(engine(model, options, max_length=512), QueryPrompt(UPR, raw=True), reduce="sum")
    return reranker(Pointwise(), scorer, **options)


@preset(paper="Zhuang et al., 2024, A Setwise Approach (its query likelihood baseline)", family="pointwise")
def pointwise_qlm(model: Name = "google/flan-t5-large", **options: Unpack[Options]) -> Rerank:
    """Likelihood of the query after the passage, with the prompt of llm-rankers; passages of 128 tokens."""
    prompt = QueryPrompt(QLM, raw=True, passage=VERBATIM)
    scorer = QueryLikelihood(engine(model, options), prompt, reduce="sum", max_doc_tokens=128)
    return reranker(Pointwise(), scorer, **options)


@preset(paper="Zhuang et al., 2024, A Setwise Approach (its yes/no baseline)", family="pointwise")
def pointwise_yes_no(model: Name = "google/flan-t5-large", **options: Unpack[Options]) -> Rerank:
    """Log-odds of Yes against No, with the prompt of llm-rankers; passages of 128 tokens."""
    prompt = YesNo(YES_NO, raw=True, passage=VERBATIM, question=VERBATIM)
    return reranker(Pointwise(), Prompted(prompt, engine(model, options), max_doc_tokens=128), **options)


@preset(
    paper="Zhang et al., 2023, RankingGPT: Empowering LLMs in Text Ranking with Progressive Enhancement",
    family="pointwise",
    checkpoints=(
        "zyznull/RankingGPT-llama2-7b",
        "zyznull/RankingGPT-bloom-560m",
        "zyznull/RankingGPT-bloom-1b1",
        "zyznull/RankingGPT-bloom-3b",
        "zyznull/RankingGPT-bloom-7b",
        "zyznull/RankingGPT-baichuan2-7b",
        "zyznull/RankingGPT-qwen-7b",
    ),
    published={"DL19": 76.2, "DL20": 76.3, "BEIR": 57.8},
    source="Alibaba-NLP/RankingGPT README, BM25 top 1000",
)
def ranking_gpt(model: Name = "zyznull/RankingGPT-llama2-7b", **options: Unpack[Options]) -> Rerank:
    """Mean log-probability of the query's tokens after the document; 512 tokens in all."""
    prompt = QueryPrompt(RANKING_GPT, raw=True, passage=VERBATIM)
    return reranker(Pointwise(), QueryLikelihood(engine(model, options, max_length=512), prompt), **options)


@preset(
    paper="Sun et al., 2023, Instruction Distillation Makes Large Language Models Efficient Zero-shot Rankers",
    family="pointwise",
    checkpoints=("fireballoon/rank-flan-t5-xl", "fireballoon/rank-llama-2-7b"),
)
def instruction_distillation(model: Name = "fireballoon/rank-flan-t5-xl", **options: Unpack[Options]) -> Rerank:
    """The logit of Yes, without normalisation, from a student of pairwise ranking; passages of 200 words."""
    prompt = LabelLogit(
        INSTRUCTION_DISTILLATION,
        " Yes",
        raw=True,
        passage=Preparation(max_words=200, markers="none"),
        question=VERBATIM,
    )
    return reranker(Pointwise(), Prompted(prompt, engine(model, options, max_length=1024)), **options)


@preset(
    paper="Zhang et al., 2025, Qwen3 Embedding: Advancing Text Embedding and Reranking Through Foundation Models",
    family="pointwise",
    checkpoints=("Qwen/Qwen3-Reranker-0.6B", "Qwen/Qwen3-Reranker-4B", "Qwen/Qwen3-Reranker-8B"),
    published={"MTEB-R": 65.80},
    source="model card, mean of the retrieval tasks of MTEB (eng, v2), top 100 of Qwen3-Embedding-0.6B",
    licence="Apache-2.0",
)
def qwen3_reranker(
    model: Name = "Qwen/Qwen3-Reranker-0.6B",
    *,
    instruction: str | None = None,
    variant: Literal["card", "evaluation"] = "card",
    **options: Unpack[Options],
) -> Rerank:
    """Log-odds of yes against no; the logistic function of the score is the score on the model card.

    Args:
        model: The checkpoint.
        instruction: What makes a document relevant, in a sentence; by default the one that comes with the variant.
        variant: The fields of the prompt stand on lines of their own ("card", the transformers example of the model
            card), or with an empty line between them ("evaluation", as in its vLLM example and the authors' code).
        **options: See ``Options``; 8192 tokens unless ``max_length`` says otherwise, of which the document gives way.

    Raises:
        ConfigurationError: ``variant`` is neither.
    """
    if variant not in QWEN3_VARIANTS:
        raise ConfigurationError(f"variant must be 'card' or 'evaluation', got {variant!r}")
    join, usual = QWEN3_VARIANTS[variant]
    template = QWEN3_RERANKER.format(instruction=literal(usual if instruction is None else instruction), join=join)
    prompt = YesNo(template, "yes", "no", raw=True, passage=VERBATIM, question=VERBATIM)
    return reranker(Pointwise(), Prompted(prompt, engine(model, options, max_length=8192)), **options)


@preset(
    paper="Li et al., 2025, ProRank: Prompt Warmup via Reinforcement Learning for Small Language Models Reranking",
    family="pointwise",
    checkpoints=("mixedbread-ai/mxbai-rerank-base-v2", "mixedbread-ai/mxbai-rerank-large-v2"),
    published={"BEIR": 55.57},
    source="mixedbread-ai/mxbai-rerank README",
    licence="Apache-2.0",
)
def mxbai_rerank_v2(
    model: Name = "mixedbread-ai/mxbai-rerank-base-v2",
    *,
    instruction: str | None = None,
    **options: Unpack[Options],
) -> Rerank:
    """The logit of 1 less that of 0 (ProRank), within 8192 tokens.

    The text is tokenised whole; the authors' code tokenises query, document and task apart, so that where one of them
    ends in punctuation the line break after it is a token of its own there, and may be part of another here.
    """
    told = f"instruction: {literal(instruction)}\n" if instruction else ""
    prompt = YesNo(MXBAI_RERANK_V2.format(instruction=told), "1", "0", raw=True, passage=VERBATIM, question=VERBATIM)
    return reranker(Pointwise(), Prompted(prompt, engine(model, options, max_length=8192)), **options)


@preset(
    paper="Fan et al., 2025, TFRank: Think-Free Reasoning Enables Practical Pointwise LLM Ranking",
    family="pointwise",
    checkpoints=(
        "Johnnyfans/TFRank-GRPO-Qwen3-8B",
        "Johnnyfans/TFRank-GRPO-Qwen3-0.6B",
        "Johnnyfans/TFRank-GRPO-Qwen3-1.7B",
        "Johnnyfans/TFRank-GRPO-Qwen3-4B",
        "Johnnyfans/TFRank-SFT-GRPO-Qwen3-8B",
    ),
)
def tf_rank(model: Name = "Johnnyfans/TFRank-GRPO-Qwen3-8B", **options: Unpack[Options]) -> Rerank:
    """Mean of the probability of yes and of the expected grade over 4, as in ``yes(3)``; 0 to 1, nothing is written.

    Two steps of one token each: yes or no, then the grade after the likelier of them.
    """
    prompt = YesNo(TF_RANK.format(user=TF_RANK_USER), "yes", "no", raw=True, passage=VERBATIM, question=VERBATIM)
    return reranker(Pointwise(), Stepped(prompt, engine(model, options)), **options)
