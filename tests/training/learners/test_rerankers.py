"""Cross-encoders and Set-Encoders learn from lists, by any loss, and read what their scorers read."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from every_loss import BINARY, EVERY
from tiny_lists import encoder, lists

from pyterrier_llmrank import CrossEncoder, SetEncoder
from pyterrier_llmrank.core import Doc, Question
from pyterrier_llmrank.errors import ConfigurationError, InputError, ModelError, ModelNotFound
from pyterrier_llmrank.training.checkpoint import NAME
from pyterrier_llmrank.training.data import TrainingList
from pyterrier_llmrank.training.fitting import ndcg
from pyterrier_llmrank.training.learners import CrossEncoderLearner, SetEncoderLearner
from pyterrier_llmrank.training.loop import train
from pyterrier_llmrank.training.losses import by_teacher_ranks, rank_net
from pyterrier_llmrank.training.named import LOSSES, loss_of
from pyterrier_llmrank.training.settings import Training

KINDS = {"cross-encoder": (CrossEncoderLearner, CrossEncoder), "set-encoder": (SetEncoderLearner, SetEncoder)}
TOY = Training(50, batch_size=4, learning_rate=5e-3, warmup=0.1, device="cpu")
QUESTIONS = [Question(one.query, one.docs) for one in lists()]
BEST_ONLY = {*BINARY, "circle", "dear"}  # losses that want the best document first, and no more
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return encoder(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def drops(tmp_path_factory):
    return encoder(tmp_path_factory.mktemp("drops"), dropout=0.1)


def made(kind, start, **options):
    return KINDS[kind][0](start, **options)


def weights(folder):
    return safetensors.torch.load_file(Path(folder) / "model.safetensors")


def same(one, other, atol=0.0):
    return one.keys() == other.keys() and all(torch.allclose(one[name], other[name], rtol=0, atol=atol) for name in one)


# Losses


def quality(learner, least=0.0):
    """nDCG of the learner's own scorer on the lists that it learnt from; targets below ``least`` are worth nothing."""
    found = []
    for answer, own in zip(learner.scorer(QUESTIONS), lists(), strict=True):
        targets = np.array(own.targets)
        found.append(ndcg(answer.scores, np.where(targets < least, 0, targets), 3))
    return np.mean(found)


@pytest.mark.parametrize("loss", EVERY)
def test_a_toy_is_learnt_in_50_steps_by_every_loss(loss, start, tmp_path):
    learner, least = CrossEncoderLearner(start, loss=EVERY[loss]), 2.0 if loss in BEST_ONLY else 0.0
    before = quality(learner, least)
    train(learner, lists(), tmp_path, TOY)
    assert before < 1.0 and quality(learner, least) == 1.0


@pytest.mark.parametrize("loss", ["rank_net", "adr_mse", "softmax_cross_entropy"])
def test_a_set_encoder_learns_the_toy(loss, start, tmp_path):
    learner = SetEncoderLearner(start, loss=loss)
    least = 2.0 if loss == "softmax_cross_entropy" else 0.0
    before = quality(learner, least)
    train(learner, lists(), tmp_path, TOY)
    assert before < 1.0 and quality(learner, least) == 1.0


def test_every_named_loss_is_one_and_others_are_refused(start):
    assert all(callable(loss_of(name)) for name in LOSSES)
    with pytest.raises(ConfigurationError, match=r"'margin_mse'.* or a function, got 'hinge'"):
        CrossEncoderLearner(start, loss="hinge")


# What is read, and what is left


@each_kind
def test_training_reads_and_scores_what_ranking_does(kind, start):
    learner = made(kind, start)
    learner.network.eval()
    found = learner.scores(QUESTIONS).detach().double().numpy()
    ranked = np.concatenate([answer.scores for answer in learner.scorer(QUESTIONS)])
    np.testing.assert_allclose(found, ranked, atol=1e-6)
    assert found.std() > 0


@each_kind
def test_the_folder_is_a_checkpoint_that_gives_the_same_scores(kind, start, tmp_path):
    learner = made(kind, start)
    train(learner, lists(), tmp_path, Training(3, learning_rate=1e-3, device="cpu"))
    loaded = KINDS[kind][1](str(tmp_path), device="cpu", dtype="float32")
    for own, other in zip(loaded(QUESTIONS), learner.scorer(QUESTIONS), strict=True):
        np.testing.assert_allclose(own.scores, other.scores, atol=1e-6)
    again = made(kind, str(tmp_path), seed=7)  # its head is there: nothing is drawn
    assert same(again.network.state_dict(), learner.network.state_dict())


