"""The second driver: each query advances as soon as its own answers are back."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
from fake_models import HashModel
from fakes import FirstBiasedScorer, PerfectScorer, SilentScorer, intransitive
from laws import LAWS
from test_rerank import candidates

from pyterrier_llmrank.core import Answer, Evidence, Usage
from pyterrier_llmrank.errors import ConfigurationError, LLMRankWarning, ScoringError
from pyterrier_llmrank.flow import eagerly, relabel, run, together
from pyterrier_llmrank.middleware import Retrying
from pyterrier_llmrank.parts import AT_ONCE, at_once
from pyterrier_llmrank.prompts import PairPrompt
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import BothOrders, Ensemble, Prompted
from pyterrier_llmrank.strategies import Heapsort, Pointwise, SlidingWindow

PATIENCE = 20.0  # seconds until a test gives up on other threads


@dataclass
class ServedModel(HashModel):
    """A model that several threads may ask."""

    eager: bool = True


@dataclass
class Served(PerfectScorer):
    """Answers by relevance, also several threads at once; does something first."""

    before: object = lambda questions: None
    eager: bool = True

    def __call__(self, questions):
        self.before(questions)
        return super().__call__(questions)


def rounds(*docs):
    """A flow that asks about one document after another."""
    for doc in docs:
        yield [(doc,)]
    return list(docs)


def echo(groups):
    return [np.array(group, dtype=float) for group in groups]


# -- the driver -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS, ids=lambda law: repr(law.strategy))
def test_eager_equals_lockstep(law):
    lists = [range(0, 21), range(100, 105), range(200, 241), range(300, 300), range(400, 401)]

    def flows():
        return [relabel(law.strategy(len(rows), len(rows)), rows) for rows in lists]

    joint = run(together(flows()), intransitive)
    for together_, alone in zip(joint, eagerly(flows(), intransitive, at_once=3), strict=True):
        np.testing.assert_array_equal(together_, alone)


def test_a_flow_does_not_wait_for_the_slowest():
    through = threading.Event()

    def ask(groups):
        if groups == [(0,)]:  # answered only when the other flow is at its last round: a lockstep would never end
            assert through.wait(PATIENCE)
        if groups == [(12,)]:
            through.set()
        return echo(groups)

    assert eagerly([rounds(0, 1), rounds(10, 11, 12)], ask) == [[0, 1], [10, 11, 12]]


def test_no_more_flows_are_under_way_than_allowed():
    lock, state = threading.Lock(), {"now": 0, "most": 0}

    def ask(groups):
        with lock:
            state["now"] += 1
            state["most"] = max(state.values())
        time.sleep(0.002)
        with lock:
            state["now"] -= 1
        return echo(groups)

    eagerly([rounds(i, i) for i in range(12)], ask, at_once=3)
    assert state["most"] <= 3


def test_no_flows_are_no_threads():
    before = threading.active_count()
    assert eagerly([], echo) == []
    assert threading.active_count() == before


def test_a_round_without_questions_is_not_asked():
    def empty():
        assert (yield []) == []
        return "done"

    assert eagerly([empty()], lambda groups: pytest.fail(f"was asked {groups}")) == ["done"]


def test_a_failure_stops_the_others_after_what_they_are_asking():
    asking, failed, asked = threading.Event(), threading.Event(), []

    def ask(groups):
        asked.append(groups)
        if groups == [(0,)]:
            assert asking.wait(PATIENCE)
            failed.set()
            raise ConnectionError("the server went away")
        asking.set()
        assert failed.wait(PATIENCE)
        time.sleep(0.3)  # for the failure to be noted
        return echo(groups)

    with pytest.raises(ConnectionError, match="went away"):
        eagerly([rounds(0, 1), rounds(10, 11, 12)], ask)
    assert sorted(asked) == [[(0,)], [(10,)]]


def test_a_failure_of_the_strategy_is_raised():
    def broken():
        yield [(0,)]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        eagerly([rounds(1, 2), broken()], echo)


# -- who may be asked eagerly -----------------------------------------------------------------------------------------


def test_a_scorer_may_be_asked_as_its_models_may():
    assert at_once(Prompted(PairPrompt(), ServedModel())) == AT_ONCE
    assert at_once(Prompted(PairPrompt(), HashModel())) == 1
    assert at_once(BothOrders(Prompted(PairPrompt(), ServedModel()))) == AT_ONCE
    assert at_once(Retrying(Prompted(PairPrompt(), ServedModel()))) == AT_ONCE
    assert at_once(Prompted(PairPrompt(), Retrying(ServedModel()))) == AT_ONCE
    assert at_once(PerfectScorer()) == 1


def test_all_parts_of_a_scorer_must_agree():
    served, local = Prompted(PairPrompt(), ServedModel()), Prompted(PairPrompt(), HashModel())
    assert at_once(Ensemble((served, served))) == AT_ONCE
    assert at_once(Ensemble((served, local))) == 1
    assert at_once(Ensemble((served, FirstBiasedScorer()))) == 1


def test_a_model_says_how_much_it_takes():
    @dataclass
    class Wide(ServedModel):
        concurrency: int = 200

    assert at_once(Prompted(PairPrompt(), Wide())) == 200


def test_eager_needs_a_scorer_that_threads_may_ask():
    with pytest.raises(ConfigurationError, match="eager = True"):
        Rerank(Pointwise(), PerfectScorer(), eager=True)
    assert Rerank(Pointwise(), Served(), eager=True).eager is True


# -- reranking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [SlidingWindow(4, 2), Heapsort(2), Pointwise()], ids=repr)
def test_frames_and_costs_equal_those_in_lockstep(strategy):
    frame = candidates(queries=9)
    lockstep, eager = Rerank(strategy, Served(), eager=False), Rerank(strategy, Served())
    pd.testing.assert_frame_equal(lockstep(frame), eager(frame))
    pd.testing.assert_frame_equal(
        lockstep.ledger.frame().drop(columns="seconds"), eager.ledger.frame().drop(columns="seconds")
    )
    assert eager.ledger.total.usage == lockstep.ledger.total.usage
    assert len(eager.scorer.rounds) == eager.ledger.frame()["rounds"].sum() == eager.ledger.total.rounds
    assert len(lockstep.scorer.rounds) == lockstep.ledger.frame()["rounds"].max()


def test_seconds_of_rounds_that_overlap_add_up_to_the_wall_time():
    frame, reranker = candidates(queries=8), Rerank(Pointwise(), Served(before=lambda questions: time.sleep(0.1)))
    began = time.perf_counter()
    reranker(frame)
    wall = time.perf_counter() - began
    booked = reranker.ledger.frame()["seconds"].sum()
    assert booked == pytest.approx(reranker.ledger.total.seconds)
    assert 0.1 <= booked <= wall


def test_a_failure_names_its_query_and_keeps_what_the_others_paid():
    others = threading.Semaphore(0)

    def before(questions):
        if questions[0].qid != "q1":
            others.release()
            return
        for _ in range(2):  # a round of both others
            assert others.acquire(timeout=PATIENCE)
        time.sleep(0.3)  # for what they were asked to be booked
        raise ConnectionError("the server went away")

    reranker = Rerank(Pointwise(), Served(before=before))
    with pytest.raises(ScoringError, match="failed on the queries q1: the server went away"):
        reranker(candidates(queries=3))
    assert [reranker.ledger[qid].usage.calls for qid in ("q0", "q1", "q2")] == [12, 0, 12]


def test_unreadable_answers_are_counted_in_one_warning():
    @dataclass(frozen=True)
    class Mute(SilentScorer):
        eager: bool = True

    with pytest.warns(LLMRankWarning, match="36 of 36 answers") as said:
        Rerank(Pointwise(), Mute())(candidates(queries=3))
    assert len(said) == 1


def test_a_strategy_of_ones_own_may_be_a_generator_function():
    def reverse(n, k):
        [scores] = yield [tuple(range(n))]
        return -scores

    frame = candidates(queries=5)
    pd.testing.assert_frame_equal(Rerank(reverse, Served())(frame), Rerank(reverse, PerfectScorer())(frame))


# -- a progress bar ---------------------------------------------------------------------------------------------------


@dataclass
class FailsLater:
    """Answers a few questions, then nothing more."""

    left: int
    gives: Evidence = Evidence.SCORE
    max_docs: int | None = None
    asked: list = field(default_factory=list)

    def __call__(self, questions):
        self.asked.append(len(questions))
        if sum(self.asked) > self.left:
            raise ConnectionError("the server went away")
        return [Answer(np.zeros(len(one.docs)), Usage(1)) for one in questions]


def test_a_progress_bar_changes_no_count_of_rounds():
    frame, counts = candidates(queries=2, n=100), []
    for verbose in (False, True):
        reranker = Rerank(Pointwise(), PerfectScorer(), verbose=verbose)
        reranker(frame)
        counts.append((reranker.ledger["q0"].rounds, reranker.ledger["q1"].rounds, reranker.ledger.total.rounds))
    assert counts == [(1, 1, 1), (1, 1, 1)]


def test_a_round_that_fails_in_the_middle_is_booked_as_far_as_it_came():
    reranker = Rerank(Pointwise(), FailsLater(left=150), verbose=True)
    with pytest.raises(ScoringError):
        reranker(candidates(queries=2, n=100))
    assert [reranker.ledger[qid].usage.calls for qid in ("q0", "q1")] == [100, 28]
