"""Caches as PyTerrier artifacts: to share the answers of a run, on the Hugging Face hub or anywhere else."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pyterrier as pt

from .middleware import Cached
from .middleware.store import store


class AnswerCache(pt.Artifact):
    """A folder with a cache of answers, which PyTerrier can pack, upload and fetch.

    ``AnswerCache.from_hf("owner/answers").cached(scorer)`` answers what was asked when it was made, on a machine
    without the model, given the same scorer and the same version of this package (see ``Cached``).

    Args:
        path: A folder; made when the first answer is kept.

    Examples:
        ::

            cache = AnswerCache("answers-dl19")
            reranker = Rerank(SlidingWindow(20, 10), cache.cached(Prompted(ListPrompt(), model)))
            ...
            cache.to_hf("owner/answers-dl19")
    """

    ARTIFACT_TYPE = "answer_cache"
    ARTIFACT_FORMAT = "llmrank"
    ARTIFACT_PACKAGE_HINT = "pyterrier-llmrank"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(Path(path))

    @property
    def file(self) -> Path:
        """The file of answers."""
        return Path(str(self.path)).absolute() / "answers.sqlite"

    def cached(self, inner: object, *, chunk: int | None = None) -> Cached:
        """A model or scorer that answers from here what was asked before, and keeps here what is new.

        Raises:
            ConfigurationError: See ``Cached``.
        """
        return Cached(inner, self.file, chunk=chunk)

    def __len__(self) -> int:
        """Number of answers.

        Raises:
            StorageError: The file cannot be read.
        """
        return len(store(str(self.file)))

    def _package_files(self) -> Iterator[tuple[str, str | BytesIO]]:
        """The answers as they are now, whoever writes meanwhile, in place of SQLite's working files."""
        with tempfile.TemporaryDirectory() as folder:
            copy = os.path.join(folder, self.file.name)
            store(str(self.file)).copy(copy)
            working = {f"{self.file.name}{end}" for end in ("-wal", "-shm", "-journal")}
            for name, file in super()._package_files():
                if name not in working:
                    yield name, copy if name == self.file.name else file