def test_the_limit_of_training_is_that_of_ranking(start, tmp_path):
    learner = CrossEncoderLearner(start, max_length=9)
    train(learner, lists(), tmp_path, Training(1, device="cpu"))
    [answer] = CrossEncoder(str(tmp_path), device="cpu")([Question("q", (Doc("d", "the cat" * 9),))])
    assert answer.usage.prompt_tokens == 9 and answer.usage.truncated_tokens > 0
    both = SetEncoderLearner(start, max_query_tokens=1, max_doc_tokens=2)
    train(both, lists(), tmp_path / "set", Training(1, device="cpu"))
    [answer] = SetEncoder(str(tmp_path / "set"), device="cpu")([Question("q12", (Doc("d", "the cat" * 9),))])
    assert answer.usage.prompt_tokens == 2 + 1 + 1 + 2 + 1


@pytest.mark.parametrize("labels", [1, 2])
def test_a_classifier_goes_on_with_its_own_head(labels, tmp_path):
    folder = encoder(tmp_path, auto=transformers.AutoModelForSequenceClassification, num_labels=labels)
    learner = CrossEncoderLearner(folder, seed=5)
    assert same(learner.network.state_dict(), weights(folder))
    [plain] = CrossEncoder(folder, device="cpu")(QUESTIONS[:1])
    np.testing.assert_allclose(learner.scorer(QUESTIONS[:1])[0].scores, plain.scores, atol=1e-6)


@each_kind
def test_a_new_head_is_drawn_by_the_seed_and_by_nothing_else(kind, start):
    state = torch.get_rng_state()
    one, same_seed, other = (made(kind, start, seed=seed).network.state_dict() for seed in (0, 0, 1))
    assert same(one, same_seed) and not same(one, other) and torch.equal(torch.get_rng_state(), state)


@each_kind
def test_states_that_are_computed_again_change_no_gradient(kind, start):
    gradients = []
    for checkpointing in (False, True):
        learner = made(kind, start, checkpointing=checkpointing)
        learner.network.train()
        learner.learn(lists(), lambda loss: loss.backward())
        gradients.append({name: one.grad for name, one in learner.network.named_parameters() if one.grad is not None})
    assert same(*gradients, atol=1e-6) and len(gradients[0]) > 20


@each_kind
@pytest.mark.parametrize("micro", [1, 3])
def test_how_many_lists_are_read_at_once_changes_no_gradient(kind, micro, start):
    gradients = []
    for size in (None, micro):
        learner = made(kind, start, loss="softmax_cross_entropy", micro=size)
        learner.learn(lists(), lambda loss: loss.backward())
        gradients.append({name: one.grad for name, one in learner.network.named_parameters() if one.grad is not None})
    assert same(*gradients, atol=1e-6)


def test_batches_within_a_list_and_packed_rows_change_no_gradient(start):
    gradients = []
    for options in ({}, {"batch_tokens": 1}, {"packed": True}):
        learner = CrossEncoderLearner(start, **options)
        learner.learn(lists(), lambda loss: loss.backward())
        gradients.append({name: one.grad for name, one in learner.network.named_parameters() if one.grad is not None})
    assert same(*gradients[:2], atol=1e-6) and same(*gradients[::2], atol=1e-6)


# The same every time, also when killed, and in two processes


@each_kind
def test_the_same_seed_gives_the_same_weights(kind, drops, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(made(kind, drops), lists(), tmp_path / name, Training(5, device="cpu", batch_size=2, seed=seed))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


SCRIPT = """
import sys
sys.path[:0] = [{tests!r}]
import torch
torch.set_num_threads(1)
from tiny_lists import lists
from pyterrier_llmrank.training.learners import CrossEncoderLearner
from pyterrier_llmrank.training.loop import train
from pyterrier_llmrank.training.settings import Training

learner = CrossEncoderLearner({start!r}, loss="mean_squared_error")
training = Training({steps}, batch_size=2, learning_rate={rate}, device="cpu", checkpoint_every=3)
train(learner, lists(), {folder!r}, training)
if torch.distributed.is_initialized():
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
"""


def script(path, start, folder, steps, rate):
    tests = str(Path(__file__).parents[2])
    path.write_text(SCRIPT.format(tests=tests, start=start, folder=str(folder), steps=steps, rate=rate))
    return str(path)


def environment():
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}


