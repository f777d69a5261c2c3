"""Lists on disk that a teacher can go on writing, and batches that a training can go on reading."""

from __future__ import annotations

from itertools import islice

import pandas as pd
import pytest

from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.errors import ConfigurationError, InputError, LLMRankWarning
from pyterrier_llmrank.training.data import Batches, StoredLists, TrainingList, distil, store

LISTS = [
    TrainingList(f"q{i}", f"query {i} \u00e4\n", (Doc("a", "text\u2028"), Doc("b", '"')), (0.1 + i, -1.0))
    for i in range(5)
]


def test_what_is_stored_is_read_again(tmp_path):
    stored = store(LISTS, tmp_path / "new" / "lists.jsonl")
    assert list(stored) == LISTS
    assert list(StoredLists(stored.path)) == LISTS
    assert stored[-1] == LISTS[-1]
    assert stored[1:3] == LISTS[1:3]
    assert len(stored) == 5


def test_storing_goes_on_and_knows_what_is_there(tmp_path):
    path = tmp_path / "lists.jsonl"
    store(LISTS[:3], path)
    assert list(store(LISTS, path)) == LISTS


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_line_that_a_crash_cut_off_is_written_again(tmp_path, cut):
    path = tmp_path / "lists.jsonl"
    store(LISTS[:3], path)
    path.write_bytes(path.read_bytes()[:-cut])
    assert list(StoredLists(path)) == LISTS[:2]
    assert list(store(LISTS, path)) == LISTS


def test_each_list_is_on_disk_before_the_next_is_asked_for(tmp_path):
    path = tmp_path / "lists.jsonl"

    def failing():
        yield LISTS[0]
        assert list(StoredLists(path)) == LISTS[:1]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store(failing(), path)
    assert list(StoredLists(path)) == LISTS[:1]


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "qrels.txt"
    path.write_text("1 0 a 1\n")
    with pytest.raises(InputError, match="holds something else than training lists at byte 0"):
        store(LISTS, path)
    assert path.read_text() == "1 0 a 1\n"
    with pytest.raises(InputError, match="write them with store or distil"):
        StoredLists(tmp_path / "none")


class Teacher:
    """Finds two documents for most queries, keeps what it was asked, and breaks when told to."""

    def __init__(self, breaks_at=None):
        self.asked = []
        self.breaks_at = breaks_at

    def __call__(self, topics):
        if len(self.asked) == self.breaks_at:
            raise ConnectionError
        self.asked.append(topics["qid"].tolist())
        rows = [
            {"qid": qid, "query": query, "docno": docno, "text": docno, "score": score}
            for qid, query in topics[["qid", "query"]].itertuples(index=False)
            for docno, score in (("a", 1.0), ("b", 2.0))
            if qid != "3"
        ]
        return pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "score"])


TOPICS = pd.DataFrame({"qid": range(7), "query": [f"number {i}" for i in range(7)]})


def test_a_teacher_that_was_stopped_is_asked_for_the_rest_only(tmp_path):
    path, stopped, second = tmp_path / "lists.jsonl", Teacher(breaks_at=1), Teacher()
    with pytest.raises(ConnectionError):
        distil(TOPICS, stopped, path, chunk=2)
    with pytest.warns(LLMRankWarning, match="returned nothing for 1 of 5 queries"):
        lists = distil(TOPICS, second, path, chunk=2)
    assert stopped.asked == [["0", "1"]]
    assert second.asked == [["2", "3"], ["4", "5"], ["6"]]
    assert [one.qid for one in lists] == ["0", "1", "2", "4", "5", "6"]
    assert [doc.docno for doc in lists[0].docs] == ["b", "a"]
    again = Teacher()
    assert list(distil(TOPICS, again, path)) == list(lists)
    assert again.asked == []  # also not for the query without documents


def test_options_are_those_of_lists(tmp_path):
    topics = TOPICS.iloc[:2]
    lists = distil(topics, Teacher(), tmp_path / "lists.jsonl", targets="rank", k=1)
    assert [one.targets for one in lists] == [(0.0,), (0.0,)]


def test_lists_made_otherwise_need_another_file(tmp_path):
    path, qrels = tmp_path / "lists.jsonl", pd.DataFrame({"qid": ["0"], "docno": ["a"], "label": [1]})
    distil(TOPICS.iloc[:1], Teacher(), path, targets="label", qrels=qrels)
    lists = distil(TOPICS.iloc[:2], Teacher(), path, targets="label", qrels=qrels)
    assert [one.targets for one in lists] == [(0.0, 1.0), (0.0, 0.0)]
    with pytest.raises(ConfigurationError, match=r"made with \{'targets': 'label'\}, not with \{'targets': 'rank'\}"):
        distil(TOPICS, Teacher(), path, targets="rank")


def test_what_was_said_of_another_query_is_not_taken_for_what_is_said_of_this_one(tmp_path):
    path, new = tmp_path / "lists.jsonl", TOPICS.iloc[:2].assign(query="new")
    distil(TOPICS.iloc[:1], Teacher(), path)
    with pytest.raises(
        ConfigurationError, match="other queries of the qids of 1 of 2 topics, the first is '0', now 'new'"
    ):
        distil(new, Teacher(), path)
    rewriting = Teacher()  # hands on another query than it was asked
    for _ in range(2):
        lists = distil(new, lambda topics: rewriting(topics.assign(query="more")), tmp_path / "rewritten.jsonl")
    assert rewriting.asked == [["0", "1"]] and {one.query for one in lists} == {"more"}


def test_a_chunk_is_some_queries(tmp_path):
    with pytest.raises(ConfigurationError, match="chunk=0"):
        distil(TOPICS, Teacher(), tmp_path / "lists.jsonl", chunk=0)


# ------------------------------------------------------------------ batches


def test_every_epoch_sees_every_list_once_in_an_order_of_its_own():
    batches = Batches(10, 4)
    epochs = [[place for step in range(3) for place in batches.at(3 * epoch + step)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [len(batches.at(step)) for step in range(3)] == [4, 4, 2]


@pytest.mark.parametrize("step", [0, 1, 2, 3, 7])
def test_any_step_can_be_the_first(step):
    batches = Batches(10, 4, seed=3)
    whole = list(islice(batches(), 12))
    assert list(islice(batches(step), 12 - step)) == whole[step:]
    assert batches.at(step) == whole[step]


def test_seeds_differ_and_orders_can_be_the_data_sets_own():
    assert Batches(50, 50, seed=0).at(0) != Batches(50, 50, seed=1).at(0)
    assert Batches(5, 2, shuffled=False).at(4) == [2, 3]


def test_workers_share_a_batch():
    whole = Batches(10, 4, seed=1)
    parts = [Batches(10, 4, seed=1, worker=worker, workers=3) for worker in range(3)]
    for step in range(6):
        seen = [part.at(step) for part in parts]
        assert sorted(place for part in seen for place in part) == sorted(whole.at(step))
        assert max(map(len, seen)) - min(map(len, seen)) <= 1


def test_a_set_smaller_than_a_batch_is_one_batch():
    """CADET's loop divides by nought where there are fewer queries than a batch takes."""
    batches = Batches(3, 4096)
    assert batches.per_epoch == 1
    assert sorted(batches.at(5)) == [0, 1, 2]


@pytest.mark.parametrize("options", [{"n": 0}, {"size": 0}, {"worker": 1}, {"workers": 0}])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ConfigurationError, match="Batches takes some lists"):
        Batches(**({"n": 3, "size": 2} | options))


def test_a_repr_rebuilds_it():
    assert eval(repr(Batches(10, 4, seed=2))) == Batches(10, 4, seed=2)
