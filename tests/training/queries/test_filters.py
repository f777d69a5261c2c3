"""Filters of written queries: what each drops, how many, and in which order CADET runs them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest

from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.training.data import training_lists
from pyterrier_llmrank.training.queries import (
    confident,
    deduplicated,
    first_by,
    found_by,
    sift,
    sifted_by_teacher,
    without_source,
)

QUERIES = pd.DataFrame(
    {
        "qid": ["a:question:1", "b:question:1", "c:title:1", "d:title:1"],
        "query": ["What is A?", "what is b", "C", "c!"],
        "docno": ["a", "b", "c", "d"],
        "kind": ["question", "question", "title", "title"],
    }
)


def results(**docs):
    """A run with the first scores highest; the queries by their documents."""
    qids = dict(zip(QUERIES["docno"], QUERIES["qid"], strict=True))
    rows = [(qids[one], docno, 10.0 - place) for one, found in docs.items() for place, docno in enumerate(found)]
    return pd.DataFrame(rows, columns=["qid", "docno", "score"])


def left(sifted):
    return "".join(sifted.queries["docno"])


def test_a_document_that_a_retriever_does_not_find_is_no_source():
    run = results(a="xya", b="xyzb", c="c")  # nothing for d
    assert found_by(QUERIES, run, k=3).dropped == {"not found": 2}
    assert left(found_by(QUERIES, run, k=3)) == "ac"
    assert left(found_by(QUERIES, run)) == "abc"
    assert left(found_by(QUERIES, run.iloc[:0])) == ""


def test_ranks_count_where_there_are_any():
    run = results(a="xya").assign(rank=[2, 1, 0])
    assert left(found_by(QUERIES, run, k=1)) == "a"


def test_a_teacher_ranks_the_source_first_in_a_list_that_is_not_short():
    ranked = results(a="axy", b="xb", c="c", d="dx")
    sifted = first_by(QUERIES, ranked, at_least=2)
    assert left(sifted) == "ad"
    assert sifted.dropped == {"not first": 1, "short list": 1}
    assert first_by(QUERIES, ranked).dropped == {"not first": 1}


def test_a_document_that_comes_twice_does_not_make_a_list_longer():
    assert first_by(QUERIES, results(a="axx"), at_least=3).dropped == {"not first": 3, "short list": 1}


def test_a_percentile_is_that_of_the_kind():
    scores = {"a": 5.0, "b": 1.0, "c": 0.2, "d": 0.1}
    ranked = pd.DataFrame(
        [(qid, docno, scores[docno]) for qid, docno in QUERIES[["qid", "docno"]].itertuples(index=False)],
        columns=["qid", "docno", "score"],
    )
    sifted = confident(QUERIES, ranked, percentile=50)
    assert left(sifted) == "ac"
    assert sifted.dropped == {"low score": 2}
    assert left(confident(QUERIES.drop(columns="kind"), ranked, percentile=50)) == "ab"
    others = pd.concat([ranked, pd.DataFrame({"qid": "a:question:1", "docno": list("xyz"), "score": 0.0})])
    assert left(confident(QUERIES, others, percentile=50)) == "abc"  # four lower scores among the questions' lists
    assert left(confident(QUERIES, others, percentile=50, among="documents")) == "ac"


def test_a_missing_score_is_not_confident():
    ranked = results(a="a", b="b", c="c", d="d").assign(score=[np.nan, 1.0, np.nan, np.nan])
    assert left(confident(QUERIES, ranked, percentile=0)) == ""  # none is above the lowest
    more = pd.concat([ranked, results(b="x").assign(score=0.0)])
    assert left(confident(QUERIES, more, percentile=0)) == "b"


def test_scores_of_queries_that_went_before_do_not_count():
    ranked = results(a="a", b="b", c="c", d="d").assign(score=[0.0, 1.0, 2.0, 3.0])
    assert left(confident(QUERIES.iloc[1:2], ranked, percentile=0)) == ""


def test_queries_that_differ_in_marks_and_case_are_one():
    assert left(deduplicated(QUERIES)) == "abc"
    assert deduplicated(QUERIES).dropped == {"repeated": 1}
    assert left(deduplicated(QUERIES, within="document")) == "abcd"
    again = QUERIES.assign(docno=["a", "b", "c", "c"])
    assert deduplicated(again, within="document").dropped == {"repeated": 1}


def test_filters_run_one_after_the_other():
    run = results(a="xa", b="b", c="c", d="d")
    sifted = sift(QUERIES, deduplicated, partial(found_by, run=run), partial(first_by, ranked=run))
    assert left(sifted) == "bc"
    assert sifted.dropped == {"repeated": 1, "not found": 0, "not first": 1}
    assert list(sifted.dropped) == ["repeated", "not found", "not first"]
    assert sift(QUERIES).dropped == {}


def test_no_queries_stay_no_queries():
    run = results(a="a")
    nothing = QUERIES.iloc[:0]
    sifted = sift(
        nothing,
        deduplicated,
        partial(found_by, run=run),
        partial(first_by, ranked=run, at_least=2),
        partial(confident, ranked=run),
    )
    assert sifted.queries.empty
    assert set(sifted.dropped.values()) == {0}


class Pipelines:
    """A retriever that finds x for b, and everything for others; a teacher that likes y more than a."""

    def __init__(self):
        self.asked = []

    def retrieve(self, topics):
        found = {"a": "xay", "b": "xy", "c": "xcy", "d": "d"}
        rows = [
            (qid, query, docno, docno.upper(), -float(place))
            for qid, query in topics[["qid", "query"]].itertuples(index=False)
            for place, docno in enumerate(found[qid[0]])
        ]
        return pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "score"])

    def teach(self, run):
        self.asked.append(run["qid"].unique().tolist())
        scores = {"y": 1.0, "a": 0.5, "c": 2.0, "x": 0.0}
        return run.assign(score=[scores[docno] for docno in run["docno"]])


def test_cadets_order_asks_the_teacher_about_what_was_found_only():
    pipelines = Pipelines()
    taught = sifted_by_teacher(QUERIES, pipelines.retrieve, pipelines.teach, at_least=3)
    assert pipelines.asked == [["a:question:1", "c:title:1"]]  # d repeats c, b was not found
    assert left(taught) == "c"
    assert taught.dropped == {"repeated": 1, "not found": 1, "not first": 1, "short list": 0, "low score": 0}
    [one] = training_lists(taught.ranked)
    assert [doc.docno for doc in one.docs] == ["c", "y", "x"]
    assert one.targets == (1.0, 0.5, 0.0)  # scaled from the list's 0 to 2, clipped at its percentiles
    assert taught.ranked["kind"].tolist() == ["title"] * 3


def test_scores_can_stay_as_they_are():
    pipelines = Pipelines()
    taught = sifted_by_teacher(QUERIES, pipelines.retrieve, pipelines.teach, at_least=None, percentile=None, scale=None)
    assert sorted(taught.ranked["score"]) == [0.0, 1.0, 2.0]
    assert "low score" not in taught.dropped


def test_nothing_found_teaches_nothing():
    pipelines = Pipelines()
    taught = sifted_by_teacher(QUERIES.iloc[1:2], pipelines.retrieve, pipelines.teach)
    assert taught.queries.empty
    assert taught.ranked.empty


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: found_by(QUERIES, pd.DataFrame({"qid": []})), InputError, r"needs the columns \['docno'\]"),
        (lambda: found_by(QUERIES, results(a="a"), k=0), ConfigurationError, "k=0"),
        (lambda: confident(QUERIES, results().drop(columns="score")), InputError, r"\['score'\]"),
        (lambda: confident(QUERIES, results(), percentile=101), ConfigurationError, "from 0 to 100, got 101"),
        (lambda: confident(QUERIES, results(), among="all"), ConfigurationError, "'lists' or 'documents', got 'all'"),
        (lambda: deduplicated(QUERIES.drop(columns="query")), InputError, r"\['query'\]"),
        (lambda: deduplicated(QUERIES, within="kind"), ConfigurationError, "'corpus' or 'document'"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_query_is_not_shown_the_document_that_it_is_from():
    found = pd.concat([results(a="abc", b="cba"), pd.DataFrame({"qid": ["other"], "docno": ["a"], "score": [1.0]})])
    left_over = without_source(found, QUERIES)
    assert left_over["docno"].tolist() == ["b", "c", "c", "a", "a"]
    assert left_over["score"].tolist() == [9.0, 8.0, 10.0, 8.0, 1.0] and list(left_over.index) == [0, 1, 2, 3, 4]
    assert without_source(found.head(0), QUERIES).empty
    with pytest.raises(InputError, match="queries need the columns qid and docno; missing: docno"):
        without_source(found, QUERIES.drop(columns="docno"))
