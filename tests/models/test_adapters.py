"""LoRA adapters: merged into their base, with the heads that were trained along with them."""

from __future__ import annotations

import gc
import json
import shutil
import sys
import threading
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tiny import CHATML, adapter, ask, byte_tokenizer, decoder, encoder_decoder, local, saved, settings

from pyterrier_llmrank.core import Doc, Question
from pyterrier_llmrank.errors import ConfigurationError, MissingExtra, ModelError, ModelNotFound
from pyterrier_llmrank.models import HFModel, as_model
from pyterrier_llmrank.scorers import BiEncoder, CrossEncoder

peft = pytest.importorskip("peft")
# peft asks transformers by names that are going out of use
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

TEXTS = ["the cat sat on the mat. " * times + "end" for times in (0, 3, 1)]
QUESTION = Question("why the cat", tuple(Doc(text, text) for text in TEXTS))
CLASSIFIER = transformers.AutoModelForSequenceClassification


@pytest.fixture(scope="module")
def lora(llama, tmp_path_factory):
    return adapter(tmp_path_factory.mktemp("lora"), llama, "CAUSAL_LM")


@pytest.fixture(scope="module")
def head(llama, tmp_path_factory):
    """An adapter that brings a classification head of one label for a base that has none, as RankLLaMA's do."""
    one = partial(CLASSIFIER.from_pretrained, num_labels=1)
    return adapter(tmp_path_factory.mktemp("head"), llama, "SEQ_CLS", auto=type("Auto", (), {"from_pretrained": one}))


def unmerged(base, folder, auto=transformers.AutoModelForCausalLM, **options):
    """The oracle: peft's own forward pass, adapter apart."""
    network = auto.from_pretrained(base, dtype=torch.float32, **options)
    return peft.PeftModel.from_pretrained(network, folder).eval()


def copied(folder, where, **changes):
    """A copy of an adapter with another configuration."""
    copy = Path(shutil.copytree(folder, where / "copy"))
    path = copy / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return str(copy)


def choices(model):
    return np.array([one.logprobs for one in model.choices([ask(text) for text in TEXTS], [("Yes", "No")] * 3)])


def test_a_merged_adapter_scores_as_peft_does_unmerged(llama, lora):
    network = unmerged(llama, lora)
    labels = byte_tokenizer().convert_tokens_to_ids(["ĠYes", "ĠNo"])
    wanted = []
    for text in TEXTS:
        with torch.no_grad():
            out = network(input_ids=torch.tensor([byte_tokenizer()(f"{text}\n\nAnswer:")["input_ids"]]))
        wanted.append(out.logits[0, -1].double().log_softmax(-1)[labels].numpy())
    scores = choices(local(llama, adapter=lora))
    np.testing.assert_allclose(scores, wanted, atol=1e-4)
    assert np.abs(scores - choices(local(llama))).max() > 0.1


def test_an_adapter_by_itself_finds_its_base(llama, lora):
    np.testing.assert_array_equal(choices(local(lora)), choices(local(llama, adapter=lora)))


def test_nothing_of_the_adapter_is_left_apart(llama, lora):
    """As fast as its base: the same modules, the same weights by name, none of them to be trained."""
    network, base = local(lora)._loaded.network, local(llama)._loaded.network
    assert type(network) is type(base)
    assert [name for name, _ in network.named_modules()] == [name for name, _ in base.named_modules()]
    assert not network.training and not any(weight.requires_grad for weight in network.parameters())


def test_the_base_stays_as_it_was(llama, lora):
    before = choices(local(llama))
    local(lora).load()
    np.testing.assert_array_equal(choices(local(llama)), before)
    assert local(llama)._loaded is not local(llama, adapter=lora)._loaded
    assert local(llama, adapter=lora)._loaded is local(llama, adapter=lora)._loaded


def test_the_precision_is_that_of_the_base(llama, head):
    network = CrossEncoder(head, device="cpu", dtype="bfloat16")._loaded.network
    assert {weight.dtype for weight in network.parameters()} == {torch.bfloat16}
    [answer] = CrossEncoder(head, device="cpu", dtype="bfloat16")([QUESTION])
    [exact] = CrossEncoder(head, device="cpu", dtype="float32")([QUESTION])
    np.testing.assert_allclose(answer.scores, exact.scores, atol=0.1 * np.abs(exact.scores).max())


