"""Who works on which shard, told by files alone: on any file system that creates a file exclusively.

A claim is the file ``<shard>.claim-<turn>``. Its owner touches it; once it is not touched any more, or its owner is
seen to be dead, another may create the claim of the next turn, which only one can. Nothing is ever renamed, so that no
two can take one claim over. A claim saves work and is not a lock: two workers on one shard would write the same rows.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .writing import writable

ME = uuid.uuid4().hex  # tells this process from an earlier one of the same number


def claim(stem: Path, stale_after: float) -> Path | None:
    """Claims the shard with the files ``<stem>.*``; None where another works on it.

    Args:
        stem: The path of the shard's files without what follows the dot.
        stale_after: Seconds after which a claim that nobody touched is its owner's no more.

    Raises:
        StorageError: No file can be written there.
    """
    turn = 0
    while True:
        path = Path(f"{stem}.claim-{turn}")
        try:
            with writable(path):
                _create(path, "\t".join([_machine(), str(os.getpid()), ME]))
        except FileExistsError:
            if not abandoned(path, stale_after):
                return None
            turn += 1
        else:
            return path


def release(path: Path) -> None:
    """Gives a claim up, and those of earlier turns with it."""
    stem, turn = str(path).rsplit("-", 1)
    for earlier in range(int(turn) + 1):
        Path(f"{stem}-{earlier}").unlink(missing_ok=True)


@contextmanager
def kept(path: Path, stale_after: float) -> Iterator[None]:
    """Touches a claim from a thread, several times before it would count as abandoned; releases it at the end."""
    over = threading.Event()

    def touch() -> None:
        while not over.wait(stale_after / 5):
            try:
                os.utime(path)
            except FileNotFoundError:
                return
            except OSError:  # a shared file system's bad moment; the next touch is soon enough
                continue

    thread = threading.Thread(target=touch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        release(path)


def abandoned(path: Path, stale_after: float) -> bool:
    """Whether a claim's owner is dead, as far as can be seen from here, or did not touch it for so many seconds."""
    try:
        owner, touched = path.read_text(encoding="utf-8"), path.stat().st_mtime
    except FileNotFoundError:
        return False
    return _dead(owner) or now(path.parent) - touched > stale_after


def now(folder: Path) -> float:
    """The time by the clock of the file system, which all workers share, in seconds.

    Raises:
        StorageError: Nothing can be written there.
    """
    clock = folder / "clock"
    with writable(clock):
        clock.touch()
    return clock.stat().st_mtime


def _create(path: Path, owner: str) -> None:
    """Creates a claim, which fails where it exists; one that cannot be filled does not stay."""
    with path.open("x", encoding="utf-8") as file:
        try:
            file.write(owner)
            file.flush()
        except OSError:
            path.unlink()
            raise


def _dead(owner: str) -> bool:
    """Whether it is certain that the process that wrote this claim is gone."""
    machine, _, process = owner.partition("\t")
    number, _, token = process.partition("\t")
    if os.name != "posix" or machine != _machine() or not number.isdigit() or not token:
        return False
    if int(number) == os.getpid():
        return token != ME
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _machine() -> str:
    """Where process numbers mean the same: a host, and on Linux the container's own numbering."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{socket.gethostname()} {space}"
