"""Real servers, started here where they are installed: the same prompts give what the local model gives."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import transformers
from tiny import BOS, CHATML, STOP, ask, byte_tokenizer, decoder, local, saved, settings
from tokenizers import processors

from pyterrier_llmrank import CrossEncoder, RerankEndpoint
from pyterrier_llmrank.core import Doc, Question
from pyterrier_llmrank.errors import ModelNotFound, Unsupported
from pyterrier_llmrank.models import OpenAIModel, Permutation, Sampling
from pyterrier_llmrank.models.http.guided import GUIDES

PROMPTS = [ask(f"Is the cat number {i} on the mat?", system="Be brief." if i % 2 else "") for i in range(12)]
BEGUN = [ask(f"Which is best, {i}?", answer="Label: (") for i in range(5)]
RAW = [ask(f"the cat {i}", raw=True) for i in range(5)]
LABELS = ("Yes", "No", "A")
HELD = [Permutation(tuple(f"[{i}]" for i in range(1, 13))), Permutation(tuple("CDEFG"), length=3)]
VLLM = os.environ.get("VLLM_PYTHON", "")  # the interpreter of an environment that has vLLM
LLAMA = os.environ.get("LLAMA_PYTHON", "")  # of one that has llama-cpp-python[server], and gguf
LLAMA_SERVER = os.environ.get("LLAMA_SERVER", "")  # the program that llama.cpp builds


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The folder of a tiny chat model, with heads of a size that servers take."""
    folder = tmp_path_factory.mktemp("served")
    return decoder(folder, byte_tokenizer(chat=CHATML), head_dim=64, max_position_embeddings=2048)


@contextmanager
def running(command, folder, port, ready="/health"):
    """A server, once it answers; its last words where it does not."""
    log = folder / "server.log"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        for _ in range(3600):
            if process.poll() is not None:
                pytest.fail(f"the server does not start: {log.read_text()[-600:]}")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{ready}", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        else:
            pytest.fail(f"the server does not answer: {log.read_text()[-600:]}")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


def told(generations):
    """Answers without the bytes that are no text, which servers leave out or mark."""
    return ["".join(one.text.split("\ufffd")) for one in generations]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def transformers_serve(checkpoint, tmp_path_factory):
    """A server that answers chats and texts, and ignores that log-probabilities are asked for."""
    program = shutil.which("transformers", path=os.path.dirname(sys.executable))
    if program is None or not all(map(find_spec, ("fastapi", "uvicorn"))):
        pytest.skip("transformers serve is not installed: pip install 'transformers[serving]'")
    port = free_port()
    command = [program, "serve", checkpoint, "--host", "127.0.0.1", "--port", str(port)]
    with running([*command, "--device", "cpu", "--dtype", "float32"], tmp_path_factory.mktemp("log"), port) as url:
        yield url


