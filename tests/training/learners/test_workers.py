"""Two processes that share a batch have the gradients of one, though either has those of its own vectors alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tiny_retriever import LISTS, retriever

from pyterrier_llmrank.training.learners import BiEncoderLearner
from pyterrier_llmrank.training.workers import Workers

LOSSES = ("cadet", "bixse")
SHARES = (3, 4)  # lists of the first process; the second has the others, or none


def learnt(source, loss, lists, workers):
    """The loss, and the gradients after those of all workers were averaged."""
    learner = BiEncoderLearner(source, loss=loss, batch_tokens=64, held_tokens=64)
    value = learner.learn(lists, lambda scalar: scalar.backward())
    named = dict(learner.network.named_parameters())
    workers.average_gradients(list(named.values()), len(lists))
    return value, {name: one.grad for name, one in named.items() if one.grad is not None}


if __name__ == "__main__":
    source, target = sys.argv[1:]
    here = Workers.here("cpu")
    for loss in LOSSES:
        for share in SHARES:
            value, gradients = learnt(source, loss, LISTS[:share] if here.first else LISTS[share:], here)
            value = here.mean(value, share if here.first else len(LISTS) - share)
            if here.first:
                save_file(gradients, f"{target}-{loss}-{share}", {"loss": repr(value)})


@pytest.mark.slow
def test_two_workers_learn_what_one_learns(tmp_path):
    pytest.importorskip("accelerate")
    import torch
    from safetensors import safe_open

    folder = retriever(tmp_path / "bert")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "PYTHONPATH": paths}
    told = [sys.executable, __file__, folder, str(tmp_path / "two")]
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"} for rank in (0, 1)]
    started = [subprocess.Popen(told, env={**os.environ, **world, **rank}) for rank in ranks]
    assert [one.wait(timeout=300) for one in started] == [0, 0]
    for loss in LOSSES:
        expected, gradients = learnt(folder, loss, LISTS, Workers(torch.device("cpu")))
        for share in SHARES:
            path = f"{tmp_path}/two-{loss}-{share}"
            with safe_open(path, "pt") as file:
                assert float(file.metadata()["loss"]) == pytest.approx(expected, rel=1e-5)
            for name, value in load_file(path).items():
                whole = gradients.get(name, torch.zeros(1))
                torch.testing.assert_close(
                    value, whole.expand_as(value), rtol=1e-3, atol=1e-4 * float(whole.abs().max()) + 1e-6
                )
