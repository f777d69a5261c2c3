"""Published dense retrievers: how each makes its vectors, by the name of its checkpoint."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import PurePath

import pandas as pd

from pyterrier_llmrank.models.hf.sentence import Settings


@dataclass(frozen=True)
class Known:
    """One family of checkpoints that make their vectors in the same way.

    Attributes:
        names: On the Hugging Face hub.
        settings: How they make a vector of a text.
        paper: Authors, year, title.
        source: Where the settings were checked: repositories with their paths, or pages.
        licence: Of the weights, where their publisher tells one.
    """

    names: tuple[str, ...]
    settings: Settings
    paper: str
    source: str
    licence: str = ""


SEARCHING = "Represent this sentence for searching relevant passages: "
ANSWERING = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
WANG = "Wang et al., 2022, Text Embeddings by Weakly-Supervised Contrastive Pre-training"
REIMERS = "Reimers and Gurevych, 2019, Sentence-BERT"


def _sizes(pattern: str, *sizes: str) -> tuple[str, ...]:
    return tuple(pattern.format(size) for size in sizes)


KNOWN = (
    Known(
        ("manveertamber/cadet-embed-base-v1",),
        Settings("mean", True, "query: ", "passage: ", 512),
        "Tamber et al., 2025, Conventional Contrastive Learning Often Falls Short: Improving Dense Retrieval with "
        "Cross-Encoder Listwise Distillation and Synthetic Data",
        "huggingface.co/manveertamber/cadet-embed-base-v1 (README.md); manveertamber/cadet-dense-retrieval: "
        "training_scripts/train_general_e5_listwise.py",
        licence="Apache-2.0",
    ),
    Known(
        (
            *_sizes("intfloat/e5-{}-v2", "small", "base", "large"),
            *_sizes("intfloat/e5-{}", "small", "base", "large"),
            *_sizes("intfloat/e5-{}-unsupervised", "small", "base", "large"),
        ),
        Settings("mean", True, "query: ", "passage: ", 512),
        WANG,
        "microsoft/unilm: e5/model_config.py, e5/mteb_beir_eval.py; terrierteam/pyterrier_dr: "
        "pyterrier_dr/sbert_models.py; huggingface.co/intfloat/e5-base-unsupervised (README.md, modules.json); the "
        "licence at the hub's pages of e5-base, e5-large and the unsupervised, and for the others at "
        "embeddings-benchmark/mteb: mteb/models/e5_models.py",
        licence="MIT",
    ),
    Known(
        _sizes("intfloat/multilingual-e5-{}", "small", "base", "large"),
        Settings("mean", True, "query: ", "passage: ", 512),
        "Wang et al., 2024, Multilingual E5 Text Embeddings: A Technical Report",
        "microsoft/unilm: e5/model_config.py; embeddings-benchmark/mteb: mteb/models/e5_models.py; "
        "huggingface.co/intfloat/multilingual-e5-base (modules.json)",
        licence="MIT",
    ),
    Known(
        _sizes("BAAI/bge-{}-en-v1.5", "small", "base", "large"),
        Settings("cls", True, SEARCHING, "", 512),
        "Xiao et al., 2023, C-Pack: Packed Resources For General Chinese Embeddings",
        "FlagOpen/FlagEmbedding: examples/inference/embedder/README.md, "
        "FlagEmbedding/inference/embedder/model_mapping.py; embeddings-benchmark/mteb: mteb/models/bge_models.py",
        licence="MIT",
    ),
    Known(
        ("BAAI/bge-m3",),
        Settings("cls", True, "", "", 8192),
        "Chen et al., 2024, BGE M3-Embedding (its dense vectors)",
        "FlagOpen/FlagEmbedding: research/BGE_M3/README.md, FlagEmbedding/inference/embedder/encoder_only/m3.py; "
        "embeddings-benchmark/mteb: mteb/models/bge_models.py",
        licence="MIT",
    ),
    Known(
        ("BAAI/llm-embedder",),
        Settings(
            "cls",
            True,
            "Represent this query for retrieving relevant documents: ",
            "Represent this document for retrieval: ",
            512,
        ),
        "Zhang et al., 2023, Retrieve Anything To Augment Large Language Models (its question answering)",
        "FlagOpen/FlagEmbedding: research/llm_embedder/README.md; huggingface.co/BAAI/llm-embedder (licence)",
        licence="MIT",
    ),
    Known(
        _sizes("thenlper/gte-{}", "small", "base", "large"),
        Settings("mean", True, "", "", 512),
        "Li et al., 2023, Towards General Text Embeddings with Multi-stage Contrastive Learning",
        "huggingface.co/thenlper/gte-large (1_Pooling/config.json, modules.json, licence); FlagOpen/FlagEmbedding: "
        "FlagEmbedding/inference/embedder/model_mapping.py; qdrant/fastembed: "
        "fastembed/text/pooled_normalized_embedding.py",
        licence="MIT",
    ),
    Known(
        ("Alibaba-NLP/gte-modernbert-base",),
        Settings("cls", True, "", "", 8192),
        "Zhang et al., 2024, mGTE",
        "a copy of the model card at hf.global-rail.com/Alibaba-NLP/gte-modernbert-base; embeddings-benchmark/mteb: "
        "mteb/models/model_implementations/gte_models.py",
        licence="Apache-2.0",
    ),
    Known(
        (
            *_sizes("Snowflake/snowflake-arctic-embed-{}", "xs", "s", "m", "l"),
            "Snowflake/snowflake-arctic-embed-m-v1.5",
        ),
        Settings("cls", True, SEARCHING, "", 512),
        "Merrick et al., 2024, Arctic-Embed: Scalable, Efficient, and Accurate Text Embedding Models",
        "Snowflake-Labs/arctic-embed: README.md; embeddings-benchmark/mteb: mteb/models/arctic_models.py; "
        "castorini/pyserini: pyserini/encode/_arctic.py",
        licence="Apache-2.0",
    ),
    Known(
        ("Snowflake/snowflake-arctic-embed-l-v2.0",),
        Settings("cls", True, "query: ", "", 8192),
        "Yu et al., 2024, Arctic-Embed 2.0: Multilingual Retrieval Without Compromise",
        "a copy of the model card's usage with transformers; huggingface.co/Snowflake/snowflake-arctic-embed-l-v2.0 "
        "(licence); embeddings-benchmark/mteb: mteb/models/arctic_models.py (tokens)",
        licence="Apache-2.0",
    ),
    Known(
        ("mixedbread-ai/mxbai-embed-large-v1",),
        Settings("cls", True, SEARCHING, "", 512),
        "Lee et al., 2024, Open Source Strikes Bread",
        "mixedbread.ai/docs/embeddings/mxbai-embed-large-v1; huggingface.co/mixedbread-ai/mxbai-embed-large-v1 "
        "(licence); qdrant/fastembed: fastembed/text/onnx_embedding.py (pooling)",
        licence="Apache-2.0",
    ),
    Known(
        ("facebook/contriever", "facebook/contriever-msmarco"),
        Settings("mean", False, "", "", 512),
        "Izacard et al., 2022, Unsupervised Dense Information Retrieval with Contrastive Learning",
        "facebookresearch/contriever: src/contriever.py, src/beir_utils.py, eval_beir.py; "
        "huggingface.co/facebook/contriever (tells no licence)",
    ),
    Known(
        ("sebastian-hofstaetter/distilbert-dot-tas_b-b256-msmarco",),
        Settings("cls", False, "", "", 512),
        "Hofstätter et al., 2021, Efficiently Teaching an Effective Dense Retriever with Balanced Topic Aware Sampling",
        "sebastian-hofstaetter/tas-balanced-dense-retrieval: minimal_bert_dot_usage_example.ipynb; "
        "huggingface.co/sebastian-hofstaetter/distilbert-dot-tas_b-b256-msmarco (tells no licence)",
    ),
    Known(
        _sizes("Qwen/Qwen3-Embedding-{}", "0.6B", "4B", "8B"),
        Settings("last", True, ANSWERING, "", 8192),
        "Zhang et al., 2025, Qwen3 Embedding: Advancing Text Embedding and Reranking Through Foundation Models",
        "embeddings-benchmark/mteb: mteb/models/qwen3_models.py; castorini/pyserini: pyserini/encode/_qwen3.py; "
        "deepwiki.com/QwenLM/Qwen3-Embedding/2.1-text-embedding-models; a copy of the model card (normalising)",
        licence="Apache-2.0",
    ),
    Known(
        _sizes("HIT-TMG/KaLM-embedding-multilingual-mini-instruct-{}", "v1", "v1.5"),
        Settings(
            "mean", True, "Instruct: Given a query, retrieve documents that answer the query. \n Query: ", "", 512
        ),
        "Hu et al., 2025, KaLM-Embedding: Superior Training Data Brings A Stronger Embedding Model",
        "HITsz-TMG/KaLM-Embedding: evaluate/utils.py, evaluate/run_mteb.py, scipts/train.sh; "
        "embeddings-benchmark/mteb: mteb/models/model_implementations/kalm_models.py; "
        "huggingface.co/HIT-TMG/KaLM-embedding-multilingual-mini-instruct-v1 (licence)",
        licence="MIT",
    ),
    Known(
        ("sentence-transformers/all-MiniLM-L6-v2",),
        Settings("mean", True, "", "", 256),
        REIMERS,
        "huggingface.co/sentence-transformers/all-MiniLM-L6-v2 (modules.json, sentence_bert_config.json, licence); "
        "qdrant/fastembed: fastembed/text/pooled_normalized_embedding.py (pooling)",
        licence="Apache-2.0",
    ),
    Known(
        ("sentence-transformers/all-mpnet-base-v2",),
        Settings("mean", True, "", "", 384),
        REIMERS,
        "huggingface.co/sentence-transformers/all-mpnet-base-v2 (sentence_bert_config.json, licence); copies of its "
        "1_Pooling/config.json at huggingface.co/praneethsahini/all-mpnet-base-v2 and of its modules.json at "
        "huggingface.co/obrizum/all-mpnet-base-v2",
        licence="Apache-2.0",
    ),
    Known(
        ("sentence-transformers/multi-qa-MiniLM-L6-cos-v1",),
        Settings("mean", True, "", "", 512),
        REIMERS,
        "huggingface.co/sentence-transformers/multi-qa-MiniLM-L6-cos-v1 (README.md, 1_Pooling/config.json; tells no "
        "licence); embeddings-benchmark/mteb: mteb/models/sentence_transformers_models.py (tokens)",
    ),
)


def find(name: str | os.PathLike[str]) -> Known | None:
    """What is known of a checkpoint; None for nothing.

    Known by its name on the hub, whatever its case; a folder is known by its last part, where that is the name of one.
    """
    wanted = os.fspath(name).rstrip("/\\").casefold()
    for known in KNOWN:
        names = [one.casefold() for one in known.names]
        if wanted in names or PurePath(wanted).name in [one.rpartition("/")[2] for one in names]:
            return known
    return None


def checkpoints() -> pd.DataFrame:
    """One row per published checkpoint that ``DistilledRetriever(name)`` knows how to use.

    Columns: checkpoint, pooling, normalize, query_prefix, doc_prefix, max_length (tokens), paper, source (where these
    settings were checked) and licence (of the weights; None where none is told). No model is looked for, or loaded.
    """
    rows = [
        {
            "checkpoint": name,
            **vars(known.settings),
            "paper": known.paper,
            "source": known.source,
            "licence": known.licence or None,
        }
        for known in KNOWN
        for name in known.names
    ]
    return pd.DataFrame(rows)
