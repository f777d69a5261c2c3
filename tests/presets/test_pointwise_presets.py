"""Pointwise and T5 presets: the bytes of their prompts, their scores, and that they run."""

from __future__ import annotations

import hashlib
import inspect
import json

import numpy as np
import pandas as pd
import pytest
import transformers
from fake_models import HashModel
from shared_data import SHARED, parity
from tiny import CHATML, END, byte_tokenizer, decoder, encoder_decoder, full_logprobs, local

from pyterrier_llmrank import Rerank, presets
from pyterrier_llmrank.core import Doc, Question
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.presets.pointwise import TF_RANK
from pyterrier_llmrank.presets.registry import REGISTRY
from pyterrier_llmrank.prompts import Graded
from pyterrier_llmrank.strategies import Pointwise

quiet = pytest.mark.filterwarnings("ignore::pyterrier_llmrank.errors.LLMRankWarning")
BIOLOGY = (
    "Given a query (biology post) and a document (passage), the document is relevant to the query if the critical "
    "concepts or theories discussed in the document can provide references for domain experts to draft an answer to "
    "the query."
)
MINE = [known for known in REGISTRY.values() if known.family in ("pointwise", "pairwise")]
TEXT = "a  {b}\nc."


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def shown(rerank, query="q", text="d"):
    """The text that a preset's prompt shows; only raw ones are all that is read."""
    prompt = rerank.scorer.prompt.render(query, [text])
    assert [message.role for message in prompt.messages] == ["user"]
    return prompt.messages[0].content


def frame(texts=("the cat", "a mat is a mat", "the cat on the mat", "")):
    rows = [["q1", "why the cat", f"d{i}", text, -float(i)] for i, text in enumerate(texts)]
    return pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "score"])


def scores(rerank, pairs):
    """Scores of (query, document) pairs, all in one call."""
    answers = rerank.scorer([Question(query, (Doc("d", text),)) for query, text in pairs])
    return np.array([answer.scores[0] for answer in answers])


def probability(odds):
    return 1 / (1 + np.exp(-odds))


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    tokens = ["<|im_start|>", "<|im_end|>", "<|bos|>", "<extra_id_10>"]
    tokenizer = byte_tokenizer(post=f"$A {END}", extra_special_tokens=tokens)
    return encoder_decoder(tmp_path_factory.mktemp("t5"), tokenizer)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    tokenizer = byte_tokenizer(chat=CHATML)
    return decoder(tmp_path_factory.mktemp("llama"), tokenizer, max_position_embeddings=4096)


# Bytes of the prompts


def test_rank1_reads_the_bytes_of_its_authors():
    official = parity("checkpoint_prompts_sha256")
    scorer = presets.rank1(HashModel()).scorer
    for number, text in enumerate(official["_meta"]["passages"]):
        prompt = scorer.prompt.render(official["_meta"]["query"], [text])
        assert prompt.raw and not prompt.answer
        known = official["prompts"].get(f"rank1 (doc {number})")
        if known:
            whole = prompt.messages[0].content + scorer.opening
            assert (len(whole), digest(whole)) == (known["chars"], known["sha256"])


def test_retro_star_reads_the_bytes_of_its_authors():
    official = parity("checkpoint_prompts_sha256")
    known = official["prompts"]["retro-star (biology, doc 0)"]
    rerank = presets.retro_star(HashModel(), definition=BIOLOGY, query_type="biology post", document_type="passage")
    prompt = rerank.scorer.prompt.render(official["_meta"]["query"], official["_meta"]["passages"][:1])
    [message] = prompt.messages
    assert not prompt.raw and [message.role] == known["roles"] and [len(message.content)] == known["content_chars"]
    text = json.dumps([message._asdict()], separators=(",", ":"), ensure_ascii=False)
    assert (len(text), digest(text)) == (known["chars"], known["sha256"])


