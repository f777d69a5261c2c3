"""``Distributed``: a pipeline that runs in several workers, as a PyTerrier transformer."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyterrier as pt

from pyterrier_llmrank.core import USAGE_FIELDS, Usage, spelled
from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.ledger import Ledger

from .folder import read_costs, read_results
from .on_ray import rerank_on_ray
from .processes import run_processes
from .run import Engine, check_engine
from .shards import Factory, Job
from .source import parquet

LARGEST = 200  # queries that a dead worker may cost
PER_WORKER = 4  # shards for each worker, so that none idles long at the end


class Distributed(pt.Transformer):
    """Runs a pipeline in several workers, each of which builds it once and keeps it while a frame lasts.

    The rows are those of ``pipeline_factory()``, query by query, for any pipeline that treats queries one by one. A
    worker that dies costs the shard that it was at, which another runs again. For runs that fit no memory, or must
    survive this process, see ``run_sharded``.

    Args:
        pipeline_factory: Builds the pipeline: a function of a module, or for Ray any function. Called once in every
            worker, and once here for frames without rows; what it builds should load its model on first use.
        workers: How many.
        gpus_per_worker: GPUs of each; with Ray also a part of one.
        engine: Actors of a "ray" cluster (the one that ``ray.init`` or RAY_ADDRESS names, else this machine), or
            "processes" of this machine.
        shard_size: Queries that a worker runs at a time; by default some for every worker, and 200 at the most.

    Attributes:
        ledger: What each query cost (see ``Ledger``).

    Raises:
        ConfigurationError: There is no such engine, or a number is out of range.
    """

    def __init__(
        self,
        pipeline_factory: Factory,
        *,
        workers: int = 1,
        gpus_per_worker: float = 0,
        engine: Engine = "ray",
        shard_size: int | None = None,
    ) -> None:
        super().__init__()
        check_engine(engine, workers, gpus_per_worker)
        if shard_size is not None and shard_size < 1:
            raise ConfigurationError(f"shard_size must be at least 1 or None, got {shard_size}")
        self.pipeline_factory = pipeline_factory
        self.workers = workers
        self.gpus_per_worker = gpus_per_worker
        self.engine = engine
        self.shard_size = shard_size
        self.ledger = Ledger()
        self._here: pt.Transformer | None = None

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The result of the pipeline.

        Raises:
            InputError: A column holds values of several types, which do not travel to processes.
            MissingExtra: Ray, or pyarrow for processes, is not installed.
            ScoringError: The pipeline failed in a worker.
        """
        if len(inp) == 0:
            return self._local().transform(inp)
        pt.validate.columns(inp, includes=["qid"])
        frame = inp.iloc[pd.factorize(inp["qid"])[0].argsort(kind="stable")].reset_index(drop=True)
        run = self._on_ray if self.engine == "ray" else self._in_processes
        result, costs = run(frame, self._shard(frame["qid"].nunique()))
        self._book(costs)
        return result

    def transform_outputs(self, input_columns: list[str]) -> list[str]:
        """The pipeline's own columns."""
        columns: list[str] = pt.inspect.transformer_outputs(self._local(), input_columns)
        return columns

    def subtransformers(self) -> dict[str, pt.Transformer]:
        """None here: the pipelines are the workers'."""
        return {}

    def schematic(self, *, input_columns: list[str] | None = None) -> dict[str, Any]:
        """How it is drawn: its name and what it is told; offline, so without a link."""
        return {
            "label": "Distributed",
            "help_url": None,
            "settings": {"pipeline": spelled(self.pipeline_factory), **self._told()},
        }

    def _told(self) -> dict[str, Any]:
        """Arguments that differ from their defaults."""
        values = {
            "workers": (self.workers, 1),
            "gpus_per_worker": (self.gpus_per_worker, 0),
            "engine": (self.engine, "ray"),
            "shard_size": (self.shard_size, None),
        }
        return {name: value for name, (value, default) in values.items() if value != default}

    def _local(self) -> pt.Transformer:
        """The pipeline in this process, which is asked about columns only."""
        if self._here is None:
            self._here = self.pipeline_factory()
        return self._here

    def _shard(self, queries: int) -> int:
        """Queries in a shard."""
        return self.shard_size or min(LARGEST, -(-queries // (PER_WORKER * self.workers)))

    def _on_ray(self, frame: pd.DataFrame, shard: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Results and costs, through Ray's object store."""
        return rerank_on_ray(
            self.pipeline_factory, frame, workers=self.workers, gpus_per_worker=self.gpus_per_worker, batch=shard
        )

    def _in_processes(self, frame: pd.DataFrame, shard: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Results and costs, through files."""
        _check_columns(frame)
        with tempfile.TemporaryDirectory(prefix="llmrank-") as folder:
            source, out = Path(folder, "in.parquet"), Path(folder, "out")
            frame.to_parquet(source, engine="pyarrow")
            run_processes(Job(self.pipeline_factory, str(source), str(out), shard), self.workers, self.gpus_per_worker)
            return read_results(out), read_costs(out)

    def _book(self, costs: pd.DataFrame) -> None:
        """Takes the workers' books over."""
        self.ledger.open(costs["qid"])
        for row in costs.to_dict(orient="records"):
            usage = Usage(**{name: int(row[name]) for name in USAGE_FIELDS})
            for entry in (self.ledger[row["qid"]], self.ledger.total):
                entry.usage += usage
                entry.seconds += row["seconds"]
            self.ledger[row["qid"]].rounds = int(row["rounds"])
        self.ledger.total.rounds += int(costs["rounds"].max()) if len(costs) else 0  # shards run side by side

    def __repr__(self) -> str:
        """The call that builds it."""
        told = [spelled(self.pipeline_factory), *(f"{name}={value!r}" for name, value in self._told().items())]
        return f"Distributed({', '.join(told)})"


def _check_columns(frame: pd.DataFrame) -> None:
    """Whether a frame can be written as Parquet.

    Raises:
        InputError: A column cannot.
        MissingExtra: pyarrow is not installed.
    """
    pyarrow, _ = parquet("Distributed(engine='processes')")
    for name, values in frame.items():
        try:
            pyarrow.array(values, from_pandas=True)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, pyarrow.ArrowNotImplementedError) as error:
            raise InputError(
                f"the column {name!r} cannot travel to processes ({error}); give all its values one type, drop it, or "
                "use engine='ray'"
            ) from error