def test_an_adapter_in_a_pickle_is_read_too(llama, lora, tmp_path):
    """Those of 2023 are; weights alone are taken from it, so that no code in it is run."""
    copy = Path(copied(lora, tmp_path))
    from safetensors.torch import load_file

    torch.save(load_file(copy / "adapter_model.safetensors"), copy / "adapter_model.bin")
    (copy / "adapter_model.safetensors").unlink()
    np.testing.assert_array_equal(choices(local(copy)), choices(local(lora)))


def test_a_tokenizer_that_comes_with_an_adapter_is_used(llama, lora, tmp_path):
    """It may have a chat template that its base lacks."""
    copy = copied(lora, tmp_path)
    byte_tokenizer(chat=CHATML).save_pretrained(copy)
    assert local(copy)._text.chat and not local(lora)._text.chat


def test_a_warning_that_no_user_can_heed_is_not_passed_on(lora):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        HFModel(lora, device="cpu", dtype="bfloat16").load()


# Heads


@pytest.mark.parametrize("named", [True, False])
def test_the_head_of_a_classifier_comes_with_its_adapter(llama, head, named):
    network = unmerged(llama, head, CLASSIFIER, num_labels=1)
    wanted = []
    for text in TEXTS:
        with torch.no_grad():
            wanted.append(network(**byte_tokenizer()(["why the cat"], [text], return_tensors="pt")).logits[0, 0].item())
    scorer = CrossEncoder(*(([head]) if named else [llama]), device="cpu", adapter=None if named else head)
    [answer] = scorer([QUESTION])
    np.testing.assert_allclose(answer.scores, wanted, atol=1e-4)
    trained = unmerged(llama, head, CLASSIFIER, num_labels=1).base_model.model.score.modules_to_save["default"].weight
    torch.testing.assert_close(scorer._loaded.network.score.weight, trained.data)


def test_two_labels_are_taken_from_the_adapter_as_well(llama, tmp_path):
    folder = adapter(tmp_path, llama, "SEQ_CLS", auto=CLASSIFIER)
    [answer] = CrossEncoder(folder, device="cpu")([QUESTION])
    network = unmerged(llama, folder, CLASSIFIER)
    with torch.no_grad():
        logits = network(**byte_tokenizer()(["why the cat"], [TEXTS[1]], return_tensors="pt")).logits[0]
    assert answer.scores[1] == pytest.approx(float(logits[1] - logits[0]), abs=1e-4)


def test_an_adapter_of_a_classifier_that_has_its_head_already(llama, tmp_path):
    tokenizer = byte_tokenizer()
    config = transformers.LlamaConfig(**settings(tokenizer, num_labels=1))
    base = saved(tmp_path / "base", tokenizer, config, CLASSIFIER)
    folder = adapter(tmp_path / "lora", base, "FEATURE_EXTRACTION", auto=CLASSIFIER)
    network = unmerged(base, folder, CLASSIFIER)
    with torch.no_grad():
        wanted = network(**tokenizer(["why the cat"], [TEXTS[1]], return_tensors="pt")).logits[0, 0].item()
    [answer] = CrossEncoder(folder, device="cpu")([QUESTION])
    assert answer.scores[1] == pytest.approx(wanted, abs=1e-4)


def test_an_adapter_of_an_encoder(llama, tmp_path):
    folder = adapter(tmp_path, llama, "FEATURE_EXTRACTION", auto=transformers.AutoModel)
    network = unmerged(llama, folder, transformers.AutoModel)
    with torch.no_grad():
        one, other = (network(**byte_tokenizer()(text, return_tensors="pt")) for text in ("why the cat", TEXTS[1]))
    wanted = torch.cosine_similarity(one.last_hidden_state[0, -1], other.last_hidden_state[0, -1], dim=0).item()
    [answer] = BiEncoder(folder, device="cpu", dtype="float32", pooling="last")([QUESTION])
    assert answer.scores[1] == pytest.approx(wanted, abs=1e-4)


def test_an_adapter_of_an_encoder_decoder(tmp_path):
    base = encoder_decoder(tmp_path / "t5")
    options = {"auto": transformers.AutoModelForSeq2SeqLM, "target_modules": ["q", "v"]}
    folder = adapter(tmp_path / "lora", base, "SEQ_2_SEQ_LM", **options)
    network = unmerged(base, folder, transformers.AutoModelForSeq2SeqLM)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    inputs = {**tokenizer(TEXTS[1], return_tensors="pt"), "decoder_input_ids": torch.tensor([[1]])}
    with torch.no_grad():
        wanted = network(**inputs).logits[0, -1].double().log_softmax(-1)
    labels = tokenizer.convert_tokens_to_ids(["Yes", "No"])
    np.testing.assert_allclose(choices(local(folder))[1], wanted[labels].numpy(), atol=1e-4)


