"""Graded relevance: its labels, expected and peak relevance."""

from __future__ import annotations

import numpy as np
import pytest
import transformers
from tiny import decoder, full_logprobs, local

from pyterrier_llmrank.core import Doc, Evidence, Question
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.prompts import RG_2L, RG_3L, RG_4L, Graded, YesNo
from pyterrier_llmrank.scorers import Prompted


def user(prompt):
    return prompt.messages[-1].content


def draws(levels, seed=0):
    """Log-probabilities of labels that share the vocabulary with others, (100, levels)."""
    random = np.random.default_rng(seed)
    return np.log(random.dirichlet(np.ones(levels + 1), size=100)[:, :levels])


@pytest.mark.parametrize("levels", [RG_2L, RG_3L, RG_4L])
def test_words_are_shown_from_the_least_to_the_most_relevant(levels):
    shown = user(Graded(levels).render("why", ["because"]))
    assert f"one of these grades: {', '.join(levels)}." in shown and "why" in shown and "because" in shown
    assert Graded(levels).options(1) == levels


def test_a_scale_is_asked_for_in_digits():
    prompt = Graded(4)
    assert prompt.options(1) == ("0", "1", "2", "3", "4")
    assert "from 0 (not at all) to 4" in user(prompt.render("q", ["d"]))
    assert (prompt.max_docs, prompt.asks, prompt.gives) == (1, "choices", Evidence.SCORE)


@pytest.mark.parametrize("levels", [1, 4, 9, RG_3L])
def test_expected_relevance_lies_between_the_lowest_and_the_highest_value(levels):
    prompt = Graded(levels)
    k = len(prompt.options(1)) - 1
    scores = np.concatenate([prompt.read(row, 1) for row in draws(k + 1)])
    assert (scores >= 0).all() and (scores <= k).all() and np.ptp(scores) > 0


def test_expected_relevance_is_the_mean_over_the_renormalised_grades():
    assert Graded(2).read(np.log([0.1, 0.2, 0.1]), 1).tolist() == pytest.approx([1.0])
    assert Graded(2).read(np.log([0.3, 0.1, 0.1]), 1).tolist() == pytest.approx([0.6])


def test_two_grades_are_yes_and_no():
    for row in draws(2):
        [odds] = YesNo().read(row[::-1], 1)
        assert Graded(RG_2L).read(row, 1)[0] == pytest.approx(1 / (1 + np.exp(-odds)))


@pytest.mark.parametrize("score", ["expected", "peak"])
def test_the_order_of_the_grades_does_not_matter_where_values_say_what_they_are_worth(score):
    order = [2, 0, 3, 1]
    other = Graded(tuple(RG_4L[i] for i in order), score=score, values=tuple(order))
    for row in draws(4):
        np.testing.assert_allclose(other.read(row[order], 1), Graded(RG_4L, score=score).read(row, 1), rtol=1e-12)


def test_peak_relevance_is_the_likelihood_of_the_best_grade_as_it_is():
    row = np.log([0.1, 0.2, 0.05])
    assert Graded(RG_3L, score="peak").read(row, 1).tolist() == [row[2]]


def test_grades_without_any_probability_are_no_answer():
    assert np.isnan(Graded(4).read(np.full(5, -np.inf), 1)).all()


@pytest.mark.filterwarnings("ignore::pyterrier_llmrank.errors.LLMRankWarning")
@pytest.mark.parametrize("score", ["expected", "peak"])
def test_words_of_several_tokens_are_scored_as_whole_texts(tmp_path, score):
    folder = decoder(tmp_path)
    prompt = Graded(RG_3L, score=score, raw=True)
    docs = (Doc("d1", "the mat"), Doc("d2", "the cat"))
    scores = Prompted(prompt, local(folder))([Question("why", docs)])[0].scores
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = user(prompt.render("why", ["the mat"]))
    start, sums = len(tokenizer(text)["input_ids"]), []
    for grade in RG_3L:
        ids = tokenizer(text + grade)["input_ids"]
        rows = full_logprobs(folder, ids)
        sums.append(sum(rows[place - 1, ids[place]] for place in range(start, len(ids))))
    assert scores[0] == pytest.approx(prompt.read(np.array(sums), 1)[0], abs=1e-4) and scores[0] != scores[1]


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: Graded(("Relevant",)), "two grades or more, none of them empty, got ('Relevant',)"),
        (lambda: Graded(()), "two grades or more"),
        (lambda: Graded(("No", "")), "none of them empty"),
        (lambda: Graded(0), "0 to 1 … 9, got 0"),
        (lambda: Graded(10), "got 10; 10 would begin like 1"),
        (lambda: Graded(("1", "10")), "the grade '10' begins like '1'"),
        (lambda: Graded(("No", "No")), "the grade 'No' begins like 'No'"),
        (lambda: Graded(RG_3L, values=(0.0, 1.0)), "3 levels need as many values, got (0.0, 1.0)"),
        (lambda: Graded(score="mean"), "score must be 'expected', 'peak' or 'likeliest', got 'mean'"),
        (lambda: Graded(template="{query} {levels}"), "lacks {text}"),
    ],
)
def test_arguments_out_of_range_are_refused(build, told):
    with pytest.raises(ConfigurationError) as caught:
        build()
    assert told in str(caught.value)


@pytest.mark.parametrize("prompt", [Graded(), Graded(4, score="peak"), Graded(RG_2L, values=(0.0, 2.0))], ids=repr)
def test_prompts_are_values(prompt):
    rebuilt = eval(repr(prompt))
    assert rebuilt == prompt and hash(rebuilt) == hash(prompt)
