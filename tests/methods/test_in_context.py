"""``InContextRanker``: a transformer like the others, that finds its heads and tells what it looked at."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from attending import checkpoint
from shared_data import shared
from tiny import local

from pyterrier_llmrank import Attention, Band, InContextPrompt, InContextRanker, SlidingWindow, presets
from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.errors import ConfigurationError, InputError, MissingExtra
from pyterrier_llmrank.methods.explaining import Explanation, word_weights
from pyterrier_llmrank.models import HFModel
from pyterrier_llmrank.presets.registry import REGISTRY
from pyterrier_llmrank.scorers.attention import Weighed
from pyterrier_llmrank.scorers.finding import ndcg
from pyterrier_llmrank.strategies import OneShot

TEXTS = ["the cat sat on the mat", "rain & <b>snow</b> fall", "a", "stars; ring systems, far away", "the the the", ""]
QUERIES = {"q1": "where is the cat", "q2": "rain?", "q10": "stars, far away"}


def frame(queries=QUERIES, texts=TEXTS):
    rows = [
        (qid, query, f"d{place}", text, -float(place))
        for qid, query in queries.items()
        for place, text in enumerate(texts)
    ]
    return pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "score"])


def qrels(pairs):
    return pd.DataFrame([(qid, docno, 1) for qid, docno in pairs], columns=["qid", "docno", "label"])


JUDGED = qrels([("q1", "d0"), ("q2", "d1"), ("q10", "d3")])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("face"))


@pytest.fixture
def ranker(folder):
    return InContextRanker(local(folder))


def test_it_orders_by_the_scorers_scores_in_one_question_a_query(ranker):
    out = ranker(frame())
    assert ranker.strategy == OneShot() and ranker.ledger["q1"].rounds == 1
    found = ranker.scorer.look([q for q in questions()])
    for (qid, _), looked in zip(QUERIES.items(), found, strict=True):
        own = out[out["qid"] == qid]
        scores = {f"d{place}": doc.weights.sum() for place, doc in enumerate(looked.docs)}
        assert own["docno"].tolist() == sorted(scores, key=scores.get, reverse=True)
        np.testing.assert_allclose(own["llmrank_score"], [scores[docno] for docno in own["docno"]], atol=1e-6)


def questions():
    from pyterrier_llmrank.core import Question

    docs = tuple(Doc(f"d{place}", text) for place, text in enumerate(TEXTS))
    return [Question(query, docs, qid) for qid, query in QUERIES.items()]


def test_windows_give_the_order_of_icrs_own_code():
    case = json.loads(shared("fixtures", "icr_llama", "expected.json").read_text(encoding="utf-8"))["sliding_window"]
    model = local(shared("fixtures", "icr_llama", "tiny-llama-3-random"))
    sliding = InContextRanker(model, strategy=SlidingWindow(case["window"], case["stride"]))
    out = sliding(frame({"q": case["query"]}, case["docs"]))
    assert out["docno"].tolist() == [f"d{place}" for place in case["rerank_sorted_doc_ids"]]


def test_its_arguments_become_the_scorer(folder):
    ranker = InContextRanker(
        local(folder), heads="middle", calibrate=False, order="input", instruction="QA", max_words=None, slowly=True
    )
    assert ranker.scorer == Attention(
        local(folder),
        "middle",
        calibrate=False,
        order="input",
        prompt=InContextPrompt("QA"),
        max_words=None,
        slowly=True,
    )


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"heads": "middle", "depth": 3, "num_results": 2},
        {"heads": ((1, 2), (0, 3)), "calibrate": False},
        {"heads": Band(0, 0.5), "strategy": SlidingWindow(4, 2), "find": "contrast", "n_heads": 3},
        {"prompt": InContextPrompt("QA", layout="core"), "device": "cpu"},
    ],
)
def test_repr_rebuilds_it(told, folder):
    ranker = InContextRanker(folder, **told)
    names = {one.__name__: one for one in (InContextRanker, Band, SlidingWindow, InContextPrompt)}
    assert eval(repr(ranker), names) == ranker and hash(eval(repr(ranker), names)) == hash(ranker)
    assert ranker.apply_attributes(order="input").scorer.order == "input"


def test_nothing_loads_for_an_empty_frame_and_columns_are_told(folder):
    ranker = InContextRanker(folder)
    out = ranker(frame().head(0))
    assert list(out.columns) == [*frame().columns.drop("score"), "llmrank_score", "score", "rank"]
    assert "_loaded" not in vars(ranker.scorer.model)
    assert pt.inspect.transformer_inputs(ranker) == [["qid", "query", "docno", "text"]]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"find": "recall"}, "find must be 'ndcg' or 'contrast'"),
        ({"n_heads": 0}, "n_heads must be at least 1"),
        ({"instruction": "QA", "prompt": InContextPrompt()}, "without effect beside prompt"),
        ({"heads": "half"}, "heads must be 'all'"),
    ],
)
def test_what_does_not_fit_is_refused(told, said, folder):
    with pytest.raises(ConfigurationError, match=said):
        InContextRanker(folder, **told)


# Finding heads


@pytest.mark.parametrize("find", ["ndcg", "contrast"])
def test_fitting_names_heads_that_the_repr_keeps(find, folder):
    ranker = InContextRanker(folder, find=find, n_heads=3)
    assert ranker.fit(frame(), JUDGED) is ranker and len(ranker.heads) == 3 == len(set(ranker.heads))
    again = eval(repr(ranker), {"InContextRanker": InContextRanker})
    assert again == ranker and again.scorer.heads == ranker.heads
    pd.testing.assert_frame_equal(again(frame()), ranker(frame()))
    assert InContextRanker(folder, find=find, n_heads=3).fit(frame(), JUDGED) == ranker


def test_found_heads_rank_the_training_queries_better_than_all(folder):
    def quality(ranker):
        out = ranker(frame())
        labels = set(JUDGED[["qid", "docno"]].itertuples(index=False, name=None))
        grades = [float(pair in labels) for pair in out[["qid", "docno"]].itertuples(index=False, name=None)]
        lists = np.array(grades).reshape(3, -1)
        return np.mean([ndcg(-np.arange(len(own)), own) for own in lists])

    whole, one = InContextRanker(folder, order="input"), InContextRanker(folder, order="input", n_heads=1)
    assert quality(one.fit(frame(), JUDGED)) > quality(whole)


def test_a_pipeline_fits_it_and_validation_decides_how_many_heads(folder):
    ranker = InContextRanker(folder, n_heads=8)
    pipeline = pt.Transformer.from_df(frame()) >> ranker
    topics = frame()[["qid", "query"]].drop_duplicates()
    pipeline.fit(topics[:2], JUDGED, topics[2:], JUDGED)
    assert len(ranker.heads) in (2, 4, 8)
    sizes = {n: InContextRanker(folder, n_heads=n).fit(frame().iloc[:12], JUDGED) for n in (2, 4, 8)}
    valid = ranker._judged(frame().iloc[12:], JUDGED)
    best = max(sizes, key=lambda n: (ranker._quality(sizes[n].heads, valid), -n))
    assert ranker.heads == sizes[best].heads


def test_judgments_that_tell_nothing_are_refused(ranker):
    with pytest.raises(InputError, match="none of 3 queries has both relevant and other documents"):
        ranker.fit(frame(), qrels([("q1", "d99")]))
    with pytest.raises(InputError, match="judgments need the columns qid, docno and label; missing: label"):
        ranker.fit(frame(), JUDGED[["qid", "docno"]])
    with pytest.raises(pt.validate.InputValidationError):
        ranker.fit(frame().drop(columns="text"), JUDGED)
    with pytest.raises(InputError, match="no document of the validation results is relevant"):
        ranker.fit(frame(), JUDGED, frame(), qrels([("q1", "d99")]))
    with pytest.raises(InputError, match=r"labels must be numbers.*'good' of document"):
        ranker.fit(frame(), JUDGED.assign(label="good"))


# What the query looked at


def test_words_of_a_passage_add_up_to_its_score(ranker):
    found = ranker.explain("where is the cat", frame().iloc[:6])
    assert isinstance(found, pd.DataFrame) and found.asked == "where is the cat"
    assert list(found.columns) == ["docno", "rank", "score", "position", "word", "weight"]
    sums = found.groupby("rank")["weight"].sum()
    passages = found.passages()
    np.testing.assert_allclose(sums, passages["score"], atol=1e-12)
    out = ranker(frame({"q1": QUERIES["q1"]}))
    assert passages["docno"].tolist() == out["docno"].tolist()
    np.testing.assert_allclose(passages["score"], out["llmrank_score"], atol=1e-7)
    for docno, rows in found.groupby("docno"):
        assert rows["word"].tolist()[1:] == TEXTS[int(docno[1:])].split()
        assert rows["word"].iloc[0] == f"[{6 - int(docno[1:])}]" and rows["position"].tolist() == [*range(len(rows))]


def test_texts_and_docs_can_be_explained_as_well(ranker):
    texts = ranker.explain("cat", ["the cat", "rain"])
    docs = ranker.explain("cat", [Doc("0", "the cat"), Doc("1", "rain")])
    pd.testing.assert_frame_equal(pd.DataFrame(texts), pd.DataFrame(docs))
    with pytest.raises(InputError, match="explain needs one document or more"):
        ranker.explain("cat", [])
    with pytest.raises(InputError, match="docno and text; text is missing"):
        ranker.explain("cat", frame()[["docno"]])


def test_what_is_selected_from_an_explanation_is_a_plain_frame(ranker):
    found = ranker.explain("cat", ["the cat", "rain"])
    assert type(found[found["weight"] > 0]) is pd.DataFrame and type(found) is Explanation
    assert found.query("position > 0")["word"].tolist() and type(found.passages()) is pd.DataFrame


class Words(HTMLParser):
    """Collects the texts of spans, and checks that tags are closed."""

    def __init__(self):
        super().__init__()
        self.open, self.words = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "span":
            self.words.append(data)


def test_a_notebook_shows_every_word_as_text(ranker):
    found = ranker.explain("<i>cat</i>", frame().iloc[:6])
    page = Words()
    page.feed(found._repr_html_())
    assert page.words == found["word"].tolist() and page.open == []
    assert "<b>snow" not in found._repr_html_() and "&lt;i&gt;cat" in found._repr_html_()


def test_it_can_be_drawn(ranker, tmp_path):
    figure = ranker.explain("cat", ["the cat " * 40, "x" * 200, ""]).draw(passages=2)
    figure.savefig(tmp_path / "attention.png")
    assert (tmp_path / "attention.png").stat().st_size > 5000 and len(figure.axes[0].patches) == 2


def test_drawing_without_matplotlib_says_what_to_install(ranker, monkeypatch):
    found = ranker.explain("cat", ["the cat"])
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"Explanation.draw needs matplotlib: pip install .*plots"):
        found.draw()


def test_a_token_belongs_to_the_word_in_which_it_begins():
    one = Weighed("[1] a cat", [(0, 3), (3, 5), (5, 7), (7, 9)], np.array([1.0, 2.0, 4.0, 8.0]))
    assert word_weights(one) == [("[1]", 1.0), ("a", 2.0), ("cat", 12.0)]
    spaces = Weighed("[1]  a", [(0, 3), (3, 5), (5, 6)], np.array([1.0, 2.0, 4.0]))
    assert word_weights(spaces) == [("[1]", 1.0), ("a", 6.0)]


# Presets


@pytest.mark.parametrize(
    ("name", "heads", "order", "depth"),
    [
        ("icr", "all", "reversed", 100),
        ("qr_head", "qr", "input", None),
        ("core_heads", "core", "input", 40),
        ("selective_icr", Band(), "reversed", 100),
    ],
)
def test_presets_are_what_was_published(name, heads, order, depth):
    built = REGISTRY[name].build("somewhere/Llama-3.1-8B-Instruct" if heads in ("qr", "core") else ".")
    assert (built.scorer.heads, built.scorer.order, built.depth) == (heads, order, depth)
    assert built.scorer.calibrate and built.strategy == OneShot()
    row = presets.list().set_index("name").loc[name]
    assert row["family"] == "in-context" and eval(row["strategy"]) == OneShot()


def test_presets_rank(folder):
    for build in (presets.icr, presets.selective_icr):
        assert len(build(folder)(frame())) == len(frame())


def test_a_model_keeps_what_it_was_told(folder):
    model = HFModel(folder, device="cpu")
    assert InContextRanker(model).scorer.model is model
    assert InContextRanker(folder, device="cpu", dtype="bfloat16").scorer.model.dtype == "bfloat16"
