"""Negatives from bands of ranks, judges of negatives, filters of agreement, curricula."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fakes import FirstBiasedScorer, PerfectScorer, SilentScorer

from pyterrier_llmrank.errors import ConfigurationError, InputError, LLMRankWarning
from pyterrier_llmrank.training.data import (
    Band,
    agreeing,
    annealed,
    ease_by_rank,
    ease_by_score,
    positives_within,
    training_lists,
    with_negatives,
    without_false_negatives,
)


def run(qid="q", n=20, prefix="d"):
    docnos = [f"{prefix}{i}" for i in range(n)]
    return pd.DataFrame({"qid": qid, "query": f"about {qid}", "docno": docnos, "text": docnos, "rank": range(n)})


QRELS = pd.DataFrame({"qid": ["q", "q", "r"], "docno": ["d3", "d5", "d0"], "label": [1, 2, 0]})


def drawn(frame, source):
    return [int(docno[1:]) for docno in frame["docno"][frame["source"] == source]]


def test_negatives_are_drawn_from_bands_of_ranks_among_the_irrelevant():
    frame = with_negatives(run(), QRELS, bands=[Band(0, 4, 2), Band(10, 15, 3), Band(17, 30, 5)])
    assert frame["docno"].tolist()[:2] == ["d5", "d3"]  # the highest label first
    negatives = drawn(frame, "run")
    others = [i for i in range(20) if i not in (3, 5)]
    assert [sum(i in others[a:b] for i in negatives) for a, b in ((0, 4), (10, 15), (17, 30))] == [2, 3, 1]
    assert len(set(negatives)) == len(negatives) == 6
    assert frame["label"].tolist() == [2, 1, *[0] * 6]


def test_draws_depend_on_the_seed_and_the_query_alone():
    alone = with_negatives(run(), QRELS, bands=[Band(0, 20, 5)])
    more = QRELS.assign(label=1)
    among = with_negatives(pd.concat([run("r"), run()]), more, bands=[Band(0, 20, 5)])
    assert drawn(among[among["qid"] == "q"], "run") == drawn(alone, "run")
    assert drawn(with_negatives(run(), QRELS, bands=[Band(0, 20, 5)], seed=1), "run") != drawn(alone, "run")
    assert drawn(among[among["qid"] == "r"], "run") != drawn(alone, "run")


def test_several_retrievers_are_each_drawn_from_and_no_document_twice():
    runs = {"sparse": run(n=8), "dense": run(n=8), "other": run(prefix="e")}
    frame = with_negatives(runs, QRELS, bands=[Band(0, 20, 4)])
    assert len(drawn(frame, "sparse")) == 4
    assert len(drawn(frame, "dense")) == 2  # what is left of the same six
    assert len(drawn(frame, "other")) == 4
    assert not frame["docno"].duplicated().any()


def test_a_relevant_document_that_is_not_taught_is_no_negative_either():
    frame = with_negatives(run(), QRELS, positives=QRELS[QRELS["docno"] == "d3"], bands=[Band(0, 20, 20)])
    assert frame["docno"].tolist()[0] == "d3"
    assert "d5" not in set(frame["docno"])
    assert len(frame) == 19


def test_docnos_may_be_numbers_in_some_frames_and_texts_in_others():
    numbers, texts = run().assign(docno=range(20)), {"3": "a", "5": "b"}
    judged = QRELS.assign(docno=[3, 5, 0])
    expected = with_negatives(numbers.astype({"docno": str}), judged.astype({"docno": str}))
    for frame, labels in ((numbers, judged.astype({"docno": str})), (numbers.astype({"docno": str}), judged)):
        pd.testing.assert_frame_equal(with_negatives(frame, labels, texts=texts), expected)
        pd.testing.assert_frame_equal(with_negatives(frame, judged, positives=labels, texts=texts), expected)


def test_queries_without_relevant_documents_are_left_out_with_their_count():
    with pytest.warns(LLMRankWarning, match="1 of 2 queries have no relevant document"):
        frame = with_negatives(pd.concat([run(), run("r")]), QRELS)
    assert frame["qid"].unique().tolist() == ["q"]


def test_a_relevant_document_that_no_run_has_needs_its_text():
    with pytest.raises(InputError, match="no run retrieved 'd5', which is relevant for query 'q'; pass its text"):
        with_negatives(run(n=5), QRELS)
    frame = with_negatives(run(n=5), QRELS, texts={"d5": "from elsewhere"}, most=1)
    assert frame.loc[0, ["docno", "text"]].tolist() == ["d5", "from elsewhere"]


def test_negatives_and_positives_are_training_lists():
    [one] = training_lists(with_negatives(run(), QRELS, bands=[Band(0, 9, 3)]), targets="label")
    assert one.targets == (2.0, 1.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("band", [(-1, 5, 1), (5, 5, 1), (0, 5, 0)])
def test_a_band_without_ranks_is_refused(band):
    with pytest.raises(ConfigurationError, match="a band goes from rank 0 or later to a later one"):
        Band(*band)


# ------------------------------------------------------------------ false negatives


def judged(*relevance, labels):
    """Documents whose text is what the judge thinks of them."""
    docnos = [f"d{i}" for i in range(len(relevance))]
    frame = pd.DataFrame({"qid": "q", "query": "x", "docno": docnos, "text": [str(value) for value in relevance]})
    return frame.assign(label=labels)


def test_negatives_above_the_relevant_document_go():
    frame = judged(5, 7, 5, 3, labels=[1, 0, 0, 0])
    assert without_false_negatives(frame, PerfectScorer())["docno"].tolist() == ["d0", "d2", "d3"]
    assert without_false_negatives(frame, PerfectScorer(), margin=3)["docno"].tolist() == ["d0", "d1", "d2", "d3"]
    assert without_false_negatives(frame, PerfectScorer(), margin=-1)["docno"].tolist() == ["d0", "d3"]


def test_or_become_relevant():
    frame = judged(5, 7, 6, 3, labels=[1, 0, 0, 2])
    assert without_false_negatives(frame, PerfectScorer(), then="relabel")["label"].tolist() == [1, 2, 2, 2]


def test_with_a_bound_of_its_own_the_judge_reads_negatives_only():
    judge = PerfectScorer()
    frame = without_false_negatives(judged(0, 7, 5, labels=[1, 0, 0]), judge, above=6)
    assert frame["docno"].tolist() == ["d0", "d2"]
    assert [question.docs[0].docno for question in judge.rounds[0]] == ["d1", "d2"]


def test_what_the_judge_cannot_read_stays_and_is_counted():
    frame = judged(5, 7, labels=[1, 0])
    with pytest.warns(LLMRankWarning, match="gave no score to 2 of 2 documents"):
        kept = without_false_negatives(frame, SilentScorer())
    pd.testing.assert_frame_equal(kept, frame)


def test_a_query_without_relevant_documents_has_no_bound():
    assert len(without_false_negatives(judged(5, 7, labels=[0, 0]), PerfectScorer())) == 2


def test_queries_have_bounds_of_their_own():
    frame = pd.concat([judged(5, 7, labels=[1, 0]), judged(9, 7, labels=[1, 0]).assign(qid="r")])
    assert without_false_negatives(frame, PerfectScorer())["docno"].tolist() == ["d0", "d0", "d1"]


def test_a_judge_needs_scores_that_hold_alone():
    with pytest.raises(ConfigurationError, match=r"gives ORDER; use a cross-encoder"):
        without_false_negatives(judged(1, labels=[0]), FirstBiasedScorer())


def test_no_negative_asks_nobody():
    judge = PerfectScorer()
    without_false_negatives(judged(5, labels=[1]), judge, above=0)
    assert judge.calls == 0


# ------------------------------------------------------------------ agreement


def ranking(qid, order):
    return pd.DataFrame({"qid": qid, "query": "x", "docno": list(order), "score": range(len(order), 0, -1)})


def test_rankings_that_agree_become_their_mean():
    frames = [ranking("q", "abcd"), ranking("q", "bacd"), ranking("q", "abcd")]
    frame = agreeing(frames)
    assert frame["docno"].tolist() == ["a", "b", "c", "d"]
    assert frame["score"].tolist() == pytest.approx([-1 / 3, -2 / 3, -2, -3])
    assert frame["rank"].tolist() == [0, 1, 2, 3]


def test_a_query_about_which_the_teacher_contradicts_itself_goes():
    frames = [
        pd.concat([ranking("q", "abcd"), ranking("r", "abcd")]),
        pd.concat([ranking("r", "dcba"), ranking("q", "abcd")]),
    ]
    assert agreeing(frames)["qid"].unique().tolist() == ["q"]
    assert agreeing(frames, at_least=-1)["qid"].unique().tolist() == ["q", "r"]
    assert agreeing([frames[0], ranking("r", "dcba")]).empty


def test_a_document_that_one_ranking_lacks_is_left_out():
    assert agreeing([ranking("q", "abcd"), ranking("q", "acd")])["docno"].tolist() == ["a", "c", "d"]


def test_one_ranking_cannot_agree():
    with pytest.raises(ConfigurationError, match="at least two rankings of a query, got 1 frames"):
        agreeing([ranking("q", "ab")])


def test_judgments_that_a_ranking_does_not_bear_out_go():
    qrels = pd.DataFrame({"qid": ["q"] * 4, "docno": ["d1", "d9", "gone", "d9x"], "label": [1, 1, 2, 0]})
    assert positives_within(run(), qrels, k=5)["docno"].tolist() == ["d1", "d9x"]
    assert positives_within(run(), qrels, k=10)["docno"].tolist() == ["d1", "d9", "d9x"]


# ------------------------------------------------------------------ curricula


def test_ease_is_agreement_of_rank_and_label():
    frame = run(n=4).assign(label=[1, 0, 1, 0]).iloc[[2, 0, 3, 1]]
    assert ease_by_rank(frame).tolist() == pytest.approx([1 / 3, 1, 1 - 1 / 4, 1 - 1 / 2])


def test_an_empty_frame_is_handled_by_all():
    empty = run(n=0).assign(label=0)
    assert len(ease_by_rank(empty)) == 0
    assert with_negatives(run(n=0), QRELS).empty
    assert without_false_negatives(empty, PerfectScorer()).empty
    assert agreeing([empty, empty]).empty
    assert positives_within(empty, QRELS)["label"].tolist() == [0]


def test_ease_by_score_is_within_the_query():
    frame = pd.DataFrame({"qid": list("qqqrr"), "score": [3.0, 1.0, 2.0, 7.0, 7.0], "label": [1, 0, 0, 1, 0]})
    assert ease_by_score(frame).tolist() == [1, 1, 0.5, 0.5, 0.5]


def test_weights_begin_at_the_ease_and_end_at_one():
    ease = np.array([0.2, 1.0])
    assert annealed(ease, 0, 10).tolist() == [0.2, 1.0]
    assert annealed(ease, 5, 10).tolist() == pytest.approx([0.6, 1.0])
    assert annealed(ease, 10, 10).tolist() == annealed(ease, 99, 10).tolist() == [1.0, 1.0]
    assert annealed(ease, 0, 0).tolist() == [1.0, 1.0]
