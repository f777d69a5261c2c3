"""``FusionInDecoder`` and ``CrossAttention`` against plain T5 arithmetic, one passage and one step at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from fake_models import HashModel
from shared_data import parity, shared
from tiny import END, ask, byte_tokenizer, decoder, encoder_decoder, local

from pyterrier_llmrank import Rerank, plan
from pyterrier_llmrank.core import Doc, Evidence, Message, Prompt, Question, Scorer, Usage
from pyterrier_llmrank.errors import ConfigurationError, LLMRankWarning, ModelError, PromptTooLong, Unsupported
from pyterrier_llmrank.models import FusedModel, Generation, HFModel
from pyterrier_llmrank.prompts import FusedPrompt, ListPrompt
from pyterrier_llmrank.prompts.fused import LIST_T5, LIT5
from pyterrier_llmrank.scorers import CrossAttention, FusionInDecoder, Shuffled
from pyterrier_llmrank.strategies import MultiwayTournament, OneShot, SlidingWindow

HELD = replace(LIT5, decode="constrained")
DOCS = tuple(Doc(f"d{i}", "the cat sat. " * (i % 4) + f"mat {i}") for i in range(24))
QUESTIONS = [Question(f"why the cat {n}", DOCS[:n], f"q{n}") for n in (3, 1, 5, 20, 2)]
PARTS = [["the cat", "a mat is a mat", "x"], ["why"], ["the cat sat on the mat " * 3, "", "no"], ["a"] * 18]
quiet = pytest.mark.filterwarnings("ignore::pyterrier_llmrank.errors.LLMRankWarning")


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    return encoder_decoder(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="module")
def network(t5):
    return transformers.AutoModelForSeq2SeqLM.from_pretrained(t5, dtype=torch.float32).eval()


def model(folder, **options):
    return FusedModel(folder, device="cpu", dtype="float32", **options)


def fusion(folder, prompt=LIT5, **options):
    return FusionInDecoder(model(folder, **options), prompt=prompt)


def crossing(folder, **options):
    return CrossAttention(model(folder, **options))


def apart(parts):
    return Prompt(tuple(Message("user", part) for part in parts), raw=True)


# The oracle: passages through the encoder one at a time, their states behind each other, no cache, no padding


def encoded(network, parts):
    tokenizer = byte_tokenizer(post=f"$A {END}")
    with torch.no_grad():
        states = [
            network.encoder(input_ids=tokenizer(part, return_tensors="pt")["input_ids"]).last_hidden_state
            for part in parts
        ]
    return torch.cat(states, 1)


def decoded(network, states, side):
    """Logits after each token of the decoder's side, (tokens, vocabulary)."""
    outputs = transformers.modeling_outputs.BaseModelOutput(states)
    with torch.no_grad():
        return network(encoder_outputs=outputs, decoder_input_ids=torch.tensor([side]), use_cache=False).logits[0]


def greedy(network, states, most):
    written = []
    while len(written) < most and written[-1:] != [0]:
        written.append(int(decoded(network, states, [1, *written])[-1].argmax()))
    return written


# The network


@pytest.mark.parametrize("batch_tokens", [1, 300, 100_000])
def test_answers_are_those_of_passages_encoded_one_at_a_time(t5, network, batch_tokens):
    tokenizer = byte_tokenizer()
    answers = model(t5, batch_tokens=batch_tokens).generate([apart(parts) for parts in PARTS], max_tokens=12)
    for parts, answer in zip(PARTS, answers, strict=True):
        wanted = greedy(network, encoded(network, parts), 12)
        assert answer.text == tokenizer.decode(wanted, skip_special_tokens=True)
        assert answer.usage == Usage(1, sum(len(part) + 1 for part in map(tokenize, parts)), 0, len(wanted))


def tokenize(text):
    return byte_tokenizer()(text)["input_ids"]


@pytest.mark.parametrize("batch_tokens", [1, 300, 100_000])
def test_probabilities_are_those_of_passages_encoded_one_at_a_time(t5, network, batch_tokens):
    fused = model(t5, batch_tokens=batch_tokens)
    read = fused.choices([apart(parts) for parts in PARTS], [("Yes", "No")] * len(PARTS))
    told = fused.continuation([apart(parts) for parts in PARTS], ["the mat"] * len(PARTS))
    labels, text = [tokenize(label)[0] for label in ("Yes", "No")], [*tokenize("the mat"), 0]
    for parts, one, other in zip(PARTS, read, told, strict=True):
        states = encoded(network, parts)
        first = decoded(network, states, [1])[-1].log_softmax(-1)
        np.testing.assert_allclose(one.logprobs, first[labels], atol=1e-5)
        after = decoded(network, states, [1, *text[:-1]]).log_softmax(-1)
        np.testing.assert_allclose(other.logprobs, after[range(len(text)), text], atol=1e-5)


