"""vLLM in this process: what it adds to the contract of all models (``test_contract.py``)."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import transformers
from model_kinds import decoder_checkpoint, in_process, needs_vllm
from tiny import CHATML, STOP, adapter, ask, byte_tokenizer, encoder_decoder, full_logprobs, local

from pyterrier_llmrank.core import Doc, Question
from pyterrier_llmrank.errors import (
    ConfigurationError,
    MissingExtra,
    ModelError,
    ModelNotFound,
    PromptTooLong,
)
from pyterrier_llmrank.models import Permutation, Sampling, VLLMModel
from pyterrier_llmrank.models.vllm import reading
from pyterrier_llmrank.models.vllm.reading import Read, read_next
from pyterrier_llmrank.models.vllm.writing import manners
from pyterrier_llmrank.prompts import ListPrompt, YesNo
from pyterrier_llmrank.scorers import Prompted, QueryLikelihood

TEXTS = ["the cat sat on the mat. " * times + "end" for times in (0, 3, 1, 12)]
PROMPTS = [ask(text) for text in TEXTS]
LABELS = [("Yes", "No")] * len(TEXTS)
TESTS = Path(__file__).resolve().parents[1]


def with_vllm(test):
    for mark in needs_vllm:
        test = mark(test)
    return test


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return decoder_checkpoint(tmp_path_factory.mktemp("qwen3"))


@pytest.fixture(scope="module")
def model(folder):
    return in_process(folder)


def logprobs(model, prompts=PROMPTS):
    return np.array([one.logprobs for one in model.choices(prompts, [("Yes", "No")] * len(prompts))])


# Without vLLM


def test_a_value_is_rebuilt_by_its_repr(folder):
    one = VLLMModel(Path(folder), dtype="bfloat16", max_length=100, engine={"max_num_seqs": 2})
    assert eval(repr(one)) == one and hash(one) == hash(eval(repr(one)))
    assert one != VLLMModel(folder, dtype="bfloat16", max_length=100)
    assert repr(VLLMModel("owner/name")) == "VLLMModel('owner/name')"


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"dtype": "int8"}, "dtype must be one of float32, bfloat16, float16, got 'int8'"),
        ({"max_length": 1}, "max_length must be at least 2 tokens, got 1"),
        (
            {"engine": {"max_model_len": 9}},
            "engine must not hold 'max_model_len', which VLLMModel sets; use max_length=",
        ),
        ({"engine": {"logprobs_mode": "raw_logits"}}, "engine must not hold 'logprobs_mode', .*use HFModel for logits"),
    ],
)
def test_what_is_out_of_range_or_said_twice_is_refused_at_once(told, message):
    with pytest.raises(ConfigurationError, match=message):
        VLLMModel("owner/name", **told)


def test_a_missing_folder_is_refused_at_once():
    with pytest.raises(ModelNotFound, match=r"there is no folder \./nowhere"):
        VLLMModel("./nowhere")


def test_without_vllm_it_says_how_to_install_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtra, match=r"VLLMModel needs vllm: pip install 'pyterrier-llmrank\[vllm\]'"):
        VLLMModel(folder, max_length=33).load()


def test_a_temperature_that_vllm_would_change_is_refused():
    for temperature in (0.001, 2.5):
        with pytest.raises(ConfigurationError, match=rf"from 0.01 to 2.0, got {temperature}; use one of these, or HFM"):
            manners(Sampling(temperature), [1], 1)


def test_a_log_probability_that_was_left_out_is_no_score():
    with pytest.raises(ModelError, match=r"left out the log-probabilities of tokens \[7\], of 2 asked for"):
        reading._values({5: None}, [5, 7])


# One call, in order


class Watched:
    """Runs an engine's ``vllm.LLM``, and keeps what it was asked."""

    def __init__(self, llm):
        self.llm = llm
        self.asked = []

    def generate(self, prompts, params, **told):
        self.asked.append([one["prompt_token_ids"] for one in prompts])
        return self.llm.generate(prompts, params, **told)

    def __getattr__(self, name):
        return getattr(self.llm, name)


