"""An index is there whole or not at all, and goes on where it was stopped."""

from __future__ import annotations

import numpy as np
import pytest

from pyterrier_llmrank.dense.building import build
from pyterrier_llmrank.dense.indexed import Opened, flex_index, metadata
from pyterrier_llmrank.errors import ConfigurationError, InputError

pytest.importorskip("pyterrier_dr")
DOCS = [{"docno": f"d{i * 7 % 23}", "text": f"text {i}"} for i in range(23)]


class Encode:
    """Vectors that tell the text; breaks off at a text, and keeps what it was asked."""

    def __init__(self, until=None):
        self.until, self.asked = until, []

    def __call__(self, texts):
        if self.until in texts:
            raise KeyboardInterrupt
        self.asked += texts
        numbers = [float(text.split()[-1]) for text in texts]
        return np.array([[number, -number] for number in numbers], dtype=np.float32)


def made(path, docs=DOCS, encode=None, encoder="e", chunk=5):
    return build(path, docs, encode or Encode(), encoder=encoder, text_field="text", chunk=chunk)


def content(path):
    """Docno and vector of every document of an index."""
    return [(one["docno"], one["doc_vec"].tolist()) for one in flex_index(path).get_corpus_iter()]


WHOLE = [(doc["docno"], [float(i), -float(i)]) for i, doc in enumerate(DOCS)]


def test_an_index_holds_its_documents_in_order(tmp_path):
    assert made(tmp_path / "one") == 23
    assert content(tmp_path / "one") == WHOLE
    assert metadata(tmp_path / "one")["llmrank_encoder"] == "e"
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_stopped_it_is_no_index_and_goes_on_without_encoding_again(tmp_path):
    path, second = tmp_path / "one", Encode()
    with pytest.raises(KeyboardInterrupt):
        made(path, encode=Encode(until="text 12"))
    with pytest.raises(ConfigurationError, match=r"there is no index .* one was begun, and the same call goes on"):
        metadata(path)
    with (tmp_path / "one.part" / "vecs.f4").open("ab") as file:
        file.write(b"half a vec")  # what a kill may leave behind
    assert made(path, encode=second) == 13 and second.asked == [doc["text"] for doc in DOCS[10:]]
    assert content(path) == WHOLE


def test_stopped_before_the_last_step_nothing_is_encoded_again(tmp_path, monkeypatch):
    import npids

    with monkeypatch.context() as broken:
        broken.setattr(npids.Lookup, "build", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            made(tmp_path / "one")
    assert made(tmp_path / "one", encode=Encode(until="text 0")) == 0
    assert content(tmp_path / "one") == WHOLE


def test_another_encoder_begins_anew_and_other_documents_are_refused(tmp_path):
    path = tmp_path / "one"
    with pytest.raises(KeyboardInterrupt):
        made(path, encode=Encode(until="text 12"))
    with pytest.raises(InputError, match=r"begun .* with other documents than the first 10 of these; delete it"):
        made(path, docs=DOCS[1:])
    assert made(path, encoder="another") == 23


def test_an_old_index_is_replaced_only_by_a_whole_one(tmp_path):
    path = tmp_path / "one"
    made(path, docs=DOCS[:3])
    with pytest.raises(KeyboardInterrupt):
        made(path, encode=Encode(until="text 12"))
    assert content(path) == WHOLE[:3]
    made(path)
    assert content(path) == WHOLE and [one.name for one in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize(
    ("doc", "told"),
    [
        ({"text": "a 1"}, r"document 3 of the collection has no docno, but \['text'\]"),
        ({"docno": "x"}, r"document 'x' has no text in 'text' \(None\); it has \['docno'\]; name another"),
        ({"docno": "x", "text": float("nan")}, r"'x' has no text in 'text' \(nan\)"),
        ({"docno": "d7", "text": "a 1"}, "document 'd7' is in the collection twice"),
        ({"docno": "ä", "text": "a 1"}, "docno 'ä' is not of ASCII characters"),
    ],
)
def test_a_document_that_cannot_be_indexed_is_named(tmp_path, doc, told):
    with pytest.raises(InputError, match=told):
        made(tmp_path / "one", docs=[*DOCS[:3], doc])
    assert not (tmp_path / "one").exists()


def test_no_documents_are_no_index(tmp_path):
    with pytest.raises(InputError, match="there are no documents to index"):
        made(tmp_path / "one", docs=[])
    assert not [*tmp_path.iterdir()]


def test_a_folder_of_something_else_is_not_taken_for_an_unfinished_index(tmp_path):
    (tmp_path / "one.part").mkdir()
    (tmp_path / "one.part" / "state.json").write_text('{"who": "knows"}')
    with pytest.raises(ConfigurationError, match=r"one\.part was not begun by DistilledRetriever"):
        made(tmp_path / "one")


def test_an_index_that_was_cut_off_is_refused(tmp_path):
    made(tmp_path / "one")
    with (tmp_path / "one" / "vecs.f4").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(ConfigurationError, match="has 100 bytes where 184 belong; build the index again"):
        metadata(tmp_path / "one")


@pytest.mark.parametrize("names", [[f"p{i:03d}" for i in range(1, 24)], [str(i) for i in range(500, 523)]])
def test_every_docno_is_found_again_whatever_its_form(tmp_path, names):
    docs = [{"docno": name, "text": f"t {i}"} for i, name in enumerate(names)]
    made(tmp_path / "one", docs=docs)
    opened = Opened(flex_index(tmp_path / "one"))
    wanted = [*reversed(names), names[-1]]
    np.testing.assert_array_equal(opened.vectors(wanted)[:, 0], [*reversed(range(len(names))), len(names) - 1])
    with pytest.raises(InputError, match=r"1 of 2 documents are not in the index .* the first is 'p024'"):
        opened.vectors([names[0], "p024"])
