"""Stop texts: an answer ends before the first of them, and its row ends there too."""

from __future__ import annotations

import pytest
import transformers
from shared_data import SHARED
from tiny import STOP, ask, byte_tokenizer, decoder, local, uncached

from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.models import Sampling
from pyterrier_llmrank.models.hf.stopping import before_stop

TEXTS = ["the cat sat. " * times + "end" for times in (0, 9, 1, 20, 0, 3)] + ["x", "é 中 🙂"]
PROMPTS = [ask(text) for text in TEXTS]
LONG = 24


def answers(model, prompts=PROMPTS, **options):
    return model.generate(prompts, max_tokens=LONG, **options)


def spanning(text, size):
    """A text of ``size`` characters from the middle of an answer."""
    return text[len(text) // 2 :][:size]


@pytest.mark.parametrize("kind", ["llama", "t5"])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_answer_is_what_comes_before_the_stop_text(kind, size, request):
    """Also where the stop text spans tokens: those of the tiny models are bytes and a few words."""
    model = local(request.getfixturevalue(kind))
    whole = answers(model)
    stops = [spanning(one.text, size) for one in whole]
    assert all(stops)
    for prompt, free, stop in zip(PROMPTS, whole, stops, strict=True):
        [one] = answers(model, [prompt], stop=[stop])
        assert one.text == free.text[: free.text.index(stop)] and one.finish == "stop"


@pytest.mark.parametrize("size", [1, 4])
def test_the_tokens_until_the_stop_text_are_counted_and_no_more(llama, size):
    model = local(llama)
    for prompt, free in zip(PROMPTS[:3], answers(model), strict=False):
        stop = spanning(free.text, size)
        [one] = answers(model, [prompt], stop=[stop])
        texts = [answer.text for n in range(1, LONG + 1) for answer in model.generate([prompt], max_tokens=n)]
        assert one.usage.output_tokens == next(n for n, text in enumerate(texts, 1) if stop in text)


@pytest.mark.parametrize("batch_tokens", [1, 150, 100_000])
@pytest.mark.parametrize("sampled", [False, True])
def test_batched_equals_alone(llama, batch_tokens, sampled):
    free = answers(local(llama))
    stops = [spanning(free[0].text, 2), spanning(free[3].text, 1)]
    told = [{"sampling": Sampling(), "seeds": [seed]} if sampled else {} for seed in range(len(PROMPTS))]
    alone = [answers(local(llama), [p], stop=stops, **own)[0] for p, own in zip(PROMPTS, told, strict=True)]
    all_told = {"sampling": Sampling(), "seeds": range(len(PROMPTS))} if sampled else {}
    assert uncached(answers(local(llama, batch_tokens=batch_tokens), stop=stops, **all_told)) == alone
    assert len({one.usage.output_tokens for one in alone}) > 1


def test_the_first_of_several_stop_texts_counts(llama):
    [free] = answers(local(llama), PROMPTS[:1])
    early, late = free.text[4:6], free.text[12:15]
    for stops in ([early, late], [late, early]):
        [one] = answers(local(llama), PROMPTS[:1], stop=stops)
        assert one.text == free.text[: min(free.text.index(early), free.text.index(late))]


def test_a_stop_text_that_never_comes_changes_nothing(llama):
    assert answers(local(llama), stop=["never to be said"]) == answers(local(llama))


def test_a_stop_text_in_the_prompt_or_across_its_end_stops_nothing(llama):
    """The prompt ends with ``Answer:``, and the answer begins with some letter."""
    model = local(llama)
    [free] = answers(model, PROMPTS[:1])
    stops = ["end", "Answer:", ":" + free.text[0]]
    assert not any(stop in free.text for stop in stops)
    assert answers(model, PROMPTS[:1], stop=stops) == [free]


def test_generation_ends_when_every_row_came_to_its_stop_text(llama):
    model = local(llama)
    free = answers(model)
    stops = list({one.text[2] for one in free})
    steps = []
    handle = model._loaded.network.register_forward_hook(lambda *_: steps.append(1))
    try:
        stopped = answers(model, stop=stops)
    finally:
        handle.remove()
    assert len(steps) == max(one.usage.output_tokens for one in stopped) < LONG


@pytest.mark.parametrize("max_tokens", [1, 5])
def test_a_stop_text_that_is_a_special_token_ends_the_answer_too(tmp_path, max_tokens):
    """Its text is none of the answer's, but it was written. One of the two heads says it, the other the end token."""
    folder = decoder(tmp_path)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder)
    special = byte_tokenizer().convert_tokens_to_ids(STOP)
    finishes = []
    for sign in (1, -1):
        network.lm_head.weight.data.zero_()
        network.lm_head.weight.data[special] = sign * network.model.norm.weight
        network.lm_head.weight.data[0] = -sign * network.model.norm.weight
        network.save_pretrained(folder)
        [one] = local(folder).generate([ask("the cat")], max_tokens=max_tokens, stop=[STOP])
        assert (one.text, one.finish, one.usage.output_tokens) == ("", "stop", 1)
        [free] = local(folder).generate([ask("the cat")], max_tokens=max_tokens)
        finishes.append((free.finish, free.usage.output_tokens))
    assert finishes.count(("stop", 1)) == 1


@pytest.mark.parametrize("stop", ["</s>", [""], ["x", ""]])
def test_a_stop_text_that_would_stop_everything_or_is_no_list_is_refused(llama, stop):
    with pytest.raises(ConfigurationError, match="stop must be a list of texts that are not empty, got"):
        local(llama).generate(PROMPTS, max_tokens=2, stop=stop)


def test_text_before_the_first_stop():
    assert before_stop("a b c", ["c", "b"]) == ("a ", True)
    assert before_stop("a b c", ["d"]) == ("a b c", False)
    assert before_stop("a b c", []) == ("a b c", False)


def test_a_story_ends_with_its_first_sentence():
    folder = SHARED / "data/model_stories260k"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    prompts = [ask("Once upon a time", raw=True), ask("Lily and Tom", raw=True)]
    free = local(folder).generate(prompts, max_tokens=60)
    for stop in ([". "], ["Lily."], [" named"]):
        for one, whole in zip(local(folder).generate(prompts, max_tokens=60, stop=stop), free, strict=True):
            assert one.text == whole.text.split(stop[0])[0]
            assert (one.finish == "stop") == (stop[0] in whole.text or whole.finish == "stop")
            assert one.usage.output_tokens <= whole.usage.output_tokens
