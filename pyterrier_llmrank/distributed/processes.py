"""Workers as processes of this machine, each with GPUs and CPU cores of its own."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from pyterrier_llmrank.errors import ConfigurationError, LLMRankError, ScoringError

from .shards import Job, Worker


def run_processes(job: Job, workers: int, gpus_per_worker: float) -> None:
    """Runs a job with so many processes; where one dies, the others take its shard over.

    Raises:
        ConfigurationError: There are not enough GPUs, or the factory cannot travel to another process.
        ScoringError: Shards failed, or no worker is left.
    """
    shares = gpu_shares(workers, gpus_per_worker)
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    _check_picklable(job)
    started = []
    try:
        for share in shares:
            with environment({"OMP_NUM_THREADS": threads, **share}):
                started.append(_start(job))
        while running := [process.sentinel for process, _ in started if process.is_alive()]:
            wait(running)  # is_alive also buries the dead, so that the living see that their numbers are gone
    finally:
        for process, _ in started:
            process.terminate()
            process.join()
    codes = [process.exitcode for process, _ in started]
    if 0 not in codes:  # one that ended well has seen every shard done
        told = next(filter(None, (_heard(ear) for _, ear in started)), "none said why")
        raise ScoringError(f"no worker is left, with the exit codes {', '.join(map(str, codes))}; {told}")


def _start(job: Job) -> tuple[SpawnProcess, Connection]:
    """A running worker, and where it says what went wrong."""
    context = multiprocessing.get_context("spawn")
    ear, mouth = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(job, mouth), daemon=True)
    process.start()
    mouth.close()
    return process, ear


def _work(job: Job, mouth: Connection) -> None:
    """What a worker process does."""
    try:
        Worker(job).work()
    except LLMRankError as error:
        mouth.send(f"{type(error).__name__}: {error}")
        sys.exit(1)


def _heard(ear: Connection) -> str | None:
    """What a worker said before it ended."""
    try:
        told: str | None = ear.recv() if ear.poll() else None
    except EOFError:
        return None
    return told


def gpu_shares(workers: int, gpus_per_worker: float) -> list[dict[str, str]]:
    """The part of the environment that gives each worker its GPUs; nothing where they are to have none of their own.

    Raises:
        ConfigurationError: There are not so many, or a part of one is asked for.
    """
    if not gpus_per_worker:
        return [{} for _ in range(workers)]
    if gpus_per_worker != int(gpus_per_worker):
        raise ConfigurationError(
            f"processes take whole GPUs, got gpus_per_worker={gpus_per_worker}; engine='ray' can share one out"
        )
    each, names = int(gpus_per_worker), _gpus()
    if workers * each > len(names):
        raise ConfigurationError(
            f"{workers} workers with {each} GPUs each need {workers * each}, and {len(names)} are visible here"
        )
    return [{"CUDA_VISIBLE_DEVICES": ",".join(names[i * each : (i + 1) * each])} for i in range(workers)]


def _gpus() -> list[str]:
    """Names of the GPUs that this process may use."""
    import torch

    found = torch.cuda.device_count()
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (told.split(",") if told else [str(number) for number in range(found)])[:found]


def _check_picklable(job: Job) -> None:
    try:
        pickle.dumps(job)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigurationError(
            f"the pipeline factory cannot travel to another process ({error}); "
            "give a function of a module, or functools.partial of one, that builds the pipeline when it is called"
        ) from error


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for what is started within; a process reads these before any of its own code runs."""
    kept = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
