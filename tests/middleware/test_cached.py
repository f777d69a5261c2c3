"""``Cached``: what is asked, what is kept, and what is not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pytest
from fake_models import HashModel
from fakes import PerfectScorer, SilentScorer, UnreachableScorer
from tiny import CHATML, byte_tokenizer, decoder, local

from pyterrier_llmrank import Rerank
from pyterrier_llmrank.core import Answer, Doc, Evidence, Message, Prompt, Question, Usage
from pyterrier_llmrank.errors import ConfigurationError, ServerError
from pyterrier_llmrank.middleware import Cached, GaveUp, Retrying
from pyterrier_llmrank.models import ChoiceScores, Sampling
from pyterrier_llmrank.prompts import ListPrompt, YesNo
from pyterrier_llmrank.scorers import BothOrders, Prompted, Shuffled
from pyterrier_llmrank.strategies import Heapsort, Pointwise, SlidingWindow

pytestmark = pytest.mark.filterwarnings("ignore::pyterrier_llmrank.errors.LLMRankWarning")

NAN = float("nan")


@dataclass(frozen=True)
class Gone:
    """Stands for a model or scorer that is not there any more: any question to it fails."""

    was: object
    can: frozenset = frozenset({"choices", "continuation", "generate"})

    def identity(self):
        return self.was

    @property
    def gives(self):
        return self.was.gives

    @property
    def max_docs(self):
        return self.was.max_docs

    def load(self):
        raise ConnectionError("there is nothing to load")

    def __call__(self, questions):
        raise ConnectionError("there is nobody to ask")

    choices = continuation = generate = __call__


@dataclass(frozen=True)
class Telling:
    """Answers as it is told, by query; keeps the queries."""

    says: dict = field(compare=False)
    asked: list = field(default_factory=list, compare=False)
    gives = Evidence.SCORE
    max_docs = None

    def __call__(self, questions):
        self.asked.extend(question.query for question in questions)
        return [self.says[question.query] for question in questions]


@dataclass(frozen=True)
class Stand:
    """A model that takes the place of another one."""

    model: object
    was: object
    can = frozenset({"generate"})

    def identity(self):
        return self.was

    def load(self):
        """There is nothing to load."""

    def generate(self, prompts, **more):
        return self.model.generate(prompts, **more)


def question(query="why", *, qid="q1", docnos="ab", texts=None):
    docs = tuple(Doc(docno, text) for docno, text in zip(docnos, texts or "123456789", strict=False))
    return Question(query, docs, qid)


def prompt(text, **more):
    return Prompt((Message("user", text),), **more)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.sqlite"


def test_a_known_answer_needs_neither_model_nor_weights(path):
    scorer = PerfectScorer()
    [first] = Cached(scorer, path)([question()])
    [again] = Cached(Gone(scorer), path)([question()])
    assert again.scores.tolist() == first.scores.tolist() == [1.0, 2.0]


def test_what_comes_from_the_cache_was_not_spent_again(path):
    scorer = Cached(PerfectScorer(), path)
    assert scorer([question()])[0].usage == Usage(1, 20)
    assert scorer([question()])[0].usage == Usage(cached_calls=1)


def test_only_what_is_new_is_asked_and_in_one_call(path):
    scorer = PerfectScorer()
    cached = Cached(scorer, path)
    cached([question("a"), question("b")])
    answers = cached([question("c"), question("a"), question("d"), question("b")])
    assert [[q.query for q in asked] for asked in scorer.rounds] == [["a", "b"], ["c", "d"]]
    assert [one.usage.calls for one in answers] == [1, 0, 1, 0]


def test_a_question_twice_in_a_call_is_asked_once(path):
    scorer = PerfectScorer()
    first, _, again = Cached(scorer, path)([question("a"), question("b"), question("a")])
    assert [q.query for q in scorer.rounds[0]] == ["a", "b"]
    assert again.scores.tolist() == first.scores.tolist() and again.scores is not first.scores
    assert (first.usage.calls, again.usage.calls) == (1, 0)


def test_answers_come_back_exactly(path):
    scores = np.array([0.1 + 0.2, NAN, -np.inf, 1e-320, -0.0, np.nextafter(1, 2)])
    asked = question(docnos="abcdef")
    scorer = Telling({"why": Answer(scores, Usage(1, 9, repaired=1, truncated_tokens=7))})
    Cached(scorer, path)([asked])
    [again] = Cached(Gone(scorer), path)([asked])
    assert again.scores.tobytes() == scores.tobytes() and again.scores.dtype == np.float64
    assert again.usage == Usage(repaired=1, truncated_tokens=7, cached_calls=1)  # still true of the answer, at no cost


def test_what_a_model_says_comes_back_exactly(path):
    model = HashModel()
    asked, labels = [prompt("is it?"), prompt("why", answer="So")], [("Yes", "No"), ("ja", "né")]
    first = Cached(model, path).choices(asked, labels)
    for one, again in zip(first, Cached(Gone(model), path).choices(asked, labels), strict=True):
        assert one.logprobs.tobytes() == again.logprobs.tobytes() and again.missing.dtype == bool
        assert (again.missing.tolist(), again.log_total) == (one.missing.tolist(), 3.0)
        assert again.usage == Usage(cached_calls=1)
    [written] = Cached(model, path).generate(asked[:1], max_tokens=9)
    [again] = Cached(Gone(model), path).generate(asked[:1], max_tokens=9)
    assert again == written._replace(usage=Usage(cached_calls=1))


@pytest.mark.parametrize(
    "other",
    [
        question("Why"),
        question(qid="q2"),  # which decides what is drawn
        question(docnos="ba"),
        question(docnos="abc"),
        question(texts="13"),
        question(docnos=("a", "b\x1f1")),
    ],
)
def test_another_question_is_another_answer(path, other):
    scorer = PerfectScorer()
    cached = Cached(scorer, path)
    cached([question()])
    cached([other])
    assert scorer.calls == 2


def test_texts_that_run_together_alike_are_told_apart(path):
    scorer = PerfectScorer()
    cached = Cached(scorer, path)
    for texts in (["1', '2", "3"], ["1", "2', '3"]):
        with pytest.raises(ValueError, match="could not convert"):
            cached([question(texts=texts)])
    assert scorer.calls == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"max_tokens": 7}),
        ({}, {"stop": ["3"]}),
        ({}, {"sampling": Sampling(0.8), "seeds": [1]}),
        ({"sampling": Sampling(0.8), "seeds": [1]}, {"sampling": Sampling(0.8), "seeds": [2]}),
        ({"sampling": Sampling(0.8), "seeds": [1]}, {"sampling": Sampling(0.9), "seeds": [1]}),
        ({}, {"prompts": [prompt("why", answer="So")]}),
        ({}, {"prompts": [prompt("why", raw=True)]}),
        ({}, {"prompts": [Prompt((Message("system", "why"),))]}),
    ],
    ids=repr,
)
def test_other_arguments_are_another_answer(path, one, other):
    model = HashModel()
    cached = Cached(model, path)
    for told in (one, one, other, other):
        asked = {"prompts": [prompt("why")], "max_tokens": 9} | told
        cached.generate(asked.pop("prompts"), **asked)
    assert len(model.calls("generate")) == 2


def test_primitives_do_not_answer_for_each_other(path):
    model = HashModel()
    cached = Cached(model, path)
    [chosen] = cached.choices([prompt("why")], ["ab"])
    [read] = cached.continuation([prompt("why")], ["ab"])
    assert len(model.asked) - len(model.calls("load")) == 2 and len(chosen) == 4 and len(read) == 2


def test_sampled_answers_without_seeds_are_drawn_anew(path):
    model = HashModel()
    for _ in range(2):
        Cached(model, path).generate([prompt("why")], max_tokens=9, sampling=Sampling(0.8))
    assert len(model.calls("generate")) == 2


def test_another_scorer_is_another_answer(path):
    answered = [
        Cached(scorer, path)([question()])[0].usage.calls
        for scorer in (PerfectScorer(), PerfectScorer(Evidence.ORDER), PerfectScorer(max_docs=3), PerfectScorer())
    ]
    assert answered == [1, 1, 1, 0]


@pytest.mark.parametrize("answer", [Answer(np.array([NAN, NAN])), Answer(np.array([1.0, 0.5]), Usage(2, failures=1))])
def test_what_failed_is_asked_again(path, answer):
    """One of two orders that could not be read makes a tie: it must not stay one."""
    scorer = Telling({"why": answer})
    for _ in range(2):
        [got] = Cached(scorer, path)([question()])
        assert got.usage == answer.usage
    assert scorer.asked == ["why", "why"]


def test_a_failure_twice_in_a_call_is_one_question_and_two_failures(path):
    answers = Cached(SilentScorer(), path)([question(), question()])
    assert [(one.usage.calls, one.usage.failures) for one in answers] == [(1, 1), (0, 1)]


def test_an_answer_of_the_wrong_length_is_not_kept(path):
    scorer = Telling({"why": Answer(np.array([1.0]))})
    for _ in range(2):
        Cached(scorer, path)([question()])
    assert scorer.asked == ["why", "why"]


def test_labels_without_any_value_are_asked_for_again(path):
    class Blind(HashModel):
        def choices(self, prompts, labels):
            super().choices(prompts, labels)
            return [ChoiceScores(np.zeros(2), np.array([True, True]), Usage(1)) for _ in prompts]

    model = Blind()
    for _ in range(2):
        Cached(model, path).choices([prompt("why")], [("Yes", "No")])
    assert len(model.calls("choices")) == 2


def test_a_label_without_a_value_is_not_kept_but_a_bound_is(path):
    class Vague(HashModel):
        def choices(self, prompts, labels):
            super().choices(prompts, labels)
            bounded = [prompt.messages[0].content == "bounded" for prompt in prompts]
            return [
                ChoiceScores(np.array([-1.0, -9.0 if one else NAN]), np.array([False, True]), Usage(1))
                for one in bounded
            ]

    model = Vague()
    for _ in range(2):
        Cached(model, path).choices([prompt("bounded"), prompt("unknown")], [("Yes", "No")] * 2)
    assert [[one.messages[0].content for one in asked] for _, asked in model.calls("choices")] == [
        ["bounded", "unknown"],
        ["unknown"],
    ]


@dataclass(frozen=True)
class Breaking:
    """Fails where it comes to a question about ``at``; may carry what it had answered."""

    at: str
    carries: bool = False
    asked: list = field(default_factory=list, compare=False)
    gives = Evidence.SCORE
    max_docs = None

    def identity(self):
        return "breaking"

    def __call__(self, questions):
        done = {}
        for place, one in enumerate(questions):
            self.asked.append(one.query)
            if one.query == self.at:
                error = ConnectionError("the server went away")
                error.finished = (questions, done) if self.carries else None
                raise error
            done[place] = Answer(np.array([1.0, 2.0]), Usage(1))
        return list(done.values())


LETTERS = [question(letter) for letter in "abcdef"]


def repaired(path):
    """What is asked once nothing breaks any more."""
    scorer = Breaking("")
    assert len(Cached(scorer, path)(LETTERS)) == 6
    return "".join(scorer.asked)


def test_chunks_before_a_failure_are_kept(path):
    with pytest.raises(ConnectionError):
        Cached(Breaking("e"), path, chunk=2)(LETTERS)
    assert repaired(path) == "ef"


def test_without_chunks_a_failure_is_the_whole_call(path):
    with pytest.raises(ConnectionError):
        Cached(Breaking("e"), path)(LETTERS)
    assert repaired(path) == "abcdef"


def test_answers_that_a_failure_carries_are_kept(path):
    with pytest.raises(ConnectionError):
        Cached(Breaking("e", carries=True), path)(LETTERS)
    assert repaired(path) == "ef"


def test_answers_carried_from_another_call_are_not_taken_for_these(path):
    """A scorer within asks copies of its own, whose places mean something else."""

    @dataclass(frozen=True)
    class Backwards:
        scorer: object
        gives, max_docs = Evidence.SCORE, None

        def __call__(self, questions):
            return self.scorer(questions[::-1])[::-1]

    with pytest.raises(ConnectionError):
        Cached(Backwards(Breaking("c", carries=True)), path)(LETTERS)
    scorer = Breaking("")
    Cached(Backwards(scorer), path)(LETTERS)
    assert "".join(scorer.asked) == "fedcba"


def test_questions_whose_orders_were_all_answered_before_a_failure_are_kept(path):
    with pytest.raises(ConnectionError):
        Cached(BothOrders(Breaking("c", carries=True)), path)(LETTERS)
    scorer = Breaking("")
    Cached(BothOrders(scorer), path)(LETTERS)
    assert "".join(scorer.asked) == "ccddeeff"


def writes_two(number):
    return f"[{1 + number % 2}] > [{2 - number % 2}]"


@dataclass
class Server(HashModel):
    """Fails after some prompts, and says what it had."""

    until: int = 2

    def generate(self, prompts, **more):
        self.fail(super().generate(prompts[: self.until], **more), prompts)

    def choices(self, prompts, labels):
        self.fail(super().choices(prompts[: self.until], labels[: self.until]), prompts)

    def fail(self, answers, prompts):
        error = ServerError("five failures in a row")
        error.partial = [*answers, *[None] * len(prompts[self.until :])]
        raise error


def test_what_a_server_answered_before_it_failed_is_kept(path):
    asked = [prompt(letter) for letter in "abcd"]
    with pytest.raises(ServerError):
        Cached(Server(), path).generate(asked, max_tokens=9)
    model = HashModel()
    answers = Cached(Stand(model, Server()), path).generate(asked, max_tokens=9)
    assert [[one.messages[0].content for one in call[1]] for call in model.calls("generate")] == [["c", "d"]]
    assert [one.text for one in answers] == [one.text for one in HashModel().generate(asked, max_tokens=9)]


@pytest.mark.parametrize("partial", [None, b"ab", 2, ["a", "b"], [None, None], [Answer(np.zeros(2)), None]], ids=repr)
def test_what_an_exception_holds_that_is_no_answer_is_not_taken_for_one(path, partial):
    """Other libraries have exceptions with an attribute of this name."""

    class Odd(HashModel):
        def generate(self, prompts, **more):
            error = ConnectionError("read only in part")
            error.partial = partial
            raise error

    with pytest.raises(ConnectionError, match="in part"):
        Cached(Odd(), path).generate([prompt("a"), prompt("b")], max_tokens=9)
    assert len(Cached(Odd(), path)._store) == 0


def one_list(model):
    return Prompted(ListPrompt("letters"), model)


SCORERS = {  # and prompts of a question of two documents
    "written": (lambda model: Prompted(ListPrompt(), model), 1),
    "labels": (one_list, 1),
    "each document by itself": (lambda model: Prompted(YesNo(), model), 2),
    "both orders": (lambda model: BothOrders(one_list(model)), 2),
    "shuffled": (lambda model: Shuffled(one_list(model), 2), 2),
    "retried": (lambda model: Retrying(one_list(model), failures=1), 1),
    "retried within": (lambda model: one_list(Retrying(model, failures=1)), 1),
}


@pytest.mark.parametrize(("build", "prompts"), SCORERS.values(), ids=SCORERS)
def test_of_a_scorer_whose_model_fails_the_whole_questions_are_kept(build, prompts, path):
    asked = [question(letter) for letter in "abcdef"]
    failing = build(Server(writes_two, until=5))
    with pytest.raises((ServerError, GaveUp)):
        Cached(failing, path)(asked)
    whole = 5 // prompts
    assert len(Cached(failing, path)._store) == whole
    again = Cached(Gone(failing), path)(asked[:whole])
    for one, other in zip(again, build(HashModel(writes=writes_two))(asked), strict=False):
        assert one.scores.tobytes() == other.scores.tobytes()


def test_an_outer_cache_keeps_what_an_inner_one_had_finished(tmp_path):
    breaking = Cached(Breaking("e"), tmp_path / "inner", chunk=2)
    with pytest.raises(ConnectionError):
        Cached(breaking, tmp_path / "outer")(LETTERS)
    assert repaired(tmp_path / "outer") == "ef"


def test_chunks_are_asked_in_order(path):
    scorer = PerfectScorer()
    Cached(scorer, path, chunk=4)(LETTERS)
    assert ["".join(q.query for q in asked) for asked in scorer.rounds] == ["abcd", "ef"]


@pytest.mark.parametrize("chunk", [0, -1])
def test_a_chunk_holds_something(path, chunk):
    with pytest.raises(ConfigurationError, match=f"chunk must be at least 1 item .*, got {chunk}"):
        Cached(PerfectScorer(), path, chunk=chunk)


def test_what_does_not_say_what_it_is_cannot_be_kept(path):
    class Anonymous:
        gives, max_docs = Evidence.SCORE, None

        def __call__(self, questions):
            raise AssertionError("was asked")

    for act in (lambda one: one.load(), lambda one: one([question()])):
        with pytest.raises(ConfigurationError, match=r"Anonymous object at .* make it a frozen dataclass"):
            act(Cached(Anonymous(), path))


def frame(queries=2, n=12):
    rows = [
        {"qid": f"q{q}", "query": f"query {q}", "docno": f"d{q}{i}", "text": str((i * 7 + q) % 11), "rank": i}
        for q in range(queries)
        for i in range(n)
    ]
    return pd.DataFrame(rows)


def test_strategies_share_answers(path):
    """A sort asks about pairs that another has asked about."""
    scorer = PerfectScorer()
    first = Rerank(Heapsort(2), Cached(scorer, path))(frame())
    again = Rerank(Heapsort(2), Cached(Gone(scorer), path))
    pd.testing.assert_frame_equal(again(frame()), first)
    assert again.ledger.total.usage == Usage(cached_calls=scorer.calls)
    before = scorer.calls
    windows = Rerank(SlidingWindow(2, 1), Cached(scorer, path))
    windows(frame())
    assert scorer.calls - before == windows.ledger.total.usage.calls < 2 * 11


def test_a_rerank_from_the_cache_loads_no_model(path):
    scorer = PerfectScorer()
    Rerank(Pointwise(), Cached(scorer, path))(frame())
    Rerank(Pointwise(), Cached(Gone(scorer), path))(frame())
    with pytest.raises(ConnectionError, match="nothing to load"):
        Cached(Gone(scorer), path)([question("new")])


def test_an_order_that_was_drawn_is_drawn_again_from_the_cache(path):
    inner = PerfectScorer(Evidence.ORDER)
    shuffled = Shuffled(inner, 3, seed=5)
    [first] = Cached(shuffled, path)([question(docnos="abcd")])
    [again] = Cached(Shuffled(Gone(inner), 3, seed=5), path)([question(docnos="abcd")])
    assert first.scores.tolist() == again.scores.tolist()
    with pytest.raises(ConnectionError):
        Cached(Shuffled(Gone(inner), 3, seed=6), path)([question(docnos="abcd")])


def test_a_cached_network_answers_like_the_network(path, tmp_path):
    model = local(decoder(tmp_path / "tiny", byte_tokenizer(chat=CHATML)))
    asked = [question(query, docnos="abc", texts=["short", "a longer text", "x"]) for query in ("one", "two")]
    for build in (lambda model: Prompted(YesNo(), model), lambda model: Prompted(ListPrompt(), model, max_tokens=8)):
        plain = build(model)(asked)
        for cached in (Cached(build(model), path), build(Cached(model, path))):
            for _ in range(2):
                for one, other in zip(plain, cached(asked), strict=True):
                    np.testing.assert_allclose(other.scores, one.scores, atol=1e-5)


def test_device_and_batch_size_are_not_part_of_the_key_but_the_weights_are(path, tmp_path):
    folder = decoder(tmp_path / "tiny", byte_tokenizer(chat=CHATML))
    model = local(folder)
    assert Cached(model, path)._told == Cached(replace(model, batch_tokens=7, device="cpu"), path)._told
    other = local(decoder(tmp_path / "other", byte_tokenizer(chat=CHATML), intermediate_size=40))
    assert Cached(model, path)._told != Cached(other, path)._told


def test_an_unreachable_scorer_shows_what_is_not_in_the_cache(path):
    with pytest.raises(ConnectionError):
        Cached(UnreachableScorer(), path)([question()])