@with_vllm
def test_all_prompts_go_in_one_call_with_those_next_to_each_other_that_begin_alike(model, monkeypatch):
    watched = Watched(model._loaded.engine.llm)
    monkeypatch.setattr(model._loaded.engine, "_llm", watched)
    prompts = [ask(f"{'ab'[number % 2]} {number}") for number in range(40)]
    model.choices(prompts, [(" C", " D")] * 40)
    model.continuation(prompts, ["x"] * 40)
    model.generate(prompts, max_tokens=2)
    assert list(map(len, watched.asked)) == [80, 40, 40]  # the space before C and D is read on its own
    assert all(asked == sorted(asked) for asked in watched.asked)


@with_vllm
def test_a_prefix_that_prompts_share_is_computed_once(model):
    prompts = [ask("a mat that nobody has seen. " * 10 + str(number)) for number in range(12)]
    read = model.choices(prompts, [("Yes", "No")] * 12)
    shared = sorted(one.usage.cached_tokens for one in read)
    assert shared[0] == 0 and shared[1] >= 32 * (min(one.usage.prompt_tokens for one in read) // 32 - 1) >= 128


@with_vllm
def test_more_labels_than_vllm_tells_at_once_are_asked_in_parts(model, folder):
    ids = byte_tokenizer()("the cat")["input_ids"]
    tokens = list(range(200))
    [(read, usage)] = read_next(model._loaded, [Read(ids, len(ids), tokens)])
    np.testing.assert_allclose(read, full_logprobs(folder, ids)[-1, tokens], atol=1e-5)
    assert usage.calls == 1 and usage.prompt_tokens == len(ids)


@with_vllm
def test_two_threads_get_their_own_answers(model):
    texts = [[ask(f"{name} {number}") for number in range(20)] for name in ("cat", "mat")]
    alone = [logprobs(model, own) for own in texts]
    got = {}
    threads = [threading.Thread(target=lambda i=i: got.update({i: logprobs(model, texts[i])})) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose([got[0], got[1]], alone, atol=1e-5)


@with_vllm
def test_a_call_that_was_broken_off_leaves_nothing_for_the_next(model, monkeypatch):
    expected = logprobs(model)
    step = type(model._loaded.engine.llm.llm_engine).step

    def interrupted(self):
        monkeypatch.setattr(type(self), "step", step)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(model._loaded.engine.llm.llm_engine), "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.choices([ask("another")] * 3, [("Yes", "No")] * 3)
    np.testing.assert_allclose(logprobs(model), expected, atol=1e-5)


# What is drawn and what stops


@with_vllm
def test_tokens_are_drawn_as_often_as_they_are_probable(model, folder):
    """After temperature, among the top k, of which the likeliest that hold the mass."""
    ids = model._text.prompts([model._text.render(PROMPTS[0])])[0]
    scaled = full_logprobs(folder, ids)[-1] / 1.5
    order = np.argsort(-scaled)[:6]
    weights = np.exp(scaled[order]) / np.exp(scaled[order]).sum()
    kept = np.cumsum(weights) - weights < 0.8
    wanted = weights[kept] / weights[kept].sum()
    told = [{"max_tokens": 1, **own} for own in manners(Sampling(1.5, top_p=0.8, top_k=6), range(800), 800)]
    drawn = [one.outputs[0].token_ids[0] for one in model._loaded.run([ids] * 800, told)]
    assert set(drawn) <= set(order[kept])
    counts = np.array([drawn.count(token) for token in order[kept]])
    assert (np.abs(counts - 800 * wanted) <= 5 * np.sqrt(800 * wanted * (1 - wanted)) + 3).all()
    assert len(wanted) > 1


@with_vllm
def test_a_stop_text_may_be_a_control_token(tmp_path):
    """One of two heads says it always, the other the end token."""
    folder = decoder_checkpoint(tmp_path)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder)
    special = byte_tokenizer().convert_tokens_to_ids(STOP)
    finishes = []
    for sign in (1, -1):
        network.lm_head.weight.data.zero_()
        network.lm_head.weight.data[special] = sign * network.model.norm.weight
        network.lm_head.weight.data[0] = -sign * network.model.norm.weight
        network.save_pretrained(tmp_path / str(sign))
        byte_tokenizer(chat=CHATML).save_pretrained(tmp_path / str(sign))
        two = in_process(tmp_path / str(sign))
        [one] = two.generate([ask("the cat")], max_tokens=5, stop=[STOP])
        assert (one.text, one.finish, one.usage.output_tokens) == ("", "stop", 1)
        [free] = two.generate([ask("the cat")], max_tokens=5)
        finishes.append((free.text, free.finish, free.usage.output_tokens))
    assert sorted(finishes) == [("", "length", 5), ("", "stop", 1)]


# Answers held to a permutation

HELD = [
    Permutation(tuple(f"[{i}]" for i in range(1, 13))),
    Permutation(tuple(str(i) for i in range(1, 13)), length=5),
    Permutation(("Yes", "No", "Ye", " cat"), ", ", 3),
    Permutation(("1", "12", "123"), length=1),
    Permutation(("[1]",)),
]


@with_vllm
@pytest.mark.parametrize("held", HELD)
def test_what_is_held_to_a_permutation_equals_what_transformers_writes(model, folder, held):
    """Text, tokens and ending; also next to answers that are not held to anything."""
    written = [one.generate(PROMPTS, max_tokens=90, constraint=held) for one in (model, local(folder))]
    facts = [[(one.text, one.finish, one.usage.output_tokens) for one in own] for own in written]
    assert facts[0] == facts[1] and {one.usage.prompt_tokens for one in written[0]} == {
        one.usage.prompt_tokens for one in written[1]
    }
    free = model.generate(PROMPTS, max_tokens=6)
    assert [one.text for one in free] == [one.text for one in local(folder).generate(PROMPTS, max_tokens=6)]


@with_vllm
def test_all_answers_go_on_together_by_one_choice_a_call(model, monkeypatch):
    watched = Watched(model._loaded.engine.llm)
    monkeypatch.setattr(model._loaded.engine, "_llm", watched)
    held = Permutation(tuple("CDEF"))
    model.generate(PROMPTS, max_tokens=90, constraint=held)
    assert list(map(len, watched.asked)) == [4, 4, 4]  # four prompts; the last of four letters is no choice


@with_vllm
def test_items_are_drawn_as_often_as_they_are_probable_among_those_allowed(model):
    [read] = model.choices(PROMPTS[:1], ["CDE"])
    wanted = np.exp(read.logprobs) / np.exp(read.logprobs).sum()
    held = Permutation(tuple("CDE"), length=1)
    drawn = model.generate(PROMPTS[:1] * 800, max_tokens=5, constraint=held, sampling=Sampling(), seeds=range(800))
    counts = np.array([[one.text for one in drawn].count(letter) for letter in "CDE"])
    assert (np.abs(counts - 800 * wanted) <= 5 * np.sqrt(800 * wanted * (1 - wanted)) + 3).all()


@with_vllm
def test_an_answer_that_could_be_cut_off_is_refused(model):
    with pytest.raises(ConfigurationError, match="max_tokens=20 would cut it off"):
        model.generate(PROMPTS, max_tokens=20, constraint=HELD[0])


# Adapters


@pytest.fixture(scope="module")
def loras(folder, tmp_path_factory):
    pytest.importorskip("peft")
    return [adapter(tmp_path_factory.mktemp("lora"), folder, "CAUSAL_LM", seed=seed) for seed in (2, 3)]


@with_vllm
def test_adapters_of_one_base_share_its_engine_and_score_as_when_merged(folder, loras):
    models = [in_process(folder, adapter=lora) for lora in loras]
    assert models[0]._loaded.engine is models[1]._loaded.engine
    for _ in range(2):
        for one, lora in zip(models, loras, strict=True):
            np.testing.assert_allclose(logprobs(one), logprobs(local(folder, adapter=lora)), atol=1e-4)
    written = [model.generate(PROMPTS, max_tokens=6) for model in (models[0], local(folder, adapter=loras[0]))]
    assert [one.text for one in written[0]] == [one.text for one in written[1]]
    assert np.abs(logprobs(models[0]) - logprobs(models[1])).max() > 0.1
    np.testing.assert_array_equal(logprobs(in_process(loras[0])), logprobs(models[0]))  # finds its base


@with_vllm
def test_an_adapter_that_does_not_fit_is_refused(folder, loras, tmp_path):
    """vLLM itself would take a part of it."""
    wide = decoder_checkpoint(tmp_path / "wide", hidden_size=64)
    with pytest.raises(ModelError, match=r"does not fit .*wide: 12 weights match nothing, such as .*lora_[AB]"):
        in_process(wide, adapter=loras[0])
    auto = transformers.AutoModelForSequenceClassification
    one = type("Auto", (), {"from_pretrained": partial(auto.from_pretrained, num_labels=1)})
    with pytest.raises(ModelError, match=r"1 weights match nothing, such as .*score.weight .*takes adapters of lang"):
        in_process(adapter(tmp_path / "head", folder, "SEQ_CLS", auto=one))


# Starting and stopping


@with_vllm
def test_equal_models_share_one_engine_and_others_do_not(model, folder):
    assert in_process(folder)._loaded.engine is model._loaded.engine
    short = in_process(folder, max_length=40)
    assert short._loaded.engine is not model._loaded.engine and short.context == 40
    assert np.isfinite(short.choices([ask("")], [("Yes", "No")])[0].logprobs).all()
    with pytest.raises(PromptTooLong, match="exceeds the 40 tokens"):
        short.choices([ask("x" * 30)], [("Yes", "No")])


@with_vllm
def test_a_model_that_was_closed_starts_again(model, folder):
    """With it those that share its process: vLLM's global state is gone."""
    other = in_process(folder, max_length=41)
    before = logprobs(model)
    model.close()
    assert model._loaded.engine._llm is None
    model.close()
    np.testing.assert_array_equal(logprobs(model), before)
    np.testing.assert_allclose(logprobs(other, PROMPTS[:1]), before[:1], atol=1e-5)


@with_vllm
def test_half_precision_is_near(model, folder):
    half = in_process(folder, dtype="bfloat16")
    difference = np.abs(logprobs(half) - logprobs(model)).max()
    assert 0 < difference < 0.5


@with_vllm
def test_what_vllm_cannot_run_is_told_with_what_can(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="is an encoder-decoder, which VLLMModel does not run; use HFModel"):
        in_process(encoder_decoder(tmp_path / "t5"))
    with pytest.raises(ModelNotFound, match="the model 'owner/none' is not in the cache, and the hub cannot be"):
        in_process("owner/none")
    with pytest.raises(ModelError, match=r"could not be loaded: .*max_model_len \(5000\) is greater than"):
        in_process(folder, max_length=5000)
    with pytest.raises(ModelError, match=r"could not be loaded: .*unexpected keyword argument 'nonsense'"):
        VLLMModel(folder, engine={"nonsense": 1}).load()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFound, match=r"holds no config\.json"):
        in_process(tmp_path / "empty")


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from model_kinds import SMALL
from tiny import ask, local
from pyterrier_llmrank.models import VLLMModel

