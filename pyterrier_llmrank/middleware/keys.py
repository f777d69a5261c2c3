"""What an answer is kept by: an item of a call as bytes, the same only for the same."""

from __future__ import annotations

from hashlib import blake2b
from itertools import chain
from typing import Any

from pyterrier_llmrank.core import Doc, Prompt, Question

KEPT = 1 << 25  # characters of documents whose digests are kept, at most


class Spelling(dict[Doc, bytes]):
    """Spells items, and knows the digests of documents that it has seen: those of a list come in many groups.

    Holds documents of at most ``KEPT`` characters, and begins anew beyond. Threads may share it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._characters = 0

    def __missing__(self, doc: Doc) -> bytes:
        """The digest of a document that has no further columns, (16,) bytes."""
        if self._characters > KEPT:
            self.clear()
            self._characters = 0
        self._characters += len(doc.docno) + len(doc.text)
        self[doc] = digest = _digest(doc)
        return digest

    def __call__(self, item: tuple[Any, ...]) -> bytes:
        """A question, or a prompt and what goes with it, as bytes: the same in any version of Python.

        The lengths of the texts come first, so that they cannot run together alike. Documents of a question are told
        by their digests, which come last.
        """
        asked: Question | Prompt = item[0]
        more = ascii(item[1:])
        if isinstance(asked, Question):
            query, docs, qid = asked
            # equal values of further columns may be of different types
            digests = [_digest(doc) if doc[2] else self[doc] for doc in docs]
            return _bytes(f"{len(query)},{len(qid)},{len(docs)}\n{query}{qid}{more}") + b"".join(digests)
        texts = [*chain.from_iterable(asked.messages), asked.answer, str(asked.raw)]
        sizes = ",".join([str(len(text)) for text in texts])
        return _bytes("".join([sizes, "\n", *texts, more]))


def _digest(doc: Doc) -> bytes:
    """Of all that a scorer may read of a document."""
    docno, text, fields = doc
    told = f"{len(docno)},{len(text)}\n{docno}{text}{ascii(fields) if fields else ''}"
    return blake2b(_bytes(told), digest_size=16).digest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