def test_a_training_killed_at_random_ends_with_the_same_loss_and_weights(drops, tmp_path):
    steps = 100
    code = script(tmp_path / "train.py", drops, tmp_path / "killed", steps, 1e-3)
    process = subprocess.Popen([sys.executable, code], env=environment())
    kept = tmp_path / "killed" / NAME
    while not kept.exists() and process.poll() is None:
        time.sleep(0.005)
    time.sleep(0.15 * random.random())  # any moment of what is left
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and kept.exists() and not (tmp_path / "killed" / "config.json").exists()
    training = Training(steps, batch_size=2, learning_rate=1e-3, device="cpu", checkpoint_every=3)
    assert 0 < torch.load(kept)["step"] < steps
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the process that was killed: sums are rounded by how they are shared out
    histories = [
        train(CrossEncoderLearner(drops, loss="mean_squared_error"), lists(), tmp_path / name, training).history
        for name in ("killed", "whole")
    ]
    torch.set_num_threads(threads)
    assert abs(histories[0][-1]["loss"] - histories[1][-1]["loss"]) < 1e-6
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "whole"), atol=1e-6)


@pytest.mark.slow
def test_two_processes_train_what_one_does(start, tmp_path):
    pytest.importorskip("accelerate")
    code = script(tmp_path / "train.py", start, tmp_path / "two", 6, 1e-4)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", code]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    training = Training(6, batch_size=2, learning_rate=1e-4, device="cpu")
    train(CrossEncoderLearner(start, loss="mean_squared_error"), lists(), tmp_path / "one", training)
    one, two, before = weights(tmp_path / "one"), weights(tmp_path / "two"), weights(start)
    for found in (one, two):  # a bias of keys has no effect and thus no gradient but rounding, which Adam scales up
        for name in [name for name in found if name.endswith("key.bias")]:
            del found[name]
    assert same(one, two, atol=1e-5)
    assert max((one[f"bert.{name}"] - before[name]).abs().max() for name in before if f"bert.{name}" in one) > 1e-4


# Bad input


@each_kind
def test_a_list_of_one_and_one_of_equals_teach_nothing(kind, start):
    learner = made(kind, start, loss="rank_net")
    alone = TrainingList("q", "q", (Doc("d", "the"),), (1.0,))
    equal = TrainingList("q", "q", (Doc("d", "the"), Doc("d", "the"), Doc("e", "cat")), (1.0, 1.0, 1.0))
    assert learner.learn([alone, equal], lambda loss: loss.backward()) == 0.0
    assert all(one.grad is None or not one.grad.any() for one in learner.network.parameters())


def test_duplicate_documents_get_the_same_score(start):
    learner = CrossEncoderLearner(start)
    twice = Question("q", (Doc("d", "the"), Doc("e", "cat mat"), Doc("d", "the")))
    scores = learner.scores([twice])
    assert abs(scores[0] - scores[2]) < 1e-6 < abs(scores[0] - scores[1])


@each_kind
def test_what_is_no_target_is_refused(kind, start):
    learner = made(kind, start)
    lost = TrainingList("q", "q", (Doc("d", "the"), Doc("e", "cat")), (float("nan"), 1.0))
    with pytest.raises(InputError, match="1 targets are NaN"):
        learner.learn([*lists(), lost], lambda loss: loss.backward())
    with pytest.raises(InputError, match="'q7' has no documents"):
        learner.loss([TrainingList("q7", "q", (), ())])


def test_no_lists_of_a_batch_are_no_loss(start):
    assert CrossEncoderLearner(start).learn([], lambda loss: loss.backward()) == 0.0


def test_memory_that_ran_out_is_said_with_micro(start, tmp_path):
    learner = CrossEncoderLearner(start, micro=2)

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    learner.network.forward = full
    with pytest.raises(ModelError, match=r"fewer of them at once \(micro=…, now 2\)"):
        train(learner, lists(), tmp_path, TOY)


def test_weights_that_are_not_there_or_of_no_use_are_refused(tmp_path):
    for kind in KINDS:
        with pytest.raises(ModelNotFound, match="no folder"):
            made(kind, str(tmp_path / "nothing"))
    many = encoder(tmp_path, auto=transformers.AutoModelForSequenceClassification, num_labels=3)
    with pytest.raises(ModelError, match="3 labels"):
        CrossEncoderLearner(many)
    with pytest.raises(ConfigurationError, match="batch_tokens"):
        CrossEncoderLearner(many, batch_tokens=0)


def test_a_learner_is_written_as_what_makes_it():
    wanted = "loss=partial(rank_net, weight=by_teacher_ranks), micro=None, seed=0)"
    learner = CrossEncoderLearner.__new__(CrossEncoderLearner)
    learner._told, learner.named, learner.micro, learner.seed = "x", partial(rank_net, weight=by_teacher_ranks), None, 0
    learner.packed = False
    assert repr(learner) == f"CrossEncoderLearner('x', {wanted}"
