from __future__ import annotations

import pandas as pd
import pytest

from pyterrier_llmrank.core import USAGE_FIELDS, Usage
from pyterrier_llmrank.ledger import COLUMNS, Ledger


@pytest.fixture
def ledger():
    ledger = Ledger()
    ledger.open(["1", "2"])
    ledger.add_round([("1", Usage(1, prompt_tokens=30)), ("2", Usage(1, prompt_tokens=10, failures=1))], seconds=4.0)
    ledger.add_round([("1", Usage(1, output_tokens=5))], seconds=1.0)
    return ledger


def test_costs_add_up_per_query(ledger):
    assert ledger["1"].usage == Usage(2, prompt_tokens=30, output_tokens=5)
    assert (ledger["1"].rounds, ledger["2"].rounds, ledger.total.rounds) == (2, 1, 2)


def test_seconds_are_shared_by_tokens(ledger):
    assert (ledger["1"].seconds, ledger["2"].seconds, ledger.total.seconds) == (4.0, 1.0, 5.0)


def test_seconds_are_shared_evenly_where_no_tokens_are_counted():
    ledger = Ledger()
    ledger.open(["1", "2"])
    ledger.add_round([("1", Usage(1)), ("2", Usage(1)), ("2", Usage(1))], seconds=3.0)
    assert (ledger["1"].seconds, ledger["2"].seconds) == (1.0, 2.0)


def test_a_new_run_replaces_a_query_but_not_the_total(ledger):
    ledger.open(["1"])
    ledger.add_round([("1", Usage(7))], seconds=0.0)
    assert (ledger["1"].usage.calls, ledger["2"].usage.calls, ledger.total.usage.calls) == (7, 1, 10)


def test_frame_has_a_row_per_query_and_every_cost(ledger):
    frame = ledger.frame()
    assert list(frame.columns) == ["qid", "calls", "rounds", *USAGE_FIELDS[1:], "seconds"]
    assert frame["qid"].tolist() == ["1", "2"]
    assert frame["failures"].tolist() == [0, 1]


def test_frame_joins_a_per_query_experiment(ledger):
    results = pd.DataFrame({"name": ["x", "x"], "qid": ["2", "1"], "measure": ["nDCG@10"] * 2, "value": [0.1, 0.2]})
    assert results.merge(ledger.frame(), on="qid")["calls"].tolist() == [1, 2]


def test_measures_have_the_long_form_of_an_experiment(ledger):
    long = ledger.measures("x")
    assert list(long.columns) == ["name", "qid", "measure", "value"]
    assert long[(long.qid == "1") & (long.measure == "calls")]["value"].tolist() == [2]
    assert len(long) == 2 * len(COLUMNS)


def test_an_unused_ledger_is_an_empty_frame():
    frame = Ledger().frame()
    assert len(frame) == 0 and "seconds" in frame
