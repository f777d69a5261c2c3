"""Selections: the only rows that may disappear are those that a scorer left out when it was asked to select."""

from __future__ import annotations

import warnings

import pandas as pd
import pytest
from fakes import PerfectScorer, SilentScorer

from pyterrier_llmrank.core import Usage
from pyterrier_llmrank.errors import ConfigurationError, LLMRankWarning
from pyterrier_llmrank.frames import RAW_SCORE
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.strategies import Knockout, OneShot, SlidingWindow


def candidates(values):
    """One query per list; a document's text is the score that it will get."""
    rows = [
        {"qid": f"q{q}", "query": "x", "docno": f"d{q}-{i}", "text": str(value), "rank": i}
        for q, of_query in enumerate(values)
        for i, value in enumerate(of_query)
    ]
    return pd.DataFrame(rows)


class Selecting(PerfectScorer):
    """Selects documents with a text above 0."""

    selects = True


class SilentlySelecting(SilentScorer):
    selects = True


def test_only_selected_rows_are_returned_when_asked():
    out = Rerank(OneShot(), Selecting(), keep_only_selected=True)(candidates([[0, 2, 0, 1], [0, 0], [3]]))
    assert out["docno"].tolist() == ["d0-1", "d0-3", "d2-0"]
    assert out["rank"].tolist() == [0, 1, 0]


def test_by_default_rows_that_were_not_selected_follow():
    out = Rerank(OneShot(), PerfectScorer())(candidates([[0, 2, 0, 1]]))
    assert out["docno"].tolist() == ["d0-1", "d0-3", "d0-0", "d0-2"]


def test_an_answer_that_cannot_be_read_loses_no_row():
    with pytest.warns(LLMRankWarning, match="could not be read"):
        out = Rerank(OneShot(), SilentlySelecting(), keep_only_selected=True)(candidates([[1, 2, 3]]))
    assert out["docno"].tolist() == ["d0-0", "d0-1", "d0-2"]


def test_a_cutoff_applies_to_what_was_selected():
    reranker = Rerank(OneShot(), Selecting(), keep_only_selected=True)
    out = reranker.fuse_rank_cutoff(1)(candidates([[0, 2, 0, 1]]))
    assert out["docno"].tolist() == ["d0-1"]


def test_rows_beyond_depth_were_never_selected():
    out = Rerank(OneShot(), Selecting(), depth=2, keep_only_selected=True)(candidates([[0, 2, 5, 1]]))
    assert out["docno"].tolist() == ["d0-1"]


def test_a_scorer_that_does_not_select_is_refused():
    with pytest.raises(ConfigurationError, match=r"needs a scorer that selects, such as Prompted\(SelectPrompt\(\)"):
        Rerank(OneShot(), PerfectScorer(), keep_only_selected=True)


def test_a_strategy_whose_scores_are_places_is_refused():
    with pytest.raises(ConfigurationError, match=r"such as OneShot\(\); SlidingWindow\(.*\) shows parts"):
        Rerank(SlidingWindow(2, 1), Selecting(), keep_only_selected=True)


def test_what_a_strategy_draws_does_not_depend_on_other_queries():
    frame = candidates([[3, 1, 2, 5, 4, 0, 7], [1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1]])
    reranker = Rerank(Knockout(seed=4), PerfectScorer())
    whole = reranker(frame)
    last = reranker(frame[frame.qid == "q2"])
    assert whole[whole.qid == "q2"]["docno"].tolist() == last["docno"].tolist()


def test_repaired_answers_are_counted_in_the_ledger():
    class Repairing(PerfectScorer):
        def __call__(self, questions):
            return [answer._replace(usage=Usage(calls=1, repaired=1)) for answer in super().__call__(questions)]

    reranker = Rerank(OneShot(), Repairing())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reranker(candidates([[1, 2], [3, 4]]))
    frame = reranker.ledger.frame()
    assert frame["repaired"].tolist() == [1, 1]
    assert RAW_SCORE not in frame