# What cannot be


def test_an_adapter_of_another_kind_of_model_is_refused(llama, lora, head):
    """Weights that match nothing would leave scores to chance, or to the base alone."""
    with pytest.raises(ModelError, match=r"does not fit the LlamaForCausalLM .*score.weight; HFModel takes"):
        local(head).load()
    with pytest.raises(ModelError, match=r"no trained sequence-classification head"):
        CrossEncoder(lora, device="cpu").load()
    with pytest.raises(ModelError, match=r"does not fit the LlamaModel .*BiEncoder those of encoders"):
        BiEncoder(lora, device="cpu").load()


def test_an_adapter_of_another_size_is_refused(lora, tmp_path):
    wide = decoder(tmp_path, hidden_size=64)
    with pytest.raises(ModelError, match=r"the adapter .*does not fit the LlamaForCausalLM .*; HFModel takes"):
        local(wide, adapter=lora).load()


def test_an_adapter_that_is_not_whole_is_refused(llama, lora, tmp_path):
    copy = copied(lora, tmp_path, target_modules=["q_proj", "v_proj", "down_proj", "o_proj"])
    with pytest.raises(ModelError, match=r"does not fit .*: 4 weights match nothing, such as .*o_proj"):
        local(copy).load()


def test_an_adapter_without_weights_is_refused(llama, lora, tmp_path):
    copy = copied(lora, tmp_path)
    (Path(copy) / "adapter_model.safetensors").unlink()
    for model in (local(copy), local(llama, adapter=copy), CrossEncoder(copy, device="cpu")):
        with pytest.raises(ModelNotFound, match=r"copy holds no weights: no adapter_model.safetensors; give another"):
            model.load()


@pytest.mark.parametrize("offline", [False, True])
def test_an_adapter_and_its_base_are_found_in_the_cache(llama, lora, tmp_path, monkeypatch, offline):
    def cached(name, files):
        home = tmp_path / f"models--owner--{name}"
        shutil.copytree(files, home / "snapshots" / "abc")
        (home / "refs").mkdir()
        (home / "refs" / "main").write_text("abc", encoding="utf-8")
        return home / "snapshots" / "abc"

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    cached("base", llama)
    path = cached("lora", lora) / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "owner/base"}))
    np.testing.assert_array_equal(choices(local("owner/lora")), choices(local(lora)))
    np.testing.assert_array_equal(choices(local("owner/base", adapter="owner/lora")), choices(local(lora)))


