"""Reinforcement learning through trl, for a few steps of a tiny random model."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny import CHATML, byte_tokenizer, decoder, local

from pyterrier_llmrank.core import Doc, Question, Usage
from pyterrier_llmrank.errors import ConfigurationError, InputError, MissingExtra, ModelNotFound
from pyterrier_llmrank.models import HFModel
from pyterrier_llmrank.models.base import Generation
from pyterrier_llmrank.models.hf.weightless import weightless
from pyterrier_llmrank.prompts import ListPrompt, OneMessage, ScorePrompt, SetPrompt, YesNo
from pyterrier_llmrank.scorers import Prompted
from pyterrier_llmrank.training.data import TrainingList
from pyterrier_llmrank.training.grpo import grpo, prompted, texts
from pyterrier_llmrank.training.rollouts import ERank, Rearank

WORDS = ["[1]", "[2]", "[3]", "Ġ>Ġ"]  # a random model writes identifiers now and then
DOCS = (Doc("a", "the cat"), Doc("b", "the mat"), Doc("c", "a mat <|end|>"))
LISTS = [TrainingList(str(number), f"query {number}", DOCS, (0.0, 1.0, 2.0)) for number in range(4)]
SMALL = {"samples": 4, "max_tokens": 24, "max_steps": 2, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return decoder(tmp_path_factory.mktemp("base"), byte_tokenizer(words=WORDS), max_position_embeddings=2048)


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    tokenizer = byte_tokenizer(words=WORDS, chat=CHATML)
    return decoder(tmp_path_factory.mktemp("chat"), tokenizer, max_position_embeddings=2048)


class Kept:
    """A reward that keeps what it was asked, and what it said; breaks when it is told to."""

    def __init__(self, reward, breaks_at=None):
        self.reward = reward
        self.breaks_at = breaks_at
        self.asked, self.said = [], []

    def __call__(self, rollouts):
        if len(self.asked) == self.breaks_at:
            raise KeyboardInterrupt
        self.asked.append(list(rollouts))
        self.said.append(list(self.reward(rollouts)))
        return self.said[-1]


def length(rollouts):
    """Answers with more different characters earn more."""
    return [float(len(set(one.answer))) for one in rollouts]


def weights(folder):
    return load_file(f"{folder}/model.safetensors")


def moved(one, other):
    """The largest difference of two checkpoints' weights."""
    before, after = weights(one), weights(other)
    assert before.keys() == after.keys()
    return max(float(np.abs(before[name] - after[name]).max()) for name in before)


def test_a_model_learns_from_what_its_answers_earn(base, tmp_path):
    reward = Kept(Rearank())
    history = grpo(base, LISTS, ListPrompt(), reward, tmp_path, **SMALL)
    assert moved(base, tmp_path) > 1e-3
    assert len(reward.asked) == 2
    for asked, said in zip(reward.asked, reward.said, strict=True):
        assert len(asked) == 4
        assert len({one.number for one in asked}) == 1  # answers to one prompt
        assert asked[0].shown == LISTS[asked[0].number]
        assert said == Rearank()(asked)
    logged = [row["reward"] for row in history if "reward" in row]
    assert logged == pytest.approx([np.mean(said) for said in reward.said], abs=1e-6)
    assert any(len(set(said)) > 1 for said in reward.said)
    assert [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()] == history
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.slow
def test_a_model_that_knows_nothing_learns_to_answer_and_to_rank(base, tmp_path):
    """0.8 is what the best order earns without tags; at first few answers can be read at all."""
    options = {"samples": 8, "max_tokens": 8, "max_steps": 75, "learning_rate": 3e-3}
    history = grpo(base, LISTS, ListPrompt(), Rearank(), tmp_path, **options)
    earned = [row["reward"] for row in history if "reward" in row]
    assert np.mean(earned[:15]) < 0.3
    assert np.mean(earned[-15:]) > 0.6


def test_nothing_is_learnt_where_all_answers_earn_the_same(base, tmp_path):
    history = grpo(base, LISTS, ListPrompt(), lambda rollouts: [0.7] * len(rollouts), tmp_path, **SMALL)
    assert moved(base, tmp_path) == 0
    assert [row["grad_norm"] for row in history if "grad_norm" in row] == [0, 0]


def test_what_was_learnt_is_loaded_by_a_scorer(chat, tmp_path):
    from peft import LoraConfig

    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    reward = Kept(length)
    grpo(chat, LISTS, ListPrompt(), reward, tmp_path, lora=lora, **SMALL)
    adapter = load_file(tmp_path / "adapter_model.safetensors")
    assert max(float(np.abs(weight).max()) for name, weight in adapter.items() if "lora_B" in name) > 0
    assert all(isinstance(one.answer, str) for one in reward.asked[0])
    [answer] = Prompted(ListPrompt(), local(tmp_path))([_question(LISTS[0])])
    assert len(answer.scores) == 3


