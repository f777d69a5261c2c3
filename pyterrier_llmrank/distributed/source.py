"""A Parquet input as one sequence of rows, read a stretch at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyterrier_llmrank.errors import InputError, MissingExtra

BATCH = 8192  # rows decoded at a time
EDGE = 1 << 20  # bytes of a file's ends that tell it from another


def parquet(what: str) -> tuple[Any, Any]:
    """The modules ``pyarrow`` and ``pyarrow.parquet``.

    Raises:
        MissingExtra: They are not installed; says that ``what`` needs them.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra(what, "pyarrow", "parquet") from error
    return pyarrow, pyarrow.parquet


@dataclass(frozen=True)
class Source:
    """A Parquet file, or a folder of them in the order of their names.

    Args:
        path: Where it is. Names that begin with a dot or an underscore are passed over.

    Raises:
        InputError: There is no such file, or no Parquet file in the folder.
    """

    path: str

    @cached_property
    def files(self) -> list[Path]:
        """The files, in the order of their rows."""
        root = Path(self.path)
        found = [root] if root.is_file() else sorted(f for f in root.rglob("*.parquet") if _shown(f.relative_to(root)))
        if not found:
            raise InputError(f"{self.path} is neither a Parquet file nor a folder that holds one")
        return found

    def fingerprint(self) -> str:
        """Tells this input from another, by the size, the head and the tail of each file.

        The tail of a Parquet file says where each column of each row group lies, and between which values.
        """
        seen = hashlib.sha256()
        for file in self.files:
            with file.open("rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                stream.seek(0)
                seen.update(size.to_bytes(8, "little") + stream.read(EDGE))
                stream.seek(max(0, size - EDGE))
                seen.update(stream.read())
        return seen.hexdigest()[:16]

    def query_starts(self) -> tuple[list[int], int]:
        """The first row of each query, and the number of rows.

        Raises:
            InputError: A file that is none of Parquet, or lacks the column qid; a row without a qid, or a query whose
                rows do not stand together.
        """
        starts: list[int] = []
        seen: set[str] = set()
        last, rows = None, 0
        for column in self._qids():
            change = np.append(column[:1] != last, column[1:] != column[:-1])
            for place in np.flatnonzero(change):
                if column[place] in seen:
                    raise InputError(
                        f"the rows of query {column[place]!r} do not stand together in {self.path}; sort it by qid"
                    )
                seen.add(column[place])
                starts.append(rows + int(place))
            last, rows = column[-1], rows + len(column)
        return starts, rows

    def _qids(self) -> Iterator[Any]:
        """The column qid as arrays of text, none of them empty."""
        pyarrow, pq = parquet("A run over Parquet")
        for file in self.files:
            with _readable(file):
                reader = pq.ParquetFile(file)
            if "qid" not in reader.schema_arrow.names:
                raise InputError(f"{file} has no column 'qid'; it has {', '.join(reader.schema_arrow.names)}")
            for batch in reader.iter_batches(BATCH, columns=["qid"]):
                if missing := batch.column(0).null_count:
                    raise InputError(f"{missing} rows of {file} have no qid; drop them or fill it in")
                if len(batch):
                    yield np.asarray(batch.column(0).cast(pyarrow.string()).to_pylist(), dtype=object)

    def frame(self, start: int, end: int) -> pd.DataFrame:
        """The rows from ``start`` up to ``end``, as ``pandas.read_parquet`` gives them, with an index from 0."""
        pyarrow, pq = parquet("A run over Parquet")
        tables = [self.schema.empty_table()]
        for file, group, first, rows in self._groups:
            if first < end and first + rows > start:
                reader = pq.ParquetFile(file)
                batches = list(_stretch(reader, group, max(0, start - first), min(rows, end - first)))
                tables.append(pyarrow.Table.from_batches(batches, reader.schema_arrow))
        frame: pd.DataFrame = pyarrow.concat_tables(tables, promote_options="default").to_pandas()
        return frame.reset_index(drop=list(frame.index.names) == [None])

    @cached_property
    def schema(self) -> Any:  # noqa: ANN401 - pyarrow's
        """The types of the columns."""
        return parquet("A run over Parquet")[1].read_schema(self.files[0])

    @cached_property
    def _groups(self) -> list[tuple[Path, int, int, int]]:
        """Of each row group, its file, its number there, its first row in the whole, and its number of rows."""
        _, pq = parquet("A run over Parquet")
        groups, first = [], 0
        for file in self.files:
            metadata = pq.read_metadata(file)
            for group in range(metadata.num_row_groups):
                rows = metadata.row_group(group).num_rows
                groups.append((file, group, first, rows))
                first += rows
        return groups


def _stretch(reader: Any, group: int, start: int, end: int) -> Iterator[Any]:  # noqa: ANN401 - pyarrow's
    """Record batches of one row group's rows from ``start`` up to ``end``; what lies behind is not decoded."""
    place = 0
    for batch in reader.iter_batches(BATCH, row_groups=[group]):
        low, high = max(0, start - place), min(len(batch), end - place)
        if low < high:
            yield batch.slice(low, high - low)
        place += len(batch)
        if place >= end:
            return


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Says which file is none of Parquet."""
    pyarrow, _ = parquet("A run over Parquet")
    try:
        yield
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{file} is not a Parquet file, or not all of one ({error})") from error


def _shown(path: Path) -> bool:
    """Whether no part of a path is hidden."""
    return not any(part.startswith((".", "_")) for part in path.parts)
