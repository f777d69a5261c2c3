"""The faces: their defaults, their parts, their arguments."""

from __future__ import annotations

from pathlib import Path

import pyterrier as pt
import pytest
from fakes import PerfectScorer

from pyterrier_llmrank import HFModel, ListPrompt, ListwiseLLM, Pointwise, PointwiseLLM, Prompted, SlidingWindow, YesNo
from pyterrier_llmrank.errors import ConfigurationError, ModelNotFound
from pyterrier_llmrank.methods import DEFAULT_MODEL
from pyterrier_llmrank.models import as_model

FACES = [PointwiseLLM, ListwiseLLM]
each_face = pytest.mark.parametrize("face", FACES)


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path)


def test_a_pointwise_face_asks_yes_or_no_about_each_document(folder):
    reranker = PointwiseLLM(folder)
    assert reranker.strategy == Pointwise()
    assert reranker.scorer == Prompted(YesNo(), HFModel(folder), 512)


def test_a_listwise_face_slides_a_window(folder):
    reranker = ListwiseLLM(folder, window=10, stride=5, passes=2)
    assert reranker.strategy == SlidingWindow(10, 5, 2)
    assert reranker.scorer == Prompted(ListPrompt(labels="numbers", decode="generate"), HFModel(folder), 256)


def test_first_token_decoding_asks_by_letters(folder):
    assert ListwiseLLM(folder, decode="first").scorer.prompt == ListPrompt(labels="letters", decode="first")


def test_first_token_decoding_takes_no_more_documents_than_letters(folder):
    with pytest.raises(ConfigurationError, match="at most 26"):
        ListwiseLLM(folder, decode="first", window=30)


@each_face
def test_default_is_built_and_inspected_without_a_network_or_a_model(face):
    columns = ["qid", "query", "docno", "text", "score", "rank"]
    assert pt.inspect.transformer_outputs(face(), columns)[-3:] == ["llmrank_score", "score", "rank"]
    assert face().model == DEFAULT_MODEL


@each_face
def test_repr_rebuilds_and_names_only_what_differs(face, folder):
    reranker = face(folder, depth=5, device="cpu", text_field="body")
    assert repr(reranker) == f"{face.__name__}({folder!r}, device='cpu', depth=5, text_field='body')"
    assert eval(repr(reranker), {face.__name__: face}) == reranker


@each_face
def test_every_argument_is_an_attribute(face, folder):
    told = {a.name: a.value for a in pt.inspect.transformer_attributes(face(folder, num_results=7))}
    assert told["model"] == folder and told["num_results"] == 7


@each_face
def test_a_fused_cutoff_keeps_the_model(face, folder):
    reranker = face(folder)
    fused = reranker.fuse_rank_cutoff(5)
    assert type(fused) is face and fused.num_results == 5 and fused.scorer is reranker.scorer


@each_face
def test_other_changes_build_it_anew(face, folder):
    again = pt.inspect.transformer_apply_attributes(face(folder), max_doc_tokens=9)
    assert again == face(folder, max_doc_tokens=9) and again.scorer.max_doc_tokens == 9


@each_face
@pytest.mark.parametrize("name", ["./nowhere", "a/b/c"])
def test_a_missing_folder_is_said_at_once(face, name):
    with pytest.raises(ModelNotFound, match=r"there is no folder|unknown to the hub"):
        face(name)


@each_face
def test_bad_windows_and_depths_are_said_at_once(face, folder):
    with pytest.raises(ConfigurationError, match="depth must be at least 1"):
        face(folder, depth=0)
    with pytest.raises(ConfigurationError, match="window of at least 2"):
        ListwiseLLM(folder, window=0)
    with pytest.raises(ConfigurationError, match="stride from 1 to 20"):
        ListwiseLLM(folder, stride=21)
    with pytest.raises(ConfigurationError, match="'generate' or 'first'"):
        ListwiseLLM(folder, decode="logits")


def test_options_belong_to_a_name(folder):
    assert as_model(folder, device="cpu", dtype=None) == HFModel(folder, device="cpu")
    assert as_model(Path(folder)) == HFModel(folder)
    model = HFModel(folder)
    assert as_model(model) is model
    with pytest.raises(ConfigurationError, match=r"device must be given to HFModel\(.*\) itself"):
        as_model(model, device="cpu")


@each_face
def test_what_is_no_model_is_refused(face):
    with pytest.raises(ConfigurationError, match="is not a model: pass one such as HFModel"):
        face(PerfectScorer())
