"""``Retrying``: what is asked again, how long it waits, and when it gives up."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest

from pyterrier_llmrank import Rerank
from pyterrier_llmrank.core import Answer, Doc, Evidence, Question
from pyterrier_llmrank.errors import AccessDenied, ConfigurationError, ModelNotFound, ScoringError, ServerError
from pyterrier_llmrank.middleware import Cached, GaveUp, Retrying, retryable
from pyterrier_llmrank.strategies import Pointwise


@dataclass
class Flaky:
    """Fails as it is told, one error a call, then answers; ``carried`` answers go with each error."""

    errors: list
    carried: int = 0
    calls: list = field(default_factory=list)
    gives = Evidence.SCORE
    max_docs = None

    def identity(self):
        return "flaky"

    def __call__(self, questions):
        self.calls.append("".join(question.query for question in questions))
        answers = [Answer(np.array([float(ord(question.query))])) for question in questions]
        if self.errors:
            error = self.errors.pop(0)
            if self.carried:
                error.finished = (questions, dict(enumerate(answers[: self.carried])))
            raise error
        return answers


class Clock:
    """Time that passes only while someone sleeps."""

    def __init__(self):
        self.now, self.slept = 0.0, []

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


ASKED = [Question(letter, (Doc("a", "text"),), "q1") for letter in "abc"]
SCORES = [97.0, 98.0, 99.0]


def retrying(inner, clock, **more):
    return Retrying(inner, sleep=clock.sleep, clock=lambda: clock.now, **({"draw": lambda: 1.0} | more))


def scores(answers):
    return [one.scores[0] for one in answers]


def lost(n):
    return [ConnectionError(f"lost {i}") for i in range(n)]


def test_what_passes_is_asked_again():
    scorer, clock = Flaky(lost(2)), Clock()
    assert scores(retrying(scorer, clock)(ASKED)) == SCORES
    assert scorer.calls == ["abc"] * 3


def test_pauses_double_up_to_the_longest():
    clock = Clock()
    retrying(Flaky(lost(6)), clock, failures=7, pause=0.5, longest=5.0)(ASKED)
    assert clock.slept == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_pauses_are_spread_over_the_whole_range():
    clock, draw = Clock(), random.Random(0).random
    for _ in range(200):
        retrying(Flaky(lost(1)), clock, pause=8.0, draw=draw)(ASKED)
    assert 0 <= min(clock.slept) < 1 and 7 < max(clock.slept) <= 8


def test_success_takes_no_time():
    clock = Clock()
    assert scores(retrying(Flaky([]), clock)(ASKED)) == SCORES and clock.slept == []


def test_failures_in_a_row_end_it_with_the_last_one_named():
    scorer, clock = Flaky(lost(9)), Clock()
    with pytest.raises(
        GaveUp, match=r"after 3 failures in a row \(last: ConnectionError: lost 2\); .* failures="
    ) as caught:
        retrying(scorer, clock, failures=3)(ASKED)
    assert len(scorer.calls) == 3 and len(clock.slept) == 2
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_each_call_counts_its_own_failures():
    scorer, clock = Flaky(lost(2)), Clock()
    patient = retrying(scorer, clock, failures=3)
    patient(ASKED)
    scorer.errors[:] = lost(2)
    assert scores(patient(ASKED)) == SCORES


def test_a_deadline_ends_it_before_a_pause_that_would_pass_it():
    clock = Clock()
    with pytest.raises(GaveUp, match=r"a deadline of 5.0 s"):
        retrying(Flaky(lost(9)), clock, failures=9, deadline=5.0)(ASKED)
    assert clock.slept == [1.0, 2.0]  # the next would end after 7 s


def test_what_will_not_pass_is_raised_at_once():
    scorer, clock = Flaky([ModelNotFound("no such model")]), Clock()
    with pytest.raises(ModelNotFound):
        retrying(scorer, clock)(ASKED)
    assert len(scorer.calls) == 1 and clock.slept == []


def test_a_failure_that_carries_answers_has_only_the_rest_asked_again():
    scorer, clock = Flaky(lost(2), carried=1), Clock()
    assert scores(retrying(scorer, clock, failures=2)(ASKED)) == SCORES  # progress is no failure in a row
    assert scorer.calls == ["abc", "bc", "c"]


def test_giving_up_loses_nothing_that_was_answered(tmp_path):
    scorer = Flaky([*lost(1), ModelNotFound("gone")], carried=1)
    with pytest.raises(ModelNotFound):
        Cached(retrying(scorer, Clock()), tmp_path / "answers")(ASKED)
    again = Flaky([])
    assert scores(Cached(again, tmp_path / "answers")(ASKED)) == SCORES
    assert again.calls == ["c"]
    scorer = Flaky(lost(1), carried=2)
    with pytest.raises(GaveUp):
        Cached(retrying(scorer, Clock(), failures=1), tmp_path / "more")(ASKED)
    again = Flaky([])
    Cached(again, tmp_path / "more")(ASKED)
    assert again.calls == ["c"]


def test_giving_up_names_the_queries():
    frame = pd.DataFrame({"qid": ["q7"], "query": ["a"], "docno": ["d"], "text": ["t"], "rank": [0]})
    with pytest.raises(ScoringError, match=r"on the queries q7: .*given up after 1 failures in a row"):
        Rerank(Pointwise(), retrying(Flaky(lost(1)), Clock(), failures=1))(frame)


class Says(RuntimeError):
    def __init__(self, retryable):
        self.retryable = retryable


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        BrokenPipeError(),
        TimeoutError(),
        asyncio.TimeoutError(),
        OSError("no route to host"),
        ServerError("overloaded"),
        Says(True),
    ],
    ids=repr,
)
def test_what_may_pass(error):
    assert retryable(error)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(),
        PermissionError(),
        IsADirectoryError(),
        AccessDenied("wrong key"),
        ModelNotFound(),
        ConfigurationError(),
        GaveUp(),
        ValueError(),
        MemoryError(),
        Says(False),
    ],
    ids=repr,
)
def test_what_will_not_pass(error):
    assert not retryable(error)


@pytest.mark.parametrize(
    "wrong",
    [{"failures": 0}, {"pause": -1.0}, {"longest": -0.5}, {"deadline": -1.0}, {"pause": float("nan")}],
    ids=repr,
)
def test_numbers_out_of_range_are_refused(wrong):
    [(name, value)] = wrong.items()
    with pytest.raises(ConfigurationError, match=f"{name} must be at least .*{value}"):
        Retrying(Flaky([]), **wrong)


def test_the_clock_is_no_part_of_its_value():
    scorer = Flaky([])
    assert Retrying(scorer) == retrying(scorer, Clock()) and "sleep" not in repr(retrying(scorer, Clock()))
