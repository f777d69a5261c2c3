"""Vectors that are kept: no document is encoded twice, and none is taken for another's."""

from __future__ import annotations

import pickle
import sqlite3

import numpy as np
import pytest
from vector_models import Hashed, Refusing

from pyterrier_llmrank.core import Doc, Usage
from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.middleware import StorageError, fingerprint
from pyterrier_llmrank.middleware.store import store
from pyterrier_llmrank.vectors import CandidateEncoder, Remembered, Stored, remembered
from pyterrier_llmrank.vectors.file import packed, unpacked

DOCS = [Doc(f"d{place}", f"text {place}") for place in range(6)]
KNOWN = Usage(cached_calls=1)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "vectors.sqlite")


def same(found, encoder, docs=DOCS):
    for one, doc in zip(found, docs, strict=True):
        np.testing.assert_array_equal(one.vectors, encoder.vectors(doc.text))


@pytest.mark.parametrize("m", [1, 3])
def test_what_is_kept_is_what_was_made_to_the_bit(m):
    vectors = Hashed(m=m).vectors("x")
    kept, of_text = unpacked(packed(vectors, b"t" * 16))
    np.testing.assert_array_equal(kept, vectors)
    assert kept.dtype == np.float32 and of_text == b"t" * 16


# In memory


def test_what_is_remembered_is_not_encoded_again():
    encoder = Hashed()
    source = Remembered(encoder)
    first, second = source(DOCS[:3]), source([DOCS[3], *DOCS[:3], DOCS[0]])
    assert encoder.asked == ["d0", "d1", "d2", "d3"]
    same(first, encoder, DOCS[:3])
    same(second, encoder, [DOCS[3], *DOCS[:3], DOCS[0]])
    assert [one.usage for one in second] == [Usage(calls=1, prompt_tokens=6)] + [KNOWN] * 4


def test_the_documents_asked_for_last_are_remembered():
    encoder = Hashed()
    source = Remembered(encoder, size=2)
    same(source(DOCS[:4]), encoder, DOCS[:4])  # more than it keeps
    source([DOCS[2]]), source([DOCS[0]]), source([DOCS[2]]), source([DOCS[3]])
    assert encoder.asked == ["d0", "d1", "d2", "d3", "d0", "d3"]


def test_another_text_of_a_docno_is_another_document_in_memory():
    encoder = Hashed()
    source = Remembered(encoder)
    same(source([Doc("d", "one"), Doc("d", "two")]), encoder, [Doc("d", "one"), Doc("d", "two")])


def test_a_bare_encoder_is_made_to_remember_and_others_are_as_they_are(path):
    encoder = Hashed()
    assert remembered(encoder) == Remembered(encoder)
    for kept in (Remembered(encoder, 5), Stored(encoder, path)):
        assert remembered(kept) is kept


def test_memory_holds_at_least_one_document():
    with pytest.raises(ConfigurationError, match="size must be at least 1 document, got 0"):
        Remembered(Hashed(), size=0)


# In a file


def test_an_encoder_that_refuses_is_never_asked_for_what_is_in_the_file(path):
    encoder = Hashed(m=2)
    fresh = Stored(encoder, path)(DOCS)
    again = Stored(Refusing(encoder), path)
    again.load()
    found = again(DOCS[::-1])
    same(fresh, encoder)
    same(found, encoder, DOCS[::-1])
    assert [one.usage for one in found] == [KNOWN] * 6 and sum(one.usage.calls for one in fresh) == 6


def test_only_what_is_missing_is_encoded_and_each_once(path):
    encoder = Hashed()
    source = Stored(encoder, path)
    source(DOCS[:2])
    found = source([DOCS[2], DOCS[0], DOCS[2]])
    assert encoder.asked == ["d0", "d1", "d2"]
    assert [one.usage.calls for one in found] == [1, 0, 0]


def test_vectors_of_another_encoder_are_never_taken(path):
    """In the same file, under the same docno, of the same width."""
    one, other = Hashed(16), Hashed(16, m=2)
    Stored(one, path)(DOCS)
    same(Stored(other, path)(DOCS), other)
    assert other.asked == [doc.docno for doc in DOCS]
    same(Stored(Refusing(one), path)(DOCS), one)