def test_a_prompt_that_was_tuned_cannot_be_merged(llama, tmp_path):
    network = transformers.AutoModelForCausalLM.from_pretrained(llama)
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    peft.get_peft_model(network, config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is a PROMPT_TUNING adapter: only such as LoRA can be used"):
        local(tmp_path).load()


def test_whole_weights_are_no_adapter(llama):
    with pytest.raises(ModelError, match=r"holds whole weights, no adapter .*give it as name"):
        local(llama, adapter=llama).load()


@pytest.mark.parametrize("base", ["/home/someone/llama", "./llama"])
def test_a_base_that_is_not_there_is_told_with_a_remedy(lora, tmp_path, base):
    """Adapters often name a folder of the machine where they were trained."""
    copy = copied(lora, tmp_path, base_model_name_or_path=base)
    with pytest.raises(ModelNotFound, match=rf"copy is an adapter of '{base}', which is not.*adapter='.*copy'"):
        local(copy).load()


def test_the_base_that_is_given_is_the_one_that_is_used(llama, lora, tmp_path):
    copy = copied(lora, tmp_path, base_model_name_or_path="/home/someone/llama")
    np.testing.assert_array_equal(choices(local(llama, adapter=copy)), choices(local(lora)))


def test_an_adapter_without_a_base_is_told_with_a_remedy(lora, tmp_path):
    copy = copied(lora, tmp_path, base_model_name_or_path=None)
    with pytest.raises(ModelError, match=r"does not name its base; give that as name, and .*copy as adapter="):
        local(copy).load()


def test_a_missing_adapter_is_refused_at_once(llama):
    with pytest.raises(ModelNotFound, match=r"there is no folder \./nowhere"):
        local(llama, adapter="./nowhere")
    with pytest.raises(ConfigurationError, match="named by a folder or a name on the hub, got ''"):
        local(llama, adapter="")


def test_without_peft_an_adapter_says_how_to_install_it(lora, llama, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtra, match=r"a LoRA adapter needs peft: pip install 'pyterrier-llmrank\[train\]'"):
        HFModel(lora, device="cpu", batch_tokens=3).load()
    local(llama).load()


# Values


def test_an_adapter_is_part_of_the_value(llama, lora):
    model = HFModel(llama, adapter=Path(lora))
    assert model == as_model(llama, adapter=lora) and model != HFModel(llama)
    assert eval(repr(model)) == model and f"adapter={lora!r}" in repr(model)


# Apart from their base


@pytest.fixture(scope="module")
def second(llama, tmp_path_factory):
    """Another adapter, on other modules."""
    options = {"seed": 3, "r": 2, "target_modules": ["o_proj", "up_proj"]}
    return adapter(tmp_path_factory.mktemp("second"), llama, "CAUSAL_LM", **options)


def apart(base, folder, **options):
    return local(base, adapter=folder, merged=False, **options)


def test_adapters_apart_score_as_merged_and_share_one_base(llama, lora, second):
    merged = [choices(local(llama, adapter=folder)) for folder in (lora, second)]
    models = [apart(llama, folder) for folder in (lora, second)]
    for _ in range(2):  # in turns
        for model, wanted in zip(models, merged, strict=True):
            np.testing.assert_allclose(choices(model), wanted, atol=1e-4)
    assert models[0]._loaded.network is models[1]._loaded.network
    assert np.abs(merged[0] - merged[1]).max() > 0.1
    np.testing.assert_array_equal(choices(local(llama)), choices(local(llama)))  # a base by itself has its own network
    assert local(llama)._loaded.network is not models[0]._loaded.network


def test_generation_is_that_of_the_merged(llama, lora, second):
    prompts = [ask(text) for text in TEXTS]
    for folder in (lora, second):
        told = [local(llama, adapter=folder), apart(llama, folder)]
        one, other = ([answer.text for answer in model.generate(prompts, max_tokens=6)] for model in told)
        assert one == other


def test_adapters_are_switched_safely_between_threads(llama, lora, second):
    models = [apart(llama, folder) for folder in (lora, second)]
    wanted = [choices(model) for model in models]
    found, errors = [[], []], []

    def run(which):
        try:
            for _ in range(4):
                found[which].append(choices(models[which]))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(which,)) for which in (0, 1, 0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for which in (0, 1):
        assert len(found[which]) == 8
        for scores in found[which]:
            np.testing.assert_allclose(scores, wanted[which], atol=1e-5)


def test_heads_of_classifiers_are_switched_with_their_adapters(llama, head, tmp_path):
    one = partial(CLASSIFIER.from_pretrained, num_labels=1)
    other = adapter(tmp_path, llama, "SEQ_CLS", auto=type("Auto", (), {"from_pretrained": one}), seed=9)
    told = {}
    for folder in (head, other):
        merged, beside = (CrossEncoder(llama, device="cpu", adapter=folder, merged=how) for how in (True, False))
        told[folder] = beside
        np.testing.assert_allclose(beside([QUESTION])[0].scores, merged([QUESTION])[0].scores, atol=1e-4)
    assert told[head]._loaded.network is told[other]._loaded.network
    assert np.abs(told[head]([QUESTION])[0].scores - told[other]([QUESTION])[0].scores).max() > 0.01


def test_an_adapter_that_does_not_fit_leaves_the_others_as_they_were(llama, lora, tmp_path):
    model = apart(llama, lora)
    wanted = choices(model)
    odd = adapter(tmp_path / "odd", decoder(tmp_path / "wide", hidden_size=64), "CAUSAL_LM")
    with pytest.raises(ModelError, match="does not fit the LlamaForCausalLM"):
        apart(llama, odd).load()
    np.testing.assert_allclose(choices(model), wanted, atol=1e-6)


def test_an_adapter_that_nobody_uses_is_taken_off(llama, lora, second):
    model, other = apart(llama, lora, max_length=99), apart(llama, second)
    choices(other)
    host, name = other._loaded._host
    model.load()
    gone = model._loaded._host[1]
    del model
    gc.collect()
    if gone in host.gone:  # unless another test still holds it
        wanted = choices(apart(llama, second))
        host._worn = None
        np.testing.assert_allclose(choices(other), wanted, atol=1e-6)
        assert gone not in host._whole.peft_config and name in host._whole.peft_config
    else:
        pytest.fail("it is still held")


def test_an_adapter_by_itself_may_stay_apart(lora, llama):
    np.testing.assert_allclose(choices(local(lora, merged=False)), choices(apart(llama, lora)), atol=1e-6)
