"""Builds a ``FlexIndex`` chunk by chunk beside its place: goes on where it was stopped, and is moved there whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pyterrier_llmrank.errors import ConfigurationError, InputError

from .encoding import Vectors

VECTORS, DOCNOS, META, STATE, NAMES = "vecs.f4", "docnos.npids", "pt_meta.json", "state.json", "docnos.jsonl"
MADE_BY = "llmrank_encoder"  # in an index's metadata: the identity of what made its vectors


class Made(NamedTuple):
    """A document that is to be encoded."""

    docno: str
    text: str


@dataclass
class State:
    """What of an unfinished index is on disk for good.

    Attributes:
        encoder: Identity of what makes the vectors.
        docs: Documents.
        width: Of a vector; 0 before there is one.
        names_end: Bytes of the file of docnos.
        read: Digest of docnos and texts that were read.
    """

    encoder: str
    docs: int = 0
    width: int = 0
    names_end: int = 0
    read: str = ""


def build(
    path: Path,
    corpus: Iterable[dict[str, Any]],
    encode: Callable[[list[str]], Vectors],
    *,
    encoder: str,
    text_field: str,
    chunk: int,
) -> int:
    """Makes an index of a collection, and goes on where an earlier call with the same encoder was stopped.

    Args:
        path: Where it goes; replaced if there is one.
        corpus: Documents with ``docno`` and a text.
        encode: Texts to vectors, (texts, width).
        encoder: Identity of what encodes.
        text_field: Key of the text.
        chunk: Documents to encode and to put on disk at once.

    Returns:
        The documents that were encoded now.

    Raises:
        InputError: There are no documents, one has no docno or text or a docno of another, or the first ones are
            others than when it was stopped.
    """
    part = path.with_name(f"{path.name}.part")
    state = _state(part, encoder)
    seen, digest = set[str](), blake2b(digest_size=16)
    docs = _checked(corpus, text_field, seen, digest)
    before = state.docs
    _skip(docs, state, digest, part)
    if not state.docs:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    with (part / VECTORS).open("ab") as vectors, (part / NAMES).open("ab") as names:
        vectors.truncate(4 * state.docs * state.width)
        names.truncate(state.names_end)
        while some := list(islice(docs, chunk)):
            made = encode([doc.text for doc in some])
            vectors.write(made.tobytes())
            names.write("".join(f"{json.dumps(doc.docno)}\n" for doc in some).encode())
            state.docs, state.width, state.read = state.docs + len(some), made.shape[1], digest.hexdigest()
            for file in (vectors, names):
                file.flush()
                os.fsync(file.fileno())
            state.names_end = names.tell()
            _write(part / STATE, asdict(state))
    if not state.docs:
        shutil.rmtree(part)
        raise InputError(f"there are no documents to index at {path}")
    _finish(part, path, state)
    return state.docs - before


def _state(part: Path, encoder: str) -> State:
    """How far an index came; a new one where there is none, or where another encoder made it."""
    try:
        state = State(**json.loads((part / STATE).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return State(encoder)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{part} was not begun by DistilledRetriever ({error}); delete it, or choose another index"
        ) from error
    return state if state.encoder == encoder else State(encoder)


def _checked(corpus: Iterable[dict[str, Any]], text_field: str, seen: set[str], digest: Any) -> Iterator[Made]:  # noqa: ANN401
    """Documents that can be indexed, one after the other.

    Raises:
        InputError: One cannot.
    """
    for place, doc in enumerate(corpus):
        docno, text = doc.get("docno"), doc.get(text_field)
        if docno is None or not str(docno):
            raise InputError(f"document {place} of the collection has no docno, but {sorted(doc)}")
        if not isinstance(text, str):
            raise InputError(
                f"document {docno!r} has no text in {text_field!r} ({text!r:.40}); it has {sorted(doc)}; name another "
                "with text_field=, or join fields with pt.apply.text(…) before"
            )
        docno = str(docno)
        if docno in seen:
            raise InputError(
                f"document {docno!r} is in the collection twice; drop one, or make passages' docnos distinct (…%p0)"
            )
        if not docno.isascii():
            raise InputError(f"docno {docno!r} is not of ASCII characters, which pyterrier_dr's index needs; rename it")
        seen.add(docno)
        digest.update(f"{len(docno)} {len(text)} {docno}{text}".encode(errors="surrogatepass"))
        yield Made(docno, text)


def _skip(docs: Iterator[Made], state: State, digest: Any, part: Path) -> None:  # noqa: ANN401
    """Passes over documents that are on disk.

    Raises:
        InputError: They were others.
    """
    for _ in islice(docs, state.docs):
        pass
    if state.docs and digest.hexdigest() != state.read:
        raise InputError(
            f"an index was begun at {part} with other documents than the first {state.docs} of these; delete it, or "
            "choose another index"
        )


def _finish(part: Path, path: Path, state: State) -> None:
    """From an unfinished index with all documents to one in its place."""
    from npids import Lookup

    (part / DOCNOS).unlink(missing_ok=True)
    with (part / NAMES).open(encoding="utf-8") as names:
        Lookup.build(map(json.loads, names), part / DOCNOS, return_self=False)
    meta = {"type": "dense_index", "format": "flex", "package_hint": "pyterrier-dr", MADE_BY: state.encoder}
    _write(part / META, {**meta, "vec_size": state.width, "doc_count": state.docs})
    old = path.with_name(f"{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    part.rename(path)
    for name in (NAMES, STATE):  # needed until here: a kill must not cost what was encoded
        (path / name).unlink()
    shutil.rmtree(old, ignore_errors=True)


def _write(path: Path, content: dict[str, Any]) -> None:
    """Writes a file whole, or not at all."""
    half = path.with_name(f"{path.name}.half")
    half.write_text(json.dumps(content), encoding="utf-8")
    half.replace(path)
