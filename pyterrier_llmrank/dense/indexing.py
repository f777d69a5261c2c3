"""``Indexing``: what a dense retriever does with its index."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyterrier as pt

from pyterrier_llmrank.described import Described
from pyterrier_llmrank.errors import ConfigurationError

from .building import META, build
from .encoder import DenseEncoder
from .indexed import Opened, check_made_by, flex_index, metadata

if TYPE_CHECKING:
    from pyterrier_dr import FlexIndex
    from typing_extensions import Self


class Indexing(Described, pt.Indexer):
    """Makes an index of pyterrier_dr by an encoder, and looks at it before it is used."""

    _index: str | FlexIndex | None
    _kept: dict[str, Any]  # what is opened and loaded, shared with clones
    reuse_index: bool
    text_field: str

    @property
    def encoder(self) -> DenseEncoder:
        """What makes the vectors."""
        raise NotImplementedError

    @property
    def path(self) -> Path:
        """The folder of the index.

        Raises:
            ConfigurationError: None was given.
        """
        if self._index is None:
            raise ConfigurationError("this retriever has no index; give it the folder of one: index=path")
        return Path(os.path.expanduser(getattr(self._index, "index_path", self._index)))

    def flex(self) -> FlexIndex:
        """The index of pyterrier_dr, after a look at it; for its vectors, graphs and other searchers.

        Raises:
            ConfigurationError: There is no whole index, or other weights made it.
            MissingExtra: pyterrier_dr is not installed.
        """
        return self.opened().index

    def opened(self) -> Opened:
        """The index in use, looked at again when it was written again.

        Raises:
            ConfigurationError: There is no whole index, or other weights made it.
            MissingExtra: pyterrier_dr is not installed.
        """
        path = self.path
        meta, stamp = metadata(path), (path / META).stat().st_mtime_ns
        key = f"index {path} {stamp} {self.reuse_index}"
        if key not in self._kept:
            if not self.reuse_index:
                check_made_by(path, meta, self.encoder.fingerprint)
            kept = self._index if not isinstance(self._index, str | None) else flex_index(path)
            self._kept[key] = Opened(kept)
        found: Opened = self._kept[key]
        return found

    def index(  # type: ignore[override]  # PyTerrier calls it with the documents alone
        self, corpus: Iterable[dict[str, Any]], *, overwrite: bool = False, chunk: int = 4096, verbose: bool = False
    ) -> Self:
        """Encodes a collection and puts its vectors where the index is to be; stopped, the same call goes on.

        An index is there only when it is whole: until then it grows beside its place (``….part``), by ``chunk``
        documents that are encoded together.

        Args:
            corpus: Documents with ``docno`` and a text, as PyTerrier's indexers take them; the same again, in the same
                order, to go on with what was stopped.
            overwrite: Whether an index that is there is replaced.
            chunk: Documents to encode at once.
            verbose: Whether to show a progress bar.

        Returns:
            Itself.

        Raises:
            ConfigurationError: There is an index already, or something else.
            InputError: A document has no docno or text, or the docno of another; or there are none.
        """
        path = self.path
        if path.exists() and not overwrite:
            raise ConfigurationError(f"there is something at {path} already; say overwrite=True to replace it")
        if chunk < 1:
            raise ConfigurationError(f"an index is made of at least 1 document at a time, got chunk={chunk}")
        flex_index(path)  # says what is missing before hours of encoding
        docs = pt.tqdm(corpus, desc="indexing", unit="d") if verbose else corpus
        encoder = self.encoder
        made_by = encoder.fingerprint()
        build(path, docs, encoder.encode_docs, encoder=made_by, text_field=self.text_field, chunk=chunk)
        return self

    def index_inputs(self) -> list[list[str]]:
        """Keys of the documents that ``index`` reads."""
        return [["docno", self.text_field]]
