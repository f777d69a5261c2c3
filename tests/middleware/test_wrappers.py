"""The laws that every wrapper obeys. A new wrapper is one more line in ``WRAPPERS``."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from fake_models import HashModel
from fakes import PerfectScorer

from pyterrier_llmrank import Rerank
from pyterrier_llmrank.core import Doc, Evidence, Message, Prompt, Question, Scorer, Usage
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.middleware import Budgeted, Cached, Recorded, Retrying, fingerprint
from pyterrier_llmrank.models import HFModel, Sampling
from pyterrier_llmrank.prompts import ListPrompt, YesNo
from pyterrier_llmrank.scorers import BothOrders, Prompted, Repeated, Shuffled
from pyterrier_llmrank.seeds import reseeded, seeded
from pyterrier_llmrank.strategies import Pointwise, SlidingWindow

pytestmark = pytest.mark.filterwarnings("ignore::pyterrier_llmrank.errors.LLMRankWarning")

WRAPPERS = {
    "cached": lambda inner, folder: Cached(inner, folder / "answers.sqlite"),
    "cached in chunks": lambda inner, folder: Cached(inner, folder / "answers.sqlite", chunk=2),
    "retrying": lambda inner, folder: Retrying(inner, failures=3),
    "recorded": lambda inner, folder: Recorded(inner, folder / "log.jsonl"),
    "budgeted": lambda inner, folder: Budgeted(inner, calls=10_000),
    "all at once": lambda inner, folder: Budgeted(
        Cached(Retrying(Recorded(inner, folder / "log.jsonl")), folder / "answers.sqlite", chunk=3), calls=10_000
    ),
}
each_wrapper = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)

WARM = Sampling(0.8)
SCORERS = {
    "labels": lambda model: Prompted(YesNo(), model),
    "written": lambda model: Prompted(ListPrompt(), model, max_tokens=12),
    "drawn": lambda model: Prompted(ListPrompt(), model, max_tokens=12, sampling=WARM, seed=3),
    "both orders": lambda model: BothOrders(Prompted(ListPrompt("letters"), model)),
    "shuffled": lambda model: Shuffled(Prompted(ListPrompt("letters"), model), 2, seed=1),
}
each_scorer = pytest.mark.parametrize("build", SCORERS.values(), ids=SCORERS)


def prompts(n=5):
    return [Prompt((Message("user", f"Is text {i % 4} good?"),), answer="So: " * (i % 2)) for i in range(n)]


def questions(n=5):
    docs = [Doc(f"d{i}", f"text {i}") for i in range(4)]
    return [Question(f"query {i % 4}", tuple(docs[: 2 + i % 3]), f"q{i % 4}") for i in range(n)]


def primitives(model):
    """All that a model answers, with some prompts twice."""
    asked = prompts()
    return [
        model.choices(asked, [("Yes", "No")] * 5),
        model.choices(asked, [("A", "B", "C")] * 5),
        model.continuation(asked, ["a query", "another", "a query", "x", "a query"]),
        model.generate(asked, max_tokens=9),
        model.generate(asked, max_tokens=9, stop=["3"]),
        model.generate(asked, max_tokens=9, sampling=WARM, seeds=[1, 2, 3, 4, 1]),
        model.generate(asked, max_tokens=9, sampling=WARM, seeds=[9, 2, 3, 4, 9]),
    ]


def contents(result):
    """What an answer says, without its cost."""
    return [
        repr(value.tolist() if isinstance(value, np.ndarray) else value) for value in result._replace(usage=Usage())
    ]


def said(answered):
    return [[contents(result) for result in results] for results in answered]


@each_wrapper
def test_a_wrapped_model_answers_as_the_model_does(wrap, tmp_path):
    model = wrap(HashModel(), tmp_path)
    plain = said(primitives(HashModel()))
    assert said(primitives(model)) == plain
    assert said(primitives(model)) == plain  # from the cache, where there is one


@each_scorer
@each_wrapper
def test_a_wrapped_scorer_answers_as_the_scorer_does(wrap, build, tmp_path):
    plain = said([build(HashModel())(questions())])
    outside, inside = wrap(build(HashModel()), tmp_path / "outside"), build(wrap(HashModel(), tmp_path / "inside"))
    for _ in range(2):
        assert said([outside(questions())]) == plain
        assert said([inside(questions())]) == plain


@each_wrapper
def test_new_answers_cost_what_they_cost_without(wrap, tmp_path):
    asked = questions(4)
    bare = Prompted(YesNo(), HashModel())(asked)
    assert [one.usage for one in wrap(Prompted(YesNo(), HashModel()), tmp_path)(asked)] == [one.usage for one in bare]


@each_wrapper
def test_everything_else_is_passed_through(wrap, tmp_path):
    model = wrap(HashModel(context=77), tmp_path)
    assert (model.context, model.can) == (77, HashModel().can)
    assert model.plain("<|x|>") == HashModel().plain("<|x|>")
    assert model.token_ends(["abc"]) == [[1, 2, 3]] and model.lengths(prompts(2)) == HashModel().lengths(prompts(2))
    assert model.log_total == 3.0  # what only this kind of model has
    scorer = wrap(PerfectScorer(Evidence.ORDER, max_docs=4), tmp_path)
    assert isinstance(scorer, Scorer) and (scorer.gives, scorer.max_docs) == (Evidence.ORDER, 4)


@each_wrapper
def test_a_wrapper_is_a_scorer_or_a_model_as_what_it_wraps(wrap, tmp_path):
    with pytest.raises(ConfigurationError, match="is not a scorer"):
        Rerank(Pointwise(), wrap(HashModel(), tmp_path))
    with pytest.raises(ConfigurationError, match="is not a model"):
        Prompted(YesNo(), wrap(PerfectScorer(), tmp_path))
    with pytest.raises(ConfigurationError, match="needs scores that hold"):
        Rerank(Pointwise(), wrap(PerfectScorer(Evidence.ORDER), tmp_path))
    with pytest.raises(ConfigurationError, match="takes at most 4"):
        Rerank(SlidingWindow(20, 10), wrap(PerfectScorer(max_docs=4), tmp_path))


@each_wrapper
@pytest.mark.parametrize("thing", [YesNo(), "a name", len, HFModel, None], ids=repr)
def test_what_is_neither_is_refused(wrap, thing, tmp_path):
    with pytest.raises(ConfigurationError, match="neither"):
        wrap(thing, tmp_path)


@each_wrapper
def test_nothing_asked_asks_and_loads_nothing(wrap, tmp_path):
    model = HashModel()
    wrapped = wrap(model, tmp_path / "new")
    assert wrapped.choices([], []) == wrapped.continuation([], []) == wrapped.generate([], max_tokens=3) == []
    assert wrap(Prompted(YesNo(), model), tmp_path / "new")([]) == []
    assert model.asked == [] and not (tmp_path / "new").exists()


@each_wrapper
def test_a_wrapper_is_a_value(wrap, tmp_path):
    inner = Prompted(YesNo(), HFModel("some/name"))
    one, other = wrap(inner, tmp_path), wrap(inner, tmp_path)
    assert one == other and hash(one) == hash(other) and one != wrap(replace(inner, max_doc_tokens=9), tmp_path)
    assert eval(repr(one)) == one
    assert pickle.loads(pickle.dumps(one)) == one


@each_wrapper
def test_a_pickled_wrapper_answers(wrap, tmp_path):
    scorer = wrap(PerfectScorer(), tmp_path)
    asked = [Question("q", (Doc("a", "1"), Doc("b", "2")), "q1")]
    scorer(asked)
    assert pickle.loads(pickle.dumps(scorer))(asked)[0].scores.tolist() == [1.0, 2.0]


@each_wrapper
def test_seeds_within_are_reached(wrap, tmp_path):
    scorer = wrap(SCORERS["drawn"](HashModel()), tmp_path)
    assert seeded(scorer) and reseeded(scorer, "q1") != scorer
    assert len({fingerprint(reseeded(scorer, key)) for key in ("q1", "q2")}) == 2
    [several] = Repeated(scorer, 3)(questions(1))
    assert several.usage.calls == 3  # three draws, not one kept three times


@each_wrapper
def test_a_wrapper_does_not_change_what_answers_depend_on(wrap, tmp_path):
    assert fingerprint(wrap(HFModel("a/b"), tmp_path)) == fingerprint(HFModel("a/b"))
    inside = Prompted(YesNo(), wrap(HFModel("a/b"), tmp_path))
    assert fingerprint(inside) == fingerprint(Prompted(YesNo(), HFModel("a/b")))


@each_wrapper
def test_arguments_of_unequal_length_are_refused(wrap, tmp_path):
    with pytest.raises(ConfigurationError, match=r"equal length, got lengths \[2, 1\]"):
        wrap(HashModel(), tmp_path).choices(prompts(2), [("Yes", "No")])


@each_wrapper
def test_too_few_answers_are_an_error_and_are_not_kept(wrap, tmp_path):
    class Lossy(HashModel):
        def choices(self, prompts, labels):
            return super().choices(prompts, labels)[1:]

    model = wrap(Lossy(), tmp_path)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"gave \d answers to \d items"):
            model.choices(prompts(2), [("Yes", "No")] * 2)


@each_wrapper
def test_arguments_that_only_some_models_take_reach_them(wrap, tmp_path):
    class Choosy(HashModel):
        def generate(self, prompts, *, only="", **more):
            return [one._replace(text=only + one.text) for one in super().generate(prompts, **more)]

    model = wrap(Choosy(), tmp_path)
    a, b = (model.generate(prompts(1), max_tokens=5, only=only)[0].text for only in ("a", "b"))
    assert (a[0], b[0]) == ("a", "b") and a[1:] == b[1:]
