"""A reranker's verdict moves the query's vector, as FIRST's authors move it."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
import torch
from shared_data import parity

from pyterrier_llmrank import QueryFeedback, VectorColumns
from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.networks.feedback import moved
from pyterrier_llmrank.training.losses import by_teacher_ranks, kl_divergence, rank_net


def recorded():
    """The cases of the loss that can be run as shipped, with their starting vector.

    It is recorded as it was after the run, which wrote to it; but its products with the passages tell what it was.
    """
    cases = [case for case in parity("first_relevance_feedback")["cases"] if case["loss"] == "ranknet"]
    assert len(cases) == 2
    for case in cases:
        docs = np.array(case["passages_in_first_stage_order"])
        yield case, np.linalg.lstsq(docs, np.array(case["first_stage_scores"]), rcond=None)[0], docs


def frame(query, docs, order, **columns):
    """A reranked list: the documents' places in ``order``, best first."""
    ranks = {place: rank for rank, place in enumerate(order)}
    rows = [("1", "q", f"d{place}", query, doc, ranks[place]) for place, doc in enumerate(docs)]
    return pd.DataFrame(rows, columns=["qid", "query", "docno", "query_vec", "doc_vec", "rank"]).assign(**columns)


def test_vectors_after_both_stages_are_those_of_the_official_code():
    for case, query, docs in recorded():
        order = np.argsort(-np.array(case["llm_target_scores"])).tolist()
        reranked = frame(query, docs, order, cross=case["ce_scores"])
        out = QueryFeedback(scores="cross")(reranked)
        np.testing.assert_allclose(out["query_vec"].iloc[0], case["query_after"], atol=1e-5)
        assert out["query_vec"].iloc[0].dtype == np.float32


def test_losses_fall_as_they_fall_in_the_official_code():
    for case, query, docs in recorded():
        seen = []

        def noted(scores, targets, mask=None, *, loss, seen=seen):
            value = loss(scores, targets, mask)
            seen.append(float(value.detach()))
            return value

        start, rows = torch.from_numpy(query).float(), torch.from_numpy(docs).float()
        told = [torch.tensor(case[name]) for name in ("ce_scores", "llm_target_scores")]
        after = moved(start, rows, told[0], loss=partial(noted, loss=kl_divergence), learning_rate=0.005, steps=100)
        np.testing.assert_allclose([seen[0], seen[-1]], case["ce_loss_first_last"], atol=1e-5)
        seen.clear()
        order = partial(noted, loss=partial(rank_net, weight=by_teacher_ranks))
        moved(after, rows, told[1], loss=order, learning_rate=0.001, steps=20)
        np.testing.assert_allclose([seen[0], seen[-1]], case["llm_loss_first_last"], atol=1e-5)


def toy(order=(3, 2, 1, 0)):
    draw = np.random.default_rng(0)
    docs = draw.normal(size=(4, 5)).astype(np.float32)
    return frame(np.ones(5, dtype=np.float32), docs, order), docs


def test_no_step_leaves_the_query_as_it_is():
    reranked, _ = toy()
    out = QueryFeedback(steps=0)(reranked)
    assert out["query_vec"].iloc[0].tolist() == [1.0] * 5 and out.columns.tolist() == ["qid", "query", "query_vec"]


def test_the_products_come_nearer_to_the_order():
    reranked, docs = toy()
    vector = QueryFeedback(steps=2000)(reranked)["query_vec"].iloc[0]
    before, after = docs @ np.ones(5), docs @ vector
    lead = [after[3] - after[0], before[3] - before[0]]
    assert lead[0] > lead[1]


def test_queries_do_not_change_one_another():
    reranked, _ = toy()
    other = toy((0, 3, 1, 2))[0].assign(qid="2")
    both = QueryFeedback()(pd.concat([reranked, other], ignore_index=True))
    for own, one in ((reranked, both.iloc[0]), (other, both.iloc[1])):
        alone = QueryFeedback()(own).iloc[0]
        assert alone["qid"] == one["qid"] and alone["query_vec"].tolist() == one["query_vec"].tolist()


def test_only_the_first_documents_count():
    reranked, _ = toy()
    few = QueryFeedback(top_k=2)(reranked)["query_vec"].iloc[0]
    assert few.tolist() == QueryFeedback()(reranked[reranked["rank"] < 2])["query_vec"].iloc[0].tolist()


def test_one_document_or_equal_ones_move_nothing():
    reranked, _ = toy()
    alike = reranked.assign(doc_vec=[np.ones(5)] * 4)
    for inp in (reranked.head(1), alike):
        assert QueryFeedback()(inp)["query_vec"].iloc[0].tolist() == [1.0] * 5


def test_vectors_are_made_of_texts_by_any_function():
    reranked, docs = toy()
    texts = {"q": np.ones(5), **{f"text {place}": doc for place, doc in enumerate(docs)}}
    plain = reranked.drop(columns=["query_vec", "doc_vec"]).assign(text=[f"text {place}" for place in range(4)])
    out = QueryFeedback(lambda given: np.stack([texts[one] for one in given]))(plain)
    np.testing.assert_allclose(out["query_vec"].iloc[0], QueryFeedback()(reranked)["query_vec"].iloc[0], atol=1e-6)


def test_an_empty_frame_has_the_same_columns():
    reranked, _ = toy()
    assert QueryFeedback()(reranked.head(0)).columns.tolist() == ["qid", "query", "query_vec"]
    assert pt.inspect.transformer_outputs(QueryFeedback(), reranked.columns.tolist()) == ["qid", "query", "query_vec"]


def test_what_is_missing_or_no_number_is_told():
    reranked, _ = toy()
    with pytest.raises(pt.validate.InputValidationError, match="'doc_vec'"):
        QueryFeedback()(reranked.drop(columns="doc_vec"))
    with pytest.raises(pt.validate.InputValidationError, match="'cross'"):
        QueryFeedback(scores="cross")(reranked)
    with pytest.raises(InputError, match="'cross' of document d3 of query '1' is not finite"):
        QueryFeedback(scores="cross")(reranked.assign(cross=np.nan))
    with pytest.raises(ConfigurationError, match="scores= or order=True"):
        QueryFeedback(order=False)
    with pytest.raises(ConfigurationError, match="learning_rate must be above 0"):
        QueryFeedback(learning_rate=0.0)


def test_it_is_a_value():
    assert QueryFeedback() == QueryFeedback(VectorColumns()) != QueryFeedback(steps=5)
    assert repr(QueryFeedback(scores="cross", top_k=9)) == "QueryFeedback(scores='cross', top_k=9)"
    assert hash(QueryFeedback()) == hash(QueryFeedback())
