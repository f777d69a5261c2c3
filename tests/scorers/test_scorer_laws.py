"""The laws that every scorer obeys. A new scorer is one more line in ``SCORERS``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fake_models import HashModel
from tiny import CHATML, byte_tokenizer, decoder, local

from pyterrier_llmrank.aggregates import additive
from pyterrier_llmrank.core import Doc, Question, Scorer, Usage
from pyterrier_llmrank.models import Sampling
from pyterrier_llmrank.prompts import (
    Demonstrated,
    Demonstration,
    ListPrompt,
    PairPrompt,
    QueryPrompt,
    Similar,
    YesNo,
)
from pyterrier_llmrank.scorers import (
    BothOrders,
    Ensemble,
    Inserted,
    Prompted,
    QueryLikelihood,
    Reasoned,
    Repeated,
    Shuffled,
    Stepped,
)

pytestmark = pytest.mark.filterwarnings("ignore::pyterrier_llmrank.errors.LLMRankWarning")

LETTERS = ListPrompt("letters")
WARM = Sampling(0.8, top_k=30)
EXAMPLES = tuple(Demonstration(query, (f"about {query}",), "Yes") for query in ("cats", "dogs", "old trees"))
PAIRS = tuple(Demonstration(query, (f"about {query}", "no"), "A") for query in ("cats", "dogs", "old trees"))
LISTS = (Demonstration("cats", ("about cats", "no"), "[1] > [2]"),)

SCORERS = {
    "labels": lambda model: Prompted(YesNo(), model),
    "first identifier": lambda model: Prompted(LETTERS, model),
    "written": lambda model: Prompted(ListPrompt(), model, max_tokens=12),
    "held to a permutation": lambda model: Prompted(ListPrompt(decode="constrained", top_k=3), model),
    "held, few-shot": lambda model: Prompted(Demonstrated(ListPrompt(decode="constrained"), LISTS), model),
    "drawn": lambda model: Prompted(ListPrompt(), model, max_tokens=12, sampling=WARM, seed=7),
    "query likelihood": QueryLikelihood,
    "few-shot": lambda model: Prompted(Demonstrated(YesNo(), Similar(EXAMPLES, 2)), model),
    "few-shot pairs": lambda model: BothOrders(
        Prompted(Demonstrated(PairPrompt(), Similar(PAIRS, 2, ("A", "B"))), model)
    ),
    "few-shot query likelihood": lambda model: QueryLikelihood(model, Demonstrated(QueryPrompt(), EXAMPLES[:1])),
    "reasoned": lambda model: Reasoned(YesNo(), model, max_tokens=8),
    "reasoned, drawn": lambda model: Reasoned(LETTERS, model, max_tokens=8, sampling=WARM),
    "stepped": lambda model: Stepped(YesNo(), model),
    "inserted": lambda model: Inserted(Prompted(LETTERS, model), "{place}: {text}"),
    "both orders": lambda model: BothOrders(Prompted(LETTERS, model)),
    "both orders, mean": lambda model: BothOrders(Prompted(YesNo(), model), "mean"),
    "shuffled": lambda model: Shuffled(Prompted(LETTERS, model), 3, seed=2),
    "shuffled, aggregate": lambda model: Shuffled(Prompted(LETTERS, model), 3, additive),
    "repeated": lambda model: Repeated(Prompted(ListPrompt(), model, max_tokens=12, sampling=WARM), 3, "votes"),
    "ensemble": lambda model: Ensemble((Prompted(YesNo(), model), QueryLikelihood(model)), (1.0, 0.5)),
    "wrapped twice": lambda model: Ensemble(
        (BothOrders(Prompted(LETTERS, model)), Shuffled(Prompted(LETTERS, model), 2)), normalize="rank"
    ),
}
each_scorer = pytest.mark.parametrize("build", SCORERS.values(), ids=SCORERS)


def questions(scorer):
    """Groups of several sizes, of several queries; some documents are in two of them."""
    docs = [Doc(f"d{i}", f"The cat number {i} " + "sat on the mat. " * (i % 3)) for i in range(5)]
    sizes = [2, 1, 2, 2] if scorer.max_docs == 2 else [3, 1, 5, 2]
    return [Question(f"where is cat {i}", tuple(docs[:n]), f"q{i % 3}") for i, n in enumerate(sizes)]


def costs(usage):
    """What does not depend on what others had computed already."""
    return replace(usage, cached_tokens=0)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return decoder(tmp_path_factory.mktemp("laws"), byte_tokenizer(chat=CHATML), max_position_embeddings=3000)


@pytest.fixture(params=["hash", "network"])
def model(request):
    return HashModel() if request.param == "hash" else local(request.getfixturevalue("tiny"))


@each_scorer
def test_a_scorer_follows_the_protocol_and_is_a_value(build):
    model = HashModel()
    scorer = build(model)
    assert isinstance(scorer, Scorer) and scorer == build(model) and repr(scorer) == repr(build(model))


@each_scorer
def test_no_question_needs_no_model(build, tiny):
    model = HashModel()
    assert build(model)([]) == [] and model.asked == []
    network = local(tiny)
    assert build(network)([]) == [] and "_loaded" not in vars(network)


@each_scorer
def test_loading_a_scorer_loads_its_model(build):
    model = HashModel()
    build(model).load()
    assert ("load",) in model.asked


@each_scorer
def test_scores_depend_on_nobody_else_in_the_call(build, model):
    scorer = build(model)
    asked = questions(scorer)
    together = scorer(asked)
    assert [len(answer.scores) for answer in together] == [len(one.docs) for one in asked]
    for one, answer in zip(asked, together, strict=True):
        [alone] = scorer([one])
        np.testing.assert_allclose(alone.scores, answer.scores, atol=1e-4)
        assert costs(alone.usage) == costs(answer.usage)


@each_scorer
def test_answers_come_in_the_order_of_the_questions(build, model):
    scorer = build(model)
    asked = questions(scorer)
    for answer, other in zip(scorer(asked), scorer(asked[::-1])[::-1], strict=True):
        np.testing.assert_allclose(answer.scores, other.scores, atol=1e-4)


@each_scorer
def test_usage_adds_up_to_what_the_model_was_asked(build):
    model = HashModel()
    scorer = build(model)
    answers = scorer(questions(scorer))
    total = sum((answer.usage for answer in answers), Usage())
    assert total.calls == sum(len(call[1]) for call in model.asked if call[0] != "load")
    assert all(answer.usage.calls and answer.usage.prompt_tokens for answer in answers)


@each_scorer
def test_a_question_asked_twice_is_answered_alike(build, model):
    scorer = build(model)
    one = questions(scorer)[0]
    first, second = scorer([one, one])
    np.testing.assert_allclose(first.scores, second.scores, atol=1e-4)
