"""Caches as PyTerrier artifacts."""

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

from pyterrier_llmrank import Rerank
from pyterrier_llmrank.artifacts import AnswerCache
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


@pytest.fixture
def fetched(cache, tmp_path):
    """The folder that whoever fetches a package of it gets; packed while the cache is open."""
    path = cache.build_package(str(tmp_path / "package.tar.lz4"), verbose=False)
    with LZ4FrameFile(path) as file, tarfile.open(fileobj=io.BytesIO(file.read())) as archive:
        archive.extractall(tmp_path / "fetched", filter="data")
    return tmp_path / "fetched"


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
