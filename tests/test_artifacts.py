"""Caches of answers and of vectors as PyTerrier artifacts."""

from __future__ import annotations

import io
import json
import tarfile
from importlib.metadata import EntryPoint

import pandas as pd
import pyterrier as pt
import pytest
from fakes import PerfectScorer
from lz4.frame import LZ4FrameFile
from vector_models import Hashed, Refusing

from pyterrier_llmrank import Doc, Rerank
from pyterrier_llmrank.artifacts import AnswerCache, VectorCache
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.middleware import Cached, StorageError
from pyterrier_llmrank.strategies import SlidingWindow


def frame(n=12):
    texts = [str((i * 7) % 11) for i in range(n)]
    return pd.DataFrame(
        {"qid": "q1", "query": "why", "docno": [f"d{i}" for i in range(n)], "text": texts, "rank": range(n)}
    )


@pytest.fixture
def cache(tmp_path):
    """With the answers of a run."""
    cache = AnswerCache(tmp_path / "answers")
    Rerank(SlidingWindow(4, 2), cache.cached(PerfectScorer()))(frame())
    return cache


def unpacked(cache, folder):
    """The folder that whoever fetches a package of it gets; packed while the cache is open."""
    path = cache.build_package(str(folder / "package.tar.lz4"), verbose=False)
    with LZ4FrameFile(path) as file, tarfile.open(fileobj=io.BytesIO(file.read())) as archive:
        archive.extractall(folder / "fetched", filter="data")
    return folder / "fetched"


@pytest.fixture
def fetched(cache, tmp_path):
    return unpacked(cache, tmp_path)


def test_it_caches_what_is_asked_through_it(cache):
    assert cache.cached(PerfectScorer(), chunk=3) == Cached(PerfectScorer(), cache.file, chunk=3)
    scorer = PerfectScorer()
    Rerank(SlidingWindow(4, 2), cache.cached(scorer))(frame())
    assert scorer.calls == 0 and len(cache) == 5


def test_a_package_holds_the_answers_and_what_they_are(fetched):
    """None of SQLite's working files, in which most of it may be."""
    assert sorted(path.name for path in fetched.iterdir()) == ["answers.sqlite", "pt_meta.json"]
    told = json.loads((fetched / "pt_meta.json").read_text())
    assert told == {"type": "answer_cache", "format": "llmrank", "package_hint": "pyterrier-llmrank"}


def test_a_package_answers_elsewhere(cache, fetched):
    scorer = PerfectScorer()
    here, there = (Rerank(SlidingWindow(4, 2), one.cached(scorer)) for one in (cache, AnswerCache.load(str(fetched))))
    pd.testing.assert_frame_equal(there(frame()), here(frame()))
    assert scorer.calls == 0


def test_pyterrier_finds_the_class_by_its_entry_point(fetched, monkeypatch):
    entry = EntryPoint("answer_cache.llmrank", "pyterrier_llmrank.artifacts:AnswerCache", "pyterrier.artifact")
    monkeypatch.setattr(pt.utils, "entry_points", lambda group: [entry] if group == entry.group else [])
    assert isinstance(pt.Artifact.load(str(fetched)), AnswerCache)


def test_a_folder_without_answers_is_an_empty_cache(tmp_path):
    assert len(AnswerCache(tmp_path / "new")) == 0


def test_what_cannot_be_cached_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="neither"):
        AnswerCache(tmp_path).cached("a name")


def test_a_file_where_the_folder_should_be_is_told(tmp_path):
    (tmp_path / "answers").write_text("x")
    with pytest.raises(StorageError, match="give another path"):
        len(AnswerCache(tmp_path / "answers"))


# Vectors


CORPUS = [{"docno": f"d{i}", "text": f"text {i}"} for i in range(7)]


def test_a_collection_is_indexed_once_and_its_vectors_are_there_elsewhere(tmp_path):
    encoder, cache = Hashed(m=2), VectorCache(tmp_path / "vectors")
    assert cache.index(encoder, iter(CORPUS[:3]), chunk=2) == 3
    assert cache.index(encoder, iter(CORPUS), chunk=2) == 4 and len(cache) == 7
    assert encoder.asked == [one["docno"] for one in CORPUS]
    folder = unpacked(cache, tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["pt_meta.json", "vectors.sqlite"]
    assert json.loads((folder / "pt_meta.json").read_text())["type"] == "vector_cache"
    elsewhere = VectorCache.load(str(folder)).vectors(Refusing(encoder))
    for one, doc in zip(elsewhere([Doc(**one) for one in CORPUS]), CORPUS, strict=True):
        assert (one.vectors == encoder.vectors(doc["text"])).all()


def test_pyterrier_finds_the_class_of_vectors_by_its_entry_point(tmp_path, monkeypatch):
    cache = VectorCache(tmp_path / "vectors")
    cache.index(Hashed(), CORPUS)
    entry = EntryPoint("vector_cache.llmrank", "pyterrier_llmrank.artifacts:VectorCache", "pyterrier.artifact")
    monkeypatch.setattr(pt.utils, "entry_points", lambda group: [entry] if group == entry.group else [])
    assert isinstance(pt.Artifact.load(str(unpacked(cache, tmp_path))), VectorCache)


def test_the_text_may_have_another_key(tmp_path):
    encoder, cache = Hashed(), VectorCache(tmp_path / "vectors")
    cache.index(encoder, [{"docno": "d", "body": "x"}], text_field="body")
    assert (cache.vectors(Refusing(encoder))([Doc("d", "x")])[0].vectors == encoder.vectors("x")).all()