def test_one_passage_is_plain_t5(t5):
    plain, fused = local(t5), model(t5)
    for text in ("the cat", "why the mat " * 5):
        prompt = ask(text, raw=True)
        assert plain.generate([prompt], max_tokens=9) == fused.generate([prompt], max_tokens=9)
        [one], [other] = (it.choices([prompt], [("Yes", "No")]) for it in (plain, fused))
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-6)


def test_several_passages_are_not_read_as_one_text(t5):
    both = [ask("the cat\n\na mat", raw=True)], [apart(["the cat", "a mat"])]
    plain, fused = (model(t5).choices(prompts, [("Yes", "No")])[0].logprobs for prompts in both)
    assert np.abs(plain - fused).max() > 1e-3


@pytest.mark.parametrize("exact", [True, False])
def test_padded_or_not_the_states_are_the_same(t5, network, exact):
    fused = model(t5)
    fused._loaded.packs.clear()
    fused._loaded.packs[False, None] = exact
    try:
        read = fused.choices([apart(parts) for parts in PARTS], [("Yes", "No")] * len(PARTS))
    finally:
        fused._loaded.packs.clear()
    for parts, one in zip(PARTS, read, strict=True):
        first = decoded(network, encoded(network, parts), [1])[-1].log_softmax(-1)
        np.testing.assert_allclose(one.logprobs, first[[tokenize(label)[0] for label in ("Yes", "No")]], atol=1e-5)


def test_a_trial_finds_t5_exact_without_padding(t5):
    fused = model(t5)
    fused._loaded.packs.clear()
    fused.generate([apart(parts) for parts in PARTS], max_tokens=1)
    assert fused._loaded.packs == {(False, None): True}


def test_the_network_is_itself_again_afterwards_also_when_something_breaks(t5):
    fused = model(t5)
    fused.load()
    network = fused._loaded.network
    for run in (lambda: fused.generate([apart(["a"])], max_tokens=1), lambda: crossing(t5)(QUESTIONS[:1])):
        network.decoder.final_layer_norm.forward = lambda states: (_ for _ in ()).throw(KeyError("broken"))
        with pytest.raises(KeyError, match="broken"):
            run()
        vars(network.decoder.final_layer_norm).pop("forward")
        assert "forward" not in vars(network.encoder) and network.config._attn_implementation == "sdpa"
        assert not [part for part in network.modules() if part._forward_hooks or part._forward_pre_hooks]
        run()


# Orders


@pytest.mark.parametrize("prompt", [HELD, replace(LIST_T5, decode="constrained")])
@pytest.mark.parametrize("batch_tokens", [1, 2_000])
def test_a_held_decoder_orders_every_group_whoever_shares_the_batch(t5, prompt, batch_tokens):
    scorer = fusion(t5, prompt, batch_tokens=batch_tokens)
    together = scorer(QUESTIONS)
    for question, answer in zip(QUESTIONS, together, strict=True):
        n = len(question.docs)
        assert sorted(answer.scores) == [*range(1 - n, 1)] and answer.usage.failures == answer.usage.repaired == 0
        [alone] = scorer([question])
        np.testing.assert_array_equal(alone.scores, answer.scores)
        assert alone.usage == answer.usage and answer.usage.calls == 1


def test_a_held_order_takes_the_likeliest_document_at_each_step(t5, network):
    [answer] = fusion(t5, HELD)(QUESTIONS[:1])
    texts = [message.content for message in LIT5.render(QUESTIONS[0].query, [d.text for d in DOCS[:3]]).messages]
    states, tokens = encoded(network, texts), {place: tokenize(str(place + 1))[0] for place in range(3)}
    left, order, side = {0, 1, 2}, [], [1, *tokenize("[")]
    while left:
        logits = decoded(network, states, side)[-1]
        best = max(left, key=lambda place: logits[tokens[place]])
        left.remove(best)
        order.append(best)
        side += [tokens[best], *tokenize("] > [")]
    np.testing.assert_array_equal(answer.scores, -np.argsort(order).astype(float))


@quiet
def test_answers_that_are_no_order_keep_it_and_are_counted(t5):
    answers = fusion(t5)(QUESTIONS)
    for question, answer in zip(QUESTIONS, answers, strict=True):
        assert len(answer.scores) == len(question.docs) and answer.usage.failures + answer.usage.repaired <= 1
    assert sum((answer.usage for answer in answers), Usage()).failures > 0  # a random T5 writes anything


