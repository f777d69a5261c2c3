"""The probe reads hidden states: the right ones, each question by itself, and its sign from the prior."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from fake_models import HashModel
from fakes import PerfectScorer
from tiny import CHATML, ask, byte_tokenizer, decoder, encoder_decoder, local

from pyterrier_llmrank import (
    Cached,
    ContrastProbe,
    Evidence,
    ListPrompt,
    OneShot,
    Prompted,
    Question,
    Rerank,
    YesNo,
    plan,
)
from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.errors import ConfigurationError, Unsupported
from pyterrier_llmrank.models.hf.states import hidden_states
from pyterrier_llmrank.scorers.probe import directed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return decoder(tmp_path_factory.mktemp("probe"), byte_tokenizer(chat=CHATML), max_position_embeddings=3000)


def question(n=5, qid="1"):
    return Question(f"where is cat {qid}", tuple(Doc(f"d{i}", f"{i}.5") for i in range(n)), qid)


def test_a_state_is_what_the_head_reads_at_the_last_token(folder):
    prompts = [ask("a cat"), ask("a much longer question about cats", answer="Yes")]
    found = hidden_states(local(folder), prompts)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for prompt, (state, usage) in zip(prompts, found, strict=True):
        [ids] = local(folder)._text.prompts([local(folder)._text.render(prompt)])
        with torch.no_grad():
            states = network.model(torch.tensor([ids])).last_hidden_state[0, -1]
        np.testing.assert_allclose(state, states.numpy(), atol=1e-5)
        assert usage.prompt_tokens == len(ids) == local(folder).lengths([prompt])[0]


def test_an_encoder_decoders_state_is_its_decoders(tmp_path):
    model = local(encoder_decoder(tmp_path))
    [(state, usage)] = hidden_states(model, [ask("a cat", answer="Yes")])
    assert state.shape == (32,) and usage.prompt_tokens > model.lengths([ask("a cat", answer="Yes")])[0]


def test_each_question_has_a_probe_of_its_own(folder):
    scorer = ContrastProbe(YesNo(), local(folder))
    asked = [question(5, "1"), question(3, "2"), question(1, "3"), question(0, "4")]
    together = scorer(asked)
    assert [len(answer.scores) for answer in together] == [5, 3, 1, 0]
    for one, answer in zip(asked, together, strict=True):
        [alone] = scorer([one])
        np.testing.assert_allclose(alone.scores, answer.scores, atol=1e-3)
        assert replace(alone.usage, cached_tokens=0) == replace(answer.usage, cached_tokens=0)
        assert answer.usage.calls == 2 * len(one.docs)


def test_the_prior_says_which_end_is_the_better_one(folder):
    plain = ContrastProbe(YesNo(), local(folder))
    [shown] = plain([question()])
    reverse = replace(plain, prior=ReversedScorer())
    [told] = reverse([question()])
    np.testing.assert_allclose(told.scores, -shown.scores)
    assert np.corrcoef(shown.scores, -np.arange(5))[0, 1] > 0, "without a prior it is the order shown"
    assert told.usage.calls == shown.usage.calls + 1


class ReversedScorer(PerfectScorer):
    """Prefers what comes last; its texts are numbers that grow."""


def test_a_prior_that_knows_nothing_turns_nothing():
    scores = np.array([1.0, -1.0])
    assert directed(scores, np.array([np.nan, np.nan])).tolist() == scores.tolist()
    assert directed(scores, np.array([0.0, 0.0])).tolist() == scores.tolist()
    assert directed(scores, np.array([0.0, 1.0])).tolist() == (-scores).tolist()


def test_equal_documents_tie(folder):
    docs = tuple(Doc(f"d{i}", text) for i, text in enumerate(["a cat", "a dog", "a cat"]))
    [answer] = ContrastProbe(YesNo(), local(folder))([Question("q", docs, "1")])
    assert answer.scores[0] == pytest.approx(answer.scores[2], abs=1e-4)


def test_nothing_asked_loads_nothing(folder):
    model = local(folder)
    scorer = ContrastProbe(YesNo(), model)
    assert scorer([]) == [] and "_loaded" not in vars(model)
    assert scorer.gives is Evidence.ORDER and scorer.max_docs is None


def test_only_local_models_and_prompts_about_one_document_with_answers_will_do(folder):
    with pytest.raises(Unsupported, match="hidden states are read from local models"):
        ContrastProbe(YesNo(), HashModel())
    with pytest.raises(ConfigurationError, match="needs a prompt about one document with two answers"):
        ContrastProbe(ListPrompt("letters"), local(folder))
    with pytest.raises(ConfigurationError, match="margin must be above 0"):
        ContrastProbe(YesNo(), local(folder), margin=0.0)
    with pytest.raises(ConfigurationError, match="asks a scorer"):
        ContrastProbe(YesNo(), local(folder), prior="first")


def test_a_cache_around_the_model_is_looked_through(folder, tmp_path):
    plain, cached = (ContrastProbe(YesNo(), model) for model in (local(folder), Cached(local(folder), tmp_path / "a")))
    assert cached([question()])[0].scores.tolist() == plain([question()])[0].scores.tolist()


def test_a_pipeline_with_a_probe_can_be_planned(folder):
    model = local(folder)
    scorer = ContrastProbe(YesNo(), model, prior=Prompted(YesNo(), model))
    topics = pd.DataFrame({"qid": ["1"], "query": ["cats"]})
    told = plan(Rerank(OneShot(), scorer), topics, candidates=4)
    assert told["calls"].iloc[0] == 12
