"""``run_sharded``: a pipeline over a Parquet input that no memory need hold, in a way that survives its workers."""

from __future__ import annotations

import os
from typing import Literal, TypeAlias

from pyterrier_llmrank.errors import ConfigurationError

from .folder import Folder, Progress
from .on_ray import run_on_ray
from .processes import run_processes
from .shards import Factory, Job, Worker

Path: TypeAlias = str | os.PathLike[str]
Engine: TypeAlias = Literal["ray", "processes"]


def run_sharded(
    pipeline_factory: Factory,
    in_parquet: Path,
    out_dir: Path,
    *,
    shard_size: int = 200,
    workers: int | None = None,
    gpus_per_worker: float = 0,
    engine: Engine = "processes",
    wait: bool = True,
    stale_after: float = 300.0,
) -> Progress:
    """Runs a pipeline over the queries of a Parquet input, shard by shard, into a folder of Parquet files.

    Call it again after whatever happened: finished shards are there whole and are skipped. Call it as often as there
    are machines, at once, over a folder that they share: each call is a worker, and no shard is run twice unless its
    worker died. The rows are those of ``pipeline_factory()(pandas.read_parquet(in_parquet))``, for any pipeline that
    treats queries one by one; ``read_results`` reads them, ``read_costs`` what each query cost.

    Args:
        pipeline_factory: Builds the pipeline, such as a function of a module; called once in every worker, and with
            Ray once here, so what it builds should load its model on first use.
        in_parquet: A Parquet file, or a folder of them: topics or candidates, the rows of each query together.
        out_dir: Folder of the results, on a file system that all workers see.
        shard_size: Queries in a shard, which is what a dead worker costs.
        workers: Workers that ``engine`` starts; by default this process is the only one.
        gpus_per_worker: GPUs of each of them.
        engine: "processes" of this machine, or actors of a "ray" cluster (which may have parts of a GPU).
        wait: Whether to stay until the shards of other workers are done too, and take them over should those die; for
            ``workers=None``.
        stale_after: Seconds after which a worker on another machine that gave no sign of life counts as dead. One on
            this machine is seen to be dead at once.

    Returns:
        How many shards there are, and how many are done.

    Raises:
        ConfigurationError: The folder holds the run of another pipeline or input, or an argument is out of range.
        InputError: The input cannot be read, or the rows of a query do not stand together.
        MissingExtra: pyarrow, or Ray for its engine, is not installed.
        ScoringError: Shards failed. The others are done; the same call again tries these again.
        StorageError: Results cannot be written.
    """
    job = Job(pipeline_factory, os.fspath(in_parquet), os.fspath(out_dir), shard_size, stale_after)
    if workers is None:
        if gpus_per_worker:
            raise ConfigurationError(f"gpus_per_worker={gpus_per_worker} is of no effect without workers=")
        Worker(job).work(wait=wait)
    else:
        spread(job, engine, workers, gpus_per_worker)
    return Folder(job.out).progress()


def spread(job: Job, engine: str, workers: int, gpus_per_worker: float) -> None:
    """Runs a job with workers of an engine.

    Raises:
        ConfigurationError: There is no such engine, or a number is out of range.
    """
    check_engine(engine, workers, gpus_per_worker)
    {"processes": run_processes, "ray": run_on_ray}[engine](job, workers, gpus_per_worker)


def check_engine(engine: str, workers: int, gpus_per_worker: float) -> None:
    """Whether workers can be had like this.

    Raises:
        ConfigurationError: There is no such engine, or a number is out of range.
    """
    if engine not in ("processes", "ray"):
        raise ConfigurationError(f"engine must be 'processes' or 'ray', got {engine!r}")
    if workers < 1 or gpus_per_worker < 0:
        raise ConfigurationError(
            f"workers must be at least 1 and gpus_per_worker at least 0, got {workers} and {gpus_per_worker}"
        )