def test_documents_give_way_and_the_end_of_what_is_read_stays(t5):
    scorer = fusion(t5, HELD, max_length=80)
    long, short = Doc("a", "x" * 300), Doc("b", "y")
    rows = []
    encoder = scorer.model._loaded.network.get_encoder()
    handle = encoder.embed_tokens.register_forward_hook(lambda _, args, out: rows.append(args[0]))
    [answer] = scorer([Question("why", (long, short))])
    handle.remove()
    text = byte_tokenizer().decode(rows[0].flatten()).replace(END, "")
    assert text.count("Relevance Ranking: ") == 2 and text.count("Search Query: why") == 2 and "y" in text
    fixed = len(tokenize(LIT5.render("why", [""]).messages[0].content)) + 1
    assert answer.usage.truncated_tokens == 300 - (80 - fixed)
    assert answer.usage.prompt_tokens == 80 + fixed + 1


def test_a_query_that_leaves_no_room_is_refused(t5):
    with pytest.raises(PromptTooLong, match="leave no room for the documents"):
        fusion(t5, HELD, max_length=80)([Question("q" * 100, DOCS[:2])])


def test_a_group_may_be_longer_than_what_the_model_reads_of_one_document(t5):
    scorer = fusion(t5, HELD, max_length=100)
    [answer] = scorer([QUESTIONS[3]])
    assert answer.usage.prompt_tokens > 1000 and answer.usage.truncated_tokens == 0


@pytest.mark.parametrize("scorer", [lambda t5: fusion(t5, HELD), crossing])
def test_texts_may_spell_end_tokens_and_be_empty_or_equal(t5, scorer):
    hostile = f"a {END} b <|bos|>{END}"
    docs = tuple(Doc(str(i), text) for i, text in enumerate([hostile, "", "same", "same", " "]))
    [answer] = scorer(t5)([Question(hostile, docs)])
    assert np.isfinite(answer.scores).all() and answer.usage.failures == 0


def test_a_message_that_spells_the_end_token_is_refused(t5):
    with pytest.raises(ModelError, match=r"spells the end token '<\|end\|>'"):
        model(t5).generate([apart([f"a{END}b"])], max_tokens=1)
    with pytest.raises(ModelError, match="nothing for the model to read"):
        model(t5).generate([apart([])], max_tokens=1)


# Attention


def by_hand(network, query, docs, steps):
    """LiT5-Score's sum, from the weights: softmax times the norm of values, without the query's tokens."""
    parts = [f"question: {query} context: {doc.text}" for doc in docs]
    states = encoded(network, parts)
    side = [1, *greedy(network, states, steps)[:-1]]
    inputs = []
    layers = [block.layer[1] for block in network.decoder.block]
    hooks = [layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0])) for layer in layers]
    decoded(network, states, side)
    for hook in hooks:
        hook.remove()
    total = 0
    with torch.no_grad():
        for layer, hidden in zip(layers, inputs, strict=True):
            attention = layer.EncDecAttention
            q, k, v = (
                project(states_of)[0].view(len(states_of[0]), 4, -1).transpose(0, 1)
                for project, states_of in (
                    (attention.q, layer.layer_norm(hidden)),
                    (attention.k, states),
                    (attention.v, states),
                )
            )
            shares = (q @ k.transpose(1, 2)).softmax(-1)  # (heads, steps, tokens)
            total = total + (shares * v.norm(dim=-1)[:, None]).mean(0).sum(0)
    scores, start = [], 0
    for part in parts:
        end = start + len(tokenize(part)) + 1
        scores.append(float(total[start + len(tokenize(f"question: {query}")) : end].sum()) / (256 * len(layers)))
        start = end
    return scores


@pytest.fixture(scope="module")
def attention(network):
    """Of each question, computed by hand."""
    return [by_hand(network, question.query, question.docs, 19) for question in QUESTIONS]


@pytest.mark.parametrize("batch_tokens", [1, 700, 100_000])
def test_scores_are_those_of_the_attention_computed_by_hand(t5, attention, batch_tokens):
    answers = crossing(t5, batch_tokens=batch_tokens)(QUESTIONS)
    for wanted, answer in zip(attention, answers, strict=True):
        np.testing.assert_allclose(answer.scores, wanted, rtol=1e-5)
        assert (answer.scores > 0).all() and answer.usage.calls == 1


