"""The loop that trains networks: it learns, is the same every time, stops, chooses, and survives a kill."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.errors import ConfigurationError, InputError, ModelError
from pyterrier_llmrank.training.checkpoint import NAME
from pyterrier_llmrank.training.data import TrainingList
from pyterrier_llmrank.training.learner import Micro
from pyterrier_llmrank.training.loop import train
from pyterrier_llmrank.training.losses import softmax_cross_entropy
from pyterrier_llmrank.training.settings import Training

WORDS = ("north", "south", "east", "west")
QUICK = Training(steps=40, batch_size=4, learning_rate=0.05, warmup=0.0)


class Bag(Micro):
    """Scores a text by its words; the first word of ``WORDS`` is what queries want."""

    def __init__(self, micro=None, dropout=0.0):
        super().__init__(micro)
        torch.manual_seed(1)
        self.network = nn.Sequential(
            nn.Linear(len(WORDS), 8), nn.Dropout(dropout), nn.Tanh(), nn.Linear(8, 1, bias=False)
        )

    def __repr__(self):
        return "Bag()"

    def scores(self, lists):
        rows = [[[doc.text.split().count(word) for word in WORDS] for doc in one.docs] for one in lists]
        return self.network(torch.tensor(rows, dtype=torch.float32))[..., 0]

    def loss(self, lists):
        return softmax_cross_entropy(self.scores(lists), torch.tensor([one.targets for one in lists]))

    def save(self, folder):
        torch.save(self.network.state_dict(), folder / "weights.pt")


def toy(n=10):
    texts = [Doc(word, f"{word} {word} north" if word != "north" else "north south north north") for word in WORDS]
    return [TrainingList(str(i), "?", tuple(texts[i % 2 :]), (3.0, 2.0, 1.0, 0.0)[i % 2 :]) for i in range(0, 2 * n, 2)]


def weights(learner):
    return torch.cat([value.flatten() for value in learner.network.state_dict().values()])


def trained(folder, training=QUICK, learner=None, **options):
    learner = learner or Bag()
    return learner, train(learner, toy(), folder, training, **options)


def test_it_learns_and_leaves_weights_history_plot_and_card(tmp_path):
    pytest.importorskip("matplotlib")
    learner, found = trained(tmp_path, about={"title": "Words", "base": "org/name", "usage": "Rerank(...)"})
    assert (learner.scores(toy()).diff(dim=1) < 0).all()  # the ideal order
    assert found.history[-1]["loss"] < found.history[0]["loss"] and found.steps == found.best == 40
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert rows == found.history and [row["step"] for row in rows] == list(range(1, 41))
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\nlibrary_name") and "base_model: org/name" in card and "Bag()" in card
    assert (tmp_path / "history.png").stat().st_size > 1000 and (tmp_path / "weights.pt").exists()


def test_the_same_call_gives_the_same_weights_and_leaves_the_random_state_alone(tmp_path):
    before = torch.get_rng_state()
    one, _ = trained(tmp_path / "a", learner=Bag(dropout=0.3))
    torch.manual_seed(99)
    state = torch.get_rng_state()
    other = Bag(dropout=0.3)
    torch.set_rng_state(state)
    trained(tmp_path / "b", learner=other)
    assert torch.equal(torch.get_rng_state(), state) and not torch.equal(before, state)
    assert torch.equal(weights(one), weights(other))
    seeded, _ = trained(tmp_path / "c", Training(**{**QUICK.__dict__, "seed": 1}), learner=Bag(dropout=0.3))
    assert not torch.equal(weights(one), weights(seeded))


def test_micro_batches_change_nothing(tmp_path):
    whole, _ = trained(tmp_path / "a")
    parts, _ = trained(tmp_path / "b", learner=Bag(micro=3))
    assert torch.allclose(weights(whole), weights(parts), atol=1e-6)


def test_the_best_weights_by_the_measure_are_saved(tmp_path):
    learner = Bag()
    seen = iter([0.1, 0.5, 0.3, 0.2, 0.4])
    kept = []

    def measure():
        assert not learner.network.training and not torch.is_grad_enabled()
        kept.append(weights(learner).clone())
        return next(seen)

    training = Training(**{**QUICK.__dict__, "evaluate_every": 5, "patience": 3})
    _, found = trained(tmp_path, training, learner, measure=measure)
    assert found.steps == 20 and found.best == 5  # three measurements without a better one
    assert torch.equal(weights(learner), kept[1])
    assert [row["measure"] for row in found.history if "measure" in row] == [0.1, 0.5, 0.3, 0.2, 0.4]
    assert "best 0.5000 after step 5" in (tmp_path / "README.md").read_text()


def test_weights_that_only_got_worse_are_those_of_the_beginning(tmp_path):
    learner = Bag()
    first = weights(learner).clone()
    found = iter(range(100, 0, -1))
    _, told = trained(tmp_path, learner=learner, measure=lambda: next(found))
    assert told.best == 0 and torch.equal(weights(learner), first)


class Stopped(Exception):
    """What a user's interrupt is."""


