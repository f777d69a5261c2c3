"""``Attention``: the scores of ICR's own code, of its computation done whole, and what must hold of them."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import transformers
from attending import by_the_paper, checkpoint, sentencepiece
from fake_models import HashModel
from shared_data import shared
from tiny import CHATML, byte_tokenizer, local, saved

from pyterrier_llmrank.core import Doc, Evidence, Question
from pyterrier_llmrank.errors import ConfigurationError, InputError, ModelError, PromptTooLong, Unsupported
from pyterrier_llmrank.middleware import Retrying
from pyterrier_llmrank.models import HFModel
from pyterrier_llmrank.prompts import InContextPrompt
from pyterrier_llmrank.prompts.in_context import Layout
from pyterrier_llmrank.scorers import Attention, Band
from pyterrier_llmrank.scorers.attention import without_outliers
from pyterrier_llmrank.scorers.finding import Judged, best_heads, contrast, grade_heads, ndcg
from pyterrier_llmrank.scorers.heads import CORE, QR, released, resolved

DOCS = ["the cat sat on the mat", "rain in the mountains.", "a", "stars; ring systems, far away", "the the the"]
FIXTURE = "fixtures", "icr_llama"


def question(query="where is the cat", docs=DOCS):
    return Question(query, tuple(Doc(str(place), text) for place, text in enumerate(docs)))


def scores(scorer, *asked):
    return [answer.scores for answer in scorer(asked or [question()])]


@pytest.fixture(scope="module")
def recorded():
    return json.loads(shared(*FIXTURE, "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def official():
    return local(shared(*FIXTURE, "tiny-llama-3-random"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("scorer"))


@pytest.fixture
def model(folder):
    return local(folder)


# The numbers of the papers' code


@pytest.mark.parametrize("number", range(12))
@pytest.mark.parametrize("calibrate", [True, False])
def test_it_gives_the_scores_of_icrs_own_code(number, calibrate, recorded, official):
    case = recorded["cases"][number]
    order = "reversed" if case["reverse_doc_order"] else "input"
    scorer = Attention(official, calibrate=calibrate, order=order, prompt=InContextPrompt(case["retrieval_type"]))
    expected = np.empty(len(case["docs"]))
    expected[case["prompt_doc_order"]] = case["calibrated_scores" if calibrate else "uncalibrated_scores"]
    [found] = scores(scorer, question(case["query"], case["docs"]))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("number", range(12))
def test_it_shows_what_icrs_own_code_shows(number, recorded, official):
    case = recorded["cases"][number]
    prompt = InContextPrompt(case["retrieval_type"]).of(official.dialect)
    shown = prompt.render(case["query"], [case["docs"][place] for place in case["prompt_doc_order"]])
    assert shown.messages[-1].content == case["prompt"] and shown.raw
    assert prompt.recast(shown, "N/A").messages[-1].content == case["calibration_prompt"]
    assert official._ready([shown])[1] == [case["prompt_input_ids"]]


@pytest.mark.parametrize("heads", ["all", ((2, 1), (0, 3), (3, 3))])
@pytest.mark.parametrize("calibrate", [True, False])
def test_mistrals_format_gives_what_the_computation_of_the_paper_gives(heads, calibrate, tmp_path):
    folder = checkpoint(tmp_path, "mistral", tokenizer=sentencepiece())
    docs = [*DOCS, "é 中 snow", "[3] [INST] no"]
    scorer = Attention(local(folder), heads, calibrate=calibrate, order="input")
    expected = by_the_paper(
        folder, ("[INST]", "[/INST]"), "\n\n", "where is it?", docs, None if heads == "all" else heads, calibrate
    )
    np.testing.assert_allclose(scores(scorer, question("where is it? ", docs))[0], expected, atol=1e-5)


def test_heads_are_summed_before_outliers_are_left_out(official):
    heads = ((1, 3), (0, 0), (3, 7), (2, 2))
    gap, turn = " \n\n", ("<|start_header_id|>user<|end_header_id|>",)
    turn = (*turn, "<|eot_id|><|start_header_id|>assistant<|end_header_id|>")
    expected = by_the_paper(official.name, turn, gap, "where is it?", DOCS, heads)
    np.testing.assert_allclose(
        scores(Attention(official, heads, order="input"), question("where is it?"))[0], expected, atol=1e-5
    )


def test_all_heads_by_name_are_all_heads(model):
    every = tuple((layer, head) for layer in range(4) for head in range(4))
    np.testing.assert_allclose(scores(Attention(model)), scores(Attention(model, every)), atol=1e-6)


# What must hold


@pytest.mark.parametrize("order", ["reversed", "input"])
def test_a_query_that_asks_for_nothing_scores_exactly_zero(order, model):
    assert (scores(Attention(model, order=order), question(" N/A "))[0] == 0).all()


def test_the_quick_way_equals_the_slow_one(model):
    for calibrate in (True, False):
        quick, slow = (Attention(model, calibrate=calibrate, slowly=slowly) for slowly in (False, True))
        np.testing.assert_allclose(scores(quick), scores(slow), atol=1e-5)


def test_order_matters_and_reversed_is_the_input_order_of_reversed_documents(model):
    [there] = scores(Attention(model, order="input"))
    [back] = scores(Attention(model, order="reversed"), question(docs=DOCS[::-1]))
    np.testing.assert_allclose(there, back[::-1], atol=1e-6)
    assert np.abs(there - scores(Attention(model, order="reversed"))[0]).max() > 1e-3


def test_scores_depend_on_nobody_else_in_the_call(model):
    scorer = Attention(model)
    asked = [question(), question("rain?", DOCS[1:3]), question("rain?"), question(docs=DOCS[:1])]
    for one, found in zip(asked, scorer(asked), strict=True):
        [alone] = scorer([one])
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-6)
        assert found.usage.prompt_tokens == alone.usage.prompt_tokens and found.usage.calls == 2


def test_equal_passages_are_told_apart_by_their_places_only(model):
    [found] = scores(Attention(model), question(docs=["the cat"] * 3))
    assert np.isfinite(found).all() and len(set(found)) == 3


@pytest.mark.parametrize("layout", ["icr", "core"])
def test_empty_passages_have_a_score(layout, model):
    scorer = Attention(model, prompt=InContextPrompt(layout=layout))
    [found] = scores(scorer, question(docs=["", "the cat", "  \n "]))
    assert np.isfinite(found).all()
    assert layout == "icr" or (found[0] == found[2] == 0 and found[1] != 0)


def test_one_passage_and_none_have_an_answer(model):
    [one], none = Attention(model)([question(docs=DOCS[:1])]), Attention(model)([question(docs=[])])
    assert one.scores.shape == (1,) and np.isfinite(one.scores).all() and none[0].scores.shape == (0,)


def test_a_single_token_counts_and_far_ones_do_not():
    assert without_outliers(np.array([-0.5])).tolist() == [-0.5]
    assert without_outliers(np.array([1.0, 1.0, 1.0])).sum() == 0  # none is above the mean
    weights = np.array([[1.0, 2.0, 1.5, 1.2, 1.1, 1.3, 1.4, -90.0], [0.0] * 8])
    assert without_outliers(weights).tolist() == [[*weights[0][:7].tolist(), 0.0], [0.0] * 8]
    assert without_outliers(np.empty((2, 0))).shape == (2, 0)


def test_documents_are_shortened_to_fit_and_what_was_lost_is_counted(folder):
    long = question(docs=["the cat sat on the mat " * 30, "rain", "snow " * 40])
    scorer = Attention(local(folder, max_length=400))
    [answer] = scorer([long])
    assert np.isfinite(answer.scores).all() and answer.usage.truncated_tokens > 100
    assert answer.usage.prompt_tokens <= 800 and scorer.planned([long]) == [answer.usage]
    with pytest.raises(PromptTooLong, match="leave no room for the documents"):
        Attention(local(folder, max_length=150))([long])


def test_documents_are_cut_to_words_at_single_spaces(model):
    few, many = (Attention(model, max_words=most, order="input") for most in (2, None))
    np.testing.assert_allclose(
        scores(few, question(docs=["one two\nlines three four", "a b"])),
        scores(many, question(docs=["one two\nlines", "a b"])),
        atol=1e-7,
    )


def test_control_tokens_in_texts_are_plain_text(tmp_path):
    model = local(checkpoint(tmp_path, tokenizer=byte_tokenizer(chat=CHATML)))
    scorer = Attention(model)
    [(prompt, _)] = scorer._shown(model, [question("<|im_end|>", ["<|im_start|>system"])])
    assert "< |im_end|>" in prompt.messages[0].content and "< |im_start|>system" in prompt.messages[0].content


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_chat_models_are_asked_in_a_turn_of_theirs(kind, tmp_path):
    model = local(checkpoint(tmp_path, kind, tokenizer=byte_tokenizer(chat=CHATML)))
    [(prompt, _)] = Attention(model)._shown(model, [question()])
    text = model._text.render(prompt).text
    gap = "" if kind == "qwen3" else "\n"  # QRHead's format has no line end after the role
    assert text.startswith(
        "<|im_start|>user" + (" " if kind == "qwen3" else "\n") + "Here are some paragraphs:\n\n[1] "
    )
    assert text.endswith(f"Query: where is the cat<|im_end|>\n<|im_start|>assistant{gap}")
    [answer] = Attention(model)([question()])
    assert np.isfinite(answer.scores).all() and Attention(model).planned([question()]) == [answer.usage]


def test_cores_layout_counts_neither_labels_nor_what_closes_the_turn(official):
    prompt = InContextPrompt(layout="core").of("llama-3")
    shown = prompt.render("q", ["the cat", "rain"])
    text = shown.messages[0].content
    assert text.startswith(
        "<|start_header_id|>user<|end_header_id|> Here are some paragraphs:\n\n[document 1] the cat\n\n"
    )
    assert [text[slice(*span)] for span in shown.spans] == ["the cat", "rain"] and shown.spans == shown.texts
    assert text[slice(*shown.rows)].endswith("\n\nQuery: q") and text[shown.rows[1] :].startswith("<|eot_id|>")
    assert np.isfinite(scores(Attention(official, prompt=InContextPrompt(layout="core")))).all()


# Heads


def test_a_band_lies_in_the_middle():
    assert [*Band().layers(12)] == [4, 5, 6, 7] and [*Band().layers(32)] == [*range(12, 22)]
    assert [*Band(0, 1).layers(3)] == [0, 1, 2] and [*Band(0.9, 1.0).layers(2)] == [1] == [*Band(0.5, 0.6).layers(2)]
    assert resolved("middle", (12, 2), "any") == tuple((layer, head) for layer in (4, 5, 6, 7) for head in (0, 1))


def test_nine_in_ten_published_heads_lie_in_the_default_band():
    layers = {"Llama-3.1-70B-Instruct": 80, "Llama-3.2-1B-Instruct": 16, "Qwen3-8B": 36}
    layers |= dict.fromkeys(("Llama-3.2-3B-Instruct", "Qwen2.5-7B-Instruct"), 28)
    inside = [
        layer / layers.get(name, 32)
        for kind, lists in (("qr", QR), ("core", CORE))
        for name in lists
        for layer, _ in released(kind, name)
    ]
    assert len(inside) == 128 and 0.89 < np.mean([Band().start <= place < Band().end for place in inside]) < 0.91


def test_published_heads_are_known_by_the_name_of_the_model():
    assert released("qr", "meta-llama/Meta-Llama-3.1-8B-Instruct")[:2] == ((14, 22), (13, 16))
    assert released("core", "/models/Mistral-7B-Instruct-v0.2/")[0] == (15, 21)
    sizes = {name: len(released("qr", name)) for name in QR}
    assert sizes.pop("Llama-3.1-70B-Instruct") == 32 and set(sizes.values()) == {16}
    assert {len(released("core", name)) for name in CORE} == {8}
    assert all(
        len(set(released(kind, name))) == len(released(kind, name))
        for kind in ("qr", "core")
        for name in QR & CORE.keys()
    )


def test_unknown_models_have_no_published_heads(model):
    with pytest.raises(ConfigurationError, match=r"published for Llama-3.1-70B-Instruct, .*not for 'Qwen/Qwen3-0.6B'"):
        Attention(HFModel("Qwen/Qwen3-0.6B"), "qr")
    with pytest.raises(ConfigurationError, match=r"use heads='middle', name the heads, or find them with"):
        Attention(model, "core").load()


def test_heads_may_be_written_as_they_are_published(model):
    assert Attention(model, "1-2,0-3") == Attention(model, [[1, 2], [0, 3]]) == Attention(model, ((1, 2), (0, 3)))


@pytest.mark.parametrize("heads", ["none", "", (), ((0, 1), (0, 1)), ((0,),), ((-1, 0),), 3, "1-2-3"])
def test_what_is_no_set_of_heads_is_refused(heads, model):
    with pytest.raises(ConfigurationError, match="heads must be 'all', 'middle', 'qr', 'core', a Band, or pairs"):
        Attention(model, heads)


def test_a_head_beyond_the_model_is_refused_on_first_use(model):
    with pytest.raises(ConfigurationError, match="there is no head 9-0"):
        Attention(model, ((9, 0),))([question()])


# Finding heads


def test_a_head_that_ranks_perfectly_is_found(model):
    asked = [question(), question("rain?"), question("stars")]
    scorer = Attention(model)
    by_head = [np.stack([doc.weights.sum(-1) for doc in one.docs], -1) for one in scorer.look(asked, by_head=True)]
    judged = [Judged(one, (own[6] == own[6].max()).astype(float)) for one, own in zip(asked, by_head, strict=True)]
    grades = grade_heads(scorer, judged)
    assert grades.shape == (4, 4) and grades[1, 2] == 1.0 == grades.max()
    assert best_heads(grades, 1)[0] == (1, 2) or grades[best_heads(grades, 1)[0]] == 1.0
    np.testing.assert_allclose(
        grades[3, 1], np.mean([ndcg(o[13], j.grades) for o, j in zip(by_head, judged, strict=True)])
    )


def test_contrast_is_a_softmax_over_one_relevant_document_and_the_others(model):
    scores = np.array([[0.3, 0.1, 0.2], [0.0, 0.0, 0.0]])
    found = contrast(scores, np.array([1.0, 0.0, 0.0]), 0.1)
    powers = np.exp(scores / 0.1)
    np.testing.assert_allclose(found, powers[:, 0] / powers.sum(1))
    two = contrast(scores, np.array([1.0, 0.0, 2.0]), 0.1)
    np.testing.assert_allclose(two[0], np.mean([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1))]))
    grades = grade_heads(
        Attention(model), [Judged(question(), np.array([0, 1.0, 0, 0, 0]))], "contrast", temperature=0.01
    )
    plain = Attention(model, calibrate=False).look([question()], by_head=True)[0].docs
    own = np.stack([doc.weights.sum(-1) for doc in plain], -1)
    np.testing.assert_allclose(grades.ravel(), contrast(own, np.array([0, 1.0, 0, 0, 0]), 0.01), atol=1e-9)


def test_queries_that_tell_nothing_are_left_out(model):
    told = Judged(question(), np.array([0, 1.0, 0, 0, 0]))
    alike = [Judged(question("rain"), np.zeros(5)), Judged(question("rain"), np.ones(5))]
    scorer = Attention(model)
    np.testing.assert_allclose(grade_heads(scorer, [*alike, told]), grade_heads(scorer, [told]), atol=1e-12)
    with pytest.raises(InputError, match="none of 2 queries has both relevant and other documents"):
        grade_heads(scorer, alike)


# A value


def test_it_is_a_value_that_loads_nothing_until_asked(folder):
    scorer = Attention(local(folder), "middle", calibrate=False, prompt=InContextPrompt("QA"))
    names = {
        "Attention": Attention,
        "HFModel": HFModel,
        "InContextPrompt": InContextPrompt,
        "Band": Band,
        "Layout": Layout,
    }
    assert eval(repr(scorer), names) == scorer == pickle.loads(pickle.dumps(scorer))
    assert hash(scorer) == hash(eval(repr(scorer), names))
    assert scorer.gives is Evidence.ORDER and scorer.max_docs is None
    assert scorer([]) == [] and scorer.look([]) == [] and "_loaded" not in vars(scorer.model)


@pytest.mark.parametrize("wrapped", [False, True])
def test_planning_loads_no_weights(wrapped, folder):
    scorer = Attention(Retrying(local(folder)) if wrapped else local(folder))
    planned = scorer.planned([question(), question("rain")])
    assert "_loaded" not in vars(scorer.model.inner if wrapped else scorer.model)
    assert [one.usage for one in scorer([question()])] == planned[:1]


def test_models_without_attention_are_refused():
    with pytest.raises(Unsupported, match=r"attention is read from local models, such as HFModel\(name\)"):
        Attention(HashModel())
    with pytest.raises(ConfigurationError, match="is not a model"):
        Attention("Qwen/Qwen3-0.6B")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"order": "random"}, "order must be 'reversed' or 'input', got 'random'"),
        ({"max_words": 0}, "max_words must be at least 1 word, got 0"),
        ({"max_doc_tokens": 0}, "max_doc_tokens must be at least 1 token, got 0"),
    ],
)
def test_arguments_out_of_range_are_refused(told, said, model):
    with pytest.raises(ConfigurationError, match=said):
        Attention(model, **told)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"instruction": " "}, "instruction must not be empty"),
        ({"dialect": "llama"}, "dialect must be one of llama-3, mistral"),
        ({"layout": "qr"}, "layout must be 'icr', 'core' or a Layout"),
    ],
)
def test_prompts_out_of_range_are_refused(told, said):
    with pytest.raises(ConfigurationError, match=said):
        InContextPrompt(**told)


def test_a_band_out_of_range_is_refused():
    with pytest.raises(ConfigurationError, match="a band needs 0 <= start < end <= 1"):
        Band(0.5, 0.5)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    tokenizer = byte_tokenizer()
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = transformers.BertConfig(vocab_size=len(tokenizer), **sizes)
    folder = saved(tmp_path, tokenizer, config, transformers.AutoModelForSequenceClassification)
    with pytest.raises(ModelError, match="has no trained language-model head"):
        Attention(local(folder))([question()])


def test_errors_of_the_model_come_through(folder, monkeypatch):
    model = local(folder)
    model.load()
    monkeypatch.setattr(model._loaded, "attends", 1.0)
    with pytest.raises(ModelError, match="slowly=True"):
        Attention(model)([question()])
    assert np.isfinite(scores(Attention(model, slowly=True))).all()
