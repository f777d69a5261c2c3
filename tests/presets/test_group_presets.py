"""Presets that show several documents at once: what they are made of, and that they rank."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import transformers
from fake_models import HashModel, shown
from tiny import CHATML, byte_tokenizer, decoder, encoder_decoder, full_logprobs, local

from pyterrier_llmrank import presets
from pyterrier_llmrank.aggregates import mean
from pyterrier_llmrank.core import Doc, Question
from pyterrier_llmrank.designs import shuffled_groups
from pyterrier_llmrank.errors import ConfigurationError, LLMRankWarning, Unsupported
from pyterrier_llmrank.models import Sampling
from pyterrier_llmrank.presets import reasoning_listwise, sets
from pyterrier_llmrank.presets.registry import FOLDER, REGISTRY
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import Shuffled
from pyterrier_llmrank.strategies import Heapsort, OneShot, Sampled, SlidingWindow, Tournament

WINDOWS = SlidingWindow(20, 10)
OURS = {
    "rank_vicuna": WINDOWS,
    "rank_zephyr": WINDOWS,
    "first": WINDOWS,
    "first_mistral": WINDOWS,
    "full_rank": OneShot(),
    "rank_gpt": WINDOWS,
    "rank_gpt_apeer": WINDOWS,
    "lrl": WINDOWS,
    "insert_rank": OneShot(),
    "rank_k": WINDOWS,
    "rearank": WINDOWS,
    "reason_rank": WINDOWS,
    "dear_listwise": WINDOWS,
    "setwise": Heapsort(4),
    "rank_r1": Heapsort(20),
    "setwise_sft": Heapsort(20),
    "group_rank": Sampled(shuffled_groups(10, 2), mean),
    "tour_rank": Tournament(2),
    "dynamic_rag": OneShot(),
}
each = pytest.mark.parametrize("name", OURS)


class BestFirst(HashModel):
    """Reads how relevant a document is from its text ("worth 7"), and answers in the form that is asked for."""

    def choices(self, prompts, labels):
        self.asked.append(("choices", list(prompts)))
        answers = []
        for prompt, names in zip(prompts, labels, strict=True):
            worth = np.array(self.worths(prompt), dtype=float)
            answers.append(self._choice(prompt, names)._replace(logprobs=worth - np.logaddexp.reduce(worth)))
        return answers

    def generate(self, prompts, **told):
        written = super().generate(prompts, **told)
        return [one._replace(text=self.answer(prompt)) for prompt, one in zip(prompts, written, strict=True)]

    def worths(self, prompt):
        return [int(number) for number in re.findall(r"worth (\d+)", shown(prompt))]

    def answer(self, prompt):
        worths = self.worths(prompt)
        order = sorted(range(len(worths)), key=lambda place: -worths[place])
        text = prompt.messages[-1].content
        if "JSON" in text:
            pairs = ", ".join(f'"[{place}]": {worth}' for place, worth in enumerate(worths, 1))
            return f"<reason>so</reason><answer>{{{pairs}}}</answer>"
        if keep := re.search(r"the top (\d+) documents", text):
            return ", ".join(f"Document {place + 1}" for place in order[: int(keep[1])])
        if "Retrieved Content" in text:
            return ", ".join(f"[{place + 1}]" for place in order if worths[place] > 5) or "None"
        if "only the label" in text:
            return f"<think>hm</think> <answer>[{order[0] + 1}]</answer>"
        return "<think>[1]?</think><answer>" + " > ".join(f"[{place + 1}]" for place in order) + "</answer>"


def frame(worths):
    rows = [["q1", "why", f"d{i}", f"worth {worth}", -float(i)] for i, worth in enumerate(worths)]
    return pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "score"])


@each
def test_a_preset_puts_the_best_documents_first(name):
    worths = [3, 1, 4, 9, 2, 6, 5, 8, 7, 0, 10, *[0] * 14]
    rerank = getattr(presets, name)(BestFirst())
    out = rerank(frame(worths))
    assert isinstance(rerank, Rerank) and rerank.strategy == OURS[name]
    assert sorted(out["docno"]) == sorted(f"d{i}" for i in range(25))
    best = {f"d{i}" for i in (10, 3, 7, 8, 5)}  # worth 6 to 10; a selection says no more about the others
    if name == "tour_rank":
        assert set(out["docno"][:2]) == {"d10", "d3"}
    else:
        assert set(out["docno"][:5]) == best and out["docno"][0] == "d10"
    assert rerank.ledger["q1"].usage.failures == 0


@pytest.mark.parametrize("name", sorted(OURS.keys() - {"first", "first_mistral", "setwise"}))
def test_a_model_that_answers_nonsense_keeps_the_order(name):
    rerank = getattr(presets, name)(HashModel(writes=lambda number: "I cannot."))
    with pytest.warns(LLMRankWarning):
        out = rerank(frame([1] * 12))
    assert list(out["docno"]) == [f"d{i}" for i in range(12)]
    assert rerank.ledger["q1"].usage.failures == rerank.ledger["q1"].usage.calls > 0


@each
def test_a_checkpoint_is_found_by_its_name(name):
    known = REGISTRY[name]
    for checkpoint in known.checkpoints:
        assert presets.find(checkpoint) is known and presets.find(f"models/{checkpoint.rpartition('/')[2]}") is known
    assert known.paper and (not known.published or known.source)


def test_the_list_tells_the_strategy_of_each():
    table = presets.list()
    assert set(table["name"]) == set(REGISTRY) and set(OURS) <= set(table["name"])
    for row in table.itertuples():
        if row.name in OURS:
            assert eval(row.strategy) == OURS[row.name]
        if row.family == "pointwise":
            assert row.strategy == "Pointwise()"
    assert table["ndcg_dl19"].notna().sum() >= 10


def test_the_list_asks_no_hub(monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    assert len(presets.list()) == len(REGISTRY)


# The published numbers


@pytest.mark.parametrize(
    ("name", "max_tokens", "sampling", "max_doc_tokens"),
    [
        ("rank_zephyr", None, None, None),
        ("rank_k", 4000, Sampling(0.7), 450),
        ("rearank", 4096, None, None),
        ("reason_rank", 3172, None, 100),
        ("dear_listwise", 1024, Sampling(0.5), None),
        ("group_rank", 8000, Sampling(0.3, top_p=0.8), None),
        ("tour_rank", None, Sampling(1.0), None),
        ("dynamic_rag", 100, Sampling(0.4), None),
    ],
)
def test_answers_are_decoded_as_published(name, max_tokens, sampling, max_doc_tokens):
    scorer = getattr(presets, name)(HashModel()).scorer
    assert (scorer.max_tokens, scorer.sampling, scorer.max_doc_tokens) == (max_tokens, sampling, max_doc_tokens)


def test_depths_are_those_published():
    depths = {name: getattr(presets, name)(HashModel()).depth for name in ("full_rank", "dear_listwise", "dynamic_rag")}
    assert depths == {"full_rank": 100, "dear_listwise": 30, "dynamic_rag": 40}
    assert presets.dear_listwise(HashModel(), depth=50).depth == 50
    assert presets.setwise(HashModel()).top_k == presets.rank_r1(HashModel()).top_k == 10


def test_contexts_are_those_published():
    assert presets.rank_zephyr(FOLDER).scorer.model.max_length == 4096
    assert presets.full_rank(FOLDER).scorer.model.max_length == 32_768
    assert presets.rank_vicuna(FOLDER, max_length=2048).scorer.model.max_length == 2048


def test_rank_zephyr_can_go_through_the_list_three_times():
    assert presets.rank_zephyr(HashModel(), passes=3).strategy == SlidingWindow(20, 10, passes=3)


def test_newer_checkpoints_are_asked_in_their_own_words(tmp_path):
    old, new = (tmp_path / f"Rank-R1-{version}" for version in ("7B-v0.1", "32B-v0.2"))
    for folder in (old, new, tmp_path / "reasonrank-8B"):
        folder.mkdir()
    older, newer = presets.rank_r1(str(old)), presets.rank_r1(str(new))
    assert older.scorer.scorer.prompt.layout is sets.RANK_R1 and older.strategy == Heapsort(20)
    assert newer.scorer.scorer.prompt.layout is sets.RANK_R1_V2 and newer.strategy == Heapsort(10)
    assert newer.scorer.scorer.model.thinking and not older.scorer.scorer.model.thinking
    qwen3 = presets.reason_rank(str(tmp_path / "reasonrank-8B")).scorer
    assert qwen3.prompt.layout is reasoning_listwise.REASON_RANK_QWEN3 and qwen3.model.thinking
    assert qwen3.sampling == Sampling(0.6, top_p=0.95, top_k=20)
    assert presets.reason_rank(HashModel(), qwen3=True).scorer.sampling == qwen3.sampling


def test_sets_of_rank_r1_are_shuffled_the_same_way_every_time():
    rerank = presets.rank_r1(BestFirst(), seed=3)
    assert isinstance(rerank.scorer, Shuffled) and rerank.scorer.times == 1
    first, again = (presets.rank_r1(BestFirst(), seed=3)(frame(range(30))) for _ in range(2))
    assert list(first["docno"]) == list(again["docno"])
    assert list(first["docno"][:10]) == [f"d{i}" for i in range(29, 19, -1)]


def test_dear_is_its_two_stages():
    both = presets.dear(FOLDER, HashModel(), num_results=5)
    first, second = both
    assert first == presets.dear_pointwise(FOLDER) and first.num_results is None
    assert second == presets.dear_listwise(second.scorer.model, num_results=5) and second.depth == 30


def test_dynamic_rag_returns_what_is_needed_where_it_is_told_to():
    worths = [3, 9, 4, 7, 0]
    kept = presets.dynamic_rag(BestFirst(), keep_only_selected=True)(frame(worths))
    assert list(kept["docno"]) == ["d1", "d3"]
    assert len(presets.dynamic_rag(BestFirst(), keep_only_selected=True)(frame([1, 2, 3]))) == 0
    assert list(presets.dynamic_rag(BestFirst())(frame(worths))["docno"]) == ["d1", "d3", "d0", "d2", "d4"]


# Parts that do not fit


@pytest.mark.parametrize(("name", "can"), [("first", {"generate"}), ("setwise", {"generate"}), ("rank_k", {"choices"})])
def test_a_model_that_lacks_what_the_format_needs_is_refused(name, can):
    with pytest.raises(Unsupported, match=f"asks for '{'generate' if name == 'rank_k' else 'choices'}'.*, which"):
        getattr(presets, name)(HashModel(can=frozenset(can)))


@pytest.mark.parametrize("build", [presets.rank_gpt, presets.dynamic_rag])
def test_an_unknown_wording_is_refused(build):
    with pytest.raises(ConfigurationError, match=r"wording must be '.*' or '.*', got 'mine'"):
        build(HashModel(), wording="mine")


@pytest.mark.parametrize("name", ["rank_gpt", "rank_gpt_apeer", "lrl", "insert_rank", "tour_rank"])
def test_methods_without_a_checkpoint_want_a_model(name):
    with pytest.raises(TypeError, match="model"):
        getattr(presets, name)()


# With a network


@pytest.mark.filterwarnings("ignore::pyterrier_llmrank.errors.LLMRankWarning")
@pytest.mark.parametrize("name", ["first", "rank_vicuna", "rank_zephyr", "rearank"])
def test_a_preset_ranks_with_a_local_decoder(name, tmp_path):
    tokenizer = byte_tokenizer(chat=CHATML, words=["Ġthe"])
    model = local(decoder(tmp_path, tokenizer, max_position_embeddings=4096))
    options = {"max_tokens": 16} if name == "rearank" else {}
    rerank = getattr(presets, name)(model, **options)
    out = rerank(frame([1, 2, 3]))
    assert sorted(out["docno"]) == ["d0", "d1", "d2"] and rerank.ledger["q1"].usage.calls == 1


@pytest.mark.filterwarnings("ignore::pyterrier_llmrank.errors.LLMRankWarning")
def test_setwise_reads_the_label_after_passage(tmp_path):
    folder = encoder_decoder(tmp_path)
    rerank = presets.setwise(local(folder, max_length=512))
    question = Question("why", tuple(Doc(f"d{i}", f"text {i}") for i in range(3)))
    [answer] = rerank.scorer([question])
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    prompt = rerank.scorer.prompt.render("why", [doc.text for doc in question.docs])
    start = [1, *tokenizer("Passage ", add_special_tokens=False)["input_ids"]]
    logprobs = full_logprobs(folder, tokenizer(prompt.messages[0].content)["input_ids"], start)[-1]
    labels = logprobs[[tokenizer(label, add_special_tokens=False)["input_ids"][0] for label in "ABC"]]
    assert answer.scores == pytest.approx(np.exp(labels - np.logaddexp.reduce(labels)), abs=1e-5)