if __name__ == "__main__":
    import psutil
    model = VLLMModel({folder!r}, engine=SMALL)
    both = [one.choices([ask("the cat")], [("Yes", "No")])[0].logprobs for one in (model, local({folder!r}))]
    started = len(psutil.Process().children(recursive=True))
    model.close()
    _, alive = psutil.wait_procs(psutil.Process().children(recursive=True), timeout=20)
    left = [one for one in alive if "VLLM" in " ".join(one.cmdline())]
    print("CHECKED", abs(both[0] - both[1]).max() < 1e-5, started > 0, left)
"""


@with_vllm
def test_processes_of_its_own_answer_alike_and_end_when_it_is_closed(folder, tmp_path):
    """As vLLM starts unless told otherwise."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(TESTS), folder=folder))
    own = {name: value for name, value in os.environ.items() if name != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, check=False, env=own)
    assert "CHECKED True True []" in done.stdout, done.stderr[-2000:]


# Under scorers


@with_vllm
@pytest.mark.parametrize("scored", ["labels", "lists", "held lists", "texts"])
def test_a_scorer_says_the_same_over_vllm_and_transformers(model, folder, scored):
    docs = tuple(Doc(str(number), text) for number, text in enumerate(TEXTS))
    questions = [Question("why the cat", docs, "q1"), Question(f"what {STOP}", docs[::-1], "q2")]
    make = {
        "labels": lambda own: Prompted(YesNo(), own),
        "lists": lambda own: Prompted(ListPrompt(labels="letters"), own),
        "held lists": lambda own: Prompted(ListPrompt(decode="constrained", top_k=2), own),
        "texts": QueryLikelihood,
    }[scored]
    for one, other in zip(make(model)(questions), make(local(folder))(questions), strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
        assert one.usage.prompt_tokens == other.usage.prompt_tokens
        assert one.usage.truncated_tokens == other.usage.truncated_tokens
