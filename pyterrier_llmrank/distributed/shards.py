"""The shard function: claims a shard, runs the pipeline over it, and writes rows and report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import pyterrier as pt

from pyterrier_llmrank.errors import ConfigurationError, ScoringError

from .claims import claim, kept, now
from .folder import IDENTITY, Folder
from .identity import identity, lasting
from .reports import fresh_ledgers, provenance, spent, totals
from .source import Source, parquet

Factory: TypeAlias = Callable[[], pt.Transformer]
"""Builds a pipeline; called once in every worker."""

PATIENCE = 3  # failures of one worker after which it gives up: what is wrong is then not the shard


@dataclass(frozen=True)
class Job:
    """What is to be done; travels to the workers.

    Args:
        factory: Builds the pipeline.
        source: Parquet file or folder, the rows of each query together.
        out: Folder of the results.
        shard_size: Queries in a shard.
        stale_after: Seconds without a sign of life after which a worker counts as dead.

    Raises:
        ConfigurationError: A number is out of range.
    """

    factory: Factory
    source: str
    out: str
    shard_size: int = 200
    stale_after: float = 300.0

    def __post_init__(self) -> None:
        if self.shard_size < 1 or self.stale_after <= 0:
            raise ConfigurationError(
                "shard_size must be at least 1 and stale_after above 0, "
                f"got shard_size={self.shard_size} and stale_after={self.stale_after}"
            )

    @property
    def poll(self) -> float:
        """Seconds between two looks at what others work on."""
        return min(2.0, self.stale_after / 10)


class Worker:
    """Holds a pipeline, and settles shards with it, one at a time.

    Args:
        job: What is to be done.

    Raises:
        ConfigurationError: The folder holds another run's results.
        InputError: The input cannot be cut into shards.
        MissingExtra: pyarrow is not installed.
        StorageError: Nothing can be written there.
    """

    def __init__(self, job: Job) -> None:
        parquet("run_sharded")
        self.job, self.source, self.folder = job, Source(job.source), Folder(job.out)
        self.pipeline = job.factory()
        plan = {
            "source": self.source.fingerprint(),
            "shard_size": job.shard_size,
            "pipeline": lasting(self.pipeline),
            IDENTITY: identity(self.pipeline),
        }
        self.starts = self.folder.starts(plan, self.source)
        self.since = now(self.folder.notes)
        self.failed: dict[int, ScoringError] = {}
        self.failures = 0

    def work(self, *, wait: bool = True) -> None:
        """Settles shards until none is left that this worker could settle.

        Args:
            wait: Whether to wait for the shards of other workers, and to take them over where those die.

        Raises:
            ScoringError: Shards failed; the message says how many, and why the first did.
            StorageError: Results cannot be written.
        """
        left: Sequence[int] = range(len(self.starts) - 1)
        while left and self.failures < PATIENCE:
            busy = self._settled_but(left)
            if not wait:
                break
            if len(busy) == len(left):
                time.sleep(self.job.poll)
            left = busy
        if self.failed:
            first = next(iter(self.failed.values()))
            raise ScoringError(failures_told(len(self.failed), len(self.starts) - 1, str(first))) from first
        shards, done = self.folder.progress()
        if done == shards:
            self.folder.sweep(self.job.stale_after)

    def _settled_but(self, shards: Sequence[int]) -> list[int]:
        """Settles shards; returns those that others are at."""
        busy = []
        for shard in shards:
            try:
                if not self.settle(shard):
                    busy.append(shard)
            except ScoringError as error:
                self.failed[shard] = error
                if self.failures >= PATIENCE:
                    break
        return busy

    def settle(self, shard: int) -> bool:
        """Runs a shard, unless it is done; False where another worker is at it.

        Raises:
            ScoringError: The pipeline failed; here or, since this worker began, elsewhere.
        """
        if self.folder.part(shard).exists():
            return True
        if (told := self.folder.failure(shard, self.since)) is not None:
            raise ScoringError(told)
        path = claim(self.folder.stem(shard), self.job.stale_after)
        if path is None:
            return False
        with kept(path, self.job.stale_after):
            if not self.folder.part(shard).exists():
                self._run(shard)
        return True

    def _run(self, shard: int) -> None:
        """The report is written before the rows: with them the shard is done."""
        frame = self.source.frame(*self.starts[shard : shard + 2])
        fresh_ledgers(self.pipeline)
        began = time.perf_counter()
        try:
            rows = self._table(self.pipeline.transform(frame))
        except Exception as error:  # whatever a pipeline raises costs its shard only
            self.failures += 1
            qids = frame["qid"].drop_duplicates().astype(str).tolist() or ["none"]
            told = f"shard {shard} (queries {qids[0]} to {qids[-1]}): {type(error).__name__}: {error}"
            self._note(self.folder.error(shard), error=told, usage=totals(spent(self.pipeline)))
            raise ScoringError(told) from error
        seconds, costs = time.perf_counter() - began, spent(self.pipeline)
        size = {"queries": int(frame["qid"].nunique()), "rows": rows.num_rows, "seconds": seconds}
        self._note(self.folder.report(shard), **size, usage=totals(costs), per_query=costs.to_dict(orient="list"))
        _, pq = parquet("run_sharded")
        self.folder.write(self.folder.part(shard), lambda path: pq.write_table(rows, path))
        self.folder.error(shard).unlink(missing_ok=True)

    def _note(self, path: Path, **told: object) -> None:
        """Writes a report."""
        text = json.dumps(provenance() | told)
        self.folder.write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def _table(self, frame: pd.DataFrame) -> Any:  # noqa: ANN401 - pyarrow's
        """Rows as they are written. A column that holds nothing keeps the input's type, so that shards fit together."""
        pyarrow, _ = parquet("run_sharded")
        table = pyarrow.Table.from_pandas(frame, preserve_index=False)
        known = self.source.schema
        for place, column in enumerate(table.schema):
            if pyarrow.types.is_null(column.type) and column.name in known.names:
                kind = known.field(column.name)
                table = table.set_column(place, kind, table.column(place).cast(kind.type))
        return table


def failures_told(failed: int, shards: int, first: str) -> str:
    """The message of a run in which shards failed."""
    return (
        f"{failed} of {shards} shards failed; what is done is kept, and the same run again tries the rest again. "
        f"The first failure: {first}"
    )
