"""Runs over Parquet: the local pipeline's rows, whatever dies, is repeated, or is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
import sharded_pipelines as pipelines
from safetensors.torch import load_file, save_file
from tiny import byte_tokenizer, decoder

pytest.importorskip("pyarrow", reason="runs over Parquet need pyarrow")

from pyterrier_llmrank import HFModel, PointwiseLLM
from pyterrier_llmrank.distributed import Progress, claims, read_costs, read_results, run_sharded
from pyterrier_llmrank.distributed.identity import identity
from pyterrier_llmrank.distributed.source import Source
from pyterrier_llmrank.errors import ConfigurationError, InputError, ScoringError
from pyterrier_llmrank.middleware.errors import StorageError

TESTS = Path(pipelines.__file__).parent


def candidates(queries=12, n=9, seed=0):
    random = np.random.default_rng(seed)
    rows = [
        {"qid": f"q{q}", "query": f"query {q}", "docno": f"d{q}-{i}", "text": str(v), "score": 9.0 - i, "rank": i}
        for q in range(queries)
        for i, v in enumerate(random.permutation(n))
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.parquet"
    candidates().to_parquet(path)
    return path


def asked(folder):
    """How often each query was asked about first, over all processes."""
    return Counter(line for path in Path(folder).iterdir() for line in path.read_text().split())


def local(factory, source):
    return factory()(pd.read_parquet(source))


# --- the rows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", [pipelines.windows, pipelines.drawn, pipelines.two_stages])
@pytest.mark.parametrize("shard_size", [1, 5, 12, 200])
def test_rows_equal_the_local_pipelines(factory, shard_size, source, tmp_path):
    done = run_sharded(factory, source, tmp_path / "out", shard_size=shard_size)
    assert done == Progress(-(-12 // shard_size), -(-12 // shard_size))
    pd.testing.assert_frame_equal(read_results(tmp_path / "out"), local(factory, source))


def test_the_folder_is_itself_a_parquet_data_set(source, tmp_path):
    run_sharded(pipelines.windows, source, tmp_path / "out", shard_size=5)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out"), local(pipelines.windows, source))


def test_costs_are_the_local_pipelines_query_by_query(source, tmp_path):
    run_sharded(pipelines.two_stages, source, tmp_path / "out", shard_size=5)
    costs = read_costs(tmp_path / "out").set_index("qid")
    pipeline = pipelines.two_stages()
    pipeline(pd.read_parquet(source))
    books = [part.ledger.frame().set_index("qid") for part in pipeline]
    pd.testing.assert_frame_equal(costs.drop(columns="seconds"), (books[0] + books[1]).drop(columns="seconds"))
    report = json.loads((tmp_path / "out/_run/00001.json").read_text())
    assert report["queries"] == 5 and report["usage"]["calls"] == costs["calls"][5:10].sum()
    assert report["versions"]["pyterrier-llmrank"] and report["host"]


def test_an_input_of_many_files_and_row_groups_is_one_input(tmp_path):
    frame = candidates()
    (tmp_path / "in").mkdir()
    for number, (start, end) in enumerate([(0, 31), (31, 31), (31, 50), (50, 108)]):  # cuts queries; one file is empty
        frame[start:end].to_parquet(tmp_path / f"in/{number}.parquet", row_group_size=7)
    (tmp_path / "in/_notes.parquet").write_text("not one of them")
    run_sharded(pipelines.windows, tmp_path / "in", tmp_path / "out", shard_size=5)
    pd.testing.assert_frame_equal(read_results(tmp_path / "out"), pipelines.windows()(frame))


@pytest.mark.parametrize("start, end", [(0, 0), (0, 1), (6, 8), (0, 108), (20, 90), (107, 108)])
def test_a_stretch_of_rows_is_read_as_it_was_written(start, end, tmp_path, monkeypatch):
    monkeypatch.setattr("pyterrier_llmrank.distributed.source.BATCH", 4)
    frame = candidates().astype({"rank": "int32"}).assign(kind=["a", "b", None] * 36)
    frame.to_parquet(tmp_path / "in.parquet", row_group_size=7)
    expected = frame[start:end].reset_index(drop=True)
    pd.testing.assert_frame_equal(Source(str(tmp_path / "in.parquet")).frame(start, end), expected)


def test_an_index_of_the_input_does_not_matter(source, tmp_path):
    frame = candidates()
    frame.index = [3] * len(frame)
    frame.to_parquet(tmp_path / "odd.parquet")
    run_sharded(pipelines.windows, tmp_path / "odd.parquet", tmp_path / "out", shard_size=5)
    pd.testing.assert_frame_equal(read_results(tmp_path / "out"), local(pipelines.windows, source))


def test_numbers_may_name_queries(tmp_path):
    candidates().assign(qid=lambda frame: frame["qid"].str[1:].astype(int)).to_parquet(tmp_path / "in.parquet")
    run_sharded(pipelines.windows, tmp_path / "in.parquet", tmp_path / "out", shard_size=5)
    pd.testing.assert_frame_equal(read_results(tmp_path / "out"), local(pipelines.windows, tmp_path / "in.parquet"))


def test_a_column_that_is_empty_in_one_shard_keeps_its_type(tmp_path):
    frame = candidates(3).assign(note=[None] * 9 + ["x"] * 18)
    frame.to_parquet(tmp_path / "in.parquet")
    run_sharded(pipelines.windows, tmp_path / "in.parquet", tmp_path / "out", shard_size=1)
    assert read_results(tmp_path / "out")["note"].isna().sum() == 9
    assert pd.read_parquet(tmp_path / "out")["note"].isna().sum() == 9


def test_an_input_without_rows_gives_columns(tmp_path):
    candidates()[:0].to_parquet(tmp_path / "in.parquet")
    assert run_sharded(pipelines.windows, tmp_path / "in.parquet", tmp_path / "out") == Progress(1, 1)
    out = read_results(tmp_path / "out")
    assert len(out) == 0 and "llmrank_score" in out and len(read_costs(tmp_path / "out")) == 0


# --- again, and side by side ----------------------------------------------------------------------------------------


def test_finished_shards_are_not_run_again(source, tmp_path):
    (tmp_path / "seen").mkdir()
    factory = partial(pipelines.windows, str(tmp_path / "seen"))
    run_sharded(factory, source, tmp_path / "out", shard_size=5)
    before = asked(tmp_path / "seen")
    (tmp_path / "out/part-00001.parquet").unlink()
    run_sharded(factory, source, tmp_path / "out", shard_size=5)
    assert asked(tmp_path / "seen") - before == {qid: before[qid] for qid in ["q5", "q6", "q7", "q8", "q9"]}


def test_workers_side_by_side_share_the_shards(source, tmp_path):
    (tmp_path / "seen").mkdir()
    factory = partial(pipelines.windows, str(tmp_path / "seen"), 0.002)
    threads = [
        threading.Thread(target=run_sharded, args=(factory, source, tmp_path / "out"), kwargs={"shard_size": 1})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pd.testing.assert_frame_equal(read_results(tmp_path / "out"), local(pipelines.windows, source))
    assert asked(tmp_path / "seen") == {f"q{q}": 4 for q in range(12)}  # four rounds of windows, once
    assert not list((tmp_path / "out/_run").glob("*.claim-*"))


def test_a_worker_that_need_not_wait_leaves_the_shards_of_others(source, tmp_path):
    run_sharded(pipelines.windows, source, tmp_path / "out", shard_size=5)
    (tmp_path / "out/part-00001.parquet").unlink()
    held = claims.claim(tmp_path / "out/_run/00001", 300)
    began = time.monotonic()
    assert run_sharded(pipelines.windows, source, tmp_path / "out", shard_size=5, wait=False) == Progress(3, 2)
    assert time.monotonic() - began < 5 and held.exists()


def test_a_claim_that_nobody_touches_is_taken_over_once(source, tmp_path):
    stem = tmp_path / "00000"
    first = claims.claim(stem, 300)
    assert claims.claim(stem, 300) is None
    os.utime(first, (time.time() - 301,) * 2)
    second = claims.claim(stem, 300)
    assert second is not None and second != first
    assert claims.claim(stem, 300) is None
    claims.release(second)
    assert claims.claim(stem, 300) == first


def test_a_claim_of_a_dead_process_is_free_at_once_and_that_of_another_machine_is_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    here = claims.claim(tmp_path / "00000", 300).read_text()
    for machine, free in [(here.split("\t")[0], True), ("elsewhere 1", False)]:
        path = tmp_path / "00001.claim-0"
        path.write_text(f"{machine}\t{dead.pid}\ttoken")
        assert claims.abandoned(path, 300) is free
    path.write_text(here.replace(claims.ME, "an earlier process of this number"))
    assert claims.abandoned(path, 300)
    path.write_text("")  # created, and not written yet
    assert not claims.abandoned(path, 300)


def test_a_claim_is_touched_while_work_goes_on(tmp_path):
    path = claims.claim(tmp_path / "00000", 0.5)
    with claims.kept(path, 0.5):
        os.utime(path, (0, 0))
        time.sleep(0.4)
        assert not claims.abandoned(path, 0.5)
    assert not path.exists()


# --- what goes wrong ------------------------------------------------------------------------------------------------


def test_a_shard_that_fails_costs_itself_only_and_is_tried_again_by_the_next_run(source, tmp_path):
    trouble = tmp_path / "trouble"
    trouble.touch()
    factory = partial(pipelines.picky, "q6", str(trouble))
    with pytest.raises(ScoringError, match=r"1 of 3 shards failed.*shard 1 \(queries q5 to q9\).*went away"):
        run_sharded(factory, source, tmp_path / "out", shard_size=5)
    with pytest.raises(InputError, match=r"2 of the 3 shards .* partial=True"):
        read_results(tmp_path / "out")
    assert read_results(tmp_path / "out", partial=True)["qid"].nunique() == 7
    assert json.loads((tmp_path / "out/_run/00001.error.json").read_text())["usage"]["calls"] >= 0
    trouble.unlink()
    run_sharded(factory, source, tmp_path / "out", shard_size=5)
    pd.testing.assert_frame_equal(read_results(tmp_path / "out"), local(pipelines.windows, source))
    assert not list((tmp_path / "out/_run").glob("*.error.json"))


def test_a_worker_gives_up_after_three_failures(source, tmp_path):
    with pytest.raises(ScoringError, match=r"3 of 12 shards failed.*LookupError: no such thing"):
        run_sharded(pipelines.broken, source, tmp_path / "out", shard_size=1)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"shard_size": 4}, r"shard_size 5, and this one has 4"),
        ({"pipeline_factory": pipelines.drawn}, r"pipeline .Rerank\(SlidingWindow.*Sampled"),
        ({"in_parquet": "other.parquet"}, r"source '\w+', and this one has"),
    ],
)
def test_a_folder_of_another_run_is_refused(change, message, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    candidates(seed=1).to_parquet("other.parquet")
    run = {"pipeline_factory": pipelines.windows, "in_parquet": source, "out_dir": "out", "shard_size": 5}
    run_sharded(**run)
    with pytest.raises(ConfigurationError, match=message):
        run_sharded(**run | change)


def applied(function):
    return pt.apply.generic(function) >> pipelines.windows()


def first(k):
    return lambda frame: frame[frame["rank"] < k]


class Odd:
    """Something whose repr says nothing."""


def held(thing, k):
    return lambda frame: frame[frame["rank"] < k * len([thing])]


@pytest.mark.parametrize(
    ("begun", "resumed"),
    [
        (lambda frame: frame[frame["rank"] < 3], lambda frame: frame[frame["rank"] > 3]),
        (first(3), first(4)),
        (lambda frame: frame[frame["rank"] < 3], lambda frame: frame[frame["score"] < 3]),
    ],
)
def test_another_function_in_a_pipeline_that_is_written_alike_is_refused(begun, resumed, source, tmp_path):
    out = tmp_path / "out"
    run_sharded(lambda: applied(begun), source, out, shard_size=5)
    run_sharded(lambda: applied(begun), source, out, shard_size=5)
    with pytest.raises(ConfigurationError, match=r"another pipeline that is written alike, .*the code of a function"):
        run_sharded(lambda: applied(resumed), source, out, shard_size=5)


def test_parts_that_do_not_say_what_they_are_do_not_stop_a_run(source, tmp_path):
    for _ in range(2):
        run_sharded(lambda: applied(held(Odd(), 3)), source, tmp_path / "out", shard_size=5)
    with pytest.raises(ConfigurationError, match="written alike"):
        run_sharded(lambda: applied(held(Odd(), 4)), source, tmp_path / "out", shard_size=5)


@pytest.mark.parametrize("model", [str, partial(HFModel, device="cpu")], ids=["name", "model"])
def test_weights_are_told_by_their_content(model, tmp_path):
    def told(name):
        return identity(PointwiseLLM(model(str(tmp_path / name)), depth=3) >> pipelines.windows())

    decoder(tmp_path / "one", byte_tokenizer())
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    before = told("one")
    assert before == told("copy")
    weights = load_file(tmp_path / "one/model.safetensors")
    save_file({name: -one for name, one in weights.items()}, tmp_path / "one/model.safetensors", {"format": "pt"})
    assert before == told("copy") != told("one")


def test_a_run_that_an_earlier_version_began_goes_on(source, tmp_path):
    run_sharded(pipelines.windows, source, tmp_path / "out", shard_size=5)
    path = tmp_path / "out/_run/plan.json"
    plan = json.loads(path.read_text())
    del plan["identity"]
    path.write_text(json.dumps(plan))
    (tmp_path / "out/part-00001.parquet").unlink()
    run_sharded(pipelines.windows, source, tmp_path / "out", shard_size=5)
    pd.testing.assert_frame_equal(read_results(tmp_path / "out"), local(pipelines.windows, source))


def test_the_same_pipeline_is_known_again_in_another_process():
    script = "import sharded_pipelines as p; from pyterrier_llmrank.distributed.identity import identity; " + (
        "print(identity(p.two_stages() >> p.pt.apply.doc_score(p.broken)))"
    )
    found = subprocess.run([sys.executable, "-c", script], cwd=TESTS, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == identity(pipelines.two_stages() >> pt.apply.doc_score(pipelines.broken))


@pytest.mark.parametrize(
    "frame, message",
    [
        (candidates(2).drop(columns="qid"), "no column 'qid'; it has query"),
        (candidates(2).assign(qid=lambda f: f["qid"].where(f.index != 3)), "1 rows of .* have no qid"),
        (candidates(2).sort_values("rank"), "'q0' do not stand together .* sort it by qid"),
    ],
)
def test_an_input_that_cannot_be_cut_is_refused(frame, message, tmp_path):
    frame.to_parquet(tmp_path / "in.parquet")
    with pytest.raises(InputError, match=message):
        run_sharded(pipelines.windows, tmp_path / "in.parquet", tmp_path / "out")


def test_a_file_that_is_not_of_parquet_is_named(tmp_path):
    (tmp_path / "in.parquet").write_text("qid,query\n1,one")
    with pytest.raises(InputError, match=r"in\.parquet is not a Parquet file, or not all of one"):
        run_sharded(pipelines.windows, tmp_path / "in.parquet", tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_said(source):
    with pytest.raises(StorageError, match=r"in\.parquet/out/_run cannot be written \(Not a directory\)"):
        run_sharded(pipelines.windows, source, source / "out")


def test_a_full_disk_is_one_clear_error_and_loses_nothing(tmp_path):
    resource = pytest.importorskip("resource", reason="limits of a process are POSIX's")
    frame = candidates(queries=24)
    frame = pd.concat([frame[:27], frame[27:].assign(note=[str(i) * 20 for i in range(len(frame) - 27)])])
    frame.to_parquet(tmp_path / "in.parquet")
    command = [sys.executable, "-m", "pyterrier_llmrank.distributed", "sharded_pipelines:windows"]
    command += [str(tmp_path / "in.parquet"), str(tmp_path / "out"), "--shard-size", "3"]
    run_sharded(pipelines.windows, tmp_path / "in.parquet", tmp_path / "measured", shard_size=3)
    sizes = [(tmp_path / f"measured/part-{i:05}.parquet").stat().st_size for i in range(2)]
    assert sizes[0] < sizes[1]
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (sizes[0], sizes[0]))  # noqa: E731
    failed = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, preexec_fn=limit)
    assert failed.returncode == 1
    assert re.match(r"StorageError: .*part-00001.parquet cannot be written .* what is done is kept\n$", failed.stderr)
    assert read_results(tmp_path / "out", partial=True)["qid"].nunique() == 3
    assert sorted(path.name for path in (tmp_path / "out/_run").iterdir()) == [
        "00000.json",
        "00001.json",
        "clock",
        "plan.json",
    ]  # no claim and nothing half-written stays
    subprocess.run(command, cwd=TESTS, check=True, capture_output=True)
    pd.testing.assert_frame_equal(read_results(tmp_path / "out"), local(pipelines.windows, tmp_path / "in.parquet"))


def test_what_is_not_there_or_out_of_range_is_said(source, tmp_path):
    with pytest.raises(InputError, match="neither a Parquet file nor a folder"):
        run_sharded(pipelines.windows, tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(InputError, match="holds no run"):
        read_results(tmp_path)
    for wrong in ({"shard_size": 0}, {"workers": 0}, {"engine": "dask", "workers": 1}, {"gpus_per_worker": 1}):
        with pytest.raises(ConfigurationError):
            run_sharded(pipelines.windows, source, tmp_path / "out", **wrong)


# --- the command line, and death ------------------------------------------------------------------------------------


def worker(factory, source, out, *options):
    """A worker as a cluster's scheduler starts it."""
    command = [sys.executable, "-m", "pyterrier_llmrank.distributed", factory, str(source), str(out), *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=TESTS, start_new_session=True
    )