def test_a_prompt_about_one_document_is_compared_within_its_list(base, tmp_path):
    prompt = ScorePrompt(highest=10)
    reference = {(one.qid, doc.docno): 5.0 for one in LISTS for doc in one.docs}
    reward = Kept(ERank(prompt, reference))
    grpo(base, LISTS, prompt, reward, tmp_path, **{**SMALL, "samples": 2, "max_tokens": 4, "max_steps": 3})
    [asked] = reward.asked  # three steps of one batch
    assert sorted(one.place for one in asked) == [0, 0, 1, 1, 2, 2]
    assert {one.number for one in asked} == {0}


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(base, tmp_path):
    options = {**SMALL, "max_steps": 3, "save_steps": 1}
    grpo(base, LISTS, ListPrompt(), length, tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        grpo(base, LISTS, ListPrompt(), Kept(length, breaks_at=2), tmp_path / "stopped", **options)
    rest = Kept(length)
    history = grpo(base, LISTS, ListPrompt(), rest, tmp_path / "stopped", **options)
    assert len(rest.asked) == 1
    assert [row["step"] for row in history if "reward" in row] == [1, 2, 3]
    assert moved(tmp_path / "whole", tmp_path / "stopped") <= 1e-6


def test_a_training_does_not_go_on_from_checkpoints_of_another(base, tmp_path):
    options = {**SMALL, "max_steps": 3, "save_steps": 1}
    with pytest.raises(KeyboardInterrupt):
        grpo(base, LISTS, ListPrompt(), Kept(length, breaks_at=2), tmp_path, **options)
    match = "of another training.* of one of them alone are samples=2, samples=4; train in another folder"
    with pytest.raises(ConfigurationError, match=match):
        grpo(base, LISTS, ListPrompt(), length, tmp_path, **{**options, "samples": 2})
    assert (tmp_path / "checkpoint" / "checkpoint-2").is_dir()


# ------------------------------------------------------------------ what is shown


def _question(one):
    return Question(one.query, one.docs, one.qid)


@pytest.mark.parametrize("kind", ["base", "chat"])
def test_a_model_is_trained_on_what_it_will_be_asked(kind, request):
    model = weightless(HFModel(request.getfixturevalue(kind)))
    rows = prompted(LISTS, ListPrompt(), model, max_tokens=24)
    shown, chats = texts(rows, model)
    assert chats == (kind == "chat")
    assert len(shown) == 4
    seen = Seen(model)
    Prompted(ListPrompt(), seen, max_tokens=24)([_question(one) for one in LISTS])
    assert [row.prompt for row in rows] == seen.prompts


class Seen:
    """A model that keeps the prompts it is shown."""

    can = frozenset({"generate"})

    def __init__(self, model):
        self.context, self.plain = model.context, model.plain
        self.token_ends, self.lengths = model.token_ends, model.lengths

    def generate(self, prompts, **options):
        self.prompts = list(prompts)
        return [Generation("", "stop", Usage())] * len(prompts)


def test_long_documents_are_shortened(base):
    model = weightless(HFModel(base))
    long = TrainingList("q", "query", (Doc("a", "x" * 5000), Doc("b", "short")), (0.0, 1.0))
    [row] = prompted([long], ListPrompt(), model, max_tokens=24)
    assert model.lengths([row.prompt])[0] <= 2048 - 24


@pytest.mark.parametrize(
    ("lists", "prompt", "options", "error", "message"),
    [
        ([], ListPrompt(), {}, InputError, r"needs lists with documents, got 0 lists"),
        ([TrainingList("q", "x", (), ())], ListPrompt(), {}, InputError, r"got 1 lists of \[0\]"),
        (LISTS, YesNo(), {}, ConfigurationError, "asks for no written answer"),
        (LISTS, SetPrompt(), {}, ConfigurationError, "use one with decode='generate'"),
        (LISTS, ListPrompt(), {"samples": 1}, ConfigurationError, "samples must be at least 2, got 1"),
        (
            [*LISTS, TrainingList("q", "x", DOCS[:2], (0.0, 1.0))],
            ScorePrompt(),
            {},
            InputError,
            r"must be of one length, got \[2, 3\]",
        ),
    ],
)
def test_bad_input_is_named(base, tmp_path, lists, prompt, options, error, message):
    with pytest.raises(error, match=message):
        grpo(base, lists, prompt, length, tmp_path, **options)


def test_a_prompt_that_begins_a_chats_answer_is_refused(chat, tmp_path):
    begun = ListPrompt(layout=OneMessage("Query: {query}\n{passages}\nAnswer like {example}.", answer="["))
    with pytest.raises(ConfigurationError, match="does not begin the answer"):
        grpo(chat, LISTS, begun, length, tmp_path)


def test_a_template_that_refuses_a_turn_is_named(tmp_path):
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
    model = decoder(tmp_path / "base", byte_tokenizer(chat=refusing), max_position_embeddings=2048)
    told = ListPrompt(layout=OneMessage("Query: {query}\n{passages}\nLike {example}.", system="Rank."))
    with pytest.raises(ConfigurationError, match=r"refuses the prompt's turns \(no system\)"):
        grpo(model, LISTS, told, length, tmp_path)


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelNotFound):
        grpo(tmp_path / "none", LISTS, ListPrompt(), length, tmp_path)


def test_a_missing_library_is_named(base, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(MissingExtra, match=r"needs trl: pip install 'pyterrier-llmrank\[rl\]'"):
        grpo(base, LISTS, ListPrompt(), length, tmp_path)


def test_importing_it_loads_no_torch():
    script = "import sys, pyterrier_llmrank.training.grpo; print({'torch', 'trl', 'datasets'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
