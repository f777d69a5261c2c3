"""A file of vectors whose writer is killed again and again."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from vector_models import Refusing

from pyterrier_llmrank.vectors import Stored

PROGRAM = Path(__file__).with_name("filling.py")
KILLS = 8


@pytest.fixture(scope="module")
def filling():
    """The program as a module."""
    spec = importlib.util.spec_from_file_location("filling", PROGRAM)
    module = sys.modules["filling"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tell():
    """Sends a line to the program, or none, and reads a number."""
    program = subprocess.Popen([sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def talk(line=None):
        if line is not None:
            program.stdin.write(f"{line}\n")
            program.stdin.flush()
        return int(program.stdout.readline())

    yield talk
    program.communicate()


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, which this system cannot")
def test_a_file_whose_writer_is_killed_keeps_what_it_had_and_is_filled_to_the_end(tmp_path, tell, filling):
    for _ in range(KILLS):
        before, kept = len(lines(tmp_path / "asked")), set(lines(tmp_path / "kept"))
        process, until = tell(tmp_path), time.monotonic() + 60
        while len(lines(tmp_path / "asked")) < before + random.randrange(1, filling.DOCS // KILLS):
            assert time.monotonic() < until, "nothing more was asked"
            time.sleep(0.001)
        time.sleep(random.random() * 0.01)  # inside of encoding, writing, or in between
        os.kill(process, signal.SIGKILL)
        assert tell() == signal.SIGKILL, "it ended before it was killed"
        assert not kept & set(lines(tmp_path / "asked")[before:])
        check = sqlite3.connect(tmp_path / "vectors.sqlite")
        assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        check.close()
    tell(tmp_path)
    assert tell() == 0
    times = Counter(lines(tmp_path / "asked"))
    assert sum(times.values()) - len(times) <= KILLS * filling.CHUNK  # no more than what was encoded when it died
    found = Stored(Refusing(filling.Slow("")), tmp_path / "vectors.sqlite")(filling.CORPUS)
    np.testing.assert_array_equal([one.vectors for one in found], [filling.vectors(doc) for doc in filling.CORPUS])