def test_tf_rank_wraps_its_user_text_in_the_bytes_of_its_authors():
    known = parity("checkpoint_prompts_sha256")["prompts"]['tfrank shell think-free try_num=0 (user text = "X")']
    whole = TF_RANK.format(user="X")
    assert (len(whole), digest(whole)) == (known["chars"], known["sha256"])
    prompt = shown(presets.tf_rank(HashModel()), TEXT, TEXT)
    shell, end = whole.split("X")
    assert prompt.startswith(f"{shell}<Instruct>: Please judge") and prompt.endswith(f"<Document>: {TEXT}{end}")


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (presets.mono_t5, f"Query: {TEXT} Document: {TEXT} Relevant:"),
        (presets.rank_t5, f"Query: {TEXT} Document: {TEXT}"),
        (presets.ranking_gpt, f"Document: {TEXT} Query:"),
        (presets.upr, "Passage: a {b} c.. Please write a question based on this passage."),
        (presets.pointwise_qlm, f"Passage: {TEXT}\nPlease write a question based on this passage."),
        (
            presets.pointwise_yes_no,
            f"Passage: {TEXT}\nQuery: {TEXT}\nDoes the passage answer the query? Answer 'Yes' or 'No'",
        ),
        (
            presets.instruction_distillation,
            f"Predict whether the given passage answer the question.\n\nQuestion: {TEXT}\n\nPassage: a {{b}} c.\n\n"
            "Does the passage answer the question?",
        ),
    ],
)
def test_plain_formats_are_those_of_their_authors(build, text):
    rerank = build(HashModel())
    assert shown(rerank, TEXT, TEXT) == text
    assert rerank.scorer.prompt.render("q", ["d"]).raw and rerank.strategy == Pointwise()


def test_an_instruction_distilled_ranker_sees_two_hundred_words():
    long = shown(presets.instruction_distillation(HashModel()), "q", "word " * 500)
    assert long.count("word") == 200


@pytest.mark.parametrize(
    ("variant", "join", "usual"),
    [
        ("card", "\n", "Given a web search query, retrieve relevant passages that answer the query"),
        ("evaluation", "\n\n", "Given the user query, retrieval the relevant passages"),
    ],
)
def test_qwen3_reranker_has_two_published_variants(variant, join, usual):
    text = shown(presets.qwen3_reranker(HashModel(), variant=variant), TEXT, TEXT)
    fields = join.join([f"<Instruct>: {usual}", f"<Query>: {TEXT}", f"<Document>: {TEXT}"])
    assert f"<|im_start|>user\n{fields}<|im_end|>\n" in text
    assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    other = shown(presets.qwen3_reranker(HashModel(), variant=variant, instruction="find {x}"), TEXT, TEXT)
    assert other == text.replace(usual, "find {x}")


def test_an_instruction_of_mxbai_rerank_goes_before_the_query():
    plain, told = (shown(presets.mxbai_rerank_v2(HashModel(), instruction=told), "q", "d") for told in (None, "do {x}"))
    assert told == plain.replace("user\nquery: q\n", "user\ninstruction: do {x}\nquery: q\n") and told != plain


def test_retro_star_fills_in_what_a_task_is_about():
    text = shown(presets.retro_star(HashModel(), query_type="{math} problem", definition="if {it} helps"), "q", "d")
    assert text.count("({math} problem)") == 2 and "retrieval task: if {it} helps\n" in text
    usual = shown(presets.retro_star(HashModel()), "q", "d")
    assert "Given a query (query) and a document (document), the document is relevant to the query if" in usual


# Scores of official code


@pytest.fixture(scope="module")
def tiny_qwen3():
    folder = SHARED / "fixtures" / "tiny_qwen3"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    return str(folder)


CASES = {
    "qwen3_reranker": lambda official, model: (
        presets.qwen3_reranker(model, instruction=official["default_instruction_in_code"]),
        probability,
        official["batched_left_padded"],
    ),
    "mxbai_rerank_v2": lambda official, model: (
        presets.mxbai_rerank_v2(model),
        np.asarray,
        official["logit_1_minus_logit_0"],
    ),
    "rankinggpt": lambda official, model: (presets.ranking_gpt(model), np.asarray, official["mean_logprob"]),
}


@quiet
@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_the_official_code_in_a_batch_and_alone(name, tiny_qwen3):
    official = parity("tiny_pointwise_scores")
    rerank, scale, expected = CASES[name](official[name], local(tiny_qwen3))
    together = scale(scores(rerank, official["pairs"]))
    np.testing.assert_allclose(together, expected, atol=1e-4)
    alone = scale(np.concatenate([scores(rerank, [pair]) for pair in official["pairs"]]))
    np.testing.assert_allclose(alone, together, atol=1e-5)


@quiet
def test_mxbai_rerank_reads_the_tokens_of_the_official_code(tiny_qwen3):
    official = parity("tiny_pointwise_scores")
    expected = official["mxbai_rerank_v2"]["input_ids_first"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_qwen3)
    text = shown(presets.mxbai_rerank_v2(HashModel()), *official["pairs"][0])
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids == expected[len(expected) - len(ids) :] and set(expected[: len(expected) - len(ids)]) <= {0}


