"""``PERank``: what the official code computed, and what holds whatever the weights."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from replicated import copies_used
from shared_data import shared
from tiny import CHATML, byte_tokenizer, decoder
from vector_models import Hashed, Refusing, pe_rank_checkpoint, pe_rank_tokenizer

from pyterrier_llmrank.core import Doc, Evidence, Question, Usage, descending
from pyterrier_llmrank.errors import ConfigurationError, ModelError, PromptTooLong
from pyterrier_llmrank.middleware import fingerprint
from pyterrier_llmrank.prompts.embedded import PLACEHOLDER, EmbeddedPrompt
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import PERank
from pyterrier_llmrank.strategies import SlidingWindow
from pyterrier_llmrank.vectors import Remembered, Stored

DOCS = [Doc(f"d{i}", f"the cat number {i} " + "sat on the mat. " * (i % 3)) for i in range(9)]
QUESTIONS = [Question(f"where is cat {i}", tuple(DOCS[i : i + n]), f"q{i}") for i, n in enumerate([4, 2, 6, 3])]
WITH_TEXTS = EmbeddedPrompt(texts=True)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return pe_rank_checkpoint(tmp_path_factory.mktemp("pe_rank"))


def local(folder, **options):
    return PERank(folder, **{"device": "cpu", "dtype": "float32", "vectors": Hashed(), **options})


def brute(scorer, question):
    """The oracle: the whole sequence read anew for every step, alone and without a cache; all n logits of each."""
    network = scorer._loaded.network
    tokenizer = scorer._loaded.tokenizer
    [ids] = scorer.tokens([scorer.prompt.render(question.query, [doc.text for doc in question.docs])])
    made = torch.from_numpy(np.stack([one.vectors for one in scorer._candidates(list(question.docs))]))
    order, steps = [], []
    with torch.no_grad():
        items = network.model.projector(made)  # (documents, m, hidden)
        embeddings = network.get_input_embeddings()(torch.tensor(ids))
        embeddings[torch.tensor(ids) == tokenizer.convert_tokens_to_ids(PLACEHOLDER)] = items.flatten(0, 1)
        for _ in question.docs[1:]:
            state = network.model(inputs_embeds=embeddings[None]).last_hidden_state[0, -1]
            steps.append((items @ state).mean(1).numpy())
            free = [-np.inf if place in order else logit for place, logit in enumerate(steps[-1])]
            order.append(int(np.argmax(free)))
            embeddings = torch.cat([embeddings, items[order[-1]]])
    return [*order, *(place for place in range(len(question.docs)) if place not in order)], np.array(steps)


# The official code


@pytest.mark.parametrize("kind", ["listwise-embedding", "listwise-text-embedding"])
@pytest.mark.parametrize("batch_tokens", [1, 100_000])
def test_rankings_and_logits_are_those_of_the_official_code(kind, batch_tokens):
    """With the encoder that the checkpoint names, which lies beside it; the official steps n and n + 1 are forced."""
    folder = shared("fixtures", "pe_rank", "model")
    cases = json.loads(shared("fixtures", "pe_rank", "expected.json").read_text())["cases"]
    cases = [case for case in cases if case["ranker"] == kind]
    prompt = EmbeddedPrompt(texts="text" in kind)
    scorer = PERank(str(folder), prompt=prompt, device="cpu", dtype="float32", batch_tokens=batch_tokens)
    asked = [
        Question(case["query"], tuple(Doc(f"{case['qid']}-{place}", text) for place, text in enumerate(case["docs"])))
        for case in cases
    ]
    for case, one, (order, _) in zip(cases, asked, scorer.emitted(asked), strict=True):
        assert order.items == case["ranking"]
        np.testing.assert_allclose(order.logits, case["step_candidate_logits"][: len(one.docs) - 1], atol=1e-5)
        [ids] = scorer.tokens([prompt.render(case["query"], case["docs"])])
        assert ids == case["input_ids"]
        found = scorer._candidates(list(one.docs))
        units = np.stack([of_doc.vectors[0] for of_doc in found])
        np.testing.assert_allclose(units, case["encoder_unit_embeddings"], atol=1e-6)
        with torch.no_grad():
            projected = scorer._loaded.network.projected(torch.from_numpy(units[0]))
        np.testing.assert_allclose(projected, case["projected_embeddings_doc0"], atol=1e-6)


def test_the_training_loss_and_its_logits_are_those_of_the_official_code():
    """Teacher-forced: the vectors of a ranking stand behind the prompt, and the loss is ListMLE over what is left."""
    folder = str(shared("fixtures", "pe_rank", "model"))
    recorded = json.loads(shared("fixtures", "pe_rank", "expected.json").read_text())
    units = {case["qid"]: case["encoder_unit_embeddings"] for case in recorded["cases"]}
    scorer = PERank(folder, device="cpu", dtype="float32")
    network = scorer._loaded.network
    for case in recorded["training_loss"]:
        ids, ranking = torch.tensor(case["input_ids"]), case["ranking_zero_based"]
        with torch.no_grad():
            items = network.projected(torch.tensor(units[case["qid"]]))
            embeddings = network.get_input_embeddings()(ids)
            embeddings[ids == recorded["placeholder_id"]] = items
            embeddings[ids == recorded["rank_id"]] = items[ranking]
            states = network.model(inputs_embeds=embeddings[None]).last_hidden_state[0]
            logits = states[(ids == recorded["rank_id"]).nonzero()[:, 0] - 1] @ items.T
        wanted = [[np.nan if logit is None else logit for logit in row] for row in case["masked_logits"]]
        for step in range(len(ranking)):
            logits[step, ranking[:step]] = -torch.inf
        left = ~np.isnan(wanted)
        np.testing.assert_array_equal(np.isfinite(logits.numpy()), left)
        np.testing.assert_allclose(logits.numpy()[left], np.array(wanted)[left], atol=1e-5)
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(ranking))
        assert loss.item() == pytest.approx(case["loss"], abs=1e-5)


# What holds whatever the weights


@pytest.mark.parametrize("prompt", [EmbeddedPrompt(), WITH_TEXTS, EmbeddedPrompt(m=2)], ids=repr)
@pytest.mark.parametrize("batch_tokens", [1, 100_000])
def test_the_cache_changes_nothing_whoever_shares_the_batch(checkpoint, prompt, batch_tokens):
    scorer = local(checkpoint, prompt=prompt, vectors=Hashed(m=prompt.m), batch_tokens=batch_tokens)
    for question, (order, _) in zip(QUESTIONS, scorer.emitted(QUESTIONS), strict=True):
        items, logits = brute(scorer, question)
        assert order.items == items
        np.testing.assert_allclose(order.logits, logits, atol=2e-5)


def test_answers_come_in_the_order_of_the_questions(checkpoint):
    scorer = local(checkpoint)
    there, back = scorer(QUESTIONS), scorer(QUESTIONS[::-1])[::-1]
    for question, one, other in zip(QUESTIONS, there, back, strict=True):
        assert sorted(one.scores) == [float(-place) for place in reversed(range(len(question.docs)))]
        np.testing.assert_array_equal(one.scores, other.scores)


def test_no_row_of_the_vocabulary_is_computed(checkpoint):
    scorer = local(checkpoint)
    scorer.load()
    head = scorer._loaded.network.lm_head
    handle = head.register_forward_pre_hook(lambda module, args: pytest.fail("the head was computed"))
    try:
        assert len(scorer(QUESTIONS)) == len(QUESTIONS)
    finally:
        handle.remove()


def test_a_window_of_n_takes_n_minus_1_steps(checkpoint):
    scorer = local(checkpoint)
    scorer.load()
    widths, network = [], scorer._loaded.network
    handle = network.model.register_forward_pre_hook(
        lambda module, args, given: widths.append(given["inputs_embeds"].shape[1]), with_kwargs=True
    )
    try:
        [answer] = scorer([Question("why", tuple(DOCS[:6]))])
    finally:
        handle.remove()
    own = answer.usage.prompt_tokens - sum(len(doc.text) for doc in DOCS[:6])
    assert widths == [own, 1, 1, 1, 1] and answer.usage.output_tokens == 5


def test_equal_passages_keep_their_order_among_themselves(checkpoint):
    texts = ["the same", "other", "the same", "the same", "more", "the same"]
    docs = tuple(Doc(f"d{place}", text) for place, text in enumerate(texts))
    [answer] = local(checkpoint)([Question("why", docs)])
    equal = [place for place in descending(range(6), answer.scores) if texts[place] == "the same"]
    assert equal == [0, 2, 3, 5]


def test_vectors_alone_decide_once_a_document_is_encoded(checkpoint, tmp_path):
    """Spec: the score is independent of the text, and parity between text-time and looked-up vectors."""
    encoder, path = Hashed(), tmp_path / "vectors.sqlite"
    fresh = local(checkpoint, vectors=encoder)(QUESTIONS)
    Stored(encoder, path).fill(DOCS)
    kept = local(checkpoint, vectors=Stored(Refusing(encoder), path))(QUESTIONS)
    bare = [one._replace(docs=tuple(Doc(doc.docno, "") for doc in one.docs)) for one in QUESTIONS]
    without = local(checkpoint, vectors=Stored(Refusing(encoder), path))(bare)
    for one, two, three in zip(fresh, kept, without, strict=True):
        np.testing.assert_array_equal(one.scores, two.scores)
        np.testing.assert_array_equal(one.scores, three.scores)


def test_overlapping_windows_encode_no_document_twice(checkpoint):
    encoder = Hashed()
    frame = pd.DataFrame({"qid": "q", "query": "why", "docno": [doc.docno for doc in DOCS], "rank": range(9)})
    frame["text"] = [doc.text for doc in DOCS]
    out = Rerank(SlidingWindow(4, 2), local(checkpoint, vectors=encoder))(frame)
    assert sorted(encoder.asked) == sorted(out["docno"]) == [doc.docno for doc in DOCS]


def test_a_document_of_two_questions_is_charged_to_the_first(checkpoint):
    alone = local(checkpoint)([QUESTIONS[0]])[0].usage
    first, second = (answer.usage for answer in local(checkpoint)([QUESTIONS[0], QUESTIONS[0]]))
    assert first == alone and second == Usage(1, alone.prompt_tokens - sum(len(d.text) for d in DOCS[:4]), 0, 3)


def test_one_passage_or_none_is_no_question(checkpoint):
    scorer = local(checkpoint, vectors=Refusing(Hashed()))
    one, none = scorer([Question("why", (DOCS[0],)), Question("why", ())])
    assert (one.scores.tolist(), none.scores.tolist()) == ([0.0], [])
    assert one.usage == none.usage == Usage() and scorer([]) == [] and "_loaded" not in vars(scorer)


def test_one_passage_beside_a_real_question_is_no_harm(checkpoint):
    alone, beside, _ = local(checkpoint)([Question("why", (DOCS[8],)), QUESTIONS[0], Question("why", ())])
    assert alone.scores.tolist() == [0.0]
    np.testing.assert_array_equal(beside.scores, local(checkpoint)([QUESTIONS[0]])[0].scores)


def test_an_empty_passage_is_ranked_too(checkpoint):
    [answer] = local(checkpoint, prompt=WITH_TEXTS)([Question("why", (Doc("a", ""), Doc("b", "  "), Doc("c", "x")))])
    assert sorted(answer.scores) == [-2.0, -1.0, 0.0]


def test_placeholders_in_texts_are_plain_text(checkpoint):
    hostile = f"a {PLACEHOLDER} b"
    question = Question(hostile, (Doc("a", hostile), Doc("b", f"{PLACEHOLDER}" * 3)))
    [answer] = local(checkpoint, prompt=WITH_TEXTS)([question])
    assert sorted(answer.scores) == [-1.0, 0.0]


def test_a_window_that_does_not_fit_is_refused_with_a_remedy(checkpoint):
    with pytest.raises(PromptTooLong, match=r"of 7 documents leave no room .* use a smaller window"):
        local(checkpoint, max_length=500)([Question("why", tuple(DOCS[:7]))])


def test_texts_are_cut_to_fit_with_the_steps_that_follow(checkpoint):
    docs = tuple(Doc(f"d{place}", "cat " * 200) for place in range(4))
    [(order, usage)] = local(checkpoint, prompt=WITH_TEXTS, max_length=1200).emitted([Question("why", docs)])
    read = usage.prompt_tokens - sum(len(doc.text) for doc in docs)
    assert sorted(order.items) == [0, 1, 2, 3] and usage.truncated_tokens > 0 and read + 3 <= 1200


def test_the_tokenizer_alone_tells_the_cost_of_prompts(checkpoint):
    planned = local(checkpoint, vectors=Refusing(Hashed())).planned([*QUESTIONS, Question("why", (DOCS[0],))])
    emitted = local(checkpoint).emitted(QUESTIONS)
    for one, plan, (_, usage) in zip(QUESTIONS, planned[:-1], emitted, strict=True):
        assert (plan.calls, plan.output_tokens) == (1, len(one.docs) - 1) and plan.prompt_tokens <= usage.prompt_tokens
    [(_, alone)] = local(checkpoint).emitted(QUESTIONS[:1])
    assert planned[0].prompt_tokens == alone.prompt_tokens - sum(len(doc.text) for doc in QUESTIONS[0].docs)
    assert planned[-1] == Usage()


# What does not fit


def test_a_checkpoint_without_its_projector_is_refused(tmp_path):
    folder = pe_rank_checkpoint(tmp_path, trained=False)
    with pytest.raises(ModelError, match=r"has no projector \(model.projector.\*\), .* such as 'liuqi6777/pe-rank"):
        local(folder)(QUESTIONS)


def test_a_plain_decoder_is_refused(tmp_path):
    with pytest.raises(ModelError, match="is a LlamaForCausalLM, which reads no vectors; give a checkpoint that was"):
        local(decoder(tmp_path, pe_rank_tokenizer()))(QUESTIONS)


def test_a_projector_of_another_kind_is_refused(tmp_path):
    folder = pe_rank_checkpoint(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"projector_type": "resampler"}))
    with pytest.raises(ModelError, match="there is no projector 'resampler'; PE-Rank has 'linear'"):
        local(folder)(QUESTIONS)


def test_a_tokenizer_without_the_placeholder_is_refused(tmp_path):
    folder = pe_rank_checkpoint(tmp_path, tokenizer=byte_tokenizer(chat=CHATML))
    with pytest.raises(ModelError, match="does not read <PLACEHOLDER> as a token of its own"):
        local(folder)(QUESTIONS)


@pytest.mark.parametrize(("vectors", "found"), [(Hashed(width=8), "1 of 8"), (Hashed(m=2), "2 of 16")])
def test_vectors_of_another_encoder_are_refused_where_they_show(checkpoint, vectors, found):
    with pytest.raises(
        ConfigurationError, match=rf"reads 1 vector of 16 numbers per document, but got {found} numbers"
    ):
        local(checkpoint, vectors=vectors)(QUESTIONS)


# The encoder that a checkpoint names


def test_the_encoder_is_looked_for_near_the_checkpoint_first(tmp_path):
    folder = pe_rank_checkpoint(tmp_path / "model", encoder="owner/encoder")
    scorer = PERank(folder, device="cpu")
    assert (scorer.encoder.name, scorer.encoder.pooling, scorer.encoder.max_length) == ("owner/encoder", "mean", 512)
    for place in (tmp_path, tmp_path / "model"):
        (place / "owner" / "encoder").mkdir(parents=True)
        assert scorer.encoder.name == str(place / "owner" / "encoder")


# A value


def test_it_gives_the_order_of_any_number(checkpoint):
    assert (local(checkpoint).gives, local(checkpoint).max_docs) == (Evidence.ORDER, None)


def test_it_is_a_value_whose_answers_do_not_depend_on_where_vectors_are_kept(checkpoint, tmp_path):
    scorer = PERank(checkpoint, prompt=WITH_TEXTS)
    assert eval(repr(scorer)) == scorer != PERank(checkpoint)
    one, two = (local(checkpoint, vectors=v) for v in (Remembered(Hashed()), Stored(Hashed(), tmp_path / "v.sqlite")))
    assert fingerprint(one) == fingerprint(two) != fingerprint(local(checkpoint, vectors=Hashed(m=2)))


def test_several_devices_share_out_the_questions(checkpoint):
    alone = local(checkpoint).emitted(QUESTIONS)
    shared = local(checkpoint, device=("cpu", "cpu"))
    used = copies_used(shared)
    for one, other in zip(alone, shared.emitted(QUESTIONS), strict=True):
        assert (one.order.items, one.usage) == (other.order.items, other.usage)
        np.testing.assert_allclose(one.order.logits, other.order.logits, atol=1e-4)
    assert sorted(used) == [0, 1]
