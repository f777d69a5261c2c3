"""Workers as actors of Ray Data: over the shards of a Parquet input, or over the queries of a frame."""

from __future__ import annotations

import pickle
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pandas as pd

from pyterrier_llmrank.errors import MissingExtra, ScoringError

from .reports import fresh_ledgers, spent
from .shards import PATIENCE, Factory, Job, Worker, failures_told

TRIES = 3  # of what its actor dies of; Ray itself would go on for ever


class Deaths:
    """Counts how often a piece of work was begun, which its actor can not once it is dead."""

    def __init__(self) -> None:
        self.begun: Counter[int] = Counter()

    def begin(self, piece: int) -> str:
        """Counts one more try; says what is wrong where there were enough."""
        self.begun[piece] += 1
        return f"its workers died {TRIES} times, perhaps for want of memory" if self.begun[piece] > TRIES else ""


class Shards:
    """Settles the shards whose numbers it is given; holds the pipeline in between.

    Args:
        job: What is to be done.
        deaths: Handle of the actor that counts.
    """

    def __init__(self, job: Job, deaths: Any) -> None:  # noqa: ANN401 - Ray's
        self.worker, self.deaths = Worker(job), deaths

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Waits where another has claimed the shard: that one finishes it, or dies and leaves it."""
        worker, shard = self.worker, row["shard"]
        told = _begun(self.deaths, shard)
        if worker.failures >= PATIENCE:
            told = "not tried: its worker had given up"
        try:
            while not told and not worker.settle(shard):
                time.sleep(worker.job.poll)
        except ScoringError as error:
            told = str(error)
        return {"shard": shard, "error": told and f"shard {shard}: {told}"}


class Queries:
    """Runs a pipeline over batches of queries; holds it in between.

    A row is one query: its place among the queries, and its pickled rows of the frame.

    Args:
        factory: Builds the pipeline.
        deaths: Handle of the actor that counts.
    """

    def __init__(self, factory: Factory, deaths: Any) -> None:  # noqa: ANN401 - Ray's
        self.pipeline, self.deaths = factory(), deaths

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The same queries with the rows of their results; what all of them cost stands with the first."""
        frame = pd.concat([pickle.loads(rows) for rows in batch["rows"]], ignore_index=True)
        qids = frame["qid"].unique()
        rows, costs, told = [b""] * len(qids), b"", _begun(self.deaths, int(batch["place"][0]))
        if not told:
            try:
                rows, costs = self._run(frame)
            except Exception as error:  # told by the row, for Ray would bury it in its own
                told = f"{type(error).__name__}: {error}"
        rest = len(qids) - 1
        where = told and f"queries {qids[0]} to {qids[-1]}: {told}"
        return {"place": batch["place"], "rows": rows, "costs": [costs, *[b""] * rest], "error": [where, *[""] * rest]}

    def _run(self, frame: pd.DataFrame) -> tuple[list[bytes], bytes]:
        """The rows of each query's result, and the costs of all."""
        fresh_ledgers(self.pipeline)
        result = self.pipeline.transform(frame)
        found = dict(iter(result.groupby("qid", sort=False)))
        rows = [pickle.dumps(found.get(qid, result[:0])) for qid in frame["qid"].unique()]
        return rows, pickle.dumps(spent(self.pipeline))


def _begun(deaths: Any, piece: int) -> str:  # noqa: ANN401 - Ray's
    """Counts a try; says what is wrong where there were enough."""
    import ray

    told: str = ray.get(deaths.begin.remote(piece))
    return told


def run_on_ray(job: Job, workers: int, gpus_per_worker: float) -> None:
    """Runs a job with so many actors; a shard whose actor dies is run by another.

    Raises:
        MissingExtra: Ray is not installed.
        ScoringError: Shards failed.
    """
    data = ray_data("run_sharded(engine='ray')")
    shards = len(Worker(job).starts) - 1
    rows = data.from_items([{"shard": shard} for shard in range(shards)], override_num_blocks=shards)
    done = rows.map(Shards, fn_constructor_args=(job, _deaths()), **_actors(data, workers, gpus_per_worker))
    failed = [row["error"] for row in _rows(done) if row["error"]]
    if failed:
        raise ScoringError(failures_told(len(failed), shards, failed[0]))


def rerank_on_ray(
    factory: Factory, frame: pd.DataFrame, *, workers: int, gpus_per_worker: float, batch: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A frame through the pipelines of so many actors: the results, query by query, and what each query cost.

    Raises:
        MissingExtra: Ray is not installed.
        ScoringError: The pipeline failed.
    """
    data = ray_data("Distributed(engine='ray')")
    groups = [pickle.dumps(rows) for _, rows in frame.groupby("qid", sort=False)]
    queries = [{"place": place, "rows": rows} for place, rows in enumerate(groups)]
    rows = data.from_items(queries, override_num_blocks=-(-len(queries) // batch))
    actors = _actors(data, workers, gpus_per_worker)
    answers = []
    for row in _rows(rows.map_batches(Queries, fn_constructor_args=(factory, _deaths()), batch_size=None, **actors)):
        if row["error"]:
            raise ScoringError(row["error"])
        answers.append(row)
    answers.sort(key=lambda row: row["place"])
    results = [pickle.loads(row["rows"]) for row in answers]
    costs = [pickle.loads(row["costs"]) for row in answers if row["costs"]]
    return _joined(results), _joined(costs)


def ray_data(what: str) -> Any:  # noqa: ANN401 - Ray's
    """The module ``ray.data``.

    Raises:
        MissingExtra: It is not installed; says that ``what`` needs it.
    """
    try:
        import ray.data
    except ImportError as error:
        raise MissingExtra(what, "Ray Data", "ray") from error
    return ray.data


def _actors(data: Any, workers: int, gpus_per_worker: float) -> dict[str, Any]:  # noqa: ANN401 - Ray's
    """Who does the work: actors that stay, on a GPU or on one CPU core each."""
    return {
        "compute": data.ActorPoolStrategy(size=workers),
        "num_gpus": gpus_per_worker,
    }


def _deaths() -> Any:  # noqa: ANN401 - Ray's
    """An actor that counts, and outlives the others."""
    import ray

    return ray.remote(num_cpus=0)(Deaths).remote()


def _rows(done: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - Ray's
    """The rows of a dataset as they are finished.

    Raises:
        ScoringError: Ray gave up.
    """
    from ray.exceptions import RayError

    try:
        yield from done.iter_rows()
    except RayError as error:
        raise ScoringError(f"Ray gave up: {error}") from error


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Frames one below the other; empty ones have no say in the types."""
    return pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
