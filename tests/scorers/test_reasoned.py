"""Reasoning before labels are read, and labels read one after the other."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from fake_models import HashModel
from fake_models import shown as shown_to
from shared_data import parity
from tiny import CHATML, byte_tokenizer, decoder, local

from pyterrier_llmrank.core import Doc, Evidence, Question, Usage
from pyterrier_llmrank.errors import ConfigurationError, PromptTooLong, Unsupported
from pyterrier_llmrank.models import ChoiceScores, Sampling
from pyterrier_llmrank.prompts import ListPrompt, YesNo
from pyterrier_llmrank.scorers import Prompted, Reasoned, Stepped

quiet = pytest.mark.filterwarnings("ignore::pyterrier_llmrank.errors.LLMRankWarning")
NAN = np.nan
LETTERS = ListPrompt("letters")


def question(n=2, qid="q1"):
    return Question("why", tuple(Doc(f"d{i}", f"text {i}") for i in range(n)), qid)


def thinking(text, finish="stop"):
    return HashModel(writes=lambda number: text, finish=finish)


def answers_read(model):
    """How the answer begins that labels were read after."""
    return [prompt.answer for call in model.calls("choices") for prompt in call[1]]


# Reasoning


def test_labels_are_read_after_the_reasoning():
    model = thinking("It says so. Then\n")
    [answer] = Reasoned(YesNo(), model)([question(1)])
    assert answers_read(model) == ["<think>\nIt says so. Then\n</think>\n\n"]
    [written] = model.calls("generate")
    assert [prompt.answer for prompt in written[1]] == ["<think>\n"] and written[2:] == (
        8192,
        ("</think>",),
        None,
        None,
    )
    [prompt] = model.calls("choices")[0][1]
    [choice] = model.choices([prompt], [("Yes", "No")])
    assert answer.scores[0] == pytest.approx(choice.logprobs[0] - choice.logprobs[1])
    assert answer.usage.calls == 2 and answer.usage.output_tokens == len("It says so. Then\n")
    assert answer.usage.repaired == answer.usage.failures == 0


def test_the_answer_of_the_prompt_begins_after_the_reasoning():
    model = thinking("d0 is best.\n")
    [answer] = Reasoned(LETTERS, model, opening="<t>", closing="</t>")([question(3)])
    assert answers_read(model) == ["<t>d0 is best.\n</t>["]
    assert len(answer.scores) == 3 and answer.usage.calls == 2


def test_rank1_is_an_expression():
    """Its prompt ends with the opening tag, and its labels begin with a space."""
    prompt = YesNo("Query: {query}\nPassage: {text}\n<think>", yes=" true", no=" false", raw=True)
    model = thinking("\nOkay.\n")
    Reasoned(prompt, model, opening="", closing="</think>")([question(1)])
    [call] = model.calls("choices")
    assert shown_to(call[1][0]) == "Query: why\nPassage: text 0\n<think>\nOkay.\n</think>"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("One. Two! Thr", "One. Two!\n"),
        ("One? It costs 3.5 and", "One?\n"),
        ("Up to here.", "Up to here.\n"),
        ("no sentence in it", "no sentence in it\n"),
        ("いい文。まだ", "いい文。\n"),
        ("", "\n"),
    ],
)
def test_reasoning_without_an_end_is_cut_after_its_last_sentence_closed_and_counted(written, kept):
    model = thinking(written, "length")
    [answer] = Reasoned(YesNo(), model)([question(1)])
    assert answers_read(model) == [f"<think>\n{kept}</think>\n\n"]
    assert answer.usage.repaired == 1 and np.isfinite(answer.scores).all()


def test_reasoning_that_is_more_tokens_when_read_again_is_cut_to_its_room():
    """What was written as few tokens may be tokenised to more of them."""

    class Longer(HashModel):
        def token_ends(self, texts):
            return [[end for end in range(1, len(text) + 1) for _ in range(2)] for text in texts]

    model = Longer(writes=lambda number: "One. Two. Three.")
    [answer] = Reasoned(YesNo(), model, max_tokens=16)([question(1)])
    assert answers_read(model) == ["<think>\nOne.\n</think>\n\n"] and answer.usage.repaired == 1


def test_reasoning_is_drawn_by_seed_query_and_documents():
    model = HashModel(writes=lambda number: f"{number}.")
    scorer = Reasoned(YesNo(), model, sampling=Sampling(0.6, 0.95, 20), seed=5)
    together = scorer([question(2), question(2, "q2")])
    seeds = model.calls("generate")[0][5]
    assert len(set(seeds)) == 4
    [alone] = scorer([question(2, "q2")])
    assert model.calls("generate")[1][5] == seeds[2:]
    np.testing.assert_array_equal(alone.scores, together[1].scores)


def test_the_reasoning_needs_room_in_the_context():
    with pytest.raises(PromptTooLong, match="fewer tokens for the answer"):
        Reasoned(YesNo(), HashModel(context=1000), max_tokens=990)([question()])


@quiet
def test_a_real_model_reasons_and_answers(tmp_path):
    folder = decoder(tmp_path, byte_tokenizer(chat=CHATML), max_position_embeddings=1500)
    scorer = Reasoned(YesNo(), local(folder), max_tokens=12)
    together = scorer([question(2), question(1, "q2")])
    assert together[0].scores.shape == (2,) and np.isfinite(together[0].scores).all()
    assert together[0].usage.calls == 4 and 0 < together[0].usage.output_tokens <= 24
    np.testing.assert_allclose(scorer([question(1, "q2")])[0].scores, together[1].scores, atol=1e-4)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: Reasoned(ListPrompt(), HashModel()), ConfigurationError, "use Prompted with max_tokens=8192"),
        (
            lambda: Reasoned(YesNo(), HashModel(), max_tokens=0),
            ConfigurationError,
            "max_tokens must be at least 1 token",
        ),
        (lambda: Reasoned(YesNo(), HashModel(), closing=" "), ConfigurationError, "closing must end"),
        (lambda: Reasoned(YesNo(), HashModel(can=frozenset({"choices"}))), Unsupported, "asks for 'generate'"),
        (lambda: Stepped(ListPrompt(), HashModel()), ConfigurationError, "about one document that reads two labels"),
        (lambda: Stepped(LETTERS, HashModel()), ConfigurationError, "about one document"),
        (lambda: Stepped(YesNo(yes=("yes", "Yes")), HashModel()), ConfigurationError, "two labels"),
        (lambda: Stepped(YesNo(), HashModel(), grades=("0",)), ConfigurationError, "two grades or more"),
    ],
)
def test_what_cannot_work_is_refused_at_once(build, error, message):
    with pytest.raises(error, match=message):
        build()


# Two steps


class Planted(HashModel):
    """Tells what it is told of labels, by whether they are grades."""

    first: dict
    grades: dict

    def _choice(self, prompt, names):
        told = self.grades if "0" in names else self.first
        return ChoiceScores(np.array([told[name] for name in names]), np.array([False] * len(names)), Usage(1, 5))


def planted(first, grades):
    model = Planted()
    model.first, model.grades = first, grades
    return model


def visible(told, names):
    """TFRank's reading of the tokens that an interface shows: the rest is 10 below the least of them."""
    return {name: told.get(name, min(told.values()) - 10) for name in names}


