"""The file behind ``Cached``: shared, whole after any accident, and plain about what is wrong with it."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
from pathlib import Path

import pytest
from fakes import PerfectScorer

from pyterrier_llmrank.core import Doc, Question
from pyterrier_llmrank.middleware import Cached, StorageError
from pyterrier_llmrank.middleware import store as stores
from pyterrier_llmrank.middleware.store import FORMAT, Store

KEYS = [bytes([i % 256, i // 256]) * 8 for i in range(1200)]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "answers.sqlite")


@pytest.fixture
def opened(path):
    one = Store(path, wait=0.2)
    yield one
    one.close()


def other(path, *statements):
    """What some other program does to the file."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    return connection


def test_what_is_put_is_got_and_nothing_else(opened):
    opened.put(dict.fromkeys(KEYS[:1100], "value"))
    opened.put({KEYS[5]: "later"})
    got = opened.get(KEYS)
    assert got.keys() == set(KEYS[:1100]) and set(got.values()) == {"value"}  # the first answer stays
    assert len(opened) == 1100 and opened.get([]) == {}


def test_what_is_put_is_there_for_others_at_once(opened, path):
    opened.put({KEYS[0]: "é \U0001f431"})
    second = Store(path)
    assert second.get(KEYS[:2]) == {KEYS[0]: "é \U0001f431"}
    second.close()


def test_a_missing_folder_is_made(tmp_path):
    one = Store(str(tmp_path / "a" / "b" / "answers.sqlite"))
    one.put({KEYS[0]: "value"})
    one.close()
    assert (tmp_path / "a" / "b" / "answers.sqlite").is_file()


def test_a_path_that_is_a_folder_is_told_what_to_give(tmp_path):
    with pytest.raises(StorageError, match=r"is a folder; give a file, such as .*answers.sqlite"):
        Store(str(tmp_path))


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"cannot be used .* give another path"):
        Store(str(tmp_path / "file" / "answers.sqlite"))


@pytest.mark.parametrize(("found", "age"), [(FORMAT - 1, "an older"), (FORMAT + 1, "a newer")])
def test_a_cache_of_another_version_is_refused_and_left_alone(path, found, age):
    one = Store(path)
    one.put({KEYS[0]: "value"})
    one.close()
    other(path, f"PRAGMA user_version = {found}").close()
    with pytest.raises(StorageError, match=rf"is of {age} version .*format {found}.* give another path"):
        Store(path)
    other(path, f"PRAGMA user_version = {FORMAT}").close()
    again = Store(path)
    assert len(again) == 1
    again.close()


def test_somebody_elses_database_is_refused_and_left_alone(path):
    other(path, "CREATE TABLE mine (x)").close()
    with pytest.raises(StorageError, match="is a database of something else"):
        Store(path)
    connection = other(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]
    connection.close()


def test_another_kind_of_file_is_refused_and_left_alone(path):
    Path(path).write_text("qid\tdocno\n" * 100)
    with pytest.raises(StorageError, match=r"not a database.* give another path"):
        Store(path)
    assert Path(path).read_text() == "qid\tdocno\n" * 100


def test_a_damaged_file_is_told(path):
    one = Store(path)
    one.put(dict.fromkeys(KEYS, "value" * 50))
    one.close()
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (os.path.getsize(path) - 4096))
    one = Store(path)
    with pytest.raises(StorageError, match="is damaged; put it aside"):
        one.get(KEYS)
    one.close()


