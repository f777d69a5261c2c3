"""SlideGAR: the windows and the order of the official code, and what a pipeline needs beside."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from fakes import PerfectScorer, SilentScorer
from shared_data import parity

from pyterrier_llmrank import SlideGAR
from pyterrier_llmrank.core import Evidence
from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.strategies.adaptive import slide_gar


def run_case(case):
    """Docnos of every window and of the result, of the bare generator."""
    names = [*dict.fromkeys([*case["initial"], *case["graph"]])]
    place = {docno: number for number, docno in enumerate(names)}
    near = (lambda best: [place[one] for b in best for one in case["graph"][names[b]]]) if case["adaptive"] else None
    listed = [place[docno] for docno in case["initial"]]
    flow = slide_gar(listed, near, budget=case["budget"], window=case["window"], step=case["step"])
    windows, answers = [], None
    while True:
        try:
            [group] = next(flow) if answers is None else flow.send(answers)
        except StopIteration as stop:
            return windows, [names[number] for number in stop.value]
        windows.append([names[number] for number in group])
        answers = [np.array([case["gold"][names[number]] for number in group])]


def test_windows_and_order_are_those_of_the_official_code():
    cases = parity("slidegar")["cases"]
    for case in cases:
        windows, order = run_case(case)
        assert windows == case["windows"] and order == case["docno"]
    assert len(cases) == 5 and max(case["n_new"] for case in cases) > 5


def corpus():
    """Twenty documents whose text is their worth; the worthiest are neighbours, and the first stage missed them."""
    worth = {f"d{number}": float(number) for number in range(20)}
    graph = {f"d{number}": [f"d{(number + jump) % 20}" for jump in (1, 2, -1)] for number in range(20)}
    rows = [(qid, "q", f"d{number}", f"{number}.0") for qid in ("1", "2") for number in range(10)]
    frame = pd.DataFrame(rows, columns=["qid", "query", "docno", "text"])
    return frame.assign(score=-frame.index.astype(float), rank=[*range(10)] * 2), graph, worth


def loader(worth, asked=None):
    def add(frame):
        if asked is not None:
            asked.append(sorted(frame["docno"]))
        return frame.assign(text=[str(worth[docno]) for docno in frame["docno"]])

    return pt.apply.generic(add)


def test_neighbours_that_the_first_stage_missed_are_found():
    frame, graph, worth = corpus()
    asked = []
    reranker = SlideGAR(PerfectScorer(), graph, loader(worth, asked), budget=20, window=6, step=3)
    out = reranker(frame)
    for qid in ("1", "2"):
        own = out[out["qid"] == qid]
        assert own["docno"].iloc[0] not in [f"d{number}" for number in range(10)]
        assert set(frame["docno"]) <= set(own["docno"]) and own["docno"].is_unique
        assert (np.diff(own["score"]) < 0).all() and own["rank"].tolist() == list(range(len(own)))
    assert out["query"].eq("q").all() and out["text"].eq(out["docno"].map(lambda name: str(worth[name]))).all()
    fetched = [docno for docnos in asked for docno in docnos]
    assert len(fetched) == len(set(fetched)), "both queries share a text that was fetched"
    assert reranker.ledger["1"].usage.calls == reranker.ledger["2"].usage.calls == len(reranker.scorer.rounds)


def test_documents_may_be_named_by_numbers():
    frame, graph, worth = corpus()
    numbers = {int(name[1:]): [int(one[1:]) for one in near] for name, near in graph.items()}
    told = frame.assign(docno=frame["docno"].str[1:].astype(int), qid=frame["qid"].astype(int))
    texts = {name[1:]: value for name, value in worth.items()}
    options = {"budget": 20, "window": 6, "step": 3}
    by_text = SlideGAR(PerfectScorer(), graph, loader(worth), **options)(frame)
    by_number = SlideGAR(PerfectScorer(), numbers, loader(texts), **options)(told)
    assert ("d" + by_number["docno"]).tolist() == by_text["docno"].tolist()
    assert by_number["qid"].tolist() == by_text["qid"].tolist()


def test_an_empty_graph_slides_over_the_list_alone():
    frame, _, worth = corpus()
    out = SlideGAR(PerfectScorer(), {}, loader(worth), budget=10, window=6, step=3)(frame)
    assert out.groupby("qid").size().tolist() == [10, 10]
    assert out[out["qid"] == "1"]["docno"].tolist()[:3] == ["d9", "d8", "d7"]


def test_candidates_beyond_the_budget_follow_in_order():
    frame, _, worth = corpus()
    out = SlideGAR(PerfectScorer(), {}, loader(worth), budget=6, window=4, step=2)(frame)
    own = out[out["qid"] == "1"]
    assert own["docno"].tolist()[-4:] == ["d6", "d7", "d8", "d9"] and own["llmrank_score"].isna().sum() == 4


def test_silence_keeps_every_candidate():
    frame, graph, worth = corpus()
    with pytest.warns(UserWarning, match="could not be read"):
        out = SlideGAR(SilentScorer(), graph, loader(worth), budget=10, window=6, step=3)(frame)
    assert set(frame["docno"]) <= set(out["docno"])


def test_an_empty_frame_asks_nobody_and_has_the_same_columns():
    frame, graph, worth = corpus()
    scorer = PerfectScorer()
    reranker = SlideGAR(scorer, graph, loader(worth))
    assert reranker(frame.iloc[:0]).columns.tolist() == reranker(frame).columns.tolist()
    assert len(scorer.rounds) > 0 and pt.inspect.transformer_inputs(reranker) == [["qid", "docno", "query", "text"]]


def test_one_candidate_without_neighbours_is_the_result():
    frame, _, worth = corpus()
    out = SlideGAR(PerfectScorer(), {}, loader(worth))(frame.iloc[:1])
    assert out["docno"].tolist() == ["d0"]


def test_a_neighbour_without_text_is_named():
    frame, graph, _ = corpus()
    lost = pt.apply.generic(lambda inp: inp.assign(text="1")[inp["docno"] == "none"])
    with pytest.raises(InputError, match=r"no row for d1\d"):
        SlideGAR(PerfectScorer(), graph, lost, window=12, step=6)(frame)
    with pytest.raises(InputError, match="no column 'text'"):
        SlideGAR(PerfectScorer(), graph, pt.apply.generic(lambda inp: inp), window=12, step=6)(frame)


def test_parts_that_do_not_fit_are_refused():
    _, graph, worth = corpus()
    with pytest.raises(ConfigurationError, match="step must be at least 1 and below window"):
        SlideGAR(PerfectScorer(), graph, loader(worth), window=5, step=5)
    with pytest.raises(ConfigurationError, match="graph needs a method neighbours"):
        SlideGAR(PerfectScorer(), 3, loader(worth))
    with pytest.raises(ConfigurationError, match="takes at most 2"):
        SlideGAR(PerfectScorer(max_docs=2), graph, loader(worth))
    with pytest.raises(ConfigurationError, match="the order of a group"):
        SlideGAR(PerfectScorer(gives=Evidence.CHOICE), graph, loader(worth))
    assert "SlideGAR(PerfectScorer(" in repr(SlideGAR(PerfectScorer(), graph, loader(worth), budget=9))
