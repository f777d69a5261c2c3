"""One JSON object a line on disk: appended to as work goes on, whole after a crash."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from pyterrier_llmrank.errors import InputError


class Lines:
    """A file whose first line holds options, and every other line one object; subclasses take down what they need.

    Args:
        path: Of the file. A last line that a crash cut off is not read, and written over.

    Attributes:
        options: How the lines were made; empty where nobody said.
        end: Bytes up to the end of the last whole line.

    Raises:
        InputError: There is no such file, or it is not of this kind.
    """

    what: ClassVar[str] = "lines"  # it holds
    written_by: ClassVar[str] = ""  # functions that make it

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.options: dict[str, Any] = {}
        self.end = 0
        if not self.path.is_file():
            raise InputError(f"there are no {self.what} at {self.path}; write them with {self.written_by}")
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read(line)

    def _note(self, row: dict[str, Any], start: int) -> None:
        """Takes down a row, whose line starts at this byte."""
        raise NotImplementedError

    def _append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Writes rows after the last whole line, each before the next is asked for."""
        with self.path.open("r+b") as file:
            file.truncate(self.end)
            file.seek(self.end)
            if self.end == 0:
                self._write(file, {"options": self.options})
            for row in rows:
                self._write(file, row)
            os.fsync(file.fileno())

    def _write(self, file: BinaryIO, row: dict[str, Any]) -> None:
        """Puts a row to the file and takes it down."""
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        file.write(line)
        file.flush()
        self._read(line)

    def _read(self, line: bytes) -> None:
        """Takes down a whole line.

        Raises:
            InputError: It is of another kind.
        """
        try:
            row = json.loads(line)
            if self.end == 0:
                self.options = row["options"]
            else:
                self._note(row, self.end)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self.path} holds something else than {self.what} at byte {self.end}") from error
        self.end += len(line)


def touched(path: str | Path) -> Path:
    """The path of a file, which is made with its folder if it is not there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path
