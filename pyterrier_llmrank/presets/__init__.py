"""Published methods by name: functions that return a ``Rerank`` with the format its checkpoint was trained on."""

from __future__ import annotations

from .bge import bge_gemma
from .chat_listwise import insert_rank, lrl, rank_gpt, rank_gpt_apeer
from .classifiers import dear_pointwise, rank_llama
from .embedded import e2rank, pe_rank
from .fusion import list_t5, lit5_distill, lit5_score
from .groupwise import dynamic_rag, group_rank, tour_rank
from .in_context import core_heads, icr, qr_head, selective_icr
from .listwise import first, first_mistral, full_rank, rank_vicuna, rank_zephyr
from .pairwise import prp
from .pointwise import (
    instruction_distillation,
    mxbai_rerank_v2,
    pointwise_qlm,
    pointwise_yes_no,
    qwen3_reranker,
    ranking_gpt,
    tf_rank,
    upr,
)
from .reasoning_listwise import dear, dear_listwise, rank_k, rearank, reason_rank
from .reasoning_pointwise import erank, rank1, retro_star
from .registry import Common, Options, Preset, find
from .registry import frame as list
from .set_encoder import set_encoder, set_encoder_novelty
from .sets import rank_r1, setwise, setwise_sft
from .t5 import duo_t5, mono_t5, rank_t5

__all__ = [
    "Common",
    "Options",
    "Preset",
    "bge_gemma",
    "core_heads",
    "dear",
    "dear_listwise",
    "dear_pointwise",
    "duo_t5",
    "dynamic_rag",
    "e2rank",
    "erank",
    "find",
    "first",
    "first_mistral",
    "full_rank",
    "group_rank",
    "icr",
    "insert_rank",
    "instruction_distillation",
    "list",
    "list_t5",
    "lit5_distill",
    "lit5_score",
    "lrl",
    "mono_t5",
    "mxbai_rerank_v2",
    "pe_rank",
    "pointwise_qlm",
    "pointwise_yes_no",
    "prp",
    "qr_head",
    "qwen3_reranker",
    "rank1",
    "rank_gpt",
    "rank_gpt_apeer",
    "rank_k",
    "rank_llama",
    "rank_r1",
    "rank_t5",
    "rank_vicuna",
    "rank_zephyr",
    "ranking_gpt",
    "rearank",
    "reason_rank",
    "retro_star",
    "selective_icr",
    "set_encoder",
    "set_encoder_novelty",
    "setwise",
    "setwise_sft",
    "tf_rank",
    "tour_rank",
    "upr",
]
