"""Every kind of cross-encoder: its scores are those of one pair at a time, whatever the batch."""

from __future__ import annotations

import random
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import transformers
from tiny import BOS, END, adapter, ask, byte_tokenizer, decoder, encoder_decoder, full_logprobs, local, saved, settings
from tokenizers import processors

from pyterrier_llmrank import presets
from pyterrier_llmrank.core import Doc, Question
from pyterrier_llmrank.errors import ConfigurationError, ModelError, PromptTooLong
from pyterrier_llmrank.presets.bge import TASK
from pyterrier_llmrank.scorers import CrossEncoder, Prompted

pytestmark = [
    pytest.mark.filterwarnings("ignore::pyterrier_llmrank.errors.LLMRankWarning"),
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),  # peft
]
CLASSIFIER = transformers.AutoModelForSequenceClassification
TOKENS = transformers.AutoModelForTokenClassification
BERT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
COMMON = {**BERT, "max_position_embeddings": 200, "initializer_range": 0.4, "num_labels": 1}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "num_labels": 1}
RANK_T5 = "Query: {query} Document: {text}"


def ended():
    """Ends a text, and each text of a pair, as T5's tokenizer does."""
    tokenizer = byte_tokenizer(extra_special_tokens=["<|im_start|>", "<|im_end|>", "<|bos|>", "<extra_id_10>"])
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", pair=f"$A {END} $B {END}", special_tokens=[(END, 0)]
    )
    return tokenizer


def t5(folder):
    return encoder_decoder(folder, ended())


def t5_tokens(folder):
    tokenizer = ended()
    config = transformers.T5Config(**T5, vocab_size=len(tokenizer), eos_token_id=0, pad_token_id=1)
    return saved(folder, tokenizer, config, TOKENS)


def t5_classifier(folder):
    tokenizer = ended()
    ids = {"vocab_size": len(tokenizer), "eos_token_id": 0, "pad_token_id": 1, "decoder_start_token_id": 1}
    return saved(folder, tokenizer, transformers.T5Config(**T5, **ids), CLASSIFIER)


def encoder(kind, folder, **sizes):
    tokenizer = byte_tokenizer(post=f"{BOS} $A {END}")
    config = getattr(transformers, f"{kind}Config")(vocab_size=len(tokenizer), pad_token_id=1, **COMMON, **sizes)
    return saved(folder, tokenizer, config, CLASSIFIER)


def modern(folder, pooling):
    return encoder("ModernBert", folder, local_attention=16, classifier_pooling=pooling, cls_token_id=3, sep_token_id=0)


def llama(folder, auto=CLASSIFIER, **changes):
    tokenizer = byte_tokenizer(post=f"{BOS} $A")
    return saved(
        folder, tokenizer, transformers.LlamaConfig(**settings(tokenizer, **{"num_labels": 1, **changes})), auto
    )


def rank_llama(folder):
    """An adapter that brings a head of one label."""
    base = llama(folder / "base", transformers.AutoModelForCausalLM)
    auto = type("Auto", (), {"from_pretrained": partial(CLASSIFIER.from_pretrained, num_labels=1)})
    return adapter(folder / "adapter", base, "SEQ_CLS", auto=auto)


def gemma(folder, **changes):
    tokenizer = byte_tokenizer(post=f"{BOS} $A", words=["Yes", "No"])
    sizes = settings(tokenizer, head_dim=8, max_position_embeddings=800, **changes)
    return saved(folder, tokenizer, transformers.GemmaConfig(**sizes))


def told(build):
    """A preset's scorer."""
    return lambda folder, **options: build(folder, dtype="float32", **options).scorer


KINDS = {
    "monoT5": (t5, told(presets.mono_t5)),
    "duoT5": (t5, told(presets.duo_t5)),
    "RankT5": (t5, told(presets.rank_t5)),
    "RankT5, encoder": (t5_tokens, partial(CrossEncoder, template=RANK_T5, pooling="mean")),
    "T5, classifier": (t5_classifier, CrossEncoder),
    "RankLLaMA": (rank_llama, told(presets.rank_llama)),
    "bge-gemma": (gemma, told(presets.bge_gemma)),
    "ELECTRA": (partial(encoder, "Electra", embedding_size=32), CrossEncoder),
    "BERT": (partial(encoder, "Bert"), CrossEncoder),
    "ModernBERT, first token": (partial(modern, pooling="cls"), CrossEncoder),
    "ModernBERT, mean": (partial(modern, pooling="mean"), CrossEncoder),
    "two of four layers": (partial(llama, num_hidden_layers=4), partial(CrossEncoder, layers=2)),
    "one text": (llama, partial(CrossEncoder, template="question:{query} \n \n passage:{text}")),
}