@pytest.fixture(scope="module")
def vllm(checkpoint, tmp_path_factory):
    """A server of the first kind: exact label scores by token id, and an echo."""
    if not VLLM:
        pytest.skip("VLLM_PYTHON does not name the interpreter of an environment with vLLM")
    port = free_port()
    command = [VLLM, "-m", "vllm.entrypoints.openai.api_server", "--model", checkpoint, "--port", str(port)]
    command += ["--host", "127.0.0.1", "--dtype", "float32", "--max-model-len", "1024", "--enforce-eager"]
    command += ["--served-model-name", "tiny", "--chat-template", f"{checkpoint}/chat_template.jinja"]
    command += ["--override-generation-config", '{"repetition_penalty": 1.5}']  # as a checkpoint may have its own
    with running(command, tmp_path_factory.mktemp("log"), port) as url:
        yield url


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """The folder of a tiny cross-encoder that reads 128 tokens."""
    tokenizer = byte_tokenizer(model_max_length=128)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {STOP}", pair=f"{BOS} $A {STOP} $B:1 {STOP}:1", special_tokens=[(BOS, 3), (STOP, 2)]
    )
    sizes = {"hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokens = {"vocab_size": len(tokenizer), "pad_token_id": 0, "max_position_embeddings": 128, "num_labels": 1}
    config = transformers.BertConfig(**sizes, **tokens, initializer_range=0.4)
    auto = transformers.AutoModelForSequenceClassification
    return saved(tmp_path_factory.mktemp("reranker"), tokenizer, config, auto)


@pytest.fixture(scope="module")
def vllm_reranker(bert, tmp_path_factory):
    """A server that refuses what is too long for its cross-encoder, unless it is told to cut it."""
    if not VLLM:
        pytest.skip("VLLM_PYTHON does not name the interpreter of an environment with vLLM")
    port = free_port()
    command = [VLLM, "-m", "vllm.entrypoints.openai.api_server", "--model", bert, "--port", str(port)]
    command += ["--host", "127.0.0.1", "--dtype", "float32", "--enforce-eager", "--served-model-name", "tiny"]
    with running(command, tmp_path_factory.mktemp("log"), port) as url:
        yield url


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    """The folder of a tiny chat model that llama.cpp knows, and the same as it reads it."""
    if not LLAMA:
        pytest.skip(
            "LLAMA_PYTHON does not name the interpreter of an environment with llama-cpp-python[server] and gguf"
        )
    folder, tokenizer = tmp_path_factory.mktemp("grouped"), byte_tokenizer(chat=CHATML)
    sizes = settings(tokenizer, hidden_size=64, max_position_embeddings=2048)
    saved(folder, tokenizer, transformers.Qwen3Config(**sizes, head_dim=64))
    path = folder / "tiny.gguf"
    subprocess.run([LLAMA, Path(__file__).parents[2] / "to_gguf.py", folder, path], check=True)
    return str(folder), str(path)


@pytest.fixture(scope="module")
def llama_cpp_python(grouped, tmp_path_factory):
    """A server that tells the likeliest tokens by their texts, and holds repeating against answers if it is let."""
    port = free_port()
    command = [LLAMA, "-m", "llama_cpp.server", "--model", grouped[1], "--model_alias", "tiny", "--n_ctx", "1024"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--logits_all", "true", "--type_k", "0", "--type_v", "0"]
    with running(command, tmp_path_factory.mktemp("log"), port, "/v1/models") as url:
        yield url


@pytest.fixture(scope="module")
def llama_server(grouped, tmp_path_factory):
    """A server that tells all tokens by their ids."""
    if not LLAMA_SERVER:
        pytest.skip("LLAMA_SERVER does not name llama.cpp's llama-server")
    port = free_port()
    command = [LLAMA_SERVER, "-m", grouped[1], "-a", "tiny", "-c", "4096", "-np", "4"]
    command += ["-ctk", "f32", "-ctv", "f32", "-fa", "off"]  # what it attends to is in half precision otherwise
    with running([*command, "--host", "127.0.0.1", "--port", str(port)], tmp_path_factory.mktemp("log"), port) as url:
        yield url


def test_transformers_serve_writes_what_the_local_model_writes(transformers_serve, checkpoint):
    here = local(checkpoint)
    for options in ({}, {"tokenizer": checkpoint}):
        served = OpenAIModel(checkpoint, transformers_serve, **options)
        assert served.can == {"generate"}
        with pytest.raises(Unsupported, match="use decode='generate'"):
            served.generate(PROMPTS, max_tokens=60, constraint=HELD[0])
        for prompts in (PROMPTS[:4], RAW[:2]):
            theirs, ours = (model.generate(prompts, max_tokens=6) for model in (served, here))
            assert [one.text for one in theirs] == [one.text for one in ours]
            assert [one.finish for one in theirs] == [one.finish for one in ours]
            assert [one.usage.prompt_tokens for one in theirs] == [one.usage.prompt_tokens for one in ours]


def test_transformers_serve_offers_no_labels_and_says_so(transformers_serve, checkpoint):
    with pytest.raises(Unsupported, match="log-probabilities"):
        OpenAIModel(checkpoint, transformers_serve).choices(PROMPTS, [LABELS] * len(PROMPTS))


def test_transformers_serve_does_not_know_another_model(transformers_serve):
    with pytest.raises(ModelNotFound, match="no model 'nope'"):
        OpenAIModel("nope", transformers_serve).load()


@pytest.mark.slow
@pytest.mark.parametrize("told", [True, False], ids=["tokenizer here", "the server's"])
def test_vllm_gives_the_values_of_the_local_model(vllm, checkpoint, told):
    here, served = local(checkpoint), OpenAIModel("tiny", vllm, tokenizer=checkpoint if told else None)
    assert served.can == {"choices", "continuation", "generate", "constrained"} and served.context == 1024
    for prompts in (PROMPTS, BEGUN, RAW):
        assert served.lengths(prompts) == here.lengths(prompts)
        labels, texts = [LABELS] * len(prompts), [f"the cat {i} Yes" for i in range(len(prompts))]
        for theirs, ours in zip(served.choices(prompts, labels), here.choices(prompts, labels), strict=True):
            np.testing.assert_allclose(theirs.logprobs, ours.logprobs, atol=1e-4)
            assert not theirs.missing.any()
        for theirs, ours in zip(served.continuation(prompts, texts), here.continuation(prompts, texts), strict=True):
            np.testing.assert_allclose(theirs.logprobs, ours.logprobs, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False], ids=["tokenizer here", "the server's"])
def test_vllm_writes_what_the_local_model_writes(vllm, checkpoint, known):
    here, served = local(checkpoint), OpenAIModel("tiny", vllm, tokenizer=checkpoint if known else None)
    for prompts in (PROMPTS, BEGUN, RAW):
        assert told(served.generate(prompts, max_tokens=8)) == told(here.generate(prompts, max_tokens=8))


@pytest.mark.slow
def test_vllm_repeats_what_it_drew_for_a_seed(vllm, checkpoint):
    served = OpenAIModel("tiny", vllm, tokenizer=checkpoint)
    drawn = [served.generate(PROMPTS, max_tokens=8, sampling=Sampling(), seeds=range(12)) for _ in range(2)]
    assert drawn[0] == drawn[1] != served.generate(PROMPTS, max_tokens=8, sampling=Sampling(), seeds=range(1, 13))


@pytest.mark.slow
@pytest.mark.parametrize("held", HELD)
def test_vllm_orders_as_the_local_model_does(vllm, checkpoint, held):
    """By tokens; and by texts, where it is asked in that way."""
    here, served = local(checkpoint), OpenAIModel("tiny", vllm, tokenizer=checkpoint)
    wanted = [one.text for one in here.generate(PROMPTS, max_tokens=90, constraint=held)]
    theirs = served.generate(PROMPTS, max_tokens=90, constraint=held)
    assert [one.text for one in theirs] == wanted
    assert all(one.usage.calls > 1 and not one.usage.failures for one in theirs)
    chooser = OpenAIModel("tiny", vllm, tokenizer=checkpoint, max_failures=3)  # with a wire of its own
    key = (checkpoint, None, False)
    chooser._wire.known[key] = served._facts._replace(by_id=None, guide=GUIDES[0])
    assert [one.text for one in chooser.generate(PROMPTS, max_tokens=90, constraint=held)] == wanted


@pytest.mark.slow
@pytest.mark.parametrize("api", ["rerank", "score"])
def test_vllm_reranks_as_the_local_cross_encoder_does(vllm_reranker, bert, api):
    """By probabilities; and what is too long is cut alike."""
    texts = ["the cat is on the mat", "a dog", "the cat", *["the mat " * n for n in range(1, 70)]]
    asked = [Question("which cat", tuple(Doc(f"d{i}", text) for i, text in enumerate(texts)))]
    served, here = RerankEndpoint("tiny", vllm_reranker, api=api), CrossEncoder(bert, device="cpu", dtype="float32")
    for question in (asked[0]._replace(docs=asked[0].docs[:3]), *asked):
        [theirs], [ours] = served([question]), here([question])
        np.testing.assert_allclose(theirs.scores, 1 / (1 + np.exp(-np.asarray(ours.scores))), atol=1e-5)
        assert theirs.usage.prompt_tokens == ours.usage.prompt_tokens and not theirs.usage.failures


def likely(model, prompts, n=3):
    """Labels that a server tells something of, and others: letters and digits, the likeliest of each prompt."""
    rows = [[text for text, _ in row if len(text) == 1] for row in model.next_tokens(prompts, 280)]
    return [[*[text for text in row if text.isascii() and text.isalnum()][: n - 1], "%"] for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("here", [True, False], ids=["tokenizer here", "no tokenizer"])
def test_llama_cpp_python_gives_the_values_of_the_local_model(llama_cpp_python, grouped, here):
    own, served = local(grouped[0]), OpenAIModel("tiny", llama_cpp_python, tokenizer=grouped[0] if here else None)
    assert served.can == {"choices", "generate"}  # its echo is off by a place, and it reads no token ids
    for prompts in (PROMPTS, RAW):
        ours, theirs = (told(model.generate(prompts, max_tokens=8)) for model in (own, served))
        assert all(map(str.startswith, theirs, ours))  # it goes on while a character is not complete
        labels = likely(own, prompts)
        for theirs, ours in zip(served.choices(prompts, labels), own.choices(prompts, labels), strict=True):
            known = ~theirs.missing
            assert known.any() and (theirs.logprobs >= ours.logprobs - 1e-4).all()  # what is missing is bounded
            np.testing.assert_allclose(theirs.logprobs[known], ours.logprobs[known], atol=1e-4)
    drawn = [served.generate(PROMPTS, max_tokens=8, sampling=Sampling(), seeds=range(12)) for _ in range(2)]
    assert told(drawn[0]) == told(drawn[1])


@pytest.mark.slow
@pytest.mark.parametrize("here", [True, False], ids=["tokenizer here", "the server's"])
def test_llama_server_gives_the_values_of_the_local_model(llama_server, grouped, here):
    own, served = local(grouped[0]), OpenAIModel("tiny", llama_server, tokenizer=grouped[0] if here else None)
    assert served.can == {"choices", "generate", "constrained"} and served.context == 1024
    for prompts in (PROMPTS, BEGUN, RAW):
        assert served.lengths(prompts) == own.lengths(prompts)
        assert told(served.generate(prompts, max_tokens=8)) == told(own.generate(prompts, max_tokens=8))
        labels = [LABELS] * len(prompts)
        lengths = own.lengths(prompts)
        for theirs, ours, length in zip(
            served.choices(prompts, labels), own.choices(prompts, labels), lengths, strict=True
        ):
            np.testing.assert_allclose(theirs.logprobs, ours.logprobs, atol=1e-4)
            assert not theirs.missing.any()
            calls = theirs.usage.calls  # it says what the first prompt of a request cost
            assert (theirs.usage.prompt_tokens, theirs.usage.output_tokens) == (calls * length, calls)
    for held in HELD:
        theirs, ours = (model.generate(PROMPTS, max_tokens=90, constraint=held) for model in (served, own))
        assert [one.text for one in theirs] == [one.text for one in ours]