@pytest.mark.parametrize("at", [7, 10, 23, 39])
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(tmp_path, at):
    training = Training(**{**QUICK.__dict__, "checkpoint_every": 5, "evaluate_every": 8})
    measured = []

    def run(folder, stop=None):
        learner = Bag(dropout=0.3)
        loss = learner.loss
        calls = []

        def counted(lists):
            calls.append(1)
            if len(calls) == stop:
                raise Stopped
            return loss(lists)

        learner.loss = counted
        found = train(learner, toy(), folder, training, measure=lambda: -float(loss(toy())))
        measured.append(found.best)
        return weights(learner), found.history, len(calls)

    whole, history, _ = run(tmp_path / "whole")
    with pytest.raises(Stopped):
        run(tmp_path / "stopped", stop=at)
    assert (tmp_path / "stopped" / NAME).exists()
    again, told, calls = run(tmp_path / "stopped")
    assert torch.equal(again, whole) and told == history and measured[0] == measured[1]
    assert calls == 40 - (at - 1) // 5 * 5  # what the checkpoint held was not done again
    assert not (tmp_path / "stopped" / NAME).exists()


SCRIPT = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from test_loop import Bag, QUICK, Training, toy, train
learner = Bag(dropout=0.3)
loss, calls = learner.loss, []
def counted(lists):
    calls.append(1)
    if len(calls) == {kill}:
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(lists)
learner.loss = counted
train(learner, toy(), {folder!r}, Training(**{{**QUICK.__dict__, "checkpoint_every": 4}}))
"""


def test_a_killed_process_goes_on_to_the_same_weights(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    def run(kill):
        code = SCRIPT.format(tests=str(Path(__file__).parent), kill=kill, folder=str(tmp_path / "killed"))
        return subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode

    assert run(kill=19) == -signal.SIGKILL
    assert run(kill=0) == 0
    whole, _ = trained(tmp_path / "whole", learner=Bag(dropout=0.3))
    kept = torch.load(tmp_path / "killed" / "weights.pt")
    assert torch.equal(torch.cat([value.flatten() for value in kept.values()]), weights(whole))


def test_the_checkpoint_of_another_training_is_not_gone_on_with(tmp_path):
    training = Training(**{**QUICK.__dict__, "checkpoint_every": 5})
    learner = Bag()
    learner.loss = lambda lists, loss=learner.loss: (_ for _ in ()).throw(Stopped) if done(lists) else loss(lists)
    count = iter(range(100))

    def done(_):
        return next(count) == 12

    with pytest.raises(Stopped):
        train(learner, toy(), tmp_path, training)
    with pytest.raises(ConfigurationError, match="another folder, or delete"):
        trained(tmp_path, Training(**{**training.__dict__, "learning_rate": 0.1}))


def test_no_lists_are_refused(tmp_path):
    with pytest.raises(InputError, match="no lists to learn from"):
        train(Bag(), [], tmp_path)


def test_a_loss_that_is_no_number_is_said_with_its_step(tmp_path):
    learner = Bag()
    learner.loss = lambda lists: learner.scores(lists).sum() * float("nan")
    with pytest.raises(ModelError, match=r"loss of step 1 is nan.*lower learning_rate \(0.05\)"):
        trained(tmp_path, learner=learner)


def test_memory_that_was_exceeded_is_said_with_the_remedy(tmp_path):
    learner = Bag(micro=8)

    def loss(lists):
        raise torch.OutOfMemoryError("CUDA out of memory")

    learner.loss = loss
    with pytest.raises(ModelError, match=r"4 lists; read fewer .*micro=…, now 8"):
        trained(tmp_path, learner=learner)


def test_bfloat16_passes_leave_float32_weights(tmp_path):
    learner, found = trained(tmp_path, Training(**{**QUICK.__dict__, "precision": "bfloat16"}))
    assert weights(learner).dtype == torch.float32 and (learner.scores(toy()).diff(dim=1) < 0).all()
    assert found.steps == 40


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_rates_rise_to_the_highest_and_fall_to_the_final_part(schedule):
    training = Training(steps=100, learning_rate=1.0, warmup=0.1, final=0.1, schedule=schedule)
    rates = [training.rate(step, 100) for step in range(101)]
    assert rates[:10] == sorted(rates[:10]) and rates[0] > 0 and max(rates) == rates[10] == 1.0
    assert math.isclose(rates[100], 1.0 if schedule == "constant" else 0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"epochs": 0},
        {"learning_rate": float("nan")},
        {"warmup": 2},
        {"schedule": "x"},
        {"precision": "8"},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Training(**wrong)


def test_settings_are_written_as_the_call_that_rebuilds_them():
    assert repr(Training(steps=5, patience=2)) == "Training(steps=5, patience=2)"


WORKERS = """
import sys, torch
sys.path.insert(0, {tests!r})
from test_loop import Bag, QUICK, Training, toy, train, weights
learner = Bag()
found = train(learner, toy(), {folder!r}, Training(**{{**QUICK.__dict__, "device": "cpu", "batch_size": 3}}))
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


def test_two_processes_train_what_one_does(tmp_path):
    pytest.importorskip("accelerate")
    script = tmp_path / "script.py"
    script.write_text(WORKERS.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "two")))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    learner, _ = trained(tmp_path / "one", Training(**{**QUICK.__dict__, "batch_size": 3}))
    kept = torch.load(tmp_path / "two" / "weights.pt")
    assert torch.allclose(torch.cat([value.flatten() for value in kept.values()]), weights(learner), atol=1e-5)
