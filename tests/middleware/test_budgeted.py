"""``Budgeted``: what is let through, what is not, and what it books."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from fake_models import HashModel
from fakes import PerfectScorer
from tiny import CHATML, byte_tokenizer, decoder, encoder_decoder, local

from pyterrier_llmrank import Rerank
from pyterrier_llmrank.core import Answer, Doc, Evidence, Message, Prompt, Question, Usage
from pyterrier_llmrank.errors import BudgetSpent, ConfigurationError, ScoringError, SeveralTokens
from pyterrier_llmrank.middleware import Budgeted, Cached, Retrying, Spending
from pyterrier_llmrank.models import Generation, Permutation, Sampling
from pyterrier_llmrank.prompts import ListPrompt, QueryPrompt, YesNo
from pyterrier_llmrank.scorers import BothOrders, Ensemble, Prompted, QueryLikelihood, Repeated
from pyterrier_llmrank.strategies import Pointwise

pytestmark = pytest.mark.filterwarnings("ignore::pyterrier_llmrank.errors.LLMRankWarning")


def prompts(n):
    return [Prompt((Message("user", f"text {i}"),)) for i in range(n)]  # of 6 tokens each


def question(qid="q1", n=2):
    return Question("why", tuple(Doc(f"d{i}", f"{i}") for i in range(n)), qid)


def asked(model):
    """Prompts that a model was sent."""
    return sum(len(call[1]) for call in model.asked if call[0] != "load")


def test_calls_stop_before_the_budget_is_passed():
    model = HashModel()
    budgeted = Budgeted(model, calls=5)
    budgeted.generate(prompts(3), max_tokens=9)
    with pytest.raises(BudgetSpent, match=r"HashModel.* 2 of 5 calls are left, and up to 3 might be needed.* raise"):
        budgeted.generate(prompts(3), max_tokens=9)
    budgeted.choices(prompts(2), [("Yes", "No")] * 2)  # what fits may still be asked
    assert asked(model) == budgeted.spent.calls == 5


def test_tokens_stop_before_the_budget_is_passed():
    model = HashModel()
    budgeted = Budgeted(model, tokens=100)
    with pytest.raises(BudgetSpent, match="100 of 100 tokens are left"):
        budgeted.generate(prompts(1), max_tokens=95)  # with 6 of the prompt
    assert asked(model) == 0
    [answer] = budgeted.generate(prompts(1), max_tokens=50)
    assert budgeted.spent.tokens == 6 + answer.usage.output_tokens == 15  # booked as it came, not as it might have


class Chooser(HashModel):
    """Like a server, reads its prompt once an item of an answer that is held to a permutation."""

    probed = True

    def generate(self, prompts, *, constraint, **told):
        self.asked.append(("generate", list(prompts)))
        items = constraint.length or len(constraint.items)
        return [Generation("", "stop", Usage(items - 1, (items - 1) * 9, output_tokens=3)) for _ in prompts]


def test_a_server_reads_a_prompt_once_an_item_of_an_answer_that_is_held_to_a_permutation():
    model, held = Chooser(), Permutation(("[1]", "[2]", "[3]", "[4]"))
    budgeted = Budgeted(model, calls=9)
    with pytest.raises(BudgetSpent, match="9 of 9 calls are left, and up to 12 might be needed"):
        budgeted.generate(prompts(3), max_tokens=9, constraint=held)
    budgeted.generate(prompts(2), max_tokens=9, constraint=held)
    assert budgeted.spent.calls == 6 and len(model.asked) == 1
    with pytest.raises(BudgetSpent, match="119 of 119 tokens are left"):  # 4 x 2 x (6 + 9)
        Budgeted(Chooser(), tokens=119).generate(prompts(2), max_tokens=9, constraint=held)
    Budgeted(Chooser(), tokens=500).generate(prompts(2), max_tokens=9, constraint=held)


def test_both_limits_hold():
    budgeted = Budgeted(HashModel(), calls=2, tokens=1000)
    with pytest.raises(BudgetSpent, match="calls"):
        budgeted.generate(prompts(3), max_tokens=1)
    with pytest.raises(BudgetSpent, match=r"1000 of 1000 tokens"):
        budgeted.generate(prompts(2), max_tokens=600)


def test_nothing_at_all_may_be_asked_with_a_budget_of_nothing():
    model = HashModel()
    for limit in ({"calls": 0}, {"tokens": 0}):
        with pytest.raises(BudgetSpent):
            Budgeted(model, **limit).choices(prompts(1), [("Yes",)])
    assert asked(model) == 0


SCORERS = {
    "labels": lambda model: Prompted(YesNo(), model),
    "written": lambda model: Prompted(ListPrompt(), model, max_tokens=8),
    "begun": lambda model: Prompted(ListPrompt("letters"), model),
    "query likelihood": lambda model: QueryLikelihood(model, QueryPrompt()),
    "wrapped": lambda model: Ensemble((BothOrders(Prompted(YesNo(), model)), QueryLikelihood(model))),
}


@pytest.fixture(scope="module", params=["decoder", "encoder-decoder", "characters"])
def model(request, tmp_path_factory):
    if request.param == "characters":
        return HashModel()
    folder = tmp_path_factory.mktemp("budget")
    if request.param == "decoder":
        return local(decoder(folder, byte_tokenizer(chat=CHATML), max_position_embeddings=3000))
    return local(encoder_decoder(folder), max_length=3000)


@pytest.mark.parametrize("build", SCORERS.values(), ids=SCORERS)
def test_what_is_reserved_is_never_less_than_what_is_spent(build, model):
    """Over budgets of all sizes: what was spent keeps within, and the whole cost is enough in the end."""
    questions = [question(n=n) for n in (1, 2, 3)]
    whole = sum((one.usage for one in build(model)(questions)), Usage())
    tokens = whole.prompt_tokens + whole.output_tokens
    for share in (0.1, 0.5, 0.9, 1.0):
        spent = Spending()
        budgeted = Budgeted(build(model), calls=int(share * whole.calls), tokens=int(share * tokens), spent=spent)
        try:
            for one in questions:
                budgeted([one])
        except BudgetSpent:
            pass
        assert spent.calls <= share * whole.calls and spent.tokens <= share * tokens
    roomy = Budgeted(build(model), calls=2 * whole.calls, tokens=100 * tokens)
    roomy(questions)
    assert (roomy.spent.calls, roomy.spent.tokens) == (whole.calls, tokens)


def test_what_comes_from_a_cache_is_free(tmp_path):
    model = HashModel()
    Prompted(YesNo(), Cached(model, tmp_path / "answers"))([question(n=4)])
    budgeted = Budgeted(Prompted(YesNo(), Cached(model, tmp_path / "answers")), calls=1)
    budgeted([question(n=4)])
    budgeted([question(n=5)])
    assert budgeted.spent.calls == 1
    with pytest.raises(BudgetSpent):
        budgeted([question(n=6)])


def test_what_was_answered_before_the_budget_ended_is_kept(tmp_path):
    model = HashModel()
    with pytest.raises(BudgetSpent):
        Budgeted(Cached(model, tmp_path / "answers", chunk=2), calls=5).generate(prompts(9), max_tokens=9)
    assert asked(model) == 4
    Budgeted(Cached(model, tmp_path / "answers"), calls=5).generate(prompts(9), max_tokens=9)
    assert asked(model) == 9


def test_every_model_within_is_paid_from_one_budget():
    one, other = HashModel(), HashModel(log_total=1.0)
    budgeted = Budgeted(Ensemble((Prompted(YesNo(), one), BothOrders(Prompted(YesNo(), other)))), calls=100)
    budgeted([question(n=3)])
    assert asked(one) + asked(other) == budgeted.spent.calls == 9


def test_every_try_is_paid():
    class Flaky(HashModel):
        def choices(self, prompts, labels):
            super().choices(prompts, labels)
            raise ConnectionError("lost on the way back")

    model = Flaky()
    with pytest.raises(BudgetSpent):
        Budgeted(Retrying(model, failures=9, sleep=lambda seconds: None), calls=5).choices(prompts(2), [("Yes",)] * 2)
    assert asked(model) == 4


def test_a_refusal_costs_nothing():
    """Labels of several tokens are refused before anything is run, and then read in another way."""

    class Picky(HashModel):
        def choices(self, prompts, labels):
            raise SeveralTokens("'Yes' is two tokens")

    budgeted = Budgeted(Prompted(YesNo(), Picky()), calls=4)
    budgeted([question(n=2)])  # two labels each, as continuations
    assert budgeted.spent.calls == 4


def test_a_scorer_without_a_model_counts_its_documents():
    scorer = PerfectScorer()
    budgeted = Budgeted(scorer, calls=8)
    budgeted([question(n=3)])
    assert budgeted.spent.calls == 1  # as it says itself
    with pytest.raises(BudgetSpent, match=r"7 of 8 calls are left, and up to 8 might be needed"):
        budgeted([question(n=7)])
    assert scorer.calls == 1


def test_a_scorer_that_does_not_say_how_much_it_reads_has_no_budget_of_tokens():
    with pytest.raises(ConfigurationError, match=r"does not say how many tokens .* give it one of calls"):
        Budgeted(PerfectScorer(), tokens=1000)([question()])

    @dataclass(frozen=True)
    class Reader:
        context = 10
        gives, max_docs = Evidence.SCORE, None

        def __call__(self, questions):
            return [Answer(np.zeros(len(one.docs)), Usage(len(one.docs), 7 * len(one.docs))) for one in questions]

    budgeted = Budgeted(Reader(), tokens=40)
    budgeted([question(n=3)])
    assert budgeted.spent.tokens == 21
    with pytest.raises(BudgetSpent):
        budgeted([question(n=1)])  # 10 for the document, 10 for the query, and 19 are left


def test_copies_with_other_seeds_share_the_budget():
    model = HashModel()
    scorer = Budgeted(Prompted(ListPrompt(), model, max_tokens=9, sampling=Sampling(0.8)), calls=2)
    with pytest.raises(BudgetSpent):
        Repeated(scorer, 3)([question()])
    assert asked(model) == scorer.spent.calls == 2


def test_a_budget_may_be_shared():
    spent = Spending()
    one, other = (Budgeted(HashModel(), calls=3, spent=spent) for _ in range(2))
    one.choices(prompts(2), [("Yes",)] * 2)
    with pytest.raises(BudgetSpent):
        other.choices(prompts(2), [("Yes",)] * 2)
    assert pickle.loads(pickle.dumps(spent)).calls == 2 and repr(spent) == "<Spending: 2 calls, 12 tokens>"


def test_a_budget_within_a_budget_holds():
    model = HashModel()
    for inner, outer in ((2, 9), (9, 2)):
        with pytest.raises(BudgetSpent):
            Budgeted(Budgeted(model, calls=inner), calls=outer).choices(prompts(3), [("Yes",)] * 3)
    assert asked(model) == 0


def test_the_end_of_a_budget_names_the_queries():
    frame = pd.DataFrame({"qid": "q7", "query": "why", "docno": ["a", "b"], "text": "t", "rank": [0, 1]})
    with pytest.raises(ScoringError, match=r"on the queries q7: the budget of HashModel.* ends here") as caught:
        Rerank(Pointwise(), Budgeted(Prompted(YesNo(), HashModel()), calls=1))(frame)
    assert isinstance(caught.value.__cause__, BudgetSpent)


@pytest.mark.parametrize(("wrong", "told"), [({}, "needs a limit"), ({"calls": -1}, "-1"), ({"tokens": -5}, "-5")])
def test_a_budget_has_a_limit_that_makes_sense(wrong, told):
    with pytest.raises(ConfigurationError, match=told):
        Budgeted(HashModel(), **wrong)
