"""``Replay``: recorded answers, and what is not among them."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pandas as pd
import pytest

from pyterrier_llmrank import Rerank
from pyterrier_llmrank.core import Doc, Evidence, Question, Usage
from pyterrier_llmrank.errors import ConfigurationError, LLMRankWarning, ReplayMiss
from pyterrier_llmrank.scorers import Replay
from pyterrier_llmrank.strategies import OneShot

DOCNOS = ["a", "b", "c"]


def question(qid="q1", docnos=DOCNOS):
    return Question("why", tuple(Doc(docno, "text") for docno in docnos), qid)


def record(**answer):
    return {"qid": "q1", "docnos": DOCNOS, **answer}


def only(**answer):
    [reply] = Replay("log", [record(**answer)])([question()])
    return reply


def test_recorded_scores_come_back():
    assert only(scores=[0.5, -1, 2]).scores.tolist() == [0.5, -1.0, 2.0]


def test_null_is_no_answer():
    scores = only(scores=[0.5, None, 2]).scores
    assert scores[[0, 2]].tolist() == [0.5, 2.0] and np.isnan(scores[1])


def test_a_recorded_ranking_becomes_scores():
    assert only(ranking=["c", "a", "b"]).scores.tolist() == [-1.0, -2.0, 0.0]


def test_what_a_ranking_leaves_out_has_no_score():
    scores = only(ranking=["c", "a"]).scores
    assert scores[[2, 0]].tolist() == [0.0, -1.0] and np.isnan(scores[1])


def test_a_recorded_response_is_read():
    scores = only(response="The order is [2] > [3].").scores
    assert scores[[1, 2]].tolist() == [0.0, -1.0] and np.isnan(scores[0])


def test_a_response_may_be_read_as_rank_llm_does():
    response = "Of the 3 passages: [1] > [2]"
    [robust] = Replay("log", [record(response=response)])([question()])
    [legacy] = Replay("log", [record(response=response)], legacy=True)([question()])
    assert robust.scores[0] == 0 and legacy.scores[2] == 0


@pytest.mark.parametrize("answer", [{"response": "I cannot."}, {"scores": [None] * 3}, {"ranking": []}])
def test_an_answer_that_says_nothing_is_a_counted_failure(answer):
    reply = only(**answer)
    assert np.isnan(reply.scores).all() and reply.usage == Usage(1, failures=1)


def test_recorded_tokens_are_taken_over():
    assert only(scores=[1, 2, 3], prompt_tokens=70, output_tokens=8).usage == Usage(1, 70, output_tokens=8)
    assert only(scores=[1, 2, 3], prompt_tokens=None).usage == Usage(1)


def test_identifiers_may_be_numbers():
    replay = Replay("log", [{"qid": 7, "docnos": [1, 2], "ranking": [2, 1]}])
    assert replay([question("7", ["1", "2"])])[0].scores.tolist() == [-1.0, 0.0]


def test_records_may_be_read_once_only():
    assert Replay("log", iter([record(scores=[1, 2, 3])]))([question()])[0].scores.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "asked",
    [question("q9"), question("q1", ["b", "a", "c"]), question("q1", ["a", "b"]), question("q1", ["a", "b", "d"])],
)
def test_a_question_that_was_not_recorded_is_a_miss_that_names_the_query(asked):
    replay = Replay("my.log", [record(scores=[1, 2, 3])])
    with pytest.raises(
        ReplayMiss, match=rf"my.log holds no answer for query {asked.qid} .*{asked.docs[0].docno}"
    ) as caught:
        replay([question(), asked])
    assert "depth" in str(caught.value)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"docnos": DOCNOS, "scores": [1, 2, 3]}, "needs qid, docnos and one of"),
        ({"qid": "q1", "scores": [1, 2, 3]}, "needs qid, docnos and one of"),
        ({"qid": "q1", "docnos": DOCNOS}, "needs qid, docnos and one of"),
        (record(scores=[1, 2]), "2 scores for 3 docnos"),
        (record(ranking=["a", "z"]), "ranks 'z', which is not among its docnos"),
        (record(ranking=["a", "a"]), "ranks 'a' twice"),
        ([1, 2], "is no mapping"),
    ],
)
def test_a_bad_record_is_refused_by_its_number(bad, told):
    with pytest.raises(ConfigurationError, match=r"record 2 of my.log") as caught:
        Replay("my.log", [record(scores=[1, 2, 3]), bad])
    assert told in str(caught.value)


def test_a_file_holds_one_record_a_line(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(
        "\n".join([json.dumps(record(scores=[1, 2, 3])), "", json.dumps(record(ranking=["c"]) | {"qid": "é"})])
    )
    replay = Replay.read(path, gives=Evidence.SCORE)
    assert replay.gives is Evidence.SCORE and replay.name == str(path)
    assert [len(answer.scores) for answer in replay([question(), question("é")])] == [3, 3]


def test_torn_lines_are_left_out_with_one_warning_that_counts_them(tmp_path):
    path = tmp_path / "log.jsonl"
    whole = json.dumps(record(scores=[1, 2, 3]))
    path.write_text(f'{{"qid": "q0", "doc\n{whole}\n\n{{"qid": "q1", "doc')
    with pytest.warns(LLMRankWarning, match=r"2 of 3 lines of .*log.jsonl .* line 1") as warned:
        replay = Replay.read(path)
    assert replay([question()])[0].scores.tolist() == [1.0, 2.0, 3.0] and len(warned) == 1
    assert warned[0].filename == __file__


def test_a_file_without_any_json_is_refused_by_its_first_line(tmp_path):
    path = tmp_path / "run.txt"
    path.write_text("\nq1 Q0 d1 1 0.5 run\nq1 Q0 d2 2 0.4 run\n")
    with pytest.raises(ConfigurationError, match=r"line 2 of .*run.txt is not JSON"):
        Replay.read(path)


def test_a_replayed_run_is_the_run(tmp_path):
    frame = pd.DataFrame({"qid": "q1", "query": "why", "docno": DOCNOS, "text": "t", "rank": [0, 1, 2]})
    rerank = Rerank(OneShot(), Replay("log", [record(ranking=["c", "a", "b"], prompt_tokens=5)]))
    assert rerank(frame)["docno"].tolist() == ["c", "a", "b"]
    assert rerank.ledger["q1"].usage == Usage(1, 5)


def test_a_miss_reaches_who_runs_it():
    frame = pd.DataFrame({"qid": "q2", "query": "why", "docno": DOCNOS, "text": "t", "rank": [0, 1, 2]})
    with pytest.raises(ReplayMiss, match="query q2"):
        Rerank(OneShot(), Replay("log", [record(scores=[1, 2, 3])]))(frame)


def test_nothing_asked_is_nothing_answered():
    assert Replay("log")([]) == []


def test_replays_of_one_name_are_equal_and_pickle():
    one, other = Replay("log", [record(scores=[1, 2, 3])]), Replay("log")
    assert one == other and hash(one) == hash(other) and one != Replay("log", gives=Evidence.SCORE)
    assert eval(repr(one)) == one
    assert pickle.loads(pickle.dumps(one))([question()])[0].scores.tolist() == [1.0, 2.0, 3.0]
