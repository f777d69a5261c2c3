"""A cached run that is killed again and again."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

PROGRAM = Path(__file__).with_name("crashing.py")
CHUNK = 4  # as it says there
KILLS = 10


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


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


def finish(tell, folder):
    tell(folder)
    assert tell() == 0
    return pd.read_json(folder / "rows")


def wait_until_asked(folder, wanted):
    until = time.monotonic() + 60
    while len(lines(folder / "asked")) < wanted:
        assert time.monotonic() < until, f"{len(lines(folder / 'asked'))} questions were asked, not {wanted}"
        time.sleep(0.001)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, which this system cannot")
def test_a_run_killed_ten_times_asks_no_finished_question_again_and_ends_the_same(tmp_path, tell):
    undisturbed, broken = tmp_path / "undisturbed", tmp_path / "broken"
    undisturbed.mkdir()
    broken.mkdir()
    rows = finish(tell, undisturbed)
    questions = lines(undisturbed / "asked")
    assert len(set(questions)) == len(questions)
    random_moment, again = random.Random().random, []
    for _ in range(KILLS):
        before, delivered = lines(broken / "asked"), set(lines(broken / "delivered"))
        process = tell(broken)
        wait_until_asked(broken, len(before) + max(1, round(len(questions) * random_moment() / KILLS)))
        time.sleep(random_moment() * 0.01)  # inside of asking, answering, writing, or in between
        os.kill(process, signal.SIGKILL)
        assert tell() == signal.SIGKILL, "it ended before it was killed"
        again += [one for one in lines(broken / "asked")[len(before) :] if one in delivered]
        check = sqlite3.connect(broken / "answers.sqlite")
        assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        check.close()
    pd.testing.assert_frame_equal(finish(tell, broken), rows)
    assert again == []
    times = Counter(lines(broken / "asked"))
    assert times.keys() == set(questions)
    assert sum(times.values()) - len(times) <= KILLS * CHUNK  # no more than what was being asked when it died
