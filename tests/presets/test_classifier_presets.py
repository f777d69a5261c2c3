"""Presets with a classification head: what they read, and where they read the score."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
import transformers
from fake_models import HashModel
from tiny import BOS, byte_tokenizer, saved, settings

from pyterrier_llmrank import presets
from pyterrier_llmrank.core import Doc, Question
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.scorers import CrossEncoder
from pyterrier_llmrank.strategies import Pointwise

QUERY, TEXT = "why the cat", "Title of it the cat on a mat"


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A random Llama with one score, whose tokenizer begins each text as Llama's does."""
    tokenizer = byte_tokenizer(post=f"{BOS} $A")
    config = transformers.LlamaConfig(**settings(tokenizer, num_labels=1))
    return saved(tmp_path_factory.mktemp("llama"), tokenizer, config, transformers.AutoModelForSequenceClassification)


def official(folder, end):
    """The score of the token that an input ends with."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    parts = tokenizer(f"query: {QUERY}", f"document: {TEXT}")["input_ids"] + end
    with torch.no_grad():
        hidden = network.model(input_ids=torch.tensor([parts])).last_hidden_state
        return network.score(hidden)[0, -1, 0].item()


@pytest.mark.parametrize(("closed", "end"), [(True, [0]), (False, [])])
def test_rank_llama_reads_the_last_token_in_any_batch(llama, closed, end):
    rerank = presets.rank_llama(llama, closed=closed, device="cpu", dtype="float32")
    docs = tuple(Doc(f"d{i}", TEXT if i == 1 else "cat " * (3 * i)) for i in range(4))
    together = rerank.scorer([Question(QUERY, docs)])[0].scores
    alone = rerank.scorer([Question(QUERY, docs[1:2])])[0].scores
    assert together[1] == pytest.approx(alone[0], abs=1e-5) == pytest.approx(official(llama, end), abs=1e-4)


def test_the_lengths_are_those_of_the_authors(llama):
    passage, doc = presets.rank_llama(llama).scorer, presets.rank_llama(llama, max_doc_tokens=2045).scorer
    assert (passage.max_query_tokens, passage.max_doc_tokens, passage.closed) == (32, 161, True)
    assert doc.max_doc_tokens == 2045
    dear = presets.dear_pointwise(llama).scorer
    assert (dear.max_query_tokens, dear.max_doc_tokens, dear.closed) == (32, 193, False)
    assert (dear.query_template, dear.doc_template) == ("query: {query}", "document: {text}")


def test_document_checkpoints_are_known_by_their_names(tmp_path, llama):
    folder = tmp_path / "rankllama-lora-doc"
    folder.symlink_to(llama)
    assert presets.rank_llama(str(folder)).scorer.max_doc_tokens == 2045


@pytest.mark.parametrize("build", [presets.rank_llama, presets.dear_pointwise], ids=lambda b: b.__name__)
def test_a_preset_ranks_a_frame(build, llama):
    rows = [["q1", QUERY, f"d{i}", "cat " * i, -float(i)] for i in range(4)]
    rerank = build(llama, device="cpu", dtype="float32", max_length=200)
    out = rerank(pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "score"]))
    assert sorted(out["docno"]) == ["d0", "d1", "d2", "d3"] and rerank.strategy == Pointwise()
    assert isinstance(rerank.scorer, CrossEncoder) and rerank.scorer.max_length == 200


@pytest.mark.parametrize("build", [presets.rank_llama, presets.dear_pointwise], ids=lambda b: b.__name__)
def test_a_language_model_is_refused(build):
    with pytest.raises(ConfigurationError, match="classification network: pass its name or folder, not HashModel"):
        build(HashModel())
