"""Caches as PyTerrier artifacts: to share answers and vectors, on the Hugging Face hub or anywhere else."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pyterrier as pt

from .core import Doc
from .middleware import Cached
from .middleware.store import Store, store
from .vectors import Candidates, Stored
from .vectors.file import vector_file


class _Cache(pt.Artifact):
    """A folder with one file of kept values."""

    ARTIFACT_FORMAT = "llmrank"
    ARTIFACT_PACKAGE_HINT = "pyterrier-llmrank"
    FILE: str

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(Path(path))

    @property
    def file(self) -> Path:
        """The file of values."""
        return Path(str(self.path)).absolute() / self.FILE

    def _store(self) -> Store[Any]:
        """What reads the file."""
        raise NotImplementedError

    def __len__(self) -> int:
        """Number of values.

        Raises:
            StorageError: The file cannot be read.
        """
        return len(self._store())

    def _package_files(self) -> Iterator[tuple[str, str | BytesIO]]:
        """The values as they are now, whoever writes meanwhile, in place of SQLite's working files."""
        with tempfile.TemporaryDirectory() as folder:
            copy = os.path.join(folder, self.file.name)
            self._store().copy(copy)
            working = {f"{self.file.name}{end}" for end in ("-wal", "-shm", "-journal")}
            for name, file in super()._package_files():
                if name not in working:
                    yield name, copy if name == self.file.name else file


class AnswerCache(_Cache):
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
    FILE = "answers.sqlite"

    def cached(self, inner: object, *, chunk: int | None = None) -> Cached:
        """A model or scorer that answers from here what was asked before, and keeps here what is new.

        Raises:
            ConfigurationError: See ``Cached``.
        """
        return Cached(inner, self.file, chunk=chunk)

    def _store(self) -> Store[str]:
        return store(str(self.file))


class VectorCache(_Cache):
    """A folder with the vectors of documents, which PyTerrier can pack, upload and fetch; one for each collection.

    ``VectorCache.from_hf("owner/vectors").vectors(encoder)`` gives the vectors that were made before, on a machine
    without the encoder (see ``Stored``).

    Args:
        path: A folder; made when the first vectors are kept.

    Examples:
        ::

            cache = VectorCache("vectors-msmarco")
            encoder = CandidateEncoder("jinaai/jina-embeddings-v2-base-en", max_length=512, trust_remote_code=True)
            cache.index(encoder, dataset.get_corpus_iter())
            reranker = presets.pe_rank(vectors=cache.vectors(encoder))
            ...
            cache.to_hf("owner/vectors-msmarco")
    """

    ARTIFACT_TYPE = "vector_cache"
    FILE = "vectors.sqlite"

    def vectors(self, encoder: Candidates, *, check_texts: bool = True) -> Stored:
        """An encoder whose vectors are looked up here, and kept here where they are new (see ``Stored``)."""
        return Stored(encoder, self.file, check_texts=check_texts)

    def index(
        self, encoder: Candidates, corpus: Iterable[dict[str, Any]], *, text_field: str = "text", chunk: int = 1_000
    ) -> int:
        """Makes the vectors of a collection, but for those that are there; may be broken off and run again.

        Args:
            encoder: Makes the vectors.
            corpus: Documents with ``docno`` and a text, as PyTerrier's indexers take them.
            text_field: The key of the text.
            chunk: Documents to encode at once; they are kept together.

        Returns:
            How many were made.
        """
        docs = (Doc(str(one["docno"]), str(one[text_field])) for one in corpus)
        return self.vectors(encoder).fill(docs, chunk)

    def _store(self) -> Store[bytes]:
        return vector_file(str(self.file))
