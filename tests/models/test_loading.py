"""Names, folders, errors and sharing of weights."""

from __future__ import annotations

import gc
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
import transformers
from tiny import ask, byte_tokenizer, decoder, encoder_decoder, local, saved

from pyterrier_llmrank import ListwiseLLM, PointwiseLLM
from pyterrier_llmrank.errors import ConfigurationError, ModelError, ModelNotFound
from pyterrier_llmrank.models import HFModel, as_model
from pyterrier_llmrank.models.hf import loading
from pyterrier_llmrank.models.hf.hub import Where, where
from pyterrier_llmrank.scorers import BiEncoder, CrossEncoder


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A BERT without a head."""
    folder = tmp_path_factory.mktemp("bert")
    tokenizer = byte_tokenizer()
    config = transformers.BertConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=len(tokenizer)
    )
    return saved(folder, tokenizer, config, transformers.AutoModel)


@pytest.fixture
def copy(llama, tmp_path):
    """A copy of the Llama's folder, to break."""
    return Path(shutil.copytree(llama, tmp_path / "copy"))


def raising(error):
    """A hub that answers every question with ``error``."""

    def model_info(self, *args, **kwargs):
        raise error

    return model_info


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty cache and a hub whose answer the test chooses."""
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def answers(error):
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", raising(error))

    return answers


def response(status):
    """What the hub's errors carry."""
    import httpx2

    return httpx2.Response(status, request=httpx2.Request("GET", "https://huggingface.co"))


def unknown_repository():
    from huggingface_hub.errors import RepositoryNotFoundError

    return RepositoryNotFoundError("404 Client Error: Repository Not Found", response=response(404))


# Names


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c", "~/models/none"])
@pytest.mark.parametrize("kind", [HFModel, CrossEncoder, BiEncoder])
def test_missing_folder_is_refused_at_once(kind, name):
    with pytest.raises(ModelNotFound, match=r"there is no folder .*HF_HOME") as caught:
        kind(name)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["", "  ", None, 3, b"name"])
def test_what_is_no_name_is_refused_at_once(name):
    with pytest.raises(ConfigurationError, match=r"named by a folder or a name on the hub, got") as caught:
        HFModel(name)
    assert repr(name) in str(caught.value)


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "tiny").mkdir()
    assert HFModel("~/tiny") == as_model("~/tiny") == HFModel(tmp_path / "tiny")


def test_a_path_object_names_a_folder(llama):
    model = local(llama)
    assert HFModel(Path(llama), device="cpu", dtype="float32") == model
    assert str(pickle.loads(pickle.dumps(HFModel(Path(llama))))) == repr(HFModel(llama))


def test_a_name_that_the_hub_does_not_know_is_refused_at_construction(hub):
    hub(unknown_repository())
    with pytest.raises(ModelNotFound, match="'owner/none' is unknown to the hub; give another name"):
        as_model("owner/none")
    with pytest.raises(ModelNotFound, match="owner/none"):
        PointwiseLLM("owner/none")


def test_a_name_that_no_model_can_have_is_refused_at_construction(hub):
    hub(AssertionError("asked the hub"))
    with pytest.raises(ModelNotFound, match="not a name"):
        as_model("not a name")


def test_a_hub_that_cannot_be_reached_is_told_only_when_loading(hub):
    hub(ConnectionError("no route"))
    model = as_model("owner/unreachable")
    with pytest.raises(
        ModelNotFound, match=r"'owner/unreachable' is not in the cache, and the hub cannot be reached.*HF"
    ):
        model.load()


def test_a_client_that_times_out_counts_as_unreachable(hub):
    import httpx2

    hub(httpx2.ConnectTimeout("slow"))
    assert where("owner/slow", None) is Where.UNREACHABLE


def test_a_hub_that_fails_counts_as_unreachable(hub):
    from huggingface_hub.errors import HfHubHTTPError

    hub(HfHubHTTPError("503", response=response(503)))
    assert where("owner/busy", None) is Where.UNREACHABLE


def test_a_gated_model_is_not_called_unknown(hub):
    from huggingface_hub.errors import GatedRepoError

    hub(GatedRepoError("403 Client Error: gated", response=response(403)))
    assert where("owner/gated", None) is Where.HUB


