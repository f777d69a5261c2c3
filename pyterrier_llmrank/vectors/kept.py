"""Vectors that were made once: in the memory of a process, or in a file that outlives it."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from itertools import islice
from typing import Any

from pyterrier_llmrank.core import Doc, Usage, brief
from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.middleware import fingerprint

from .base import Candidates, DocVectors
from .file import VectorFile, packed, unpacked, vector_file

KNOWN = Usage(cached_calls=1)


@dataclass(frozen=True, repr=False)
class Remembered:
    """Keeps the vectors of the documents that were asked for last, in memory: overlapping windows encode nothing twice.

    Args:
        encoder: Makes the vectors.
        size: Documents to keep.

    Raises:
        ConfigurationError: ``size`` is below 1.
    """

    encoder: Candidates
    size: int = 16_384

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigurationError(f"size must be at least 1 document, got {self.size}")

    @cached_property
    def _known(self) -> OrderedDict[bytes, DocVectors]:
        return OrderedDict()

    def load(self) -> None:
        """Loads the encoder."""
        self.encoder.load()

    def identity(self) -> object:
        """What vectors depend on: the encoder."""
        return self.encoder

    def __call__(self, docs: Sequence[Doc]) -> list[DocVectors]:
        """The vectors of each document; a document is known by its docno and text."""
        keys = [_digest(doc.docno, doc.text) for doc in docs]
        new = {key: doc for key, doc in zip(keys, docs, strict=True) if key not in self._known}
        fresh = dict(zip(new, self.encoder(list(new.values())), strict=True)) if new else {}
        for key, one in fresh.items():
            self._known[key] = DocVectors(one.vectors.copy(), KNOWN)  # a view would hold all that was made with it
        found = []
        for key in keys:
            self._known.move_to_end(key)
            found.append(fresh.pop(key, self._known[key]))
        while len(self._known) > self.size:
            self._known.popitem(last=False)
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Its arguments: what it remembers stays with its process."""
        return {name: value for name, value in vars(self).items() if name in self.__dataclass_fields__}


@dataclass(frozen=True, repr=False)
class Stored:
    """Keeps the vectors of all documents in a file, by encoder and docno: each is computed once, by whatever process.

    What an encoder would make otherwise is part of the key (see ``fingerprint``): checkpoint, revision, pooling,
    lengths, dtype, not the device. So one file may hold vectors of several encoders, and none is taken for another's.
    A process that is killed loses what it was encoding, and nothing else. Nothing of the encoder is loaded while all
    documents that are asked for are in the file.

    A document with an empty text is looked up by its docno alone: where the file is complete, pipelines need no texts.

    Args:
        encoder: Makes the vectors of documents that are not there.
        path: A file; made if there is none.
        check_texts: Whether a document must have the text that its vectors were made of; False takes what is kept
            under its docno, whatever its text.

    Raises:
        StorageError: On first use: the file cannot be read or written, or is none of ours.
        ConfigurationError: On first use: the encoder does not tell what its vectors depend on.

    Examples:
        ::

            vectors = Stored(CandidateEncoder("owner/encoder"), "vectors.sqlite")
            vectors.fill(Doc(one["docno"], one["text"]) for one in dataset.get_corpus_iter())
            reranker = presets.pe_rank(vectors=vectors)
    """

    encoder: Candidates
    path: str | os.PathLike[str]
    check_texts: bool = field(default=True, kw_only=True)

    __repr__ = brief

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", os.path.expanduser(os.fspath(self.path)))

    @property
    def _file(self) -> VectorFile:
        return vector_file(os.path.abspath(self.path))

    @cached_property
    def _told(self) -> str:
        return fingerprint(self.encoder)

    def load(self) -> None:
        """Opens the file; the encoder is loaded when there is something new to encode."""
        self._file  # noqa: B018 - opens it
        self._told  # noqa: B018 - refuses what cannot be kept

    def identity(self) -> object:
        """What vectors depend on: the encoder."""
        return self.encoder

    def __call__(self, docs: Sequence[Doc]) -> list[DocVectors]:
        """The vectors of each document: from the file, or made and put there.

        Raises:
            InputError: The file, or the call itself, has another text under the docno of a document.
        """
        if not docs:
            return []
        keys = [_digest(self._told, doc.docno) for doc in docs]
        known = {key: unpacked(value) for key, value in self._file.get(keys).items()}
        new: dict[bytes, Doc] = {}
        for key, doc in zip(keys, docs, strict=True):
            of_text = known[key][1] if key in known else _digest(new.setdefault(key, doc).text)
            if self.check_texts and doc.text and of_text != _digest(doc.text):
                raise self._another_text(doc)
        fresh = dict(zip(new, self.encoder(list(new.values())), strict=True)) if new else {}
        texts = {key: doc.text for key, doc in new.items() if doc.text}
        self._file.put({key: packed(fresh[key].vectors, _digest(text)) for key, text in texts.items()})
        known |= {key: (one.vectors, b"") for key, one in fresh.items()}
        return [fresh.pop(key, DocVectors(known[key][0], KNOWN)) for key in keys]

    def fill(self, docs: Iterable[Doc], chunk: int = 1_000) -> int:
        """Makes and keeps the vectors of documents that are not there yet; may be broken off and run again.

        Args:
            docs: Any number of documents, with their texts.
            chunk: Documents to encode at once; they are kept together.

        Returns:
            How many are in the file now that were not there before.
        """
        before, turn = len(self._file), iter(docs)
        while some := list(islice(turn, chunk)):
            self(some)
        return len(self._file) - before

    def _another_text(self, doc: Doc) -> InputError:
        return InputError(
            f"document {doc.docno!r} has another text than the one whose vectors are kept in {self.path}; give every "
            "collection a file of its own, or say check_texts=False to take what is kept under a docno"
        )


def _digest(*parts: str) -> bytes:
    """The same only for the same: the lengths of the parts come first, so that they cannot run together alike."""
    told = f"{','.join(str(len(part)) for part in parts)}\n{''.join(parts)}"
    return blake2b(told.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def remembered(source: Candidates) -> Candidates:
    """A source that makes no vector twice in a row: one that keeps what it made, or an encoder that is made to."""
    return source if isinstance(source, Remembered | Stored) else Remembered(source)