@quiet
def test_a_long_document_gives_way_and_the_end_of_the_prompt_stays(tiny_qwen3):
    rerank = presets.qwen3_reranker(tiny_qwen3, device="cpu", dtype="float32", max_length=300)
    model = rerank.scorer.model
    assert model.max_length == 300 and presets.qwen3_reranker(tiny_qwen3).scorer.model.max_length == 8192
    [answer] = rerank.scorer([Question("why", (Doc("d", "gravity and mass " * 400),))])
    assert np.isfinite(answer.scores).all() and answer.usage.truncated_tokens > 100
    assert answer.usage.prompt_tokens <= 300


# What they read of a network


@quiet
def test_rank_t5_reads_the_logit_of_its_label(t5):
    rerank = presets.rank_t5(t5, device="cpu", dtype="float32")
    [score] = scores(rerank, [("why the cat", "the mat")])
    network = transformers.AutoModelForSeq2SeqLM.from_pretrained(t5).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(t5)
    ids = tokenizer("Query: why the cat Document: the mat", return_tensors="pt")
    logits = network(
        **{k: ids[k] for k in ("input_ids", "attention_mask")}, decoder_input_ids=ids.input_ids[:, :1] * 0 + 1
    )
    label = tokenizer.convert_tokens_to_ids("<extra_id_10>")
    assert score == pytest.approx(logits.logits[0, 0, label].item(), abs=1e-4)


@quiet
@pytest.mark.parametrize("both", [False, True], ids=["decoder", "encoder-decoder"])
def test_instruction_distillation_reads_the_logit_of_yes(both, t5, llama):
    folder = t5 if both else llama
    rerank = presets.instruction_distillation(folder, device="cpu", dtype="float32")
    pairs = [("why the cat", "the mat"), ("why", "the cat on the mat"), ("a", "")]
    together = scores(rerank, pairs)
    np.testing.assert_allclose(np.concatenate([scores(rerank, [pair]) for pair in pairs]), together, atol=1e-4)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(shown(rerank, *pairs[0]), return_tensors="pt").input_ids
    auto = transformers.AutoModelForSeq2SeqLM if both else transformers.AutoModelForCausalLM
    network = auto.from_pretrained(folder).eval()
    side = {"decoder_input_ids": ids[:, :1] * 0 + 1} if both else {}
    logits = network(input_ids=ids, **side).logits[0, -1]
    assert together[0] == pytest.approx(logits[tokenizer.convert_tokens_to_ids("ĠYes")].item(), abs=1e-4)


def test_upr_sums_over_the_query_and_its_end(t5):
    [score] = scores(presets.upr(t5, device="cpu", dtype="float32"), [("why", "the cat")])
    tokenizer = transformers.AutoTokenizer.from_pretrained(t5)
    text = "Passage: the cat. Please write a question based on this passage."
    query = tokenizer("why")["input_ids"]
    rows = full_logprobs(t5, tokenizer(text)["input_ids"], start=[1, *query[:-1]])
    assert score == pytest.approx(sum(rows[i, token] for i, token in enumerate(query)), abs=1e-4)


# They run


T5S = [presets.upr, presets.pointwise_qlm, presets.pointwise_yes_no, presets.mono_t5, presets.rank_t5]
DECODERS = [presets.ranking_gpt, presets.qwen3_reranker, presets.mxbai_rerank_v2, presets.tf_rank]


@quiet
@pytest.mark.parametrize("build", [*T5S, *DECODERS, presets.instruction_distillation], ids=lambda b: b.__name__)
def test_a_preset_ranks_a_frame(build, t5, llama):
    rerank = build(t5 if build in T5S else llama, device="cpu", dtype="float32", num_results=3, depth=4)
    out = rerank(frame())
    assert isinstance(rerank, Rerank) and len(out) == 3 and out["score"].is_monotonic_decreasing
    assert np.isfinite(out["llm_score"] if "llm_score" in out else out["score"]).all()


@quiet
def test_rank1_reasons_and_reads_true_or_false(llama):
    rerank = presets.rank1(llama, max_tokens=6, device="cpu", dtype="float32")
    [answer] = rerank.scorer([Question("why the cat", (Doc("d1", "the mat"), Doc("d2", "the cat")))])
    assert np.isfinite(answer.scores).all() and answer.usage.output_tokens > 0
    assert rerank.scorer.model.max_length == 16_000


