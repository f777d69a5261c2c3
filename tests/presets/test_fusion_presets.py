"""Presets of fusion in the decoder: what their checkpoints read, and in which strategy."""

from __future__ import annotations

import inspect

import pandas as pd
import pytest
from fake_models import HashModel
from tiny import END, byte_tokenizer, encoder_decoder

from pyterrier_llmrank import presets
from pyterrier_llmrank.core import Doc, Question
from pyterrier_llmrank.errors import ConfigurationError, LLMRankWarning
from pyterrier_llmrank.models import FusedModel, HFModel
from pyterrier_llmrank.presets.registry import REGISTRY
from pyterrier_llmrank.strategies import MultiwayTournament, OneShot, SlidingWindow

NAMES = ["lit5_distill", "lit5_score", "list_t5"]
each = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    return encoder_decoder(tmp_path_factory.mktemp("t5"))


def frame(n=12):
    rows = [["q1", "why the cat", f"d{i}", "the cat " * (i % 4) + str(i), -float(i)] for i in range(n)]
    return pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "score"])


def read(scorer, questions):
    """The texts that the encoder reads, first to last."""
    texts = []
    encoder = scorer.model._loaded.network.get_encoder()
    handle = encoder.embed_tokens.register_forward_hook(lambda _, args, out: texts.append(args[0]))
    scorer(questions)
    handle.remove()
    return byte_tokenizer().decode(texts[0].flatten()).split(END)


FORMATS = {
    "lit5_distill": [
        f"Search Query: a {{q}} Passage: [{i}] {t} Relevance Ranking: " for i, t in ((1, "one"), (2, "two"))
    ],
    "lit5_score": [f"question: a {{q}} context: {text}" for text in ("one", "two")],
    "list_t5": [
        f"Query: a {{q}}, Index: {i}, Context: {text}" for i, text in enumerate(["one"] * 3 + ["two"] * 2, start=1)
    ],
}


@pytest.mark.filterwarnings("ignore::pyterrier_llmrank.errors.LLMRankWarning")
@each
def test_each_passage_is_read_in_the_words_of_its_authors(t5, name):
    """The shortest first, where they are padded: as texts are all of a length here, in order."""
    scorer = getattr(presets, name)(t5, device="cpu", dtype="float32").scorer
    texts = read(scorer, [Question("a {q}", (Doc("1", "one"), Doc("2", "two")))])
    assert [text for text in texts if text] == FORMATS[name]


@pytest.mark.parametrize(
    ("name", "strategy", "tokens"),
    [
        ("lit5_distill", SlidingWindow(20, 10), 150),
        ("lit5_score", OneShot(), 150),
        ("list_t5", MultiwayTournament(5, keep=2), 256),
    ],
)
def test_strategies_and_lengths_are_those_of_the_authors(t5, name, strategy, tokens):
    rerank = getattr(presets, name)(t5)
    assert rerank.strategy == strategy and rerank.scorer.model == FusedModel(t5, max_length=tokens)
    assert getattr(presets, name)(t5, max_length=99).scorer.model.max_length == 99
    assert getattr(presets, name)(HFModel(t5)).scorer.model == FusedModel(t5)


def test_arguments_of_the_methods(t5):
    assert presets.list_t5(t5, keep=1).strategy == MultiwayTournament(5, keep=1)
    assert presets.list_t5(t5).top_k == 10 and presets.list_t5(t5, top_k=3).top_k == 3
    assert presets.lit5_score(t5).depth == 100 and presets.lit5_score(t5, depth=7).depth == 7
    assert presets.lit5_distill(t5, window=100).strategy == SlidingWindow(100, 50)
    for build in (presets.lit5_distill, presets.list_t5):
        assert build(t5).scorer.prompt.decode == "generate"
        assert build(t5, decode="constrained").scorer.prompt.decode == "constrained"


@each
def test_a_preset_ranks_a_frame(t5, name):
    rerank = getattr(presets, name)(t5, device="cpu", dtype="float32")
    if name == "lit5_score":
        out = rerank(frame())
    else:
        with pytest.warns(LLMRankWarning, match="could not be read"):  # a random T5 writes no order
            out = rerank(frame())
    assert sorted(out["docno"]) == sorted(frame()["docno"]) and out["score"].is_monotonic_decreasing
    assert len(rerank(frame(0))) == 0 and len(rerank(frame(1))) == 1


@each
def test_a_checkpoint_is_found_by_its_name_the_default_first(name):
    known = REGISTRY[name]
    assert all(presets.find(checkpoint) is known for checkpoint in known.checkpoints)
    assert inspect.signature(known.build).parameters["model"].default == known.checkpoints[0]
    assert known.published and known.source and known.family == "listwise"


@each
def test_a_model_that_runs_elsewhere_is_refused(name):
    with pytest.raises(ConfigurationError, match=r"looks inside a.* model"):
        getattr(presets, name)(HashModel())
