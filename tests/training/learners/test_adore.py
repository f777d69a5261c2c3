"""Queries learn on an index: from what they find now, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_checkpoints import WIDTH, bert

from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.models.hf.sentence import settings_of
from pyterrier_llmrank.training.data import TrainingList
from pyterrier_llmrank.training.learners.adore import AdoreLearner
from pyterrier_llmrank.training.loop import train
from pyterrier_llmrank.training.losses import lambda_loss, mrr
from pyterrier_llmrank.training.settings import Training

DOCNOS = [f"d{i}" for i in range(40)]
VECTORS = np.random.default_rng(0).normal(size=(40, WIDTH)).astype(np.float32)
QUERIES = ["the cat", "the mat", "Yes No", "No"]
LISTS = [
    TrainingList(str(i), query, (Doc(f"d{7 * i + 3}", ""), Doc("d0", "")), (1.0, 0.0))
    for i, query in enumerate(QUERIES)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return bert(tmp_path_factory.mktemp("bert"))


def learner(folder, **options):
    reading = {"normalize": False, "query_prefix": "q: ", "query_tokens": 32}
    return AdoreLearner(folder, DOCNOS, VECTORS, **(reading | options))


def test_the_loss_is_that_of_what_is_found_with_the_relevant_document_behind_it(folder):
    own = learner(folder, depth=5)
    queries = torch.from_numpy(own.encode_queries(QUERIES))
    expected = []
    for one, query in zip(LISTS, queries, strict=True):
        found = (query @ torch.from_numpy(VECTORS).T).topk(5).indices.tolist()
        place = DOCNOS.index(one.docs[0].docno)
        places = [*found, *([] if place in found else [place])]
        targets = torch.tensor([[float(each == place) for each in places]])
        expected.append(lambda_loss(torch.from_numpy(VECTORS[places] @ query.numpy())[None], targets, weight=mrr))
    value = own.learn(LISTS, lambda _: None)
    assert value == pytest.approx(float(torch.stack(expected).mean()), rel=1e-5)


def test_gradients_are_those_of_the_queries_in_one_pass(folder):
    made = {}
    for name, options in {"one": {}, "many": {"batch_tokens": 8, "held_tokens": 1}}.items():
        own = learner(folder, depth=40, **options)
        own.network.train()
        own.learn(LISTS, lambda value: value.backward())
        made[name] = [one.grad.clone() for one in own.network.parameters() if one.grad is not None]
    assert made["one"] and any(bool(one.any()) for one in made["one"])
    for first, second in zip(made["one"], made["many"], strict=True):
        torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)


def test_relevant_documents_come_to_the_front_and_the_index_stays(folder, tmp_path):
    own, before = learner(folder, depth=40), VECTORS.copy()

    def places():
        order = np.argsort(-(own.encode_queries(QUERIES) @ VECTORS.T), axis=1)
        wanted = [DOCNOS.index(one.docs[0].docno) for one in LISTS]
        return [row.tolist().index(place) for row, place in zip(order, wanted, strict=True)]

    first = places()
    train(own, LISTS, tmp_path, Training(steps=25, batch_size=4, learning_rate=0.01, warmup=0.0, device="cpu"))
    assert sum(places()) < sum(first) and sum(places()) <= 4
    np.testing.assert_array_equal(VECTORS, before)
    assert settings_of(tmp_path).query_prefix == "q: " and not settings_of(tmp_path).normalize


def test_what_cannot_be_learnt_from_is_named(folder):
    own = learner(folder)
    assert own.learn([], lambda _: None) == 0.0
    for docs, targets, told in [
        ((Doc("d0", ""),), (0.0,), "query '9' has no document with a target above 0"),
        ((Doc("d0", ""), Doc("x", "")), (1.0, 2.0), "query '9' has document 'x', which is not in the index"),
    ]:
        with pytest.raises(InputError, match=told):
            own.learn([TrainingList("9", "a", docs, targets)], lambda _: None)
    with pytest.raises(ConfigurationError, match=r"40 documents need vectors of the shape \(40, 32\) .* got \(40, 3\)"):
        AdoreLearner(folder, DOCNOS, VECTORS[:, :3])
    for options in ({"depth": 0}, {"temperature": 0.0}):
        with pytest.raises(ConfigurationError, match="depth is at least 1 and temperature above 0"):
            learner(folder, **options)


def test_its_repr_tells_its_training_from_others(folder):
    assert repr(learner(folder)) == repr(learner(folder)) != repr(learner(folder, depth=3))
