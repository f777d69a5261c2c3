"""Presets that read vectors: their scorers and strategies, on tiny checkpoints, from a frame to a frame."""

from __future__ import annotations

import pandas as pd
import pytest
from fake_models import HashModel
from tiny import CHATML, byte_tokenizer
from vector_models import Hashed, embedder, pe_rank_checkpoint

from pyterrier_llmrank import ListwiseLLM, presets
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.prompts import EmbeddedPrompt, PseudoQuery
from pyterrier_llmrank.scorers import E2Rank, PERank
from pyterrier_llmrank.strategies import OneShot, SlidingWindow


def frame(n=9):
    rows = [["q1", "why the cat", f"d{i}", f"the cat number {i}", -float(i)] for i in range(n)]
    return pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "score"])


def test_pe_rank_is_a_sliding_window_of_20_over_vectors():
    rerank = presets.pe_rank()
    assert rerank.strategy == SlidingWindow(20, 10)
    assert rerank.scorer == PERank("liuqi6777/pe-rank-mistral-jina")
    told = presets.pe_rank(texts=True, trust_remote_code=True, dtype="float32", window=10, stride=5, passes=2)
    assert told.strategy == SlidingWindow(10, 5, 2) and told.scorer.prompt == EmbeddedPrompt(texts=True)
    assert told.scorer.trust_remote_code and told.scorer.dtype == "float32"


def test_e2rank_reads_20_documents_of_the_whole_list_once():
    rerank = presets.e2rank()
    assert rerank.strategy == OneShot() and rerank.scorer == E2Rank("Alibaba-NLP/E2Rank-0.6B", shown=20)
    assert rerank.scorer.prompt == PseudoQuery() and rerank.scorer.encoder.suffix == "<|endoftext|>"


def test_pe_rank_ranks_a_frame_and_encodes_each_passage_once(tmp_path):
    encoder = Hashed()
    rerank = presets.pe_rank(pe_rank_checkpoint(tmp_path), vectors=encoder, window=4, stride=2, device="cpu")
    out = rerank(frame())
    assert sorted(out["docno"]) == [f"d{i}" for i in range(9)] == sorted(encoder.asked)
    usage = rerank.ledger["q1"].usage
    assert usage.output_tokens == 3 * 3 + 2  # windows of 4, 4, 4 and 3, each a step less
    assert usage.calls == 4 + 9 and usage.cached_calls == 3 * 4 + 3 - 9


def test_e2rank_ranks_a_frame_by_itself(tmp_path):
    tokenizer = byte_tokenizer(chat=CHATML)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|endoftext|>"]})
    rerank = presets.e2rank(embedder(tmp_path, tokenizer), shown=3, device="cpu", dtype="float32")
    out = rerank(frame())
    assert sorted(out["docno"]) == [f"d{i}" for i in range(9)] and rerank.ledger["q1"].usage.calls == 1 + 9


def test_a_checkpoint_by_name_is_ranked_with_its_own_method():
    assert ListwiseLLM("liuqi6777/pe-rank-mistral-jina").scorer == presets.pe_rank().scorer
    assert ListwiseLLM("Alibaba-NLP/E2Rank-4B").strategy == OneShot()


@pytest.mark.parametrize("build", [presets.pe_rank, presets.e2rank], ids=lambda build: build.__name__)
def test_a_model_is_refused_where_only_weights_will_do(build):
    with pytest.raises(ConfigurationError, match="reads a network's states: pass its name or folder, not HashModel"):
        build(HashModel())
