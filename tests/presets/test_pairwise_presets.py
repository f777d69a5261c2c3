"""Pairwise presets: the bytes of their prompts, their aggregation, and parity with official scores."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import transformers
from fake_models import HashModel
from shared_data import SHARED
from tiny import END, byte_tokenizer, encoder_decoder, local

from pyterrier_llmrank import presets
from pyterrier_llmrank.core import Doc, Question, descending
from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.flow import run
from pyterrier_llmrank.prompts import PairPrompt, YesNo
from pyterrier_llmrank.prompts.passages import VERBATIM
from pyterrier_llmrank.scorers import Prompted
from pyterrier_llmrank.strategies import Bubble, Heapsort

quiet = pytest.mark.filterwarnings("ignore::pyterrier_llmrank.errors.LLMRankWarning")
TEXT = 'a  "{b}"\nc.'


def frame(n=5):
    texts = ["the cat", "a mat", "the cat on the mat", "", "cat", "the mat", "mat on a mat"]
    rows = [["q1", "why the cat", f"d{i}", texts[i % len(texts)], -float(i)] for i in range(n)]
    return pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "score"])


def shown(scorer, query, texts):
    [message] = scorer.prompt.render(query, texts).messages
    return message.content


def decided(rerank, better):
    """The order of documents that a preset's strategy makes of decided pairs, and the pairs that it asked about."""
    asked = []

    def ask(groups):
        asked.extend(groups)
        return [np.array([better[i][j], better[j][i]], dtype=float) for i, j in groups]

    n = len(better)
    k = rerank.top_k or n
    return descending(range(n), run(rerank.strategy(n, min(n, k)), ask)), asked


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    return encoder_decoder(tmp_path_factory.mktemp("t5"), byte_tokenizer(post=f"$A {END}"))


@pytest.fixture(scope="module")
def mono_fixture():
    folder = SHARED / "fixtures" / "monot5"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    return folder


# Bytes of the prompts


def test_prp_shows_the_prompt_of_llm_rankers():
    scorer = presets.prp(HashModel()).scorer.scorer
    assert shown(scorer, TEXT, [TEXT, "two"]) == (
        f'Given a query "{TEXT}", which of the following two passages is more relevant to the query?\n\n'
        f'Passage A: "{TEXT}"\n\nPassage B: "two"\n\nOutput Passage A or Passage B:'
    )
    prompt = scorer.prompt.render("q", ["one", "two"])
    assert prompt.raw and prompt.answer + scorer.prompt.options(2)[0] == "Passage A" and scorer.max_doc_tokens == 128


def test_duo_t5_shows_both_documents_by_number():
    scorer = presets.duo_t5(HashModel()).scorer
    assert shown(scorer, TEXT, [TEXT, "two"]) == f"Query: {TEXT} Document0: {TEXT} Document1: two Relevant:"
    assert scorer.prompt.options(2) == ("true", "false") and scorer.prompt.render("q", ["a", "b"]).raw


# Aggregation


def test_duo_t5_sums_what_both_orders_say():
    random = np.random.default_rng(0)
    p = random.random((6, 6))
    order, asked = [], []

    def ask(groups):
        asked.extend(groups)
        return [np.array([p[i, j], 1 - p[i, j]]) for i, j in groups]

    rerank = presets.duo_t5(HashModel())
    order = run(rerank.strategy(6, 6), ask)
    np.fill_diagonal(p, 0.5)
    np.testing.assert_allclose(order, (p + 1 - p.T).sum(axis=1) - 1, atol=1e-12)  # SYM-SUM
    assert sorted(asked) == [(i, j) for i in range(6) for j in range(6) if i != j] and rerank.depth == 50


@pytest.mark.parametrize(("sort", "strategy"), [("heapsort", Heapsort(2)), ("sliding", Bubble(2))])
def test_prp_sorts_the_first_documents(sort, strategy):
    rerank = presets.prp(HashModel(), sort=sort, top_k=3)
    relevance = np.random.default_rng(1).permutation(9)
    order, _ = decided(rerank, relevance[:, None] > relevance[None, :])
    assert rerank.strategy == strategy and order[:3] == np.argsort(-relevance)[:3].tolist()


def test_prp_over_all_pairs_counts_wins_and_half_the_ties():
    rerank = presets.prp(HashModel(), sort="allpair")
    better = np.array([[0, 0.5, 0], [0.5, 0, 1], [1, 0, 0]])
    order, asked = decided(rerank, better)
    assert order == [1, 2, 0] and sorted(asked) == [(0, 1), (0, 2), (1, 2)]