def test_the_command_says_how_far_the_run_is_or_what_is_wrong(source, tmp_path):
    done = worker("sharded_pipelines:windows", source, tmp_path / "out", "--shard-size", "5")
    assert done.communicate() == ("3 of 3 shards are done\n", "") and done.returncode == 0
    failed = worker("sharded_pipelines:absent", source, tmp_path / "out")
    _, said = failed.communicate()
    assert failed.returncode == 1 and said.startswith("ConfigurationError: the factory must be module:function")


def test_ten_kills_lose_at_most_the_shards_that_were_being_run(tmp_path):
    queries, kills = 80, 10
    candidates(queries, 5).to_parquet(tmp_path / "in.parquet")
    (tmp_path / "seen").mkdir()
    (tmp_path / "settings.py").write_text(
        f"import sharded_pipelines\ndef factory(): return sharded_pipelines.windows({str(tmp_path / 'seen')!r}, 0.02)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(tmp_path)])}
    command = [sys.executable, "-m", "pyterrier_llmrank.distributed", "settings:factory", "in.parquet", "out"]
    random = np.random.default_rng(0)
    for _ in range(kills):
        begun = len(list((tmp_path / "seen").iterdir()))
        process = subprocess.Popen([*command, "--shard-size", "2"], cwd=tmp_path, env=environment)
        while len(list((tmp_path / "seen").iterdir())) == begun and process.poll() is None:
            time.sleep(0.01)  # until it has asked its first question
        time.sleep(random.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    subprocess.run([*command, "--shard-size", "2"], cwd=tmp_path, env=environment, check=True)
    expected = local(pipelines.windows, tmp_path / "in.parquet")
    pd.testing.assert_frame_equal(read_results(tmp_path / "out"), expected)
    again = sum(times - 2 for times in asked(tmp_path / "seen").values())  # two rounds of windows for five documents
    assert 0 < again <= kills * 2 * 2
    assert not list((tmp_path / "out/_run").glob("*.claim-*"))