def asked(size=1, n=40):
    """Questions of texts that differ in length."""
    rng = random.Random(0)
    texts = ["".join(rng.choice("abcdefgh ") for _ in range(rng.randrange(0, 60))) for _ in range(n)]
    docs = [Doc(str(place), text) for place, text in enumerate(texts)]
    return [Question(f"why {place % 3}", tuple(docs[place : place + size])) for place in range(0, n - size + 1, size)]


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tmp_path_factory):
    """(name, folder, how a scorer is built)."""
    if request.param == "RankLLaMA" and find_spec("peft") is None:
        pytest.skip("peft is not installed")
    save, build = KINDS[request.param]
    return request.param, save(tmp_path_factory.mktemp("kind")), partial(build, device="cpu")


@pytest.mark.parametrize("batch_tokens", [300, 100_000])
def test_scores_are_equal_at_every_batch_size(kind, batch_tokens):
    name, folder, build = kind
    questions = asked(2 if name == "duoT5" else 1)
    scorer = build(folder, batch_tokens=batch_tokens)
    together = np.concatenate([answer.scores for answer in scorer(questions)])
    alone = np.concatenate([answer.scores for one in questions for answer in scorer([one])])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.ptp(together) > 1e-3


# What each kind reads


def one_by_one(network, rows):
    with torch.no_grad():
        return [network(input_ids=torch.tensor([row])) for row in rows]


def test_rank_t5_reads_one_logit_of_the_first_answer_token(tmp_path):
    folder, tokenizer = t5(tmp_path), ended()
    network = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    wanted = []
    for one in asked():
        ids = tokenizer(RANK_T5.format(query=one.query, text=one.docs[0].text))["input_ids"]
        with torch.no_grad():
            logits = network(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([[1]])).logits
        wanted.append(logits[0, 0, tokenizer.convert_tokens_to_ids("<extra_id_10>")].item())
    answers = presets.rank_t5(folder, device="cpu", dtype="float32").scorer(asked())
    np.testing.assert_allclose([answer.scores[0] for answer in answers], wanted, atol=1e-5)


def test_rank_t5_without_a_decoder_is_a_dense_layer_on_the_mean_of_its_states(tmp_path):
    folder = t5_tokens(tmp_path)
    scorer = CrossEncoder(folder, template=RANK_T5, pooling="mean", device="cpu")
    network = TOKENS.from_pretrained(folder, dtype=torch.float32).eval()
    rows = [ended()(RANK_T5.format(query=one.query, text=one.docs[0].text))["input_ids"] for one in asked()]
    with torch.no_grad():
        means = [network.transformer(input_ids=torch.tensor([row])).last_hidden_state.mean(1) for row in rows]
        wanted = [network.classifier(mean).item() for mean in means]
    np.testing.assert_allclose([answer.scores[0] for answer in scorer(asked())], wanted, atol=1e-5)
    assert scorer._loaded.packs == {(False, None): True}  # without padding


@pytest.mark.parametrize(("pooling", "place"), [("cls", 0), ("last", -1)])
def test_the_score_of_the_first_or_the_last_token(tmp_path, pooling, place):
    folder = t5_tokens(tmp_path)
    network = TOKENS.from_pretrained(folder, dtype=torch.float32).eval()
    rows = [ended()(RANK_T5.format(query=one.query, text=one.docs[0].text))["input_ids"] for one in asked()]
    wanted = [out.logits[0, place, 0].item() for out in one_by_one(network, rows)]
    answers = CrossEncoder(folder, template=RANK_T5, pooling=pooling, device="cpu")(asked())
    np.testing.assert_allclose([answer.scores[0] for answer in answers], wanted, atol=1e-5)


