"""Networks over lists as scorers and as transformers: they are trained, kept, read again, and refuse bad input."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from list_data import ideal, lists

from pyterrier_llmrank import Cached, ContextRanker, Evidence, ListConRanker, Question, Rerank, TSPRanker, VectorColumns
from pyterrier_llmrank.aggregates import heaviest_path
from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.errors import ConfigurationError, InputError, ModelNotFound, ScoringError
from pyterrier_llmrank.fields import Vector
from pyterrier_llmrank.middleware import fingerprint
from pyterrier_llmrank.scorers import BestPath, ContextAware, ListEncoder
from pyterrier_llmrank.strategies import SlidingWindow
from pyterrier_llmrank.training.fitting import Fitting

QUICK = Fitting(epochs=60, batch_size=8, learning_rate=0.01, patience=60)
SMALL = {"width": 8, "hidden": 16, "dropout": 0.0}


def vectors(frame):
    """Features as vectors of documents, and a query vector beside each."""
    query = np.linspace(-1.0, 1.0, len(frame["features"].iloc[0]))
    scaled = [(one - 50 * np.arange(len(one))) / np.geomspace(0.01, 100.0, len(one)) for one in frame["features"]]
    return frame.assign(doc_vec=scaled, query_vec=[query] * len(frame))


FACES = {
    "context": lambda folder, **more: ContextRanker(folder, **{"layers": 1, **SMALL, **more}),
    "context with positions": lambda folder, **more: ContextRanker(folder, positions="fixed", **{**SMALL, **more}),
    "path": lambda folder, **more: TSPRanker(folder, **{"layers": 1, **SMALL, **more}),
    "path, global": lambda folder, **more: TSPRanker(folder, **{"layers": 1, "loss": "global", **SMALL, **more}),
    "list encoder": lambda folder, **more: ListConRanker(folder, VectorColumns(), **{"heads": 2, **SMALL, **more}),
}
each_face = pytest.mark.parametrize("build", FACES.values(), ids=FACES)


@pytest.fixture(scope="module")
def data():
    frame, qrels = lists()
    return vectors(frame), qrels


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    """A context model."""
    folder = tmp_path_factory.mktemp("context")
    return FACES["context"](folder, fitting=Fitting(epochs=15, learning_rate=0.01)).fit(*data)


@each_face
def test_it_learns_the_order_of_new_lists_in_seconds(build, tmp_path, data):
    reranker = build(tmp_path / "model", fitting=QUICK)
    assert reranker.fit(*data) is reranker
    assert max(epoch.ndcg for epoch in reranker.history) > 0.97
    new, qrels = lists(seed=1, first=100)
    assert ideal(reranker(vectors(new)), qrels) > 0.65


@each_face
def test_a_network_that_was_saved_ranks_alike_in_another_process(build, tmp_path, data):
    reranker = build(tmp_path / "model", fitting=Fitting(epochs=2))
    before = reranker.fit(*data)(data[0])
    again = pickle.loads(pickle.dumps(build(tmp_path / "model", fitting=Fitting(epochs=2))))
    pd.testing.assert_frame_equal(again(data[0]), before)
    assert again == reranker and repr(again) == repr(reranker)


@each_face
def test_scores_depend_on_nobody_else_in_the_frame(build, tmp_path, data):
    reranker = build(tmp_path / "model", fitting=Fitting(epochs=1))
    whole = reranker.fit(*data)(data[0])
    for qid in ("q3", "q7"):
        alone = reranker(data[0][data[0]["qid"] == qid])
        pd.testing.assert_frame_equal(alone, whole[whole["qid"] == qid].reset_index(drop=True))


@each_face
def test_equal_documents_keep_their_order_and_one_alone_is_ranked(build, tmp_path, data):
    reranker = build(tmp_path / "model", fitting=Fitting(epochs=1)).fit(*data)
    same = data[0].head(1)
    copies = pd.concat([same] * 5, ignore_index=True).assign(docno=list("abcde"), rank=0)
    places = type(reranker) is TSPRanker or getattr(reranker, "positions", None)  # to both the order counts
    if not places:
        assert reranker(copies)["docno"].tolist() == list("abcde")
    assert reranker(same)["rank"].tolist() == [0]
    assert len(reranker(data[0].head(0))) == 0


@each_face
def test_nothing_is_read_before_it_was_trained_and_an_empty_frame_needs_nothing(build, tmp_path, data):
    reranker = build(tmp_path / "absent")
    assert len(reranker(data[0].head(0))) == 0
    with pytest.raises((ModelNotFound, ScoringError), match="no trained network"):
        reranker(data[0])
    assert reranker.scorer([]) == [] and reranker.scorer.gives is Evidence.ORDER


def test_training_again_replaces_the_network_at_once(tmp_path, data):
    reranker = FACES["context"](tmp_path, fitting=Fitting(epochs=1))
    first = reranker.fit(*data)(data[0])
    twin = FACES["context"](tmp_path, fitting=Fitting(epochs=1, seed=9))
    second = twin.fit(*data)(data[0])
    assert not np.allclose(first["llmrank_score"], second["llmrank_score"])
    pd.testing.assert_frame_equal(reranker(data[0]), second)


def test_the_validation_lists_choose_the_epoch(tmp_path, data):
    reranker = FACES["context"](tmp_path, fitting=Fitting(epochs=40, patience=2, learning_rate=0.03))
    valid, qrels = lists(queries=6, seed=2, first=50)
    reranker.fit(*data, vectors(valid), qrels.assign(label=qrels["label"].to_numpy()[::-1]))
    best = int(np.argmax([epoch.ndcg for epoch in reranker.history]))
    assert len(reranker.history) == best + 3 < 40


def test_a_pipeline_is_fitted_as_a_whole(tmp_path, data):
    pipeline = pt.Transformer.from_df(data[0]) >> FACES["context"](tmp_path, fitting=Fitting(epochs=2))
    topics = data[0][["qid", "query"]].drop_duplicates()
    pipeline.fit(topics, data[1], None, None)
    assert len(pipeline(topics)) == len(data[0])


def test_only_the_candidates_that_are_reranked_are_learnt_from(tmp_path, data):
    frame, _ = data
    below = frame[["qid", "docno"]].assign(label=(frame["rank"] >= 2).astype(int))
    with pytest.raises(InputError, match="different relevance"):
        FACES["context"](tmp_path, depth=2).fit(frame, below)
    reranker = FACES["context"](tmp_path, depth=3, fitting=Fitting(epochs=1)).fit(frame, below)
    assert (reranker(frame).groupby("qid")["llmrank_score"].count() == 3).all()


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda frame: frame.drop(columns="features"), r"'features' \(make it with"),
        (
            lambda frame: frame.assign(features=frame["features"].map(lambda one: one[: 2 + (one[1] > 50)])),
            "numbers for",
        ),
        (lambda frame: frame.assign(features=frame["features"].map(lambda one: one * np.nan)), "is not finite"),
        (lambda frame: frame.assign(features=[None] * len(frame)), "is not finite"),
        (lambda frame: frame.assign(features="text"), "has the text 'text' in 'features'"),
        (lambda frame: frame.assign(features=frame["features"].map(lambda one: one[:2])), "trained on 4 numbers"),
    ],
)
def test_features_that_cannot_be_read_are_refused_with_the_document_named(change, said, trained, data, tmp_path):
    with pytest.raises((InputError, pt.validate.InputValidationError), match=said):
        trained(change(data[0]))
    if "trained on" not in said:
        with pytest.raises((InputError, pt.validate.InputValidationError), match=said):
            FACES["context"](tmp_path).fit(change(data[0]), data[1])


def test_lists_of_different_width_cannot_be_learnt_from(tmp_path, data):
    mixed = data[0].assign(
        features=[one[:2] if qid == "q3" else one for qid, one in zip(data[0]["qid"], data[0]["features"], strict=True)]
    )
    with pytest.raises(InputError, match=r"different numbers of values: \[2, 4\]"):
        FACES["context"](tmp_path).fit(mixed, data[1])


def test_qrels_and_results_that_teach_nothing_are_refused(tmp_path, data):
    frame, qrels = data
    reranker = FACES["context"](tmp_path)
    with pytest.raises(InputError, match="judgments need the columns qid, docno and label; missing: label"):
        reranker.fit(frame, qrels.drop(columns="label"))
    with pytest.raises(InputError, match="different relevance; check that qids and docnos"):
        reranker.fit(frame, qrels.assign(qid="other"))
    with pytest.raises(InputError, match="different relevance"):
        reranker.fit(frame, qrels.assign(label=1))
    with pytest.raises(InputError, match="no results to learn from"):
        reranker.fit(frame.head(0), qrels)
    with pytest.raises(InputError, match="no document of the validation results is relevant; check that qids"):
        reranker.fit(frame, qrels, frame, qrels.assign(qid="other"))
    with pytest.raises(InputError, match=r"labels must be numbers.* none, the first is 'good'"):
        reranker.fit(frame, qrels.assign(label="good"))


def test_scores_and_features_stand_side_by_side(tmp_path, data):
    reranker = FACES["context"](tmp_path, fields=("features", "score"), fitting=Fitting(epochs=1)).fit(*data)
    assert reranker.scorer._network().config["inputs"] == 5
    assert pt.inspect.transformer_inputs(reranker) == [["qid", "query", "docno", "features", "score"]]


def test_positions_are_the_ranks_of_the_first_stage_in_every_window(tmp_path, data):
    reranker = FACES["context with positions"](tmp_path, fitting=Fitting(epochs=1)).fit(*data)
    assert reranker.scorer.reads == ("features", "rank")
    doc = lambda name, rank: Doc(name, "", (("features", Vector(np.ones(4))), ("rank", rank)))  # noqa: E731
    [answer] = reranker.scorer([Question("q", (doc("a", 3.0), doc("b", 3.0), doc("c", 0.0)), "1")])
    assert answer.scores[0] == answer.scores[1] != answer.scores[2]


def test_arguments_out_of_range_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"width of at least 2 that heads divide.*width=9, heads=2"):
        ContextRanker(tmp_path, width=9)
    with pytest.raises(ConfigurationError, match="loss must be one of"):
        ContextRanker(tmp_path, loss="hinge")
    with pytest.raises(ConfigurationError, match="positions must be 'fixed'"):
        ContextRanker(tmp_path, positions="sines")
    with pytest.raises(ConfigurationError, match="loss must be 'local', 'global'"):
        TSPRanker(tmp_path, loss="both")
    with pytest.raises(ConfigurationError, match=r"a tuple of one or more columns of numbers.*got \(\)"):
        ContextAware(tmp_path, ())
    with pytest.raises(ConfigurationError, match="takes vectors from BiEncoder"):
        ListEncoder(tmp_path, "name")
    with pytest.raises(TypeError):
        BestPath(tmp_path)


def test_paths_lead_from_the_best_document_to_the_worst(tmp_path):
    order = [2, 0, 1]
    scorer = BestPath(str(tmp_path), path=lambda arcs: order)
    assert scorer.read(np.zeros((3, 3))).tolist() == [-1.0, -2.0, 0.0]
    assert BestPath(tmp_path, path=heaviest_path) == BestPath(str(tmp_path), path=heaviest_path)
    assert repr(BestPath("m", path=heaviest_path)) == "BestPath('m', path=heaviest_path)"


def test_a_cache_follows_the_network_and_not_its_folder(trained, tmp_path, data):
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("config.json", "model.safetensors"):
        (moved / name).write_bytes((tmp_path.__class__(trained.folder) / name).read_bytes())
    assert fingerprint(ContextAware(trained.folder)) == fingerprint(ContextAware(str(moved)))
    assert fingerprint(ContextAware(trained.folder)) != fingerprint(ContextAware(trained.folder, ("doc_vec",)))
    whole = Rerank(SlidingWindow(4, 2), Cached(ContextAware(str(moved)), tmp_path / "answers.sqlite"))
    plain = Rerank(SlidingWindow(4, 2), trained.scorer)
    pd.testing.assert_frame_equal(whole(data[0]), plain(data[0]))


def test_vectors_of_texts_are_made_once_each(tmp_path, data):
    made = []

    def encode(texts):
        made.extend(texts)
        return np.array([[len(text), text.count("a"), 1.0] for text in texts], dtype=float)

    frame = data[0].assign(text=["a" * (place % 4) + "b" for place in range(len(data[0]))])
    reranker = ListConRanker(tmp_path, encode, heads=2, fitting=Fitting(epochs=1), **SMALL).fit(frame, data[1])
    assert sorted(made) == sorted({"a query", *frame["text"]})
    assert reranker.scorer.reads == ("text",)
    out = reranker(frame)
    assert out["llmrank_score"].between(0, 1).all()
    assert sum(entry.usage.calls for entry in reranker.ledger.values()) == len(set(made))


def test_a_function_that_gives_other_shapes_is_refused(tmp_path, data):
    flat = partial(np.ones, 3)
    with pytest.raises(InputError, match="gave vectors of the shape"):
        ListConRanker(tmp_path, lambda texts: flat(), heads=2, **SMALL).fit(data[0].assign(text="a"), data[1])
