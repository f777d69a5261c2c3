"""A cached run that is killed again and again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from fake_server import Server, chat_answer

PROGRAM = Path(__file__).with_name("crashing.py")
CHUNK = 4  # as it says there
KILLS = 10
LATE = 0.07  # seconds that the server takes

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, which this system cannot")


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def tell():
    """Sends a line to the program, or none, and reads a number."""
    paths = os.pathsep.join([str(PROGRAM.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    program = subprocess.Popen(
        [sys.executable, str(PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )

    def talk(line=None):
        if line is not None:
            program.stdin.write(f"{line}\n")
            program.stdin.flush()
        return int(program.stdout.readline())

    yield talk
    program.communicate()


@pytest.fixture
def folders(tmp_path):
    """Of a run that nothing disturbs, and of one that is killed."""
    made = tmp_path / "undisturbed", tmp_path / "broken"
    for folder in made:
        folder.mkdir()
    return made


def finish(tell, folder, kind, *more):
    tell(" ".join([kind, str(folder), *more]))
    assert tell() == 0
    return pd.read_json(folder / "rows")


def wait_until_asked(folder, wanted):
    until = time.monotonic() + 60
    while len(lines(folder / "asked")) < wanted:
        assert time.monotonic() < until, f"{len(lines(folder / 'asked'))} questions were asked, not {wanted}"
        time.sleep(0.001)


def kill(tell, process):
    os.kill(process, signal.SIGKILL)
    assert tell() == signal.SIGKILL, "it ended before it was killed"


def test_a_run_killed_ten_times_asks_no_finished_question_again_and_ends_the_same(folders, tell):
    undisturbed, broken = folders
    rows = finish(tell, undisturbed, "scorer")
    questions = lines(undisturbed / "asked")
    assert len(set(questions)) == len(questions)
    random_moment, again = random.Random().random, []
    for _ in range(KILLS):
        before, delivered = lines(broken / "asked"), set(lines(broken / "delivered"))
        process = tell(f"scorer {broken}")
        wait_until_asked(broken, len(before) + max(1, round(len(questions) * random_moment() / KILLS)))
        time.sleep(random_moment() * 0.01)  # inside of asking, answering, writing, or in between
        kill(tell, process)
        again += [one for one in lines(broken / "asked")[len(before) :] if one in delivered]
        check = sqlite3.connect(broken / "answers.sqlite")
        assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        check.close()
    pd.testing.assert_frame_equal(finish(tell, broken, "scorer"), rows)
    assert again == []
    times = Counter(lines(broken / "asked"))
    assert times.keys() == set(questions)
    assert sum(times.values()) - len(times) <= KILLS * CHUNK  # no more than what was being asked when it died


def test_what_a_server_answered_a_second_before_a_kill_is_not_asked_of_it_again(folders, tell):
    undisturbed, broken = folders
    answered = {}  # when each prompt was

    async def late(text):
        if "Passage B" in text:  # what is no trial of the server
            await asyncio.sleep(LATE)
            answered.setdefault(text, time.monotonic())
        return chat_answer("AB"[zlib.crc32(text.encode()) % 2])[1]

    def answer(path, body):
        if path == "/v1/models":
            return 200, {"data": [{"id": "tiny"}]}
        return (200, late(str(body["messages"]))) if path == "/v1/chat/completions" else (404, {})

    with Server(answer) as server:
        rows = finish(tell, undisturbed, "server", server.url)
        everything, again = len(answered), []
        assert everything == 380
        answered.clear()
        for _ in range(2):
            process, before = tell(f"server {broken} {server.url}"), len(answered)
            while len(answered) - before < 20:
                time.sleep(0.01)
            time.sleep(1 + random.random() * 0.3)
            known = {text for text, at in answered.items() if at < time.monotonic() - 1}
            kill(tell, process)
            assert len(answered) < everything
            again.append((known, len(server.asked)))
        pd.testing.assert_frame_equal(finish(tell, broken, "server", server.url), rows)
    for known, begun in again:
        assert len(known) >= 20
        later = [json.loads(one.partition(" ")[2] or "{}") for one in server.asked[begun:]]
        assert not known & {str(body["messages"]) for body in later if "messages" in body}


def test_a_killed_run_of_a_local_model_loses_no_more_than_its_last_chunk(folders, tell):
    undisturbed, broken = folders
    rows = finish(tell, undisturbed, "model")
    prompts = {one for call in lines(undisturbed / "asked") for one in json.loads(call)}
    lost = 0
    for number in range(3):
        before, process = len(lines(broken / "asked")), tell(f"model {broken}")
        wait_until_asked(broken, before + 2 + number)
        time.sleep(random.random() * 0.05)
        kill(tell, process)
        lost += len(json.loads(lines(broken / "asked")[-1]))
    pd.testing.assert_frame_equal(finish(tell, broken, "model"), rows)
    calls = [json.loads(call) for call in lines(broken / "asked")]
    assert {one for call in calls for one in call} == prompts and len(prompts) == 720
    assert sum(map(len, calls)) - len(prompts) <= lost
    assert max(map(len, calls)) <= 0.1 / 0.002  # what takes so long, as the program says
