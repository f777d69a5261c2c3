"""The folder that a run writes: one Parquet file per shard, and beside them what the workers tell one another.

out/part-00000.parquet      the rows of a finished shard; the file is there whole or not at all
out/_run/plan.json          where each shard begins, and what is run over which input
out/_run/00000.json         what the shard cost, in all and per query, where, and with which versions
out/_run/00000.error.json   why the last try at the shard failed
out/_run/00000.claim-0      who works on it
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.ledger import Ledger

from .claims import now
from .source import Source, parquet
from .writing import writable, write_at_once

FORMAT = 1
IDENTITY = "identity"  # of the pipeline, which plans of earlier versions do not hold


class Progress(NamedTuple):
    """How far a run is.

    Attributes:
        shards: Shards in all.
        done: Shards that are written.
    """

    shards: int
    done: int


@dataclass(frozen=True)
class Folder:
    """The names of a run's files, and how they are written."""

    path: str

    @property
    def root(self) -> Path:
        """Where the results are."""
        return Path(self.path)

    @property
    def notes(self) -> Path:
        """Where everything else is; readers of Parquet folders pass over names that begin with an underscore."""
        return self.root / "_run"

    def part(self, shard: int) -> Path:
        """The rows of a finished shard."""
        return self.root / f"part-{shard:05}.parquet"

    def stem(self, shard: int) -> Path:
        """What the other files of a shard begin with."""
        return self.notes / f"{shard:05}"

    def report(self, shard: int) -> Path:
        """What a finished shard cost."""
        return Path(f"{self.stem(shard)}.json")

    def error(self, shard: int) -> Path:
        """Why a shard failed."""
        return Path(f"{self.stem(shard)}.error.json")

    def starts(self, plan: dict[str, Any], source: Source) -> list[int]:
        """The first row of each shard, and the row behind the last; decided by whoever comes first.

        Args:
            plan: What must be the same for all who work here: the input, the shards' size, the pipeline.
            source: The input.

        Raises:
            ConfigurationError: The folder holds another run's results.
            StorageError: Nothing can be written there.
        """
        path = self.notes / "plan.json"
        if not path.exists():
            with writable(self.notes):
                self.notes.mkdir(parents=True, exist_ok=True)
            told = {"format": FORMAT, **plan, "starts": _cut(source, plan["shard_size"])}
            self.write(path, lambda temporary: temporary.write_text(json.dumps(told), encoding="utf-8"))
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for name, value in {"format": FORMAT, **plan}.items():
            if name == IDENTITY and found.get(name, value) != value:
                raise ConfigurationError(
                    f"{self.path} holds a run of another pipeline that is written alike, {plan['pipeline']}: the code "
                    "of a function, the weights in a folder or a setting differs; resume with what it was begun with, "
                    "or write to another folder"
                )
            if name != IDENTITY and found.get(name) != value:
                raise ConfigurationError(
                    f"{self.path} holds a run with {name} {found.get(name)!r}, and this one has {value!r}; "
                    "resume with what it was begun with, or write to another folder"
                )
        starts: list[int] = found["starts"]
        return starts

    def write(self, path: Path, fill: Callable[[Path], object]) -> None:
        """Writes a file in one step: ``fill`` writes the content under another name.

        Raises:
            StorageError: It cannot be written.
        """
        write_at_once(path, self.notes, fill)

    def progress(self) -> Progress:
        """How far the run is."""
        plan: dict[str, Any] = json.loads((self.notes / "plan.json").read_text(encoding="utf-8"))
        shards = range(len(plan["starts"]) - 1)
        present = {entry.name for entry in os.scandir(self.root)}
        return Progress(len(shards), sum(self.part(shard).name in present for shard in shards))

    def failure(self, shard: int, since: float) -> str | None:
        """Why a shard failed since then (seconds, by the file system's clock); None where it did not."""
        path = self.error(shard)
        try:
            if path.stat().st_mtime <= since:
                return None
            told: str = json.loads(path.read_text(encoding="utf-8"))["error"]
        except FileNotFoundError:
            return None
        return told

    def sweep(self, stale_after: float) -> None:
        """Removes what dead workers left behind, once nothing is left to do."""
        old = now(self.notes) - stale_after
        for path in self.notes.glob("*.claim-*"):
            path.unlink(missing_ok=True)
        for path in self.notes.glob("*.tmp"):
            if path.stat().st_mtime < old:
                path.unlink(missing_ok=True)


def read_results(out_dir: str | os.PathLike[str], *, partial: bool = False) -> pd.DataFrame:
    """All rows of a run, in the order of its input's queries.

    Args:
        out_dir: The folder of the run.
        partial: Whether what is there will do, where shards are missing.

    Raises:
        InputError: There is no run, or it is not finished.
    """
    folder = Folder(os.fspath(out_dir))
    pyarrow, pq = parquet("read_results")
    tables = [pq.read_table(folder.part(shard)) for shard in _finished(folder, partial)]
    if not tables:
        return pd.DataFrame()
    frame: pd.DataFrame = pyarrow.concat_tables(tables, promote_options="permissive").to_pandas()
    return frame


def read_costs(out_dir: str | os.PathLike[str], *, partial: bool = False) -> pd.DataFrame:
    """What each query of a run cost, with the columns of ``Ledger.frame()``; queries in the order of the input.

    Args:
        out_dir: The folder of the run.
        partial: Whether what is there will do, where shards are missing.

    Raises:
        InputError: There is no run, or it is not finished.
    """
    folder = Folder(os.fspath(out_dir))
    reports = [json.loads(folder.report(shard).read_text(encoding="utf-8")) for shard in _finished(folder, partial)]
    frames = [pd.DataFrame(report["per_query"]) for report in reports if report["per_query"]["qid"]]
    return pd.concat(frames, ignore_index=True) if frames else Ledger().frame()


def _finished(folder: Folder, partial: bool) -> list[int]:
    """The numbers of the shards that are written."""
    if not (folder.notes / "plan.json").exists():
        raise InputError(f"{folder.path} holds no run of run_sharded")
    shards, done = folder.progress()
    if done < shards and not partial:
        raise InputError(f"{done} of the {shards} shards of {folder.path} are done; run the rest, or say partial=True")
    return [shard for shard in range(shards) if folder.part(shard).exists()]


def _cut(source: Source, size: int) -> list[int]:
    """The first row of each shard, and the row behind the last; one shard where there are no rows, for its columns."""
    queries, rows = source.query_starts()
    return [*(queries[::size] or [0]), rows]