def test_a_locked_file_is_told_and_nothing_is_lost(opened, path):
    writer = other(path, "BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match=r"locked.*another process has been writing"):
        opened.put({KEYS[0]: "value"})
    assert opened.get(KEYS[:1]) == {KEYS[0]: "value"}  # in memory
    writer.execute("COMMIT")
    opened.put({KEYS[1]: "value"})
    assert writer.execute("SELECT count(*) FROM answers").fetchone() == (2,)
    writer.close()


def test_readers_do_not_wait_for_a_writer(opened, path):
    opened.put({KEYS[0]: "value"})
    writer = other(path, "BEGIN IMMEDIATE", "INSERT INTO answers VALUES (x'00', 'half done')")
    assert opened.get(KEYS[:1]) == {KEYS[0]: "value"} and len(opened) == 1
    writer.close()


def limit(one, pages):
    """As on a disk with so much space: SQLite reports the same error."""
    one._db.execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_is_told_and_nothing_is_lost(opened):
    opened.put(dict.fromkeys(KEYS[:100], "before"))
    limit(opened, 1)  # as many as there are
    with pytest.raises(StorageError, match=r"is full.*free some space and run again"):
        opened.put(dict.fromkeys(KEYS[100:1200], "paid for" * 100))
    assert len(opened) == 100 and len(opened.get(KEYS)) == 1200
    limit(opened, 10**6)
    opened.put({})
    assert len(opened) == 1200


def test_what_could_not_be_written_is_written_at_the_end_if_it_can_be(path):
    one = Store(path, wait=0.1)
    writer = other(path, "BEGIN IMMEDIATE")
    with pytest.raises(StorageError):
        one.put({KEYS[0]: "value"})
    writer.execute("COMMIT")
    one.close()
    assert writer.execute("SELECT count(*) FROM answers").fetchone() == (1,)
    writer.close()


def test_answers_that_a_full_disk_refused_are_not_asked_again(path):
    scorer = PerfectScorer()
    cached = Cached(scorer, path)
    asked = [Question(f"query {i}", (Doc("a", str(i)),), "q") for i in range(400)]
    cached(asked[:1])
    limit(cached._store, 1)
    with pytest.raises(StorageError):
        cached(asked)
    limit(cached._store, 10**6)
    assert [one.scores.tolist() for one in cached(asked)] == [[float(i)] for i in range(400)]
    assert scorer.calls == len(cached._store) == 400


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_file_without_permission_is_told(path, tmp_path):
    Store(path).close()
    os.chmod(path, 0o400)
    os.chmod(tmp_path, 0o500)
    try:
        with pytest.raises(StorageError, match="writable"):
            Store(path).put({KEYS[0]: "value"})
    finally:
        os.chmod(tmp_path, 0o700)


def test_a_deleted_file_is_started_afresh(opened, path):
    opened.put({KEYS[0]: "old"})
    os.remove(path)
    assert opened.get(KEYS[:1]) == {}
    opened.put({KEYS[0]: "new"})
    opened.close()
    second = Store(path)
    assert second.get(KEYS[:1]) == {KEYS[0]: "new"}
    second.close()


def test_a_copy_holds_everything_and_is_a_cache(opened, tmp_path):
    opened.put(dict.fromkeys(KEYS, "value"))
    opened.copy(str(tmp_path / "copy"))
    second = Store(str(tmp_path / "copy"))
    assert len(second) == len(KEYS)
    second.close()


def test_one_file_is_opened_once_in_a_process(path, monkeypatch):
    monkeypatch.chdir(os.path.dirname(path))
    scorer = PerfectScorer()
    assert Cached(scorer, "answers.sqlite")._store is Cached(scorer, path)._store is stores.store(path)


def test_threads_may_share_a_cache(path):
    scorer = Cached(PerfectScorer(), path)
    asked = [[Question(f"{i}-{j}", (Doc("a", str(j)),), "q") for j in range(20)] for i in range(8)]
    failed = []

    def work(own):
        try:
            for one in own:
                assert scorer([one])[0].scores.tolist() == [float(one.docs[0].text)]
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(own,)) for own in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and len(scorer._store) == 160


def write_some(path, start, ready):
    """One process of several: opens the file when all are ready, and writes half of what its neighbour writes."""
    ready.wait()
    one = Store(path)
    for i in range(start, start + 400):
        one.put({KEYS[i % 1200]: f"value {i % 1200}"})
    one.close()


def test_several_processes_write_one_cache(path):
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(4)
    workers = [context.Process(target=write_some, args=(path, start, ready)) for start in (0, 200, 400, 600)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    one = Store(path)
    assert one.get(KEYS) == {KEYS[i]: f"value {i}" for i in range(1000)}
    one.close()
    connection = other(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_opens_the_file_for_itself(path):
    stores.store(path).put({KEYS[0]: "parent"})
    child = os.fork()
    if not child:
        try:
            stores.store(path).put({KEYS[1]: "child"})
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert stores.store(path).get(KEYS) == {KEYS[0]: "parent", KEYS[1]: "child"}