def test_offline_mode_asks_no_hub(hub, monkeypatch):
    from huggingface_hub import constants

    hub(AssertionError("asked the hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert where("owner/name", None) is Where.UNREACHABLE


def test_a_revision_that_is_missing_is_named(hub):
    hub(unknown_repository())
    with pytest.raises(ModelNotFound, match="'owner/name' at revision 'v9'"):
        HFModel("owner/name", revision="v9").check()


# Folders


def test_folder_without_a_configuration(copy):
    (copy / "config.json").unlink()
    with pytest.raises(ModelNotFound, match=r"copy holds no config.json; give another name"):
        local(copy).load()


def test_folder_without_weights(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelNotFound, match=r"copy holds no weights: no \*.safetensors; give"):
        local(copy).load()


def test_pickled_weights_are_read_as_tensors(copy):
    from safetensors.torch import load_file

    path = copy / "model.safetensors"
    wanted = load_file(path)
    torch.save(wanted, copy / "pytorch_model.bin")
    path.unlink()
    network = local(copy)._loaded.network
    found = network.state_dict()
    assert all(torch.equal(found[name].cpu().to(values.dtype), values) for name, values in wanted.items())


class Running:
    """Would run when it is unpickled."""

    def __reduce__(self):
        return (print, ("this was run",))


def test_a_pickle_that_would_run_code_is_refused(copy, capfd):
    (copy / "model.safetensors").unlink()
    torch.save({"weight": Running()}, copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match="more in it than weights"):
        local(copy).load()
    assert "this was run" not in capfd.readouterr().out


def test_folder_with_broken_weights(copy):
    (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ModelError, match="copy could not be loaded"):
        local(copy).load()


def test_folder_with_a_broken_configuration(copy):
    (copy / "config.json").write_text("{")
    with pytest.raises(ModelError, match="copy could not be loaded"):
        local(copy).load()


def test_folder_of_an_unknown_architecture(copy):
    (copy / "config.json").write_text('{"model_type": "never_heard_of"}')
    with pytest.raises(ModelError, match=r"copy could not be loaded: .*never_heard_of"):
        local(copy).load()


def test_folder_without_a_tokenizer(copy):
    for path in copy.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match="copy could not be loaded"):
        local(copy).load()


def test_weights_that_lack_the_head_are_refused_rather_than_made_up(bert):
    with pytest.raises(ModelError, match=r"no trained language-model head.*scores would be random; use"):
        local(bert).load()


def test_a_head_that_was_not_trained_is_refused_before_weights_are_read(llama, bert, tmp_path):
    for folder in (llama, bert):
        empty = Path(shutil.copytree(folder, tmp_path / Path(folder).name))
        (empty / "model.safetensors").unlink()
        with pytest.raises(ModelError, match=r"no trained sequence-classification head .*PointwiseLLM"):
            CrossEncoder(str(empty), device="cpu").load()


# Precision


def test_float16_on_a_cpu_is_refused(llama):
    with pytest.raises(ConfigurationError, match="use 'float32' or 'bfloat16'"):
        HFModel(llama, device="cpu", dtype="float16").load()


def test_an_unknown_precision_is_refused(llama):
    with pytest.raises(ConfigurationError, match="dtype must be one of float32, bfloat16, float16, got 'int8'"):
        HFModel(llama, device="cpu", dtype="int8").load()


@pytest.mark.parametrize(("asked", "given"), [(None, torch.float32), ("bfloat16", torch.bfloat16)])
def test_precision_is_what_was_asked_for(llama, asked, given):
    model = HFModel(llama, device="cpu", dtype=asked)
    assert model._loaded.network.dtype is given
    assert model.choices([ask("the cat")], [("Yes", "No")])[0].logprobs.dtype == "float64"


@pytest.mark.parametrize("field", ["batch_tokens", "max_length"])
def test_sizes_below_one_are_refused(llama, field):
    with pytest.raises(ConfigurationError, match=f"{field} must be at least 1 token, got 0"):
        HFModel(llama, **{field: 0})


# Sharing


def test_a_cached_model_loads_without_asking_the_hub(tmp_path):
    """A machine that is offline would wait for every file; what is cached is used as it is."""
    snapshot = tmp_path / "hub" / "models--owner--tiny" / "snapshots" / "abc"
    decoder(snapshot)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc", encoding="utf-8")
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(500)

        do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

        def log_message(self, *_):
            pass

    script = "from pyterrier_llmrank.models import as_model; as_model('owner/tiny').load()"
    with HTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        own = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_OFFLINE": "0"}
        subprocess.run([sys.executable, "-c", script], env={**os.environ, **own}, check=True, capture_output=True)
        server.shutdown()
    assert [path for path in asked if "tiny" in path] == []  # huggingface_hub may ask for things of its own


def test_equal_checkpoints_share_one_network(llama):
    assert local(llama)._loaded.network is local(llama, batch_tokens=7)._loaded.network
    pointwise, listwise = PointwiseLLM(local(llama)), ListwiseLLM(local(llama))
    assert pointwise.scorer.model._loaded.network is listwise.scorer.model._loaded.network


def test_by_name_too(llama):
    pointwise, listwise = PointwiseLLM(llama), ListwiseLLM(llama)
    assert pointwise.scorer.model._loaded is listwise.scorer.model._loaded


def test_other_precision_is_another_network(llama):
    other = HFModel(llama, device="cpu", dtype="bfloat16")
    assert local(llama)._loaded is not other._loaded


def test_a_folder_that_was_trained_into_again_is_read_anew(copy):
    before = local(copy)
    first = before._loaded.network
    weights = Path(copy, "model.safetensors")
    later = weights.stat().st_mtime_ns + 1_000_000
    os.utime(weights, ns=(later, later))
    assert local(copy)._loaded.network is not first and before._loaded.network is first


def test_weights_go_with_their_last_user(copy):
    model = local(copy)
    key = ("language", model._checkpoint(), model._checkpoint().stamps)
    model.load()
    assert key in loading._shared
    del model
    gc.collect()
    assert key not in loading._shared


def test_pickling_drops_the_weights_and_they_load_again(llama):
    model = local(llama)
    scores = model.choices([ask("the cat")], [("Yes", "No")])[0].logprobs
    packed = pickle.dumps(model)
    assert len(packed) < 1000
    fresh = pickle.loads(packed)
    assert fresh == model and "_loaded" not in vars(fresh)
    assert fresh.choices([ask("the cat")], [("Yes", "No")])[0].logprobs.tolist() == scores.tolist()


@pytest.mark.parametrize(
    "value",
    [
        HFModel("Qwen/Qwen3-0.6B"),
        HFModel("Qwen/Qwen3-0.6B", dtype="bfloat16", batch_tokens=99, thinking=True, chat=False),
        CrossEncoder("owner/name", revision="v1", trust_remote_code=True),
        BiEncoder("owner/name", pooling="cls", normalize=False, query_prefix="query: ", max_length=64),
    ],
)
def test_repr_rebuilds_and_equality_follows(value):
    rebuilt = eval(repr(value))
    assert rebuilt == value and hash(rebuilt) == hash(value) and repr(rebuilt) == repr(value)
    assert value != type(value)("another/name")


def test_loading_changes_neither_equality_nor_repr(llama):
    one, other = local(llama), local(llama)
    one.load()
    assert one == other and hash(one) == hash(other) and repr(one) == repr(other)


def test_constructing_loads_nothing(llama):
    code = f"""
import sys
import pyterrier_llmrank as pl
from pyterrier_llmrank.scorers import BiEncoder, CrossEncoder
folder = {llama!r}
made = [pl.ListwiseLLM(folder), pl.ListwiseLLM(folder, decode="first"), pl.PointwiseLLM(folder), CrossEncoder(folder)]
made += [BiEncoder(folder), pl.QueryLikelihood(pl.HFModel(folder))]
repr(made)
print(sorted({{"torch", "transformers"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Limits


def test_context_is_the_smallest_limit_known(llama, tmp_path):
    assert local(llama).context == 512
    assert local(llama, max_length=100).context == 100
    assert local(decoder(tmp_path, byte_tokenizer(model_max_length=64))).context == 64


def test_context_of_a_network_without_limits_is_unbounded(tmp_path):
    folder = Path(encoder_decoder(tmp_path))
    config = json.loads((folder / "config.json").read_text())
    assert "max_position_embeddings" not in config
    assert local(folder).context is None