@quiet
def test_probabilities_and_grades_are_those_of_tfrank():
    cases = parity("reasoning_parsers")["tfrank"]["cases"]
    digits = [case for case in cases if "expected_label" in case]
    for case in (case for case in cases if "yesno" in case):
        told = case["top_logprobs"]
        names = [
            next((s for s in spellings if s in told), spellings[0]) for spellings in (("yes", "Yes"), ("no", "No"))
        ]
        for graded in digits:
            grades = visible(graded["top_logprobs"], "01234")
            model = planted(visible(told, names), grades)
            [answer] = Stepped(YesNo(yes=names[0], no=names[1]), model)([question(1)])
            expected = (case["yesno"]["yes"] + graded["expected_label"] / 4) / 2
            assert answer.scores[0] == pytest.approx(expected, rel=1e-6)
            chosen = names[0] if case["yesno"]["yes"] > 0.5 else names[1]
            assert answers_read(model) == ["", f"{chosen}("] and answer.usage == Usage(2, 10)


@quiet
def test_without_a_grade_the_score_is_the_probability_and_counted_as_repaired():
    model = planted({"Yes": np.log(0.6), "No": np.log(0.2)}, dict.fromkeys("01234", NAN))
    [answer] = Stepped(YesNo(), model)([question(1)])
    assert answer.scores[0] == pytest.approx(0.75) and answer.usage.repaired == 1