def test_prp_orders_ten_documents_unless_told():
    assert presets.prp(HashModel()).top_k == 10 and presets.prp(HashModel(), sort="sliding").top_k == 10
    assert presets.prp(HashModel(), top_k=4, sort="sliding").top_k == 4


def test_an_unknown_sort_is_named():
    with pytest.raises(ConfigurationError, match="'heapsort', 'sliding' or 'allpair', got 'quick'"):
        presets.prp(HashModel(), sort="quick")


# Parity with pyterrier_t5 on a random T5. Its tokenizer splits "false"; the official code takes the first piece.


def labels_of(folder, expected):
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder / "model"))
    pieces = tokenizer.convert_ids_to_tokens([expected["REL"], expected["NREL"]])
    return [piece.replace("▁", " ") for piece in pieces]


@quiet
@pytest.mark.parametrize("batch_tokens", [1, 150, 100_000])
def test_mono_t5_scores_are_those_of_pyterrier_t5_whatever_the_batch(mono_fixture, batch_tokens):
    expected = json.loads((mono_fixture / "expected.json").read_text(encoding="utf-8"))
    yes, no = labels_of(mono_fixture, expected)
    template = presets.mono_t5(HashModel()).scorer.prompt.template
    prompt = YesNo(template, yes, no, raw=True, passage=VERBATIM, question=VERBATIM)
    rows = expected["rows"]
    answers = Prompted(prompt, local(mono_fixture / "model", batch_tokens=batch_tokens))(
        [Question(row["query"], (Doc(row["docno"], row["text"]),)) for row in rows]
    )
    ours = -np.log1p(np.exp([-answer.scores[0] for answer in answers]))  # log P(true) among the two
    official = [expected["mono"]["batch_size=1"][row["docno"]] for row in rows]
    np.testing.assert_allclose(ours, official, atol=1e-5)


@quiet
@pytest.mark.parametrize("batch_tokens", [1, 150, 100_000])
def test_duo_t5_probabilities_are_those_of_pyterrier_t5_whatever_the_batch(mono_fixture, batch_tokens):
    expected = json.loads((mono_fixture / "expected.json").read_text(encoding="utf-8"))
    preset = presets.duo_t5(HashModel())
    template, labels = preset.scorer.prompt.template, tuple(labels_of(mono_fixture, expected))
    prompt = PairPrompt(template=template, labels=labels, raw=True, passage=VERBATIM, question=VERBATIM)
    scorer = Prompted(prompt, local(mono_fixture / "model", batch_tokens=batch_tokens))
    for qid in ("q1", "q2", "q3"):
        rows = [row for row in expected["rows"] if row["qid"] == qid]
        docs = [Doc(row["docno"], row["text"]) for row in rows]

        def ask(groups, docs=docs, query=rows[0]["query"]):
            asked = scorer([Question(query, tuple(docs[i] for i in group)) for group in groups])
            first = np.log([answer.scores[0] for answer in asked])
            return list(np.stack([first, 1 - first], axis=1))  # pyterrier_t5 adds log p and 1 - log p, for p and 1 - p

        official = [expected["duo"]["batch_size=1"][doc.docno] for doc in docs]
        np.testing.assert_allclose(run(preset.strategy(len(docs), len(docs)), ask), official, atol=1e-5)


# They run


@quiet
@pytest.mark.parametrize("decode", ["choices", "generate"])
@pytest.mark.parametrize("sort", ["heapsort", "sliding", "allpair"])
def test_prp_ranks_a_frame(t5, sort, decode):
    rerank = presets.prp(t5, sort=sort, decode=decode, top_k=2, device="cpu", dtype="float32")
    out = rerank(frame())
    assert sorted(out["docno"]) == ["d0", "d1", "d2", "d3", "d4"] and out["score"].is_monotonic_decreasing


@quiet
def test_duo_t5_ranks_a_frame(t5):
    rerank = presets.duo_t5(t5, depth=4, device="cpu", dtype="float32")
    out = rerank(frame(7))
    assert sorted(out["docno"]) == [f"d{i}" for i in range(7)] and out["docno"].tolist()[4:] == ["d4", "d5", "d6"]
    assert rerank.ledger["q1"].rounds == 1 and rerank.scorer.model.max_length == 512


@pytest.mark.parametrize(("n", "calls"), [(0, 0), (1, 0), (2, 2), (5, 20), (60, 2450)])
def test_duo_t5_asks_each_ordered_pair_of_fifty_once(n, calls):
    model = HashModel()
    rerank = presets.duo_t5(model)
    assert len(rerank(frame(n))) == n
    assert sum(len(prompts) for _, prompts in model.calls("choices")) == calls
