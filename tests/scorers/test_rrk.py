"""``RRK``: a toy is trained, saved, and scores the same wherever its vectors come from."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
import transformers
from replicated import copies_used
from tiny import BOS, STOP, byte_tokenizer, settings
from vector_models import Hashed, Refusing

from pyterrier_llmrank.core import Doc, Evidence, Question, Usage
from pyterrier_llmrank.errors import ConfigurationError, ModelError, ModelNotFound, PromptTooLong
from pyterrier_llmrank.middleware import fingerprint
from pyterrier_llmrank.models.hf.reading import right_padded
from pyterrier_llmrank.networks.compressed import CompressedRanker, Compressor, VectorReader, placed
from pyterrier_llmrank.scorers import RRK
from pyterrier_llmrank.vectors import DocCompressor, Stored

M, WIDTH = 3, 24
QUERIES = ["why the cat", "x", "where is the mat?"]
DOCS = [Doc(f"d{i}", "the cat sat. " * times + "end") for i, times in enumerate((0, 9, 1, 4))] + [Doc("e", "")]
QUESTIONS = [Question(query, tuple(DOCS[: 5 - place]), query) for place, query in enumerate(QUERIES)]


def tokenizers():
    """A compressor's, which marks the beginning and end of a text, and a decoder's."""
    return byte_tokenizer(post=f"{BOS} $A {STOP}"), byte_tokenizer()


def toy(seed=0):
    torch.manual_seed(seed)
    first, second = tokenizers()
    body = transformers.AutoModel.from_config(transformers.BertConfig(**settings(first, initializer_range=0.2)))
    sizes = {"hidden_size": WIDTH, "initializer_range": 0.2}
    decoder = transformers.AutoModel.from_config(transformers.LlamaConfig(**settings(second, **sizes)))
    return CompressedRanker(Compressor(body, M, WIDTH), VectorReader(decoder))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("rrk"))
    toy().save(path, tokenizers())
    return path


def local(folder, **options):
    return RRK(folder, **{"device": "cpu", "dtype": "float32", **options})


def inputs(scorer, pairs):
    """Ids and masks of queries and texts, as they are read, (pairs, tokens) each."""
    queries = right_padded(scorer.queries([query for query, _ in pairs]), 0, "cpu")
    docs = right_padded([one.ids for one in scorer.encoder.inputs([text for _, text in pairs])], 0, "cpu")
    return (*queries, *docs)


def oracle(folder, scorer, query, text):
    """One pair without any padding: memory tokens behind the document, its vectors behind the query."""
    network = CompressedRanker.load(folder).eval()
    ids, _, doc, _ = inputs(scorer, [(query, text)])
    with torch.no_grad():
        body, decoder = network.compressor.body, network.reader.decoder
        read = torch.cat([body.get_input_embeddings()(doc), network.compressor.memory[None]], 1)
        vectors = network.compressor.connector(body(inputs_embeds=read).last_hidden_state[:, -M:])
        read = torch.cat([decoder.get_input_embeddings()(ids), vectors], 1)
        return network.reader.score(decoder(inputs_embeds=read).last_hidden_state[:, -1]).item()


# The networks


def test_vectors_are_placed_behind_the_last_real_token():
    tokens = torch.arange(1, 7).reshape(2, 3, 1).float()
    mask = torch.tensor([[1, 0, 0], [1, 1, 1]])
    rows = placed(tokens, mask, torch.full((2, 2, 1), -1.0))
    assert rows.embeddings[..., 0].tolist() == [[1, -1, -1, 0, 0], [4, 5, 6, -1, -1]]
    assert rows.mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]] and rows.places.tolist() == [[1, 2], [3, 4]]


def test_a_toy_learns_which_document_a_query_wants(folder, tmp_path):
    """Distilled by squared error; every part of both networks gets a gradient, and what is saved scores the same."""
    scorer = local(folder)
    texts = ["the cat sat", "a mat", "no"]
    pairs = [(query, text) for query in QUERIES for text in texts]
    wanted = torch.eye(3).flatten()
    network, read = CompressedRanker.load(folder).train(), inputs(scorer, pairs)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(network(*read), wanted)
        loss.backward()
        without = {name for name, weight in network.named_parameters() if weight.grad is None}
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert all("pooler" in name for name in without)  # of BERT, which nothing here reads
    network.eval().save(str(tmp_path / "trained"), tokenizers())
    asked = [Question(query, tuple(Doc(text, text) for text in texts)) for query in QUERIES]
    scores = np.stack([answer.scores for answer in local(str(tmp_path / "trained"))(asked)])
    with torch.no_grad():
        np.testing.assert_allclose(scores.flatten(), network(*read).numpy(), atol=1e-5)
    assert scores.argmax(1).tolist() == [0, 1, 2]


def test_a_frozen_compressor_keeps_its_vectors_while_the_decoder_learns(folder, tmp_path):
    """Those in a file stay good: they depend on the compressor alone."""
    network = CompressedRanker.load(folder)
    network.compressor.requires_grad_(False)
    network(*inputs(local(folder), [("why", "the cat")])).sum().backward()
    with torch.no_grad():
        for weight in network.reader.parameters():
            weight += 0.01
    network.save(str(tmp_path / "later"), tokenizers())
    before, after = local(folder), local(str(tmp_path / "later"))
    assert fingerprint(before.encoder) == fingerprint(after.encoder) and fingerprint(before) != fingerprint(after)
    assert np.abs(before(QUESTIONS)[0].scores - after(QUESTIONS)[0].scores).max() > 1e-3


def test_padding_changes_no_score(folder):
    scorer = local(folder)
    pairs = [(one.query, doc.text) for one in QUESTIONS for doc in one.docs]
    with torch.no_grad():
        together = CompressedRanker.load(folder).eval()(*inputs(scorer, pairs)).numpy()
    np.testing.assert_allclose(together, [oracle(folder, scorer, *pair) for pair in pairs], atol=1e-5)


# The scorer


@pytest.mark.parametrize("batch_tokens", [1, 100_000])
def test_a_score_is_that_of_the_pair_alone(folder, batch_tokens):
    scorer = local(folder, batch_tokens=batch_tokens)
    for answers in (scorer(QUESTIONS), scorer(QUESTIONS[::-1])[::-1]):
        for one, answer in zip(QUESTIONS, answers, strict=True):
            wanted = [oracle(folder, scorer, one.query, doc.text) for doc in one.docs]
            np.testing.assert_allclose(answer.scores, wanted, atol=1e-5)


def test_vectors_that_were_looked_up_give_the_same_scores_without_the_compressor(folder, tmp_path):
    """Spec: independent of the text once compressed; parity between text-time and looked-up vectors."""
    path = tmp_path / "v.sqlite"
    encoder = local(folder).encoder
    assert Stored(encoder, path).fill(DOCS[:4]) == 4
    again = local(folder, vectors=Stored(Refusing(encoder), path))
    bare = [one._replace(docs=tuple(Doc(doc.docno, "") for doc in one.docs if doc.text)) for one in QUESTIONS]
    for one, other in zip(again(bare), local(folder)(QUESTIONS), strict=True):
        np.testing.assert_allclose(one.scores, other.scores[: len(one.scores)], atol=1e-5)


def test_a_query_is_read_once_with_m_positions_a_document(folder):
    scorer = local(folder)
    cost = scorer([QUESTIONS[0]])[0].usage, scorer([QUESTIONS[0]])[0].usage
    [ids] = scorer.queries([QUESTIONS[0].query])
    assert cost[1] == Usage(calls=1, prompt_tokens=len(ids) + 5 * M, cached_calls=5)
    assert (cost[0].calls, cost[0].cached_calls) == (1 + 5, 0)


def test_no_document_and_an_empty_query_are_no_harm(folder):
    nothing, empty = local(folder)([Question("why", ()), Question("", (DOCS[0],))])
    assert len(nothing.scores) == 0 and nothing.usage == Usage() and np.isfinite(empty.scores).all()
    assert len(local(folder)([Question("why", ())])[0].scores) == 0
    scorer = local(folder)
    assert scorer([]) == [] and "_loaded" not in vars(scorer)


def test_a_query_that_leaves_no_room_is_refused_and_may_be_cut(folder):
    long = Question("q" * 300, (DOCS[0],))
    with pytest.raises(PromptTooLong, match=r"a query of 300 tokens leaves no room for 3 vectors within 100 tokens"):
        local(folder, max_length=100)([long])
    [cut] = local(folder, max_length=100, max_query_tokens=20)([long])
    assert cut.scores[0] == pytest.approx(oracle(folder, local(folder), "q" * 20, DOCS[0].text), abs=1e-5)
    with pytest.raises(ConfigurationError, match="max_query_tokens must be at least 1 token, got 0"):
        local(folder, max_query_tokens=0)


def test_a_long_document_leaves_room_for_memory_tokens(folder):
    encoder = DocCompressor(f"{folder}/compressor", device="cpu", dtype="float32", max_length=20)
    [one] = encoder([Doc("a", "x" * 100)])
    assert one.vectors.shape == (M, WIDTH) and one.usage == Usage(1, 20 - M, truncated_tokens=100 - (20 - M - 2))


def test_vectors_of_another_width_are_refused(folder):
    with pytest.raises(ConfigurationError, match=r"of 24 numbers per document, but got 3 of 16 numbers"):
        local(folder, vectors=Hashed(m=3))(QUESTIONS)


@pytest.mark.parametrize("part", ["compressor/memory.safetensors", "decoder/score.safetensors"])
def test_a_folder_without_a_part_is_told(folder, tmp_path, part):
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / part).unlink()
    with pytest.raises(ModelError, match=rf"there is no .*{part}, .*; give a folder that CompressedRanker.save wrote"):
        local(str(tmp_path / "copy"))(QUESTIONS)


def test_a_missing_folder_is_told_at_once(tmp_path):
    with pytest.raises(ModelNotFound, match="there is no folder"):
        RRK(str(tmp_path / "nowhere"))


def test_it_is_a_value_that_scores_each_document_alone(folder):
    scorer = local(folder, max_query_tokens=5)
    assert eval(repr(scorer)) == scorer != local(folder) and fingerprint(scorer) != fingerprint(local(folder))
    assert (scorer.gives, scorer.max_docs) == (Evidence.SCORE, None)


def test_several_devices_share_out_the_questions(folder):
    asked = [Question(f"where {i}", tuple(Doc(str(j), f"cat {i} {j}") for j in range(3))) for i in range(4)]
    alone = local(folder)(asked)
    shared = local(folder, device=("cpu", "cpu"))
    used = copies_used(shared)
    for one, other in zip(alone, shared(asked), strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        assert one.usage == other.usage
    assert sorted(used) == [0, 1]