@quiet
def test_without_a_choice_there_is_no_second_question_and_no_score():
    model = planted({"Yes": NAN, "No": NAN}, dict.fromkeys("01234", 0.0))
    [answer] = Stepped(YesNo(), model)([question(1)])
    assert np.isnan(answer.scores[0]) and answer.usage == Usage(1, 5, failures=1)


def test_both_steps_ask_about_all_documents_together():
    model = HashModel()
    answers = Stepped(YesNo(), model)([question(2), question(3, "q2")])
    assert [len(call[1]) for call in model.calls("choices")] == [5, 5]
    assert [answer.usage.calls for answer in answers] == [4, 6]
    assert all(0 <= score <= 1 for answer in answers for score in answer.scores)
    assert Stepped(YesNo(), model).gives == Evidence.SCORE and Stepped(YesNo(), model).max_docs is None


# Written answers that are drawn


def test_a_written_answer_is_as_long_as_asked_for():
    model = HashModel()
    Prompted(ListPrompt(), model, max_tokens=3000)([question(2), question(9)])
    [call] = model.calls("generate")
    assert call[2] == 3000 and len(call[1]) == 2 and call[4:] == (None, None)


def test_drawn_answers_depend_on_the_seed_the_query_and_the_documents_alone():
    model = HashModel(writes=lambda number: f"[{1 + number % 2}]")
    scorer = Prompted(ListPrompt(), model, sampling=Sampling(0.7), seed=3)
    scorer([question(2), question(3), question(2, "q2")])
    first = dict(zip("ac", model.calls("generate")[0][5], strict=True))
    scorer([question(2, "q2")])
    assert model.calls("generate")[-1][5] == [first["c"]] and first["a"] != first["c"]
    Prompted(ListPrompt(), model, sampling=Sampling(0.7), seed=4)([question(2, "q2")])
    assert model.calls("generate")[-1][5] != [first["c"]]


@pytest.mark.parametrize("told", [{"max_tokens": 5}, {"sampling": Sampling()}])
def test_arguments_of_written_answers_are_refused_where_nothing_is_written(told):
    with pytest.raises(ConfigurationError, match="use Reasoned to let the model write"):
        Prompted(YesNo(), HashModel(), **told)


def test_no_token_is_no_answer():
    with pytest.raises(ConfigurationError, match="at least 1 token, got 0"):
        Prompted(ListPrompt(), HashModel(), max_tokens=0)


def test_seeds_are_the_same_on_every_machine():
    model = HashModel()
    Prompted(ListPrompt(), model, sampling=Sampling(), seed=1)([question(2)])
    assert model.calls("generate")[0][5] == [_derived("1\x1fq1\x1fd0\x1fd1")]


def _derived(text):
    import hashlib

    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def test_the_fake_answers_by_what_it_is_shown_and_by_the_seed():
    model = HashModel(writes=str)
    [prompt] = [YesNo().render("why", ["text"])]
    one, other = (model.generate([prompt], max_tokens=20, seeds=[seed])[0].text for seed in (1, 2))
    assert one != other and one == str(zlib.crc32(f"{shown_to(prompt)}1".encode()))


class Unreached(HashModel):
    """A server that one of two requests does not reach."""

    def generate(self, prompts, **told):
        written = super().generate(prompts, **told)
        return [written[0]._replace(text="", usage=Usage(failures=1)), *written[1:]]


def test_reasoning_that_was_never_written_gives_no_score():
    """An answer read after nothing would look like any other."""
    model = Unreached(writes=lambda number: "It rains.")
    scorer = Reasoned(YesNo(), model, max_tokens=50)
    lost, read = scorer([Question("why", (Doc("d", "x"),), "q1"), Question("why", (Doc("e", "y"),), "q1")])
    assert np.isnan(lost.scores).all() and lost.usage.failures == 1
    assert np.isfinite(read.scores).all() and read.usage.failures == 0
    assert len(model.calls("choices")[0][1]) == 1
