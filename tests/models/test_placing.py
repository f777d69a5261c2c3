"""Networks spread over devices by accelerate, and weights in 8 and 4 bits."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import transformers
from tiny import adapter, ask, decoder, local

from pyterrier_llmrank.errors import ConfigurationError, MissingExtra, ModelError
from pyterrier_llmrank.models import HFModel
from pyterrier_llmrank.models.hf import placing
from pyterrier_llmrank.models.hf.placing import manner

TEXTS = [f"{'the cat ' * times}on the mat" for times in (1, 9, 2, 14, 5)]
PARTS = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.norm": "cpu", "lm_head": "cpu"}

needs_accelerate = pytest.mark.skipif(not find_spec("accelerate"), reason="accelerate is not installed")
needs_bitsandbytes = pytest.mark.skipif(not find_spec("bitsandbytes"), reason="bitsandbytes is not installed")


def choices(model, texts=TEXTS):
    return np.array(
        [one.logprobs for one in model.choices([ask(text) for text in texts], [("Yes", "No")] * len(texts))]
    )


# A map of devices


@needs_accelerate
@pytest.mark.parametrize("device_map", ["auto", "cpu", {"": "cpu"}])
def test_a_map_is_passed_on_and_changes_no_score(llama, device_map):
    model = HFModel(llama, device_map=device_map, dtype="float32")
    assert model._loaded.device.type in ("cpu", "cuda")
    np.testing.assert_allclose(choices(model), choices(local(llama)), atol=1e-4)


@needs_accelerate
def test_layers_that_wait_elsewhere_are_brought_in(llama, tmp_path, monkeypatch):
    """Inputs go to the first device of a network that is spread over several; the other one here is the disk."""
    monkeypatch.chdir(tmp_path)  # accelerate may put them into a folder
    spread = HFModel(llama, device_map={**PARTS, "model.layers.0": "cpu", "model.layers.1": "disk"}, dtype="float32")
    plain = local(llama)
    assert str(spread._loaded.network.model.layers[1].mlp.up_proj.weight.device) == "meta"
    assert spread._loaded.device == torch.device("cpu")
    np.testing.assert_allclose(choices(spread), choices(plain), atol=1e-5)
    prompts = [ask(text) for text in TEXTS]
    assert spread.generate(prompts, max_tokens=3) == plain.generate(prompts, max_tokens=3)


def test_a_map_is_a_value(llama):
    model = HFModel(llama, device_map={"": "cpu"}, quantization="4bit")
    again = eval(repr(model))
    assert again == model and hash(again) == hash(model)
    assert HFModel(llama, device_map="auto") != HFModel(llama) != HFModel(llama, quantization="8bit")
    assert HFModel(llama, device_map={"": "cpu"})._checkpoint() == HFModel(llama, device_map={"": "cpu"})._checkpoint()


@pytest.mark.parametrize("device_map", [{}, "", 3, ["cpu"]])
def test_what_is_no_map_is_refused(llama, device_map):
    with pytest.raises(ConfigurationError, match="device_map must be a name such as 'auto', or say a device by module"):
        HFModel(llama, device_map=device_map)


def test_a_map_and_a_device_are_one_too_many(llama):
    with pytest.raises(ConfigurationError, match="device='cpu' has no use; give one of them"):
        HFModel(llama, device="cpu", device_map="auto")


def test_a_map_without_its_library_says_what_to_install(llama, monkeypatch):
    monkeypatch.setattr(placing, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"accelerate: pip install 'pyterrier-llmrank\[large\]'"):
        HFModel(llama, device_map="auto").load()


# Fewer bits


@needs_bitsandbytes
@needs_accelerate
@pytest.mark.filterwarnings("ignore:MatMul8bitLt")
@pytest.mark.parametrize(("bits", "layer"), [("8bit", "Linear8bitLt"), ("4bit", "Linear4bit")])
def test_quantized_weights_score_nearly_as_whole_ones(tmp_path, bits, layer):
    folder = decoder(tmp_path, hidden_size=64, intermediate_size=128, initializer_range=0.1)
    model = HFModel(folder, device="cpu", dtype="float32", quantization=bits)
    assert type(model._loaded.network.model.layers[0].self_attn.q_proj).__name__ == layer
    found, whole = choices(model), choices(local(folder))
    assert 0 < np.abs(found - whole).max() < 0.3


@needs_bitsandbytes
@needs_accelerate
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # in test_adapters, too
def test_adapters_go_beside_quantized_weights(tmp_path):
    pytest.importorskip("peft")
    folder = decoder(tmp_path / "base", hidden_size=64, intermediate_size=128, initializer_range=0.1)
    lora = adapter(tmp_path / "lora", folder, "CAUSAL_LM")
    model = HFModel(folder, device="cpu", dtype="float32", quantization="4bit", adapter=lora, merged=False)
    bare = HFModel(folder, device="cpu", dtype="float32", quantization="4bit")
    assert np.abs(choices(model) - choices(bare)).max() > 0.01


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("8bit", {"quant_method": "bitsandbytes", "load_in_8bit": True}),
        (
            "4bit",
            {
                "quant_method": "bitsandbytes",
                "load_in_4bit": True,
                "bnb_4bit_quant_type": "nf4",
                "bnb_4bit_compute_dtype": "bfloat16",
            },
        ),
        ({"quant_method": "torchao", "quant_type": "x"}, {"quant_method": "torchao", "quant_type": "x"}),
    ],
)
def test_how_weights_are_quantized_is_passed_on(llama, monkeypatch, asked, given):
    monkeypatch.setattr(placing, "find_spec", lambda name: True)
    key = HFModel(llama, quantization=asked)._checkpoint().quantization
    assert manner("cpu", None, key, torch.bfloat16) == {"device_map": {"": "cpu"}, "quantization_config": given}
    assert manner("cpu", placing.as_key("auto"), key, torch.bfloat16)["device_map"] == "auto"


def test_a_configuration_of_transformers_is_kept_as_what_it_says(llama):
    config = transformers.BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)
    model = HFModel(llama, quantization=config)
    assert model.quantization["llm_int8_threshold"] == 0.0 and model.quantization["load_in_8bit"] is True
    assert eval(repr(model)) == model
    assert transformers.BitsAndBytesConfig.from_dict(model.quantization).to_dict() == config.to_dict()


@pytest.mark.parametrize("asked", ["int8", "16bit", 8, {"load_in_8bit": True}, True])
def test_what_says_nothing_of_bits_is_refused(llama, asked):
    with pytest.raises(ConfigurationError, match=r"quantization must be '8bit', '4bit', or a configuration"):
        HFModel(llama, quantization=asked)


def test_fewer_bits_without_the_library_say_what_to_install(llama, monkeypatch):
    monkeypatch.setattr(placing, "find_spec", lambda name: None if name == "bitsandbytes" else True)
    with pytest.raises(MissingExtra, match=r"bitsandbytes: pip install 'pyterrier-llmrank\[large\]'"):
        HFModel(llama, device="cpu", quantization="8bit").load()


@needs_accelerate
def test_a_method_that_nobody_knows_is_a_model_error(llama):
    with pytest.raises(ModelError, match=r"could not be loaded: Unknown quantization type, got abracadabra"):
        HFModel(llama, device="cpu", quantization={"quant_method": "abracadabra"}).load()


def test_an_adapter_is_not_merged_into_quantized_weights(llama):
    with pytest.raises(ConfigurationError, match=r"cannot be merged into quantized weights .*merged=False"):
        HFModel(llama, quantization="4bit", adapter="owner/lora")


def test_nothing_of_it_is_imported_before_it_is_used(llama):
    HFModel(llama, quantization="8bit", device_map="auto")
    assert "bitsandbytes" not in sys.modules or find_spec("bitsandbytes")