@pytest.mark.parametrize("max_tokens", [1, 3, 40])
def test_an_answer_may_be_short_or_long(t5, network, max_tokens):
    scorer = replace(crossing(t5), max_tokens=max_tokens)
    [answer] = scorer(QUESTIONS[:1])
    wanted = by_hand(network, QUESTIONS[0].query, QUESTIONS[0].docs, max_tokens)
    np.testing.assert_allclose(answer.scores, wanted, rtol=1e-5)
    assert answer.usage.output_tokens <= max_tokens


def test_answers_of_different_lengths_share_a_batch(tmp_path):
    """With a head that likes the end token, some answers end at once and others do not."""
    folder = encoder_decoder(tmp_path)
    network = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    rows = [encoded(network, [f"question: {one.query} context: {doc.text}" for doc in one.docs]) for one in QUESTIONS]
    first = [decoded(network, states, [1])[-1] for states in rows]
    hidden = []
    handle = network.lm_head.register_forward_pre_hook(lambda _, args: hidden.append(args[0][0, -1]))
    for states in rows:
        decoded(network, states, [1])
    handle.remove()
    away = hidden[0] - hidden[3]
    with torch.no_grad():  # the end token wins after the first question, and loses after the fourth
        network.lm_head.weight[0] = away * 50 * first[0].abs().max() / (away @ away)
    network.save_pretrained(folder)
    answers = crossing(folder)(QUESTIONS)
    assert len({answer.usage.output_tokens for answer in answers}) > 1
    for question, answer in zip(QUESTIONS, answers, strict=True):
        np.testing.assert_allclose(answer.scores, by_hand(network, question.query, question.docs, 19), rtol=1e-5)


# Values, laws and mistakes

BUILDS = {"fusion": lambda folder: fusion(folder, HELD), "attention": crossing}
each = pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)


@each
def test_a_scorer_is_a_value_and_an_empty_input_loads_no_model(t5, build):
    scorer = build(t5)
    assert isinstance(scorer, Scorer) and scorer == build(t5) and hash(scorer) == hash(build(t5))
    names = {one.__name__: one for one in (FusionInDecoder, CrossAttention, FusedModel, FusedPrompt)}
    assert eval(repr(scorer), names) == scorer
    assert scorer.gives is Evidence.ORDER and scorer.max_docs is None
    assert scorer([]) == [] and "_loaded" not in vars(scorer.model)


@each
def test_answers_come_in_the_order_of_the_questions(t5, build):
    scorer = build(t5)
    for one, other in zip(scorer(QUESTIONS), scorer(QUESTIONS[::-1])[::-1], strict=True):
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5)


@each
def test_a_plan_counts_what_is_read(t5, build):
    rows = [["q", "why the cat", doc.docno, doc.text, -float(i)] for i, doc in enumerate(DOCS)]
    frame = pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "score"])
    rerank = Rerank(OneShot(), build(t5))
    planned = plan(rerank, frame).iloc[0]
    rerank(frame)
    usage = rerank.ledger["q"].usage
    assert (planned.calls, planned.prompt_tokens) == (usage.calls, usage.prompt_tokens)


@each
def test_a_name_or_a_model_will_do(t5, build):
    told = HFModel(t5, device="cpu", max_length=99)
    scorer = replace(build(t5), model=told)
    assert scorer.model == FusedModel(t5, device="cpu", max_length=99) and type(scorer)(t5).model == FusedModel(t5)
    assert scorer.model._loaded is told._loaded


@each
def test_what_cannot_be_looked_into_is_refused(build, t5, tmp_path):
    kind = type(build(t5))
    with pytest.raises(ConfigurationError, match=r"looks inside a.* model: pass its name"):
        kind(HashModel())
    with pytest.raises(Unsupported, match=r"needs an encoder-decoder such as T5.*LlamaForCausalLM; show its documents"):
        kind(decoder(tmp_path))(QUESTIONS[:1])


def test_a_prompt_of_another_kind_is_refused(t5):
    with pytest.raises(ConfigurationError, match="pass a FusedPrompt"):
        FusionInDecoder(t5, prompt=ListPrompt())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head": "q"}, "lacks {query}"),
        ({"tail": "t"}, "lacks {text}"),
        ({"max_tokens": 0}, "max_tokens must be at least 1 token, got 0"),
        ({"max_doc_tokens": 0}, "max_doc_tokens must be at least 1 token, got 0"),
    ],
)
def test_arguments_out_of_range_are_refused(t5, arguments, message):
    with pytest.raises(ConfigurationError, match=message.replace("{", r"\{")):
        CrossAttention(t5, **arguments)