def test_erank_scores_the_likeliest_grade_times_its_probability():
    model = HashModel(writes=lambda number: "It is about cats.</think>\n\n<answer>7</answer>"[:17])
    scorer = presets.erank(model, instruction="is it {about} cats").scorer
    [answer] = scorer([Question("why", (Doc("d", "a cat"),))])
    [asked] = model.calls("generate")
    [(_, prompts)] = model.calls("choices")
    assert asked[3] == ("</think>",) and asked[2] == 2048
    assert prompts[0].answer == "<think>\nIt is about cats.</think>\n<answer>"
    assert "relevance definition is: is it {about} cats\n\nHere is the query:\nwhy\n" in prompts[0].messages[0].content
    probabilities = np.exp(model._choice(prompts[0], [f"{i}</answer>" for i in range(11)]).logprobs)
    assert answer.scores[0] == pytest.approx(probabilities.argmax() * probabilities.max())


@quiet
def test_erank_tells_one_from_ten(llama):
    rerank = presets.erank(llama, max_tokens=6, device="cpu", dtype="float32")
    out = rerank(frame())
    assert len(out) == 4 and out["llmrank_score"].between(0, 10).all()


def test_rank1_reads_the_odds_of_true_after_its_reasoning():
    scorer = presets.rank1(HashModel(), max_tokens=50).scorer
    assert (scorer.opening, scorer.closing, scorer.max_tokens) == ("<think>", "</think>", 50)
    assert scorer.prompt.options(1) == (" true", " false") and scorer.prompt.read(np.array([-1.0, -3.0]), 1) == [2.0]


@quiet
def test_retro_star_samples_answers_and_averages_those_that_have_a_score(llama):
    one = presets.retro_star(llama, max_tokens=5, device="cpu", dtype="float32")
    out = one(frame())
    assert one.ledger["q1"].usage.failures == 4 and out["docno"].tolist() == ["d0", "d1", "d2", "d3"]
    said = iter(["<score>80</score>", "no score", "<score>60</score>"])
    many = presets.retro_star(HashModel(writes=lambda number: next(said)), samples=3)
    [answer] = many.scorer([Question("q", (Doc("d", "t"),))])
    assert answer.scores.tolist() == [70.0] and answer.usage.failures == 1


def test_tf_rank_is_yes_or_no_and_then_a_grade():
    scorer = presets.tf_rank(HashModel()).scorer
    assert scorer.prompt.options(1) == ("yes", "no") and scorer.bridge == "(" and scorer.grades == tuple("01234")


def test_tf_rank_reads_visible_tokens_as_its_authors_do():
    spellings = [("yes", "Yes", "YES"), ("no", "No", "NO")]
    for case in parity("reasoning_parsers")["tfrank"]["cases"]:
        top = case["top_logprobs"]
        floor = min(top.values()) - 10  # what the authors give a token that a server does not show
        if "yesno" in case:
            seen = [next((top[word] for word in words if word in top), floor) for words in spellings]
            [odds] = presets.tf_rank(HashModel()).scorer.prompt.read(np.array(seen), 1)
            assert probability(odds) == pytest.approx(case["yesno"]["yes"], abs=1e-12)
        else:
            grades = np.array([top.get(grade, floor) for grade in "01234"])
            assert Graded(4).read(grades, 1)[0] == pytest.approx(case["expected_label"], abs=1e-12)


# Arguments


def test_an_unknown_variant_is_named():
    with pytest.raises(ConfigurationError, match="variant must be 'card' or 'evaluation', got 'vllm'"):
        presets.qwen3_reranker(HashModel(), variant="vllm")


def test_options_of_a_model_are_not_given_beside_it():
    with pytest.raises(ConfigurationError, match="max_length must be given to"):
        presets.mono_t5(HashModel(), max_length=100)


@pytest.mark.parametrize(
    ("checkpoint", "name"),
    [
        ("Qwen/Qwen3-Reranker-4B", "qwen3_reranker"),
        ("castorini/monot5-base-msmarco", "mono_t5"),
        ("castorini/duot5-3b-msmarco-10k", "duo_t5"),
        ("castorini/rankllama-v1-7b-lora-doc", "rank_llama"),
        ("/models/rank1-7b/", "rank1"),
    ],
)
def test_a_checkpoint_is_found_by_its_name(checkpoint, name):
    assert presets.find(checkpoint).name == name


@pytest.mark.parametrize("known", MINE, ids=lambda known: known.name)
def test_the_default_checkpoint_comes_first(known):
    default = inspect.signature(known.build).parameters["model"].default
    assert not known.checkpoints or known.checkpoints[0] == default
    assert all(presets.find(checkpoint) is known for checkpoint in known.checkpoints)
    assert bool(known.published) <= bool(known.source)
