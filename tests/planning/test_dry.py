"""What is counted without weights against what local models and every scorer really read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_models import HashModel
from scorers.test_encoders import bert
from scorers.test_scorer_laws import SCORERS, questions
from tiny import CHATML, byte_tokenizer, decoder, encoder_decoder, local

from pyterrier_llmrank.core import Usage
from pyterrier_llmrank.errors import PromptTooLong
from pyterrier_llmrank.middleware import Cached
from pyterrier_llmrank.models import OpenAIModel, VLLMModel
from pyterrier_llmrank.models.hf import loading
from pyterrier_llmrank.models.hf.weightless import weightless
from pyterrier_llmrank.planning.dry import Tally, dry
from pyterrier_llmrank.planning.rulers import Estimate, ruler_of
from pyterrier_llmrank.prompts import ListPrompt, PairPrompt, YesNo
from pyterrier_llmrank.scorers import BiEncoder, BothOrders, CrossEncoder, Ensemble, Prompted, QueryLikelihood

pytestmark = pytest.mark.filterwarnings("ignore::pyterrier_llmrank.errors.LLMRankWarning")
NEAR = {  # what is read depends on what was written or chosen, or a token may go to the text or to the prompt
    *("reasoned", "reasoned, drawn", "stepped"),
    *("query likelihood", "few-shot query likelihood", "ensemble"),
}


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    return decoder(tmp_path_factory.mktemp("chat"), byte_tokenizer(chat=CHATML), max_position_embeddings=4096)


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    return encoder_decoder(tmp_path_factory.mktemp("t5"))


def total(scorer, asked):
    return sum((answer.usage for answer in scorer(asked)), Usage())


@pytest.mark.parametrize("name", SCORERS)
def test_every_scorer_is_counted_as_it_asks(chat, name):
    scorer, tally = SCORERS[name](local(chat)), Tally()
    asked = questions(scorer)
    counted, real = total(dry(scorer, tally), asked), total(scorer, asked)
    assert counted.calls == real.calls
    assert counted.truncated_tokens == real.truncated_tokens
    assert real.output_tokens <= counted.output_tokens <= tally.output
    assert counted.prompt_tokens == pytest.approx(real.prompt_tokens, rel=0.02 if name in NEAR else 0)
    assert tally.counted == {"tokenizer"}


def test_labels_of_several_tokens_are_counted_as_they_are_read(chat):
    scorer = Prompted(YesNo(yes="relevant", no="other"), local(chat))
    counted, real = total(dry(scorer, Tally()), questions(scorer)), total(scorer, questions(scorer))
    assert counted.calls == real.calls == 2 * 11
    assert counted.prompt_tokens == pytest.approx(real.prompt_tokens, rel=0.02)


def test_an_encoder_decoder_is_counted(t5):
    scorer = Prompted(YesNo(), local(t5))
    counted, real = total(dry(scorer, Tally()), questions(scorer)), total(scorer, questions(scorer))
    assert counted.calls == real.calls
    assert counted.prompt_tokens == real.prompt_tokens


def test_encoders_are_counted(tmp_path):
    scorer = CrossEncoder(bert(tmp_path / "cross", max_position_embeddings=32), device="cpu")
    asked = questions(scorer)
    counted, real = total(dry(scorer, Tally()), asked), total(scorer, asked)
    assert counted == real and counted.truncated_tokens > 0
    double = dry(BothOrders(scorer, "mean"), Tally())
    assert total(double, asked).calls == 2 * real.calls - 1  # one document has one order
    scorer = BiEncoder(bert(tmp_path / "bi"), device="cpu")
    counted, real = total(dry(scorer, Tally()), asked), total(scorer, asked)
    assert counted.calls == sum(len(one.docs) for one in asked)


def test_no_weights_are_loaded(chat):
    model = replace(local(chat), revision="main")  # that no other test loads
    before = set(loading._shared)
    total(dry(Ensemble((Prompted(YesNo(), model), QueryLikelihood(model))), Tally()), questions(QueryLikelihood(model)))
    assert "_loaded" not in vars(model) and set(loading._shared) == before
    assert weightless(model)._loaded.device.type == "meta"


def test_loaded_weights_are_used_as_they_are(chat):
    model = local(chat)
    model.load()
    assert weightless(model) is model


def test_a_named_tokenizer_counts_without_the_server_and_vllm_as_a_local_model(chat):
    local_one = local(chat, max_length=2000)
    told = {"tokenizer": chat, "max_length": 2000}
    for model in (OpenAIModel("tiny", "http://127.0.0.1:9/v1", **told), VLLMModel(chat, max_length=2000)):
        scorer, tally = Prompted(ListPrompt(), model), Tally()
        exact = total(dry(Prompted(ListPrompt(), local_one), Tally()), questions(scorer))
        assert total(dry(scorer, tally), questions(scorer)) == exact and tally.counted == {"tokenizer"}
        assert ruler_of(model).context == 2000 and "_loaded" not in vars(model)


def test_a_tokenizer_that_is_not_there_is_an_estimate(tmp_path):
    (tmp_path / "empty").mkdir()
    folder = str(tmp_path / "empty")
    for model in (OpenAIModel("tiny", "http://127.0.0.1:9/v1", tokenizer=folder), VLLMModel(folder)):
        assert isinstance(ruler_of(model), Estimate)


def test_a_missing_tokenizer_is_an_estimate(tmp_path):
    (tmp_path / "empty").mkdir()
    ruler = ruler_of(local(tmp_path / "empty"))
    assert isinstance(ruler, Estimate)
    assert ruler.token_ends(["", "abc", "abcd", "abcde"]) == [[], [3], [4], [4, 5]]


def test_a_prompt_that_cannot_fit_is_said_before_the_run(chat):
    scorer = Prompted(PairPrompt(), local(chat, max_length=20))
    with pytest.raises(PromptTooLong):
        dry(scorer, Tally())(questions(scorer))


def test_nothing_is_kept_in_a_cache(tmp_path):
    model, path = HashModel(), tmp_path / "answers.sqlite"
    for scorer in (Cached(Prompted(PairPrompt(), model), path), Prompted(PairPrompt(), Cached(model, path))):
        assert total(dry(BothOrders(scorer), Tally()), questions(scorer)).calls == 7
    assert model.asked == [] and not path.exists()
