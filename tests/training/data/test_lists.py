"""Frames become lists with targets; what cannot be learnt from is named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fakes import PerfectScorer

from pyterrier_llmrank import Rerank, Sampled, cycles, thurstone
from pyterrier_llmrank.core import Doc, Evidence
from pyterrier_llmrank.errors import ConfigurationError, InputError, LLMRankWarning
from pyterrier_llmrank.training.data import (
    TrainingList,
    document_numbers,
    informative,
    padded,
    scaled_lists,
    scaled_scores,
    shuffled_lists,
    training_lists,
)


def frame(**columns):
    rows = {"qid": ["2", "2", "1", "2"], "query": ["two", "two", "one", "two"], "docno": ["b", "a", "a", "c"]}
    return pd.DataFrame(rows | {"text": ["B", "A", "A", "C"], "score": [1.5, 2.5, 9.0, -1.0]} | columns)


def test_a_teachers_frame_is_the_training_data():
    two, one = training_lists(frame())
    assert two == TrainingList("2", "two", (Doc("a", "A"), Doc("b", "B"), Doc("c", "C")), (2.5, 1.5, -1.0))
    assert one == TrainingList("1", "one", (Doc("a", "A"),), (9.0,))


def test_ranks_go_by_the_rank_column_and_have_no_distances():
    two, one = training_lists(frame(rank=[0, 1, 0, 2]), targets="rank")
    assert [doc.docno for doc in two.docs] == ["b", "a", "c"]
    assert two.targets == (0.0, -1.0, -2.0)
    assert one.targets == (0.0,)


def test_labels_come_from_qrels_and_the_unjudged_are_irrelevant_or_left_out():
    qrels = pd.DataFrame({"qid": ["2", "2", "3"], "docno": ["c", "x", "a"], "label": [2, 1, 1]})
    two, one = training_lists(frame(label=7), targets="label", qrels=qrels)
    assert two.targets == (0.0, 0.0, 2.0)
    assert one.targets == (0.0,)
    [two] = training_lists(frame(), targets="label", qrels=qrels, unjudged=None)
    assert [doc.docno for doc in two.docs] == ["c"]


def test_any_column_of_numbers_is_a_target():
    assert training_lists(frame(votes=[3, 1, 2, 0]), targets="votes")[0].targets == (1.0, 3.0, 0.0)


def test_only_the_first_documents_are_kept():
    assert [len(one.docs) for one in training_lists(frame(), k=2)] == [2, 1]


def test_a_document_twice_is_kept_where_it_stands_higher():
    with pytest.warns(LLMRankWarning, match="1 of 4 rows show a document that their query has already"):
        [two, _] = training_lists(frame(docno=["b", "a", "a", "b"]))
    assert [doc.docno for doc in two.docs] == ["a", "b"]
    assert two.targets == (2.5, 1.5)


def test_a_target_that_is_missing_is_named():
    scores = [1.0, np.nan, 2.0, 0.0]
    with pytest.raises(
        InputError, match="1 of 4 rows have no 'score' to learn from, the first is document 'a' of query '2'"
    ):
        training_lists(frame(score=scores))
    assert training_lists(frame(score=scores), targets="rank")[0].docs[-1].docno == "a"


@pytest.mark.parametrize(("column", "remedy"), [("text", "join them"), ("query", "join them"), ("docno", "join them")])
def test_a_column_that_is_missing_is_named(column, remedy):
    with pytest.raises(InputError, match=rf"need the columns \['{column}'\].*{remedy}"):
        training_lists(frame().drop(columns=column))


def test_labels_without_judgments_are_asked_for():
    with pytest.raises(InputError, match="pass qrels"):
        training_lists(frame(), targets="label")


def test_an_empty_frame_is_no_list():
    assert training_lists(frame().iloc[:0]) == []


def test_the_frame_is_left_as_it_is():
    given = frame()
    training_lists(given, targets="label", qrels=pd.DataFrame({"qid": ["2"], "docno": ["a"], "label": [1]}))
    pd.testing.assert_frame_equal(given, frame())


def test_lists_of_one_and_of_equal_targets_are_not_informative():
    equal = training_lists(frame(score=1.0, rank=[0, 1, 0, 2]))
    assert informative(equal) == []
    assert [one.qid for one in informative(training_lists(frame()))] == ["2"]


def test_lists_are_shuffled_each_in_its_own_way_and_keep_what_belongs_together():
    told = [
        TrainingList(f"q{i}", "?", tuple(Doc(str(n), "") for n in range(9)), tuple(map(float, range(9))))
        for i in (1, 2)
    ]
    first, second = shuffled_lists(told, 3)
    for one in (first, second):
        assert sorted(one.targets) == list(told[0].targets) != list(one.targets)
        assert [float(doc.docno) for doc in one.docs] == list(one.targets)
    assert first.targets != second.targets and [first, second] == shuffled_lists(told, 3) != shuffled_lists(told, 4)


def test_padding_is_what_the_losses_take():
    targets, mask = padded(training_lists(frame()))
    assert targets.tolist() == [[2.5, 1.5, -1.0], [9.0, 0.0, 0.0]]
    assert mask.tolist() == [[True, True, True], [True, False, False]]
    assert padded([])[0].shape == (0, 0)


def test_a_document_has_one_number_in_all_lists():
    assert document_numbers(training_lists(frame())).tolist() == [[0, 1, 2], [0, -1, -1]]


def test_scores_are_scaled_over_all_queries_and_clipped():
    given = frame(score=[0.0, 10.0, 5.0, 100.0])
    assert scaled_scores(given, percentiles=(0, 100))["score"].tolist() == [0, 0.1, 0.05, 1]
    scaled = scaled_scores(frame(score=[0.0, 10.0, 5.0, 100.0]), percentiles=(25, 75))["score"]
    bottom, top = np.percentile([0, 5, 10, 100], [25, 75])
    assert scaled.tolist() == pytest.approx([0, (10 - bottom) / (top - bottom), (5 - bottom) / (top - bottom), 1])
    assert scaled_scores(frame().iloc[:0]).empty


def test_lists_are_scaled_as_frames_are():
    lists = [TrainingList("1", "q", (), (0.0, 10.0)), TrainingList("2", "q", (), (5.0, 20.0))]
    assert [one.targets for one in scaled_lists(lists, percentiles=(0, 100))] == [(0.0, 0.5), (0.25, 1.0)]
    assert scaled_lists(lists, percentiles=(0, 50))[1].targets == (pytest.approx(5 / 7.5), 1.0)
    assert scaled_lists([]) == []


def test_scores_without_a_scale_are_named():
    with pytest.raises(InputError, match="are both 1: there is no scale"):
        scaled_scores(frame(score=1.0))
    with pytest.raises(InputError, match="1 of 4 rows have no score to scale"):
        scaled_scores(frame(score=[1.0, np.nan, 2.0, 3.0]))
    with pytest.raises(ConfigurationError, match=r"the lower first, got \(99, 1\)"):
        scaled_scores(frame(), percentiles=(99, 1))


def test_zelos_targets_are_a_ranking_by_sparse_cycles_and_thurstones_strengths():
    """A pair scorer's votes on a few random cycles; the strengths are what a strategy itself says."""
    n = 12
    candidates = pd.DataFrame({"qid": "q", "query": "x", "docno": [str(i) for i in range(n)], "score": -np.arange(n)})
    relevance = np.random.default_rng(0).permutation(n) / 4
    candidates["text"] = [str(value) for value in relevance]
    teacher = Rerank(Sampled(cycles(count=4, seed=1), thurstone), PerfectScorer(gives=Evidence.ORDER, max_docs=2))
    [one] = training_lists(teacher(candidates), targets="llmrank_score")
    assert np.isfinite(one.targets).all()
    assert sum(one.targets) == pytest.approx(0.0, abs=1e-6)
    truth = [float(doc.text) for doc in one.docs]
    assert np.corrcoef(one.targets, truth)[0, 1] > 0.9
