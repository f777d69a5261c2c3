"""A retriever learns the same in many passes as in one, from whatever loss, and is saved as others load it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from tiny import START, byte_tokenizer, saved, settings
from tiny_retriever import LISTS, TEXTS, listed, retriever

from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.errors import ConfigurationError, InputError, ModelError, ModelNotFound
from pyterrier_llmrank.scorers import BiEncoder
from pyterrier_llmrank.training.data import TrainingList
from pyterrier_llmrank.training.learners import LOSSES, BiEncoderLearner, InfoNCE, VectorLoss, Vectors
from pyterrier_llmrank.training.learners.caching import alike
from pyterrier_llmrank.training.loop import train
from pyterrier_llmrank.training.settings import Training


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return retriever(tmp_path_factory.mktemp("bert"))


def learnt(folder, lists=LISTS, **options):
    """The loss, and the gradient of every weight."""
    learner = BiEncoderLearner(folder, **options)
    learner.network.train()
    torch.manual_seed(3)
    value = learner.learn(lists, lambda scalar: scalar.backward())
    named = learner.network.named_parameters()
    return value, {name: one.grad for name, one in named if one.grad is not None}


def same(one, other, **close):
    assert one.keys() == other.keys() and len(one) > 10
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], msg=lambda told, name=name: f"{name}: {told}", **close)


CLOSE = {"rtol": 1e-4, "atol": 1e-6}


@pytest.mark.parametrize("dropout", [False, True])
def test_texts_that_are_read_twice_teach_what_one_pass_teaches(folder, dropout):
    """Dropout draws by pass, so that the passes are the same; those that are held differ."""
    by_held = [
        learnt(folder, dropout=dropout, batch_tokens=40, held_tokens=held, loss="info_nce") for held in (10**6, 100, 0)
    ]
    for value, gradients in by_held[1:]:
        assert value == by_held[0][0]
        same(gradients, by_held[0][1], **CLOSE)
    assert (learnt(folder, dropout=dropout, loss="info_nce")[0] == pytest.approx(by_held[0][0])) is not dropout


def test_half_precision_is_for_passes_and_not_for_the_loss(folder, tmp_path):
    class Products(VectorLoss):
        def forward(self, batch):
            kinds.append((batch.queries @ batch.queries.T).dtype)
            return batch.queries.sum()

    kinds = []
    train(BiEncoderLearner(folder, loss=Products()), LISTS, tmp_path, Training(1, device="cpu", precision="bfloat16"))
    assert kinds == [torch.float32]


def test_the_size_of_passes_changes_no_gradient(folder):
    value, whole = learnt(folder, batch_tokens=10**6)
    for tokens in (1, 64):
        again, gradients = learnt(folder, batch_tokens=tokens, held_tokens=0)
        assert again == pytest.approx(value, abs=1e-5)
        same(gradients, whole, rtol=1e-3, atol=1e-5)


def test_gradients_are_those_of_the_loss_by_the_book(folder):
    """Every text by itself through transformers, with the loss on all vectors."""
    value, gradients = learnt(folder, loss="margin_mse", batch_tokens=50, held_tokens=0)
    network = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def vector(text):
        states = network(**tokenizer(text, return_tensors="pt")).last_hidden_state
        return torch.nn.functional.normalize(states[0].mean(dim=0), dim=0)

    squares = []
    for one in LISTS:
        scores = torch.stack([vector(one.query) @ vector(doc.text) for doc in one.docs])
        wanted = torch.tensor(one.targets)
        for i in range(len(scores)):
            squares += [(scores[i] - scores[j] - wanted[i] + wanted[j]) ** 2 for j in range(len(scores)) if j != i]
    expected = torch.stack(squares).mean()
    expected.backward()
    assert value == pytest.approx(expected.item(), rel=1e-4)
    own = {f"encoder.{name}": one.grad for name, one in network.named_parameters() if one.grad is not None}
    same(gradients, own, rtol=1e-3, atol=1e-6)


def test_passes_hold_texts_of_similar_length():
    lengths = [5, 128, 120, 6, 128, 5, 300]
    passes = alike(lengths, 256)
    assert passes == [[6], [1, 4], [2], [3, 0, 5]]
    for tokens in (1, 64, 400, 10**6):
        passes = alike(lengths, tokens)
        assert sorted(item for items in passes for item in items) == [*range(7)]
        for items in passes:
            real, padded = sum(lengths[item] for item in items), len(items) * max(lengths[item] for item in items)
            assert len(items) == 1 or (padded <= tokens and padded - real <= tokens / 8)
    assert alike([], 9) == []


def test_each_distinct_text_is_read_once(folder, monkeypatch):
    learner = BiEncoderLearner(folder, batch_tokens=60)
    seen = []
    forward = learner.network.forward
    monkeypatch.setattr(learner.network, "forward", lambda inputs, pad: seen.extend(inputs) or forward(inputs, pad))
    learner.learn([*LISTS, *LISTS], lambda scalar: None)
    assert len(seen) == len({doc.text for one in LISTS for doc in one.docs}) + len(LISTS)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_toy_is_learnt_with_every_loss(folder, tmp_path, loss):
    """Each query has a document of its own, which comes first in the end."""
    names = ["north", "south", "east"]
    docs = tuple(Doc(name, f"the {name} wind") for name in names)
    lists = [TrainingList(name, name, docs, tuple(float(doc.docno == name) for doc in docs)) for name in names]
    learner = BiEncoderLearner(folder, loss=loss)
    steps = 150 if loss == "bixse" else 40  # its bias has a way to go: vectors of random networks are all alike
    train(learner, lists, tmp_path, Training(steps=steps, batch_size=3, learning_rate=1e-3, warmup=0.0))
    scores = learner.encode_queries(names) @ learner.encode_documents([doc.text for doc in docs]).T
    assert scores.argmax(axis=1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_sentence_transformers_and_our_scorer_load_what_is_saved(folder, tmp_path, pooling, normalize):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    prefixes = {"query_prefix": "q: ", "doc_prefix": "d: "}
    learner = BiEncoderLearner(folder, pooling=pooling, normalize=normalize, doc_tokens=20, query_tokens=20, **prefixes)
    train(learner, LISTS, tmp_path, Training(steps=2, batch_size=2, learning_rate=1e-3))
    queries, documents = ["cat", "where is the mat?"], TEXTS
    own = learner.encode_queries(queries), learner.encode_documents(documents)
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu")
    np.testing.assert_allclose(theirs.encode_query(queries), own[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(theirs.encode_document(documents), own[1], rtol=1e-4, atol=1e-5)
    scorer = BiEncoder(
        str(tmp_path), pooling=pooling, normalize=normalize, max_length=20, device="cpu", dtype="float32", **prefixes
    )
    np.testing.assert_allclose(scorer.encode(queries, "q: ")[0], own[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scorer.encode(documents, "d: ")[0], own[1], rtol=1e-4, atol=1e-5)
    before = BiEncoder(folder, pooling=pooling, normalize=normalize, device="cpu", dtype="float32")
    assert (
        abs(before.encode(["q: cat"])[0] - own[0][:1]).max() > 1e-4
    )  # it did learn, and no other holder's weights did


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_an_empty_text_without_any_token_is_read_as_afterwards(tmp_path, pooling):
    tokenizer = byte_tokenizer(pad_token=START)
    config = transformers.BertConfig(**settings(tokenizer, max_position_embeddings=64, pad_token_id=1))
    folder = saved(tmp_path, tokenizer, config, transformers.AutoModel)
    learner, scorer = BiEncoderLearner(folder, pooling=pooling), BiEncoder(folder, device="cpu", pooling=pooling)
    np.testing.assert_allclose(learner.encode_documents(["", "cat"]), scorer.encode(["", "cat"])[0], atol=1e-5)


def test_documents_with_vectors_of_their_own_stay_as_they_are(folder):
    known = {text: place for place, text in enumerate(TEXTS)}
    fixed = np.random.default_rng(0).normal(size=(len(TEXTS), 32)).astype(np.float32)
    asked = []

    def vectors(texts):
        asked.extend(texts)
        return fixed[[known[text] for text in texts]]

    value, gradients = learnt(folder, loss="kl_divergence", document_vectors=vectors)
    again, split = learnt(folder, loss="kl_divergence", document_vectors=vectors, batch_tokens=20, held_tokens=0)
    assert value == pytest.approx(again, rel=1e-5) and len(asked) == 2 * len({*asked})
    same(gradients, split, rtol=1e-3, atol=1e-5)
    with pytest.raises(InputError, match=r"shape \(1, 32\) for 7 texts"):
        learnt(folder, document_vectors=lambda texts: fixed[:1])


def test_vectors_are_also_learnt_cut(folder):
    whole, half = learnt(folder, loss="margin_mse")[0], learnt(folder, loss="margin_mse", dims=(16, 8))[0]
    learner = BiEncoderLearner(folder)
    queries, documents = learner.encode_queries([one.query for one in LISTS]), learner.encode_documents(TEXTS)

    def of(width):
        q, d = (one[:, :width] / np.linalg.norm(one[:, :width], axis=1, keepdims=True) for one in (queries, documents))
        squares = []
        for row, one in zip(q, LISTS, strict=True):
            scores = d[[TEXTS.index(doc.text) for doc in one.docs]] @ row - np.array(one.targets)
            margins = scores[:, None] - scores[None]
            squares += [*(margins[~np.eye(len(scores), dtype=bool)] ** 2)]
        return np.mean(squares)

    assert whole == pytest.approx(of(32), rel=1e-4)
    assert half == pytest.approx(of(32) + of(16) + of(8), rel=1e-4)
    with pytest.raises(ConfigurationError, match="width 32 cannot be cut to 32"):
        learnt(folder, dims=(32,))


def test_memory_that_runs_out_is_said_with_what_to_lower(folder, monkeypatch):
    learner = BiEncoderLearner(folder, batch_tokens=77)
    forward = learner.network.forward

    def full(inputs, pad):
        if torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(inputs, pad)

    monkeypatch.setattr(learner.network, "forward", full)
    for learner.held_tokens in (10**6, 0):
        with pytest.raises(ModelError, match="lower batch_tokens"):
            learner.learn(LISTS, lambda scalar: None)

    def broken(inputs, pad):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(learner.network, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        learner.learn(LISTS, lambda scalar: None)


def test_a_killed_training_knows_its_learner_again(folder):
    one, other = (BiEncoderLearner(folder, loss="info_nce", temperature=0.02) for _ in range(2))
    assert repr(one) == repr(other) and "temperature=0.02" in repr(one)
    assert " at 0x" not in repr(BiEncoderLearner(folder, loss="kl_divergence"))
    assert len({repr(BiEncoderLearner(folder, loss=loss)) for loss in LOSSES}) == len(LOSSES)


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ([], "no lists"),
        ([listed("a", [])], "'a' has no document"),
        ([listed("a", [0, 1]), listed("b", [0, 1], [1.0, float("nan")])], "'b' has targets that are NaN"),
        ([listed("a", [0, 1], [1.0, -0.5])], "at least 0; scale them"),
    ],
)
def test_lists_that_cannot_be_learnt_are_named(folder, lists, said):
    with pytest.raises(InputError, match=said):
        learnt(folder, lists)


@pytest.mark.parametrize("loss", LOSSES)
def test_lists_that_say_nothing_and_documents_that_come_twice_do_no_harm(folder, loss):
    odd = [listed("a", [3]), listed("b", [1, 2], [0.5, 0.5]), listed("c", [5, 5, 5], [1.0, 1.0, 0.2]), LISTS[0]]
    value, gradients = learnt(folder, odd, loss=loss)
    assert np.isfinite(value) and all(bool(one.isfinite().all()) for one in gradients.values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": "hinge"}, "loss must be one of 'cadet'"),
        ({"temprature": 0.1}, r"no settings \['temprature'\]; it takes \['temperature', 'teacher_temperature'"),
        ({"loss": "kl_divergence", "ratio": 1}, r"no settings \['ratio'\]"),
        ({"loss": InfoNCE(), "ratio": 1}, "has its settings already"),
        ({"pooling": "max"}, "pooling must be"),
        ({"doc_tokens": 0}, "'doc_tokens': 0"),
        ({"dims": (0,)}, "widths of 1 or more"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(folder, options, said):
    with pytest.raises(ConfigurationError, match=said):
        BiEncoderLearner(folder, **options)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ModelNotFound, match="there is no folder"):
        BiEncoderLearner(str(tmp_path / "nothing"))


def test_guides_of_both_kinds_are_asked(folder):
    def guide(texts):
        return np.eye(len(texts), 16)

    plain = learnt(folder, loss="info_nce")[0]
    alike = learnt(folder, loss="info_nce", guide=lambda texts: np.ones((len(texts), 4)))[0]
    assert alike == pytest.approx(plain)  # nothing is more similar than the best document
    assert learnt(folder, loss="info_nce", guide=guide)[0] != plain
    scorer = BiEncoder(folder, device="cpu", dtype="float32")
    assert learnt(folder, loss="info_nce", guide=scorer)[0] <= plain
    with pytest.raises(InputError, match=r"shape \(1, 4\) for 4 texts"):
        learnt(folder, loss="info_nce", guide=lambda texts: np.ones((1, 4)))


def test_vectors_name_their_best():
    batch = Vectors(*torch.zeros(2, 1, 1), torch.tensor([[-2.0, -1.0, 0.0]]), torch.tensor([[True, True, False]]), None)
    assert batch.best.tolist() == [1]
