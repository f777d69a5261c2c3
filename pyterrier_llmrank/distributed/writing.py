"""Files that are there whole or not at all, and a clear word where they cannot be written."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pyterrier_llmrank.middleware.errors import StorageError


def write_at_once(path: Path, folder: Path, fill: Callable[[Path], object]) -> None:
    """Writes a file in one step, as others see it.

    Args:
        path: Where it will be.
        folder: Where it is until it is complete; on the same file system.
        fill: Writes the content under the name that it is given.

    Raises:
        StorageError: It cannot be written.
    """
    temporary = folder / f"{path.name}.{uuid.uuid4().hex}.tmp"
    with writable(path):
        try:
            fill(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())  # the name must not outlive the content when the machine goes down
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Names the file that is being written, and what helps, when the file system refuses.

    Raises:
        FileExistsError: The file was to be new, and is there.
        StorageError: It cannot be written.
    """
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written ({error.strerror or error}); make room or mend that, and run the same again: "
            "what is done is kept"
        ) from error
