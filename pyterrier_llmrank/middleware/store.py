"""A file of values by key: one SQLite database, which several processes write and a kill leaves whole."""

from __future__ import annotations

import atexit
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, cast

from .errors import StorageError

Value = TypeVar("Value", str, bytes)
Kind = TypeVar("Kind", bound="Store[Any]")

FORMAT = 1  # of the file and of its keys; a cache of another format is refused
APPLICATION = 0x6C6C6D72  # marks the file as ours
ASKED = 500  # keys of one query; older builds of SQLite take no more than 999
WAIT = 60.0  # seconds to wait for another process's write

TABLE = "CREATE TABLE answers (key BLOB PRIMARY KEY, value TEXT NOT NULL)"
REMEDIES = {  # part of what SQLite says: what to do
    "locked": "another process has been writing to it for too long; end that one, or give each a cache of its own",
    "full": "free some space and run again: what could not be written is kept while this process lives",
    "disk I/O": "look after the disk and run again: what could not be written is kept while this process lives",
    "readonly": "make the file and its folder writable, or copy it to where they are",
    "unable to open": "make its folder writable, or give another path",
    "not a database": "the file is something else; give another path",
    "malformed": "the file is damaged; put it aside and start a new one",
}


class Store(Generic[Value]):
    """Values by key, texts or bytes, in a file. Keys are never overwritten: the first value stays.

    Written in WAL mode: readers and writers do not wait for one another, writers only for each other's last
    milliseconds; what was written survives the death of the process at any moment. Not for a network file system that
    several machines write to. What cannot be written is kept in memory and written with the next success.

    Args:
        path: A file; made, with its folder, if there is none.
        wait: Seconds to wait for another process's write.

    Raises:
        StorageError: The path is a folder, another kind of file, or a cache of another format; or it is locked, full,
            read-only or damaged. Says what to do.
    """

    application: ClassVar[int] = APPLICATION
    format: ClassVar[int] = FORMAT

    def __init__(self, path: str, wait: float = WAIT) -> None:
        self.path = path
        self.wait = wait
        self._lock = threading.RLock()
        self._unwritten: dict[bytes, Value] = {}
        self._connect()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Value]:
        """The values of those of the keys that have one."""
        with self._lock:
            try:
                self._catch_up()
                self._follow()
                found = {key: self._unwritten[key] for key in keys if key in self._unwritten} if self._unwritten else {}
                for start in range(0, len(keys), ASKED):
                    some = keys[start : start + ASKED]
                    found.update(self._db.execute(_query(len(some)), some))
                return found
            except (sqlite3.Error, OSError) as error:
                raise self._failure(error) from error

    def put(self, values: Mapping[bytes, Value]) -> None:
        """Adds values, all or none, together with those that could not be written before."""
        with self._lock:
            self._unwritten.update(values)
            if not self._unwritten:
                return
            with self._told():
                self._follow()
                with self._db:
                    self._db.execute("BEGIN IMMEDIATE")
                    self._db.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", self._unwritten.items())
            self._unwritten.clear()

    def copy(self, path: str) -> None:
        """Writes all that is in it to a new file, whoever writes meanwhile."""
        with self._lock, self._told():
            self._follow()
            self._db.execute("VACUUM INTO ?", (path,))

    def close(self) -> None:
        """Closes the file."""
        self._catch_up()
        self._db.close()

    def _catch_up(self) -> None:
        """Writes what could not be written, if now it can be."""
        if self._unwritten:
            with suppress(StorageError):
                self.put({})

    def __len__(self) -> int:
        """Number of values in the file."""
        with self._lock, self._told():
            self._follow()
            return int(self._db.execute("SELECT count(*) FROM answers").fetchone()[0])

    def _connect(self) -> None:
        """Opens the file, or makes it."""
        with self._told():
            path = Path(self.path)
            if path.is_dir():
                raise StorageError(f"the cache {self.path} is a folder; give a file, such as {path / 'answers.sqlite'}")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=self.wait, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise
            self._file = path.stat().st_ino

    def _prepare(self) -> None:
        """Checks what is in the file; a new one gets its table."""
        if self._pragma("application_id") != self.application:
            self._patiently("BEGIN IMMEDIATE")  # of several processes, one makes the table
            with self._db:
                if self._pragma("application_id") != self.application:
                    if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                        raise StorageError(f"the cache {self.path} is a database of something else; give another path")
                    self._db.execute(TABLE)
                    self._db.execute(f"PRAGMA application_id = {self.application}")
                    self._db.execute(f"PRAGMA user_version = {self.format}")
        found = self._pragma("user_version")
        if found != self.format:
            age = "an older" if found < self.format else "a newer"
            raise StorageError(
                f"the cache {self.path} is of {age} version of this package (format {found}, this one reads "
                f"{self.format}); it was left as it is: give another path, or use that version"
            )
        self._patiently("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")  # survives a kill, and a power cut but for the last writes

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    def _patiently(self, statement: str) -> None:
        """Executes what SQLite itself does not always wait for: to change the journal while others open the file."""
        until = time.monotonic() + self.wait
        while True:
            try:
                self._db.execute(statement)
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def _follow(self) -> None:
        """Opens the file again if it was deleted or replaced since."""
        try:
            if os.stat(self.path).st_ino == self._file:
                return
        except FileNotFoundError:
            pass
        self._db.close()
        self._connect()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Says what went wrong with the file, and what to do."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> StorageError:
        remedy = next((remedy for part, remedy in REMEDIES.items() if part in str(error)), "give another path")
        return StorageError(f"the cache {self.path} cannot be used ({error}): {remedy}")


@cache
def _query(n: int) -> str:
    """What asks for the values of ``n`` keys."""
    return f"SELECT key, value FROM answers WHERE key IN ({','.join('?' * n)})"


class Answers(Store[str]):
    """Answers as texts."""


_open: dict[tuple[type, str, int], Store[Any]] = {}  # a connection must not cross a fork
_opening = threading.Lock()


def store(path: str) -> Answers:
    """The store of answers in a file, by its absolute path; one for all of a process that ask for it."""
    return shared(Answers, path)


def shared(kind: type[Kind], path: str) -> Kind:
    """The store of a kind in a file, by its absolute path; one for all of a process that ask for it."""
    key = (kind, path, os.getpid())
    if (one := _open.get(key)) is not None:
        return cast(Kind, one)
    with _opening:
        if key not in _open:
            _open[key] = kind(path)
        return cast(Kind, _open[key])


@atexit.register
def _close_all() -> None:
    for (_, _, process), one in _open.items():
        if process == os.getpid():
            one.close()
