"""What every kind of model promises, on equal prompts: the numbers and the words of transformers alone."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import transformers
from model_kinds import CHECKPOINTS, KINDS, WILD, configured
from tiny import STOP, ask, full_logprobs

from pyterrier_llmrank.core import Usage
from pyterrier_llmrank.errors import ConfigurationError, LabelError, ModelError, PromptTooLong, SeveralTokens
from pyterrier_llmrank.models import HFModel, OpenAIModel, Permutation, Sampling
from pyterrier_llmrank.models.vllm import VLLMModel

TEXTS = ["the cat sat on the mat. " * times + "end" for times in (0, 9, 1, 5, 0, 3, 12)] + ["x", "é 中 🙂"]
PROMPTS = [ask(text) for text in TEXTS]
YES_NO = ("Yes", "No")
LONG = 16
SEEDS = [11, 2**63 - 1, 0, 5, 11, 6, 7, 8, 9]


class Case(NamedTuple):
    """A model and the checkpoint that it runs.

    Attributes:
        model: Of the kind that is checked.
        folder: The checkpoint.
        tolerance: How far log-probabilities may be off.
        ends: Ids that end an answer.
        writes: Tokens that it writes where it only reads.
    """

    model: object
    folder: str
    tolerance: float
    ends: set
    writes: int = 0

    @property
    def both_sides(self):
        return "T5" in json.loads((Path(self.folder) / "config.json").read_text())["architectures"][0]

    @property
    def tokenizer(self):
        return transformers.AutoTokenizer.from_pretrained(self.folder)

    def sides(self, prompt, tail=""):
        """Ids that the encoder reads (None for a decoder alone), and those that the answer goes on from."""
        text = "".join(message.content for message in prompt.messages)
        if self.both_sides:
            after = self.tokenizer(prompt.answer + tail, add_special_tokens=False)["input_ids"]
            return self.tokenizer(text)["input_ids"], [1, *after]
        if not prompt.raw:
            text = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
        return None, self.tokenizer(text + prompt.answer + tail, add_special_tokens=False)["input_ids"]

    def logprobs(self, prompt, tail, *, end=False):
        """Of each token that ``tail`` adds, from one forward pass without a batch."""
        encoder, before = self.sides(prompt)
        _, whole = self.sides(prompt, tail)
        whole = [*whole, 0] if end and self.both_sides else whole
        split = next((i for i, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b), len(before))
        read = full_logprobs(self.folder, whole) if encoder is None else full_logprobs(self.folder, encoder, whole)
        return [read[place - 1, whole[place]] for place in range(split, len(whole))]

    def by_hand(self, prompt, max_tokens):
        """The likeliest token, again and again."""
        encoder, ids = self.sides(prompt)
        new = []
        while len(new) < max_tokens and not set(new) & self.ends:
            both = [*ids, *new]
            read = full_logprobs(self.folder, both) if encoder is None else full_logprobs(self.folder, encoder, both)
            new.append(int(read[-1].argmax()))
        return new

    def needs(self, primitive):
        if primitive not in self.model.can:
            pytest.skip(f"{self.model!r} does not offer {primitive}")


@pytest.fixture(scope="module", params=KINDS)
def case(request, tmp_path_factory):
    """Its checkpoint asks for sampling that nobody wants, and names a second end token that an answer comes to."""
    kind = request.param
    folder = CHECKPOINTS[kind.checkpoint](tmp_path_factory.mktemp("checkpoint"))
    free = [Case(None, folder, 0, {0}).by_hand(prompt, 6) for prompt in PROMPTS]
    ends = {0, min((token for ids in free for token in ids), key=lambda token: sum(token in ids for ids in free))}
    configured(folder, **WILD, eos_token_id=sorted(ends))
    with kind.starts(folder) as model:
        yield Case(model, folder, kind.tolerance, ends, kind.writes)


def scores(case, prompts, labels):
    return [one.logprobs for one in case.model.choices(prompts, [labels] * len(prompts))]


def near(case, got, wanted):
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=case.tolerance, rtol=1e-6)


# What truncation knows of the tokenizer


def test_lengths_are_those_of_the_rendered_prompts(case):
    assert case.model.lengths(PROMPTS) == [len(case.sides(prompt)[0] or case.sides(prompt)[1]) for prompt in PROMPTS]


def test_token_ends_are_those_of_the_tokenizer(case):
    [ends] = case.model.token_ends(["the cat Yes"])
    offsets = case.tokenizer("the cat Yes", add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert ends == [end for _, end in offsets]


def test_control_tokens_become_plain_text(case):
    text = f"the {STOP} cat <|end|>"
    ids = case.tokenizer(case.model.plain(text), add_special_tokens=False)["input_ids"]
    assert not set(ids) & set(case.tokenizer.all_special_ids)
    assert set(case.tokenizer(text, add_special_tokens=False)["input_ids"]) & set(case.tokenizer.all_special_ids)


# Labels


def test_label_scores_are_those_of_a_full_softmax(case):
    case.needs("choices")
    wanted = [[sum(case.logprobs(prompt, label)) for label in YES_NO] for prompt in PROMPTS]
    near(case, scores(case, PROMPTS, YES_NO), wanted)


def test_label_scores_depend_on_no_batch_mate_and_no_order(case):
    case.needs("choices")
    alone = [one for prompt in PROMPTS for one in scores(case, [prompt], YES_NO)]
    near(case, scores(case, PROMPTS, YES_NO), alone)
    near(case, scores(case, PROMPTS[::-1], YES_NO)[::-1], alone)


@pytest.mark.parametrize("labels", [(" C", " D"), ("C", "D", "E", "F", "G")])
def test_labels_that_begin_alike_count_what_they_share(case, labels):
    case.needs("choices")
    prompts = [ask(text, raw=True) for text in TEXTS]
    near(case, scores(case, prompts, labels), [[sum(case.logprobs(one, label)) for label in labels] for one in prompts])


def test_labels_may_merge_with_the_end_of_the_prompt(case):
    case.needs("choices")
    prompts = [ask(text, answer="[") for text in TEXTS]
    wanted = [[sum(case.logprobs(one, label)) for label in "AB"] for one in prompts]
    near(case, scores(case, prompts, ("A", "B")), wanted)


def test_labels_may_differ_between_prompts(case):
    case.needs("choices")
    read = case.model.choices(PROMPTS[:3], [YES_NO, ("x", "y", "z"), ("No", "Yes")])
    wanted = [[sum(case.logprobs(p, x)) for x in row] for p, row in zip(PROMPTS, (YES_NO, "xyz", "No Yes".split()))]  # noqa: B905
    near(case, [one.logprobs for one in read], wanted)


def test_a_label_score_says_that_nothing_is_missing_and_what_it_cost(case):
    case.needs("choices")
    read = case.model.choices(PROMPTS, [YES_NO] * len(PROMPTS))
    assert not any(one.missing.any() for one in read)
    assert [one.mass for one in read] == [pytest.approx(np.exp(one.logprobs).sum()) for one in read]
    tokens = [sum(len(side or ()) for side in case.sides(prompt)) for prompt in PROMPTS]
    assert [one.usage.prompt_tokens for one in read] == tokens
    assert all((one.usage.calls, one.usage.output_tokens, one.usage.failures) == (1, case.writes, 0) for one in read)
    assert all(0 <= one.usage.cached_tokens < one.usage.prompt_tokens for one in read)


def test_labels_that_cannot_be_told_apart_are_refused(case):
    case.needs("choices")
    with pytest.raises(SeveralTokens, match=r"the label 'Maybe' .*use other labels"):
        case.model.choices(PROMPTS[:1], [("No", "Maybe")])
    with pytest.raises(LabelError, match="'Yes' and 'Yes' are the same"):
        case.model.choices(PROMPTS[:1], [("Yes", "Yes")])


# Texts


def test_the_likelihood_of_a_text_is_that_of_a_full_softmax(case):
    case.needs("continuation")
    texts = ["the cat", "x", "Which planet is it? " * 3, "No", "a b c d", "中 🙂", "mat", "cat", "é"]
    wanted = [case.logprobs(prompt, text, end=True) for prompt, text in zip(PROMPTS, texts, strict=True)]
    near(case, [one.logprobs for one in case.model.continuation(PROMPTS, texts)], wanted)
    back = case.model.continuation(PROMPTS[::-1], texts[::-1])[::-1]
    near(case, [one.logprobs for one in back], wanted)
    costs = [one.usage for one in back]
    assert all((cost.calls, cost.output_tokens) == (1, case.writes) and cost.prompt_tokens > 0 for cost in costs)


def test_a_token_that_spans_prompt_and_text_belongs_to_the_text(case):
    case.needs("continuation")
    prompt = ask("the cat", answer="[")
    near(case, [case.model.continuation([prompt], ["A mat"])[0].logprobs], [case.logprobs(prompt, "A mat", end=True)])


def test_an_empty_text_has_no_tokens_of_its_own(case):
    case.needs("continuation")
    read = case.model.continuation(PROMPTS[:2], ["", "x"])
    assert [len(one.logprobs) for one in read] == [int(case.both_sides), 1 + int(case.both_sides)]


# Answers


def test_answers_are_greedy_whatever_the_generation_configuration_says(case):
    written = case.model.generate(PROMPTS, max_tokens=LONG)
    finishes = set()
    for prompt, one in zip(PROMPTS, written, strict=True):
        ids = case.by_hand(prompt, LONG)
        assert one.text == case.tokenizer.decode(ids, skip_special_tokens=True)
        assert one.finish == ("stop" if ids[-1] in case.ends else "length")
        assert one.usage.output_tokens == len(ids)
        assert one.usage.prompt_tokens == len(case.sides(prompt)[0] or case.sides(prompt)[1])
        finishes.add(one.finish)
    assert finishes == {"stop", "length"}


def test_answers_depend_on_no_batch_mate_and_no_order(case):
    alone = [case.model.generate([prompt], max_tokens=LONG)[0] for prompt in PROMPTS]
    assert bare(case.model.generate(PROMPTS, max_tokens=LONG)) == bare(alone)
    assert bare(case.model.generate(PROMPTS[::-1], max_tokens=LONG)[::-1]) == bare(alone)


def bare(written):
    """Answers without how much was in a cache."""
    return [one._replace(usage=Usage(one.usage.calls, output_tokens=one.usage.output_tokens)) for one in written]


@pytest.mark.parametrize("size", [1, 3])
def test_an_answer_ends_before_its_stop_text(case, size):
    written = [(prompt, case.model.generate([prompt], max_tokens=LONG)[0]) for prompt in PROMPTS]
    spelled = [(prompt, free) for prompt, free in written if len(free.text) > size]
    assert len(spelled) > 3
    for prompt, free in spelled:
        stop = free.text[len(free.text) // 2 :][:size]
        [one] = case.model.generate([prompt], max_tokens=LONG, stop=["never to be said", stop])
        assert (one.text, one.finish) == (free.text[: free.text.index(stop)], "stop")
        assert one.usage.output_tokens <= free.usage.output_tokens


def test_a_stop_text_that_never_comes_changes_nothing(case):
    free = case.model.generate(PROMPTS, max_tokens=LONG)
    assert bare(case.model.generate(PROMPTS, max_tokens=LONG, stop=["never to be said"])) == bare(free)


def test_drawn_answers_depend_on_their_seeds_alone(case):
    told = {"max_tokens": LONG, "sampling": Sampling(temperature=2.0, top_p=0.98)}
    alone = [
        case.model.generate([prompt], seeds=[seed], **told)[0] for prompt, seed in zip(PROMPTS, SEEDS, strict=True)
    ]
    assert bare(case.model.generate(PROMPTS, seeds=SEEDS, **told)) == bare(alone)
    assert bare(case.model.generate(PROMPTS[::-1], seeds=SEEDS[::-1], **told)[::-1]) == bare(alone)
    texts = [one.text for one in case.model.generate([PROMPTS[1]] * 6, seeds=[1, 2, 3, 4, 5, 1], **told)]
    assert texts[0] == texts[5] and len(set(texts)) > 2


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}])
def test_a_draw_from_the_likeliest_token_alone_is_greedy(case, narrow):
    told = {"sampling": Sampling(temperature=2.0, **narrow), "seeds": SEEDS}
    greedy = case.model.generate(PROMPTS, max_tokens=6)
    assert bare(case.model.generate(PROMPTS, max_tokens=6, **told)) == bare(greedy)


@pytest.mark.parametrize("length", [1, 3, None])
def test_an_answer_that_is_held_to_a_permutation_names_the_likeliest_of_what_is_left(case, length):
    case.needs("constrained")
    held = Permutation(tuple("CDEF"), length=length)
    for prompt, one in zip(PROMPTS[:4], case.model.generate(PROMPTS[:4], max_tokens=20, constraint=held), strict=True):
        left, text = list(held.items), ""
        while len(held.items) - len(left) < (length or 4):
            text += held.between if text else ""
            told = {letter: case.logprobs(replace(prompt, answer=text), letter)[0] for letter in left}
            text += max(told, key=told.get)
            left.remove(text[-1])
        assert (one.text, one.finish, one.usage.output_tokens) == (text, "stop", len(text))


# Edges


def test_nothing_asked_is_nothing_answered(case):
    if "choices" in case.model.can:
        assert case.model.choices([], []) == []
    if "continuation" in case.model.can:
        assert case.model.continuation([], []) == []
    assert case.model.generate([], max_tokens=3) == []


def test_what_exceeds_the_context_is_refused_before_anything_is_run(case):
    if case.model.context is None:
        pytest.skip("it has no limit")
    prompts = [PROMPTS[0], ask("x" * (case.model.context + 1))]
    for call in (
        lambda: case.model.choices(prompts, [YES_NO] * 2),
        lambda: case.model.continuation(prompts, ["x", "y"]),
        lambda: case.model.continuation(PROMPTS[:2], ["x", "y" * case.model.context]),
        lambda: case.model.generate(prompts, max_tokens=3),
        lambda: case.model.generate(PROMPTS[:2], max_tokens=case.model.context),
    ):
        with pytest.raises(PromptTooLong, match=rf"exceeds the {case.model.context} tokens .*use fewer or shorter"):
            call()


def test_an_empty_prompt_is_refused(case):
    if case.both_sides:
        pytest.skip("its encoder reads the end token")
    for call in (
        lambda: case.model.choices([ask("", raw=True)], [YES_NO]),
        lambda: case.model.continuation([ask("", raw=True)], ["x"]),
        lambda: case.model.generate([ask("", raw=True)], max_tokens=3),
    ):
        with pytest.raises(ModelError, match="empty prompt"):
            call()


def test_drawing_without_a_seed_for_each_prompt_is_refused(case):
    for seeds in (None, [1]):
        with pytest.raises(ConfigurationError, match="one seed per prompt: 2 prompts, seeds"):
            case.model.generate(PROMPTS[:2], max_tokens=3, sampling=Sampling(), seeds=seeds)


@pytest.mark.parametrize("stop", ["</s>", [""]])
def test_a_stop_text_that_would_stop_everything_is_refused(case, stop):
    with pytest.raises(ConfigurationError, match="stop must be a list of texts that are not empty"):
        case.model.generate(PROMPTS[:1], max_tokens=3, stop=stop)


def test_a_model_is_a_value_that_survives_pickling(case):
    copy = pickle.loads(pickle.dumps(case.model))
    assert copy == case.model and hash(copy) == hash(case.model) and vars(copy).keys() < vars(case.model).keys()
    assert (
        eval(repr(case.model), {"HFModel": HFModel, "OpenAIModel": OpenAIModel, "VLLMModel": VLLMModel}) == case.model
    )
    assert copy.lengths(PROMPTS) == case.model.lengths(PROMPTS)
