"""``fingerprint``: what would change an answer, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fakes import PerfectScorer

from pyterrier_llmrank.aggregates import additive
from pyterrier_llmrank.core import Evidence
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.middleware import fingerprint
from pyterrier_llmrank.models import HFModel, Sampling
from pyterrier_llmrank.prompts import ListPrompt, YesNo
from pyterrier_llmrank.scorers import CrossEncoder, Ensemble, Prompted, Shuffled

MODEL = HFModel("some/name")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (MODEL, HFModel("some/other")),
        (MODEL, replace(MODEL, revision="abc")),
        (MODEL, replace(MODEL, dtype="float16")),
        (MODEL, replace(MODEL, adapter="some/lora")),
        (MODEL, replace(MODEL, max_length=512)),
        (MODEL, replace(MODEL, thinking=True)),
        (MODEL, CrossEncoder("some/name")),
        (CrossEncoder("some/name"), CrossEncoder("some/name", closed=True)),
        (Prompted(YesNo(), MODEL), Prompted(ListPrompt(), MODEL)),
        (Prompted(ListPrompt(), MODEL), Prompted(ListPrompt("letters"), MODEL)),
        (Prompted(ListPrompt(), MODEL), Prompted(ListPrompt(), MODEL, sampling=Sampling(0.5))),
        (Prompted(ListPrompt(), MODEL, sampling=Sampling(0.5)), Prompted(ListPrompt(), MODEL, sampling=Sampling(0.6))),
        (Prompted(ListPrompt(), MODEL), Prompted(ListPrompt(), MODEL, seed=1)),
        (Shuffled(PerfectScorer(), 2, "mean"), Shuffled(PerfectScorer(), 2, additive)),
        (Ensemble((PerfectScorer(), PerfectScorer())), Ensemble((PerfectScorer(),) * 3)),
        (1, 1.0),
        (1, True),
        ("1", 1),
        (("a", "b"), ("a, 'b'",)),
        ({"a": 1}, {"a": 2}),
        ({1, 2}, (1, 2)),
        (Evidence.ORDER, 2),
        (np.array([1, 2]), np.array([1.0, 2.0])),
        (np.array([[1, 2]]), np.array([1, 2])),
        (partial(max, 1), partial(max, 2)),
        (lambda n: n + 1, lambda n: n + 2),
        (lambda n, k=1: k, lambda n, k=2: k),
        (lambda n, *, k=1: k, lambda n, *, k=2: k),
        (lambda n: n.lower(), lambda n: n.upper()),
        (lambda: [n + 1 for n in ()], lambda: [n + 2 for n in ()]),
    ],
    ids=lambda part: type(part).__name__,
)
def test_parts_that_answer_differently_differ(one, other):
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (MODEL, HFModel("some/name", device="cuda:1", batch_tokens=100)),
        (Prompted(YesNo(), MODEL), Prompted(YesNo(), replace(MODEL, device="cpu"))),
        ([1, 2], (1, 2)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"x", "y", "z"}, {"z", "y", "x"}),
        (Path("a"), "a"),
        (additive, additive),
        (lambda n: n + 1, lambda n: n + 1),
    ],
    ids=lambda part: type(part).__name__,
)
def test_parts_that_only_look_different_do_not(one, other):
    told = [fingerprint(part).replace("<lambda>", "") for part in (one, other)]
    assert told[0] == told[1]


def closing(value):
    def function(n):
        return n + value

    def recursive(n):
        return recursive(n - value) if n > 0 else n

    return function, recursive


@pytest.mark.parametrize("which", [0, 1])
def test_what_a_function_closes_over_is_a_part_of_it(which):
    assert fingerprint(closing(1)[which]) == fingerprint(closing(1)[which]) != fingerprint(closing(2)[which])


@dataclass(frozen=True)
class Kept:
    """Has a field that is no part of its value."""

    name: str
    seen: list = field(default_factory=list, compare=False)


def test_fields_that_are_not_compared_do_not_count():
    assert fingerprint(Kept("a", [1])) == fingerprint(Kept("a", [2])) != fingerprint(Kept("b", [1]))


def test_a_part_may_say_itself_what_matters():
    class Service:
        def __init__(self, model, url):
            self.model, self.url = model, url

        def identity(self):
            return ("Service", self.model)

    assert fingerprint(Service("a", "http://one")) == fingerprint(Service("a", "http://two"))
    assert fingerprint(Service("a", "http://one")) != fingerprint(Service("b", "http://one"))


@dataclass(frozen=True)
class Server:
    """A model behind a URL."""

    name: str
    base_url: str
    concurrency: int = 64
    deadline: float = 600.0


@dataclass(frozen=True)
class Thinker:
    """Has a field that is called like one of a server, but decides what is answered."""

    budget: int
    deadline: float = 600.0


def test_how_patiently_a_server_is_asked_does_not_count_but_which_one_does():
    one = Server("a", "http://one/v1")
    assert fingerprint(one) == fingerprint(replace(one, concurrency=1, deadline=5.0))
    assert fingerprint(one) != fingerprint(replace(one, base_url="http://two/v1"))
    assert fingerprint(Thinker(1)) != fingerprint(Thinker(2)) != fingerprint(Thinker(2, 5.0))


def test_what_only_has_an_address_is_refused():
    with pytest.raises(ConfigurationError, match=r"object at 0x.* make it a frozen dataclass, or .* identity\(\)"):
        fingerprint(Kept(object()))


def weights(folder, text="weights"):
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text(text)
    return folder


def test_weights_in_a_folder_are_what_is_in_it(tmp_path):
    """Trained again into the same folder, they answer differently; moved, they do not."""
    folder = weights(tmp_path / "one")
    first = fingerprint(HFModel(str(folder)))
    shutil.copytree(folder, tmp_path / "two")
    assert fingerprint(HFModel(str(tmp_path / "two"))) == first
    (folder / "model.safetensors").write_text("weighty")  # of the same size
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert fingerprint(HFModel(str(folder))) != first
    (tmp_path / "two" / "notes.md").write_text("ran on Monday")
    (tmp_path / "two" / "checkpoint-5").mkdir()
    assert fingerprint(HFModel(str(tmp_path / "two"))) == first
    assert fingerprint(HFModel("some/name", adapter=str(folder))) != fingerprint(
        HFModel("some/name", adapter=str(tmp_path / "two"))
    )


def test_a_folder_that_happens_to_be_called_like_something_else_is_not_read(tmp_path, monkeypatch):
    weights(tmp_path / "log")
    monkeypatch.chdir(tmp_path)
    assert fingerprint(Kept("log")).endswith("Kept(name='log')")


def test_other_processes_agree():
    script = (
        "from pyterrier_llmrank.middleware import fingerprint;"
        "from pyterrier_llmrank.scorers import Prompted, Shuffled;"
        "from pyterrier_llmrank.models import HFModel, Sampling; from pyterrier_llmrank.prompts import ListPrompt;"
        "from pyterrier_llmrank.aggregates import additive;"
        "inner = Prompted(ListPrompt(), HFModel('some/name'), sampling=Sampling(0.5));"
        "print(fingerprint([Shuffled(inner, 2, additive), {'b', 'a', 'c'}, eval('lambda n: (n, {1, 2}, \"x\")')]))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": s},
        ).stdout
        for s in ("1", "2")
    }
    assert len(told) == 1
