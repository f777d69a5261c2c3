"""Several devices: a copy of the network on each; what is asked is shared out, and nobody can tell."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
import transformers
from tiny import ask, byte_tokenizer, local, saved

from pyterrier_llmrank import PointwiseLLM
from pyterrier_llmrank.core import Doc, Question
from pyterrier_llmrank.errors import ConfigurationError, ModelError
from pyterrier_llmrank.models import HFModel, Permutation, Sampling
from pyterrier_llmrank.models.hf.batching import Budget
from pyterrier_llmrank.models.hf.replicas import Replica, spread
from pyterrier_llmrank.scorers import BiEncoder, CrossEncoder

TEXTS = [f"{head} {'the cat ' * times}" for head in ("a mat", "no", "yes yes") for times in (1, 9, 2, 14, 5)]
LABELS = [("Yes", "No")] * len(TEXTS)


class Fake:
    """As much of a loaded network as is needed to share out work."""

    reach = None

    def __init__(self):
        self.seen, self.lock = [], threading.Lock()

    def held(self):
        return self.lock


def fakes(n, tokens=10):
    return [Replica(Fake(), Budget(tokens, 100)) for _ in range(n)]


def sequences(n):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 3, rng.integers(1, 30)).tolist() for _ in range(n)]


# Sharing out


@pytest.mark.parametrize("n", [0, 1, 2, 3, 50])
@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_every_item_is_run_once_and_answers_keep_their_places(n, replicas):
    rows, ran = sequences(n), []

    def work(loaded, budget, places):
        ran.extend(places)
        return [sum(rows[place]) for place in places]

    assert spread(fakes(replicas), rows, work) == [sum(row) for row in rows]
    assert sorted(ran) == list(range(n))


def test_all_replicas_work_at_once():
    meet = threading.Barrier(3, timeout=10)
    spread(
        fakes(3, tokens=10_000),
        sequences(30),
        lambda loaded, budget, places: [meet.wait() for _ in places[:1]] * len(places),
    )


def test_what_begins_alike_stays_together():
    rows = [[query] * 40 + [doc] for doc in range(6) for query in range(4)]
    pieces = []
    spread(fakes(2, tokens=100_000), rows, lambda loaded, budget, places: pieces.append(places) or places)
    assert len(pieces) == 2
    assert sorted({rows[place][0] for place in piece} == {0, 1} for piece in pieces) == [False, True]


def test_a_slow_replica_is_left_with_less():
    replicas, counts = fakes(2), {}

    def work(loaded, budget, places):
        slow = loaded is replicas[0].loaded
        counts[slow] = counts.get(slow, 0) + len(places)
        time.sleep(0.2 if slow else 0.001)
        return places

    spread(replicas, sequences(80), work)
    assert counts[True] < 0.4 * counts[False]


def test_an_error_of_one_is_raised_and_nothing_more_is_begun():
    begun = []

    def work(loaded, budget, places):
        begun.append(places)
        raise ModelError("it broke")

    with pytest.raises(ModelError, match="it broke"):
        spread(fakes(2), sequences(200), work)
    assert len(begun) <= 2


# With networks


def answers(model):
    prompts = [ask(text) for text in TEXTS]
    drawn = {"sampling": Sampling(), "seeds": range(len(prompts))}
    return (
        [one.logprobs for one in model.choices(prompts, LABELS)],
        [one.logprobs for one in model.continuation(prompts, ["the cat"] * len(prompts))],
        [one.text for one in model.generate(prompts, max_tokens=4)],
        [one.text for one in model.generate(prompts, max_tokens=4, **drawn)],
        [one.text for one in model.generate(prompts, max_tokens=9, constraint=Permutation(("[A", "[B")))],
        [[text for text, _ in row] for row in model.next_tokens(prompts, 2)],
    )


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_two_replicas_answer_as_one_in_every_primitive(kind, request):
    folder = request.getfixturevalue(kind)
    alone = answers(local(folder))
    shared = answers(HFModel(folder, device=("cpu", "cpu"), dtype="float32", batch_tokens=64))
    for one, other in zip(alone[:2], shared[:2], strict=True):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_allclose(left, right, atol=1e-5)
    assert alone[2:] == shared[2:]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    tokenizer = byte_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.BertConfig(vocab_size=len(tokenizer), num_labels=1, initializer_range=0.4, **sizes)
    folder = tmp_path_factory.mktemp("bert")
    return saved(folder, tokenizer, config, transformers.AutoModelForSequenceClassification)


@pytest.mark.parametrize("kind", [CrossEncoder, BiEncoder])
def test_encoders_share_out_too(bert, kind):
    asked = [Question(f"q {i}", tuple(Doc(str(j), text) for j, text in enumerate(TEXTS))) for i in range(4)]
    alone = kind(bert, device="cpu")(asked)
    shared = kind(bert, device=("cpu", "cpu"), batch_tokens=64)(asked)
    for one, other in zip(alone, shared, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        assert one.usage == other.usage


def test_each_replica_has_weights_and_a_budget_of_its_own(llama):
    model = HFModel(llama, device=("cpu", "cpu"))
    model.load()
    one, other = model._replicas
    assert one.loaded is local(llama)._loaded or one.loaded.network is not other.loaded.network
    assert one.loaded.network is not other.loaded.network and one.budget is not other.budget
    again = HFModel(llama, device=("cpu", "cpu"))
    assert [replica.loaded for replica in again._replicas] == [one.loaded, other.loaded]


def test_both_replicas_are_used(llama):
    model = HFModel(llama, device=("cpu", "cpu"), batch_tokens=64)
    model.load()
    threads = set()
    for replica in model._replicas:
        replica.loaded.network.register_forward_hook(lambda *_: threads.add(threading.current_thread().name))
    model.choices([ask(text) for text in TEXTS], LABELS)
    assert len(threads) == 2 and all("llmrank-replica" in name for name in threads)


def test_threads_that_share_a_model_do_not_disturb_each_other(llama):
    """Packed rows change how a network attends while they run."""
    model, prompts = local(llama), [ask(text) for text in TEXTS]
    wanted = np.array([one.logprobs for one in model.choices(prompts, LABELS)])
    found, errors = [], []

    def run():
        try:
            for _ in range(3):
                found.append(np.array([one.logprobs for one in model.choices(prompts, LABELS)]))
                model.generate(prompts[:2], max_tokens=2)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(found) == 12
    for one in found:
        np.testing.assert_allclose(one, wanted, atol=1e-5)


# Arguments


def test_a_tuple_of_devices_is_a_value(llama):
    model = HFModel(llama, device=["cpu", "cpu"])
    assert model.device == ("cpu", "cpu") and eval(repr(model)) == model and hash(eval(repr(model))) == hash(model)
    assert HFModel(llama, device=("cpu",)) == HFModel(llama, device="cpu")


def test_methods_take_several_devices_by_name(llama):
    reranker = PointwiseLLM(llama, device=("cpu", "cpu"))
    assert reranker.scorer.model == HFModel(llama, device=("cpu", "cpu")) and "device=('cpu', 'cpu')" in repr(reranker)


@pytest.mark.parametrize("device", [(), "", ("cpu", ""), ("cpu", 1), 3, {"cpu"}])
def test_what_is_no_device_is_refused(llama, device):
    with pytest.raises(ConfigurationError, match="device must be a name such as 'cuda', or a tuple of such names"):
        HFModel(llama, device=device)


def test_devices_of_different_kinds_are_refused(llama):
    with pytest.raises(ConfigurationError, match=r"different kinds would score differently, got \('cuda:0', 'cpu'\)"):
        HFModel(llama, device=("cuda:0", "cpu"))


@pytest.mark.parametrize("device", ["gpu", "cuda:x", ("gpu:0", "gpu:1")])
def test_a_device_that_torch_does_not_know_is_told(llama, device):
    with pytest.raises(ConfigurationError, match=r"there is no device '(gpu|cuda)[^']*'; use 'cuda'"):
        HFModel(llama, device=device).load()


@pytest.mark.skipif(torch.cuda.device_count() > 8, reason="this machine has more than eight GPUs")
def test_a_gpu_that_is_not_there_is_told(llama):
    with pytest.raises(ConfigurationError, match=r"no device 'cuda:8' here: torch sees \d CUDA devices"):
        HFModel(llama, device="cuda:8").load()
