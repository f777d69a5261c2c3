"""``Distributed``: the local pipeline's rows and costs, from workers that may die."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
import sharded_pipelines as pipelines

from pyterrier_llmrank import Rerank
from pyterrier_llmrank.distributed import Distributed, read_results, run_sharded
from pyterrier_llmrank.distributed.processes import environment, gpu_shares
from pyterrier_llmrank.errors import ConfigurationError, InputError, MissingExtra, ScoringError


def candidates(queries=12, n=9, seed=0):
    random = np.random.default_rng(seed)
    rows = [
        {"qid": f"q{q}", "query": f"query {q}", "docno": f"d{q}-{i}", "text": str(v), "score": 9.0 - i, "rank": i}
        for q in range(queries)
        for i, v in enumerate(random.permutation(n))
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def ray_here():
    """A cluster of this machine; slow to start, so the tests that take it are marked."""
    pytest.importorskip("pyarrow", reason="runs over Parquet need pyarrow")
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    pytest.importorskip("ray.data", reason="the extra ray is not installed")
    surroundings = {"env_vars": {"PYTHONPATH": str(Path(pipelines.__file__).parent)}}
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        log_to_driver=False,
        runtime_env=surroundings,
    )
    yield ray
    ray.shutdown()


ENGINES = [
    pytest.param("processes", id="processes"),
    pytest.param(
        "ray", id="ray", marks=[pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")]
    ),
]
each_engine = pytest.mark.parametrize("engine", ENGINES)


@pytest.fixture
def ready(engine, request):
    """What the engine needs."""
    pytest.importorskip("pyarrow", reason="workers pass Parquet on")
    if engine == "ray":
        request.getfixturevalue("ray_here")


def kill_one(folder, killed, least=3):
    """Kills one of the processes that note their questions in a folder, once two of them have."""
    while not killed:
        busy = [path for path in Path(folder).iterdir() if len(path.read_text().split()) >= least]
        if len(busy) >= 2:
            os.kill(int(busy[0].name), signal.SIGKILL)
            killed.append(busy[0].name)
        time.sleep(0.01)


# --- the rows -------------------------------------------------------------------------------------------------------


@each_engine
@pytest.mark.parametrize("factory", [pipelines.windows, pipelines.drawn, pipelines.two_stages])
def test_rows_and_costs_equal_the_local_pipelines(factory, engine, ready):
    frame = candidates()
    spread = Distributed(factory, workers=2, engine=engine)
    pd.testing.assert_frame_equal(spread(frame), factory()(frame))
    local = factory()
    local(frame)
    books = [part.ledger.frame().set_index("qid") for part in ([local] if isinstance(local, Rerank) else local)]
    costs = spread.ledger.frame().set_index("qid").drop(columns="seconds")
    pd.testing.assert_frame_equal(costs, sum(books[1:], books[0]).drop(columns="seconds"))
    assert spread.ledger.total.usage.calls == costs["calls"].sum()


@each_engine
def test_a_worker_that_is_killed_in_mid_run_changes_no_row(engine, ready, tmp_path):
    frame, killed = candidates(40), []
    spread = Distributed(partial(pipelines.windows, str(tmp_path), 0.01), workers=2, engine=engine, shard_size=2)
    threading.Thread(target=kill_one, args=(tmp_path, killed), daemon=True).start()
    pd.testing.assert_frame_equal(spread(frame), pipelines.windows()(frame))
    assert killed
    again = sum(len(path.read_text().split()) for path in tmp_path.iterdir()) - 40 * 4  # four rounds of windows
    assert 0 <= again <= 2 * 4


@each_engine
def test_a_killed_worker_of_a_run_over_parquet_costs_its_shard_only(engine, ready, tmp_path):
    frame, killed = candidates(40), []
    frame.to_parquet(tmp_path / "in.parquet")
    (tmp_path / "seen").mkdir()
    factory = partial(pipelines.windows, str(tmp_path / "seen"), 0.01)
    threading.Thread(target=kill_one, args=(tmp_path / "seen", killed), daemon=True).start()
    done = run_sharded(factory, tmp_path / "in.parquet", tmp_path / "out", shard_size=2, workers=2, engine=engine)
    assert done == (20, 20) and killed
    pd.testing.assert_frame_equal(read_results(tmp_path / "out"), pipelines.windows()(frame))
    again = sum(len(path.read_text().split()) for path in (tmp_path / "seen").iterdir()) - 40 * 4
    assert 0 <= again <= 2 * 4


@each_engine
def test_rows_in_any_order_come_back_query_by_query(engine, ready):
    frame = candidates().sort_values("docno", ascending=False, ignore_index=True)
    spread = Distributed(pipelines.windows, workers=2, engine=engine)
    pd.testing.assert_frame_equal(spread(frame), pipelines.windows()(frame))


@each_engine
def test_queries_that_get_no_result_are_left_out(engine, ready):
    frame = candidates(6)
    for kept in (["q1", "q4"], []):
        out = Distributed(partial(pipelines.only, kept), workers=2, engine=engine, shard_size=1)(frame)
        assert out["qid"].drop_duplicates().tolist() == kept and list(out.columns) == list(frame.columns)


def test_a_language_model_in_two_processes_gives_the_local_ranking(tmp_path):
    pytest.importorskip("pyarrow", reason="workers pass Parquet on")
    from tiny import decoder

    words = np.random.default_rng(0).choice(["the cat", "a mat", "Yes", "No", "of nothing much"], (60, 7))
    frame = candidates(12, 5).assign(text=[" ".join(row[: 1 + i % 7]) for i, row in enumerate(words)])
    factory = partial(pipelines.language_model, decoder(tmp_path / "tiny", max_position_embeddings=2048))
    spread, local = Distributed(factory, workers=2, engine="processes")(frame), factory()(frame)
    assert spread["docno"].tolist() == local["docno"].tolist() and local["llmrank_score"].nunique() > 30
    np.testing.assert_allclose(spread["llmrank_score"], local["llmrank_score"], atol=1e-5)


# --- what goes wrong ------------------------------------------------------------------------------------------------


@each_engine
def test_a_failing_pipeline_is_told_by_its_own_words(engine, ready):
    with pytest.raises(ScoringError, match="LookupError: no such thing"):
        Distributed(pipelines.broken, workers=2, engine=engine)(candidates())


@each_engine
def test_a_query_that_kills_every_worker_ends_the_run(engine, ready):
    with pytest.raises(
        ScoringError, match=r"no worker is left, with the exit codes -9, -9|queries q3 to q3: its workers died 3 times"
    ):
        Distributed(partial(pipelines.killer, "q3"), workers=2, engine=engine, shard_size=1)(candidates())


@pytest.mark.parametrize("values", [[1, "one"], ["one", 1], [{"a": 1}, "one"], [b"one", 1.5], [object(), object()]])
def test_a_column_of_several_types_is_named(values):
    pytest.importorskip("pyarrow", reason="workers pass Parquet on")
    frame = candidates(1, 2).assign(note=pd.Series(values, dtype=object))
    with pytest.raises(InputError, match=r"the column 'note' cannot travel to processes .*; give all its values one"):
        Distributed(pipelines.windows, engine="processes")(frame)


def test_a_factory_that_cannot_travel_is_refused():
    pytest.importorskip("pyarrow", reason="workers pass Parquet on")
    with pytest.raises(ConfigurationError, match=r"cannot travel to another process .* a function of a module"):
        Distributed(lambda: pipelines.windows(), engine="processes")(candidates())


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"gpus_per_worker": -1}, {"engine": "dask"}, {"shard_size": 0}])
def test_arguments_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigurationError):
        Distributed(pipelines.windows, **wrong)


def test_a_missing_ray_is_said_with_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    monkeypatch.setitem(__import__("sys").modules, "ray.data", None)
    with pytest.raises(MissingExtra, match=r"needs Ray Data: pip install 'pyterrier-llmrank\[ray\]'"):
        Distributed(pipelines.windows)(candidates())


def test_a_missing_pyarrow_is_said_with_its_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"needs pyarrow: pip install 'pyterrier-llmrank\[parquet\]'"):
        run_sharded(pipelines.windows, tmp_path / "in.parquet", tmp_path / "out")


# --- as a transformer -----------------------------------------------------------------------------------------------


def test_a_frame_without_rows_starts_no_worker():
    empty = candidates()[:0]
    pd.testing.assert_frame_equal(Distributed(pipelines.windows)(empty), pipelines.windows()(empty))


def test_its_columns_are_the_pipelines():
    columns = ["qid", "query", "docno", "text"]
    expected = pt.inspect.transformer_outputs(pipelines.windows(), columns)
    assert pt.inspect.transformer_outputs(Distributed(pipelines.windows), columns) == expected


def test_repr_is_the_call_that_builds_it():
    spread = Distributed(pipelines.windows, workers=4, gpus_per_worker=0.5)
    assert repr(spread) == "Distributed(windows, workers=4, gpus_per_worker=0.5)"


# --- processes ------------------------------------------------------------------------------------------------------


def test_processes_share_the_cores_out(monkeypatch):
    pytest.importorskip("pyarrow", reason="workers pass Parquet on")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    out = Distributed(pipelines.surroundings, workers=2, engine="processes", shard_size=1)(candidates())
    assert set(out["OMP_NUM_THREADS"]) == {"3"} and os.getpid() not in set(out["pid"])
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.parametrize("visible, names", [(None, ["0,1", "2,3"]), ("7,5,GPU-a,1", ["7,5", "GPU-a,1"])])
def test_each_process_has_gpus_of_its_own(visible, names, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with environment({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}):
        assert [share["CUDA_VISIBLE_DEVICES"] for share in gpu_shares(2, 2)] == names
    with pytest.raises(ConfigurationError, match="3 workers with 2 GPUs each need 6, and 4 are visible"):
        gpu_shares(3, 2)
    with pytest.raises(ConfigurationError, match=r"whole GPUs, got gpus_per_worker=0\.5"):
        gpu_shares(2, 0.5)
    assert gpu_shares(2, 0) == [{}, {}]