def test_bge_gemma_reads_the_logit_of_yes_after_its_task(tmp_path):
    folder = gemma(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    [yes] = tokenizer("Yes", add_special_tokens=False)["input_ids"]
    wanted = []
    for one in asked():  # parts encoded apart, as the authors' code does it
        texts = [f"A: {one.query}", "\n", f"B: {one.docs[0].text}", "\n", TASK]
        ids = [3, *(token for text in texts for token in tokenizer(text, add_special_tokens=False)["input_ids"])]
        wanted.append(one_by_one(network, [ids])[0].logits[0, -1, yes].item())
    answers = presets.bge_gemma(folder, device="cpu", dtype="float32").scorer(asked())
    np.testing.assert_allclose([answer.scores[0] for answer in answers], wanted, atol=1e-5)
    assert TASK.endswith("either 'Yes' or 'No'.") and presets.bge_gemma(folder).scorer.max_doc_tokens == 512


def test_another_task_may_have_braces(tmp_path):
    prompt = presets.bge_gemma(local(gemma(tmp_path)), task="Is {it} so?").scorer.prompt
    assert prompt.render("q {x}", ["d"]).messages[0].content == "A: q {x}\nB: d\nIs {it} so?"


# Layers


def test_a_head_is_read_behind_an_earlier_layer(tmp_path):
    """As the layerwise kinds do: what leaves the layer goes through the last norm and the head."""
    folder = decoder(tmp_path, num_hidden_layers=4)
    ids = byte_tokenizer()("the cat sat")["input_ids"]
    whole = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        states = whole(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
        wanted = [whole.lm_head(whole.model.norm(states[layers]))[0, -1].log_softmax(-1) for layers in (1, 2, 3)]
    wanted.append(torch.tensor(full_logprobs(folder, ids)[-1]))
    labels = [byte_tokenizer()(label)["input_ids"][0] for label in ("Yes", "No")]
    for layers, logprobs in enumerate(wanted, start=1):
        model = local(folder, layers=layers)
        [read] = model.choices([ask("the cat sat", raw=True)], [("Yes", "No")])
        np.testing.assert_allclose(read.logprobs, logprobs[labels], atol=1e-5)
        assert len(model._loaded.network.model.layers) == layers and "layers" in repr(model)
    assert local(folder)._loaded is not local(folder, layers=4)._loaded


def test_layers_that_see_a_window_stay_as_they_are(tmp_path):
    tokenizer = byte_tokenizer()
    config = transformers.Gemma2Config(**settings(tokenizer, num_hidden_layers=4, head_dim=8, sliding_window=8))
    model = local(saved(tmp_path, tokenizer, config), layers=3)
    model.load()
    assert model._loaded.network.config.layer_types == config.layer_types[:3] and len(config.layer_types) == 4


def test_a_generator_of_fewer_layers_writes(tmp_path):
    [answer] = local(decoder(tmp_path, num_hidden_layers=4), layers=2).generate([ask("the cat")], max_tokens=5)
    assert answer.usage.output_tokens > 0


@pytest.mark.parametrize(
    ("save", "layers", "message"),
    [(decoder, 3, r"layers must be 1 to 2, the layers of .*, got 3"), (t5, 1, "layers= is for networks of one stack")],
)
def test_layers_that_are_not_there_are_refused(tmp_path, save, layers, message):
    with pytest.raises(ModelError, match=message):
        local(save(tmp_path), layers=layers).load()


def test_no_layers_are_refused_at_once(tmp_path):
    with pytest.raises(ConfigurationError, match="layers must be at least 1, got 0"):
        CrossEncoder(str(tmp_path), layers=0)


# Mistakes


def test_t5_that_answers_in_words_is_sent_to_its_presets(tmp_path):
    folder = t5(tmp_path)
    with pytest.raises(ModelError, match=r"presets.mono_t5\('.*'\) reads it as monoT5 .*, presets.rank_t5\("):
        CrossEncoder(folder).load()
    with pytest.raises(ModelError, match=r"no trained token-classification head .*use CrossEncoder without pooling"):
        CrossEncoder(folder, pooling="mean").load()


def test_one_text_is_cut_in_its_document(tmp_path):
    scorer = CrossEncoder(llama(tmp_path), template="Q {query} D {text} end", max_length=40, closed=True, device="cpu")
    rows = []
    handle = scorer._loaded.network.register_forward_pre_hook(
        lambda module, args, given: rows.extend(given["input_ids"].tolist()), with_kwargs=True
    )
    [answer] = scorer([Question("why", (Doc("a", "x" * 50), Doc("b", "y")))])
    handle.remove()
    fixed = 1 + len("Q why D  end") + 1
    assert answer.usage.truncated_tokens == 50 - (40 - fixed) and answer.usage.prompt_tokens == 40 + fixed + 1
    texts = sorted(byte_tokenizer().decode(row).replace(BOS, "") for row in rows)
    assert texts[0].startswith("Q why D xxx") and all(f" end{END}" in text for text in texts)
    assert scorer.planned([Question("why", (Doc("a", "x" * 50), Doc("b", "y")))])[0] == answer.usage
    with pytest.raises(PromptTooLong, match="leave no room"):
        scorer([Question("q" * 60, (Doc("a", "x"),))])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"template": "{query}"}, r"lacks \{text\}"),
        ({"template": RANK_T5, "query_template": "q {query}"}, "for pairs of texts; leave them out beside template"),
        ({"template": RANK_T5, "max_query_tokens": 3}, "for pairs of texts"),
        ({"pooling": "max"}, "pooling must be 'mean', 'cls' or 'last', got 'max'"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(tmp_path, arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        CrossEncoder(str(tmp_path), **arguments)


def test_prompted_is_what_reads_t5(tmp_path):
    assert isinstance(presets.mono_t5(t5(tmp_path)).scorer, Prompted)