def test_what_changes_vectors_changes_the_key_and_where_they_run_does_not(tmp_path):
    encoder = CandidateEncoder("owner/encoder", max_length=512)
    told = fingerprint(encoder)
    for change in ({"pooling": "cls"}, {"max_length": 128}, {"prefix": "x"}, {"suffix": "x"}, {"revision": "v2"}):
        assert fingerprint(CandidateEncoder("owner/encoder", **{"max_length": 512, **change})) != told
    assert fingerprint(CandidateEncoder("owner/encoder", max_length=512, device="cpu", batch_tokens=7)) == told
    assert fingerprint(Stored(encoder, tmp_path / "x")) == told == fingerprint(Remembered(encoder))


def test_another_text_under_a_docno_is_told_before_anything_is_encoded(path):
    encoder = Hashed()
    source = Stored(encoder, path)
    source(DOCS[:1])
    with pytest.raises(InputError, match=r"document 'd0' has another text .*vectors.sqlite; give every collection"):
        source([DOCS[1], Doc("d0", "another")])
    assert encoder.asked == ["d0"]
    same(Stored(encoder, path, check_texts=False)([Doc("d0", "another")]), encoder, DOCS[:1])


def test_two_texts_under_a_docno_in_one_call_are_told(path):
    with pytest.raises(InputError, match="document 'd' has another text"):
        Stored(Hashed(), path)([Doc("d", "one"), Doc("d", "two")])


def test_a_document_without_its_text_is_looked_up_by_its_docno(path):
    encoder = Hashed()
    Stored(encoder, path)(DOCS)
    same(Stored(Refusing(encoder), path)([Doc(doc.docno, "") for doc in DOCS]), encoder)


def test_vectors_of_an_empty_text_are_not_kept(path):
    encoder = Hashed()
    source = Stored(encoder, path)
    same(source([Doc("d0", "")]), encoder, [Doc("d0", "")])
    same(source(DOCS[:1]), encoder, DOCS[:1])  # its text came later
    assert len(source._file) == 1


def test_filling_goes_on_where_it_was_broken_off(path):
    class Broken(Hashed):
        def __call__(self, docs):
            if "d4" in [doc.docno for doc in docs]:
                raise RuntimeError("the power went")
            return super().__call__(docs)

        def identity(self):
            return Hashed()

    broken, encoder = Broken(), Hashed()
    with pytest.raises(RuntimeError, match="power"):
        Stored(broken, path).fill(iter(DOCS), chunk=2)
    assert Stored(encoder, path).fill(iter(DOCS), chunk=2) == 2
    assert encoder.asked == ["d4", "d5"]
    same(Stored(Refusing(encoder), path)(DOCS), encoder)


def test_no_document_opens_nothing(tmp_path):
    assert Stored(Hashed(), tmp_path / "new.sqlite")([]) == [] and not (tmp_path / "new.sqlite").exists()


def test_a_cache_of_answers_is_no_file_of_vectors(path):
    store(path).put({b"k" * 16: "answer"})
    with pytest.raises(StorageError, match="is a database of something else"):
        Stored(Hashed(), path).load()
    check = sqlite3.connect(path)
    assert check.execute("SELECT count(*) FROM answers").fetchone() == (1,)
    check.close()


def test_an_encoder_that_does_not_tell_what_it_is_cannot_be_kept(path):
    class Plain:
        def __call__(self, docs):
            return []

    with pytest.raises(ConfigurationError, match="make it a frozen dataclass"):
        Stored(Plain(), path).load()


def test_sources_are_values_and_travel_without_their_memory(path):
    encoder = Hashed()
    for source in (Remembered(encoder), Stored(encoder, path)):
        source(DOCS)
        copy = pickle.loads(pickle.dumps(source))
        assert copy == source and "_known" not in vars(copy)
    assert repr(Remembered(CandidateEncoder("a/b"))) == "Remembered(CandidateEncoder('a/b'))"
    assert repr(Stored(CandidateEncoder("a/b"), "v.sqlite")) == "Stored(CandidateEncoder('a/b'), 'v.sqlite')"