def test_attention_of_another_architecture_is_refused(tmp_path):
    tokenizer = byte_tokenizer(post=f"$A {END}")
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 200}
    tokens = {"vocab_size": len(tokenizer), "pad_token_id": 1, "bos_token_id": 3, "eos_token_id": 0}
    config = transformers.BartConfig(**sizes, **heads, **tokens, decoder_start_token_id=1, forced_eos_token_id=None)
    transformers.BartForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(Unsupported, match="networks like T5, and BartForConditionalGeneration is not"):
        crossing(str(tmp_path))(QUESTIONS[:1])
    [answer] = fusion(str(tmp_path), HELD)(QUESTIONS[:1])  # whose encoder can still be run apart
    assert sorted(answer.scores) == [-2, -1, 0]


# With strategies


@quiet
@pytest.mark.parametrize(
    "rerank",
    [
        lambda t5: Rerank(SlidingWindow(4, 2), fusion(t5)),
        lambda t5: Rerank(MultiwayTournament(5, keep=2), fusion(t5, LIST_T5), top_k=3),
        lambda t5: Rerank(SlidingWindow(4, 2), Shuffled(fusion(t5, HELD), 2)),
        lambda t5: Rerank(OneShot(), crossing(t5)),
    ],
)
def test_strategies_take_it_as_any_scorer(t5, rerank):
    rows = [[f"q{q}", f"why {q}", f"d{i}", f"the cat {i}", -float(i)] for q in range(2) for i in range(9)]
    out = rerank(t5)(pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "score"]))
    for _, group in out.groupby("qid"):
        assert sorted(group["docno"]) == [f"d{i}" for i in range(9)]


@dataclass(frozen=True, repr=False)
class Oracle(FusedModel):
    """Knows what each passage is worth, which is its text, and notes what it is shown."""

    def generate(self, prompts, *, max_tokens, **options):
        answers = []
        for prompt in prompts:
            texts = [turn.content.rpartition(" ")[2] for turn in prompt.messages]
            seen.append([int(text.partition(":")[0]) for text in texts])
            worth = [float(text.partition(":")[2]) for text in texts]
            order = sorted(range(len(texts)), key=worth.__getitem__)
            answers.append(Generation(" ".join(str(place + 1) for place in order), "stop", Usage(1)))
        return answers


seen = []


def test_the_tournament_shows_the_groups_of_the_released_code_and_ends_as_it_does(t5):
    compared = 0
    for case in parity("listt5_tournament")["cases"]:
        if case["m"] != 5 or case["n"] > 30:
            continue
        seen.clear()
        texts = [f"{i}:{worth}" for i, worth in enumerate(case["gold"])]
        rows = [["q", "why", f"d{i}", text, -float(i)] for i, text in enumerate(texts)]
        scorer = FusionInDecoder(Oracle(t5), prompt=LIST_T5)
        rerank = Rerank(MultiwayTournament(5, case["r"]), scorer, top_k=case["rerank_topk"])
        out = rerank(pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "score"]))
        assert [int(docno[1:]) for docno in out["docno"]] == case["final_order"]
        assert len(seen) == case["num_forward"] == rerank.ledger["q"].usage.calls
        assert [sorted(set(group)) for group in seen] == [sorted(set(group)) for group in case["groups"]]
        if case["n"] <= 5 and case["r"] > 1:
            assert seen == case["groups"]  # with its copies
        compared += 1
    assert compared >= 10


def test_warned_once_where_answers_cannot_be_read(t5):
    rows = [["q", "why", f"d{i}", f"cat {i}", -float(i)] for i in range(9)]
    frame = pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "score"])
    rerank = Rerank(SlidingWindow(4, 2), FusionInDecoder(model(t5), prompt=LIT5, max_tokens=1))
    with pytest.warns(LLMRankWarning):
        out = rerank(frame)
    assert sorted(out["docno"]) == sorted(frame["docno"])


@pytest.mark.parametrize("prompt", [HELD, replace(LIST_T5, decode="constrained")])
def test_the_pieces_of_a_real_t5_vocabulary_spell_identifiers(prompt):
    pytest.importorskip("sentencepiece")
    scorer = fusion(str(shared("fixtures", "monot5", "model")), prompt)
    for answer in scorer(QUESTIONS[:3]):
        assert sorted(answer.scores) == [*range(1 - len(answer.scores), 1)] and answer.usage.failures == 0
    texts = [message.content for message in prompt.render("why", ["a cat", "the mat"]).messages]
    rows = scorer.model._parts([apart(texts)])[0]
    tokenizer = scorer.model._loaded.tokenizer
    assert rows == [tokenizer(text)["input_ids"] for text in texts] and {row[-1] for row in rows} == {1}
