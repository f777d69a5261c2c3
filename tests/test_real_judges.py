"""Answers that real models gave, through strategies, scorers and prompts; skipped where ``shared`` is not beside us."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from fake_models import HashModel
from shared_data import grades, orders, qrels, retrieved, rows, topics

from pyterrier_llmrank import Answer, Doc, Evidence, LLMRankWarning, Pointwise, Question, Replay, Rerank, Sampled
from pyterrier_llmrank.aggregates import (
    additive,
    binary,
    borda,
    bradley_terry,
    copeland,
    elo,
    greedy,
    kemeny,
    page_rank,
    plackett_luce,
    thurstone,
    win_rate,
)
from pyterrier_llmrank.presets import rank_vicuna
from pyterrier_llmrank.prompts import PairPrompt
from pyterrier_llmrank.scorers import BothOrders
from pyterrier_llmrank.strategies import Heapsort


def ndcg(frame):
    """nDCG@10 against the judgments of NIST, to four digits."""
    return round(pt.Evaluate(frame, qrels("msmarco_dl19"), metrics=[pt.measures.nDCG @ 10])["nDCG@10"], 4)


def candidates():
    """BM25's top 100; the judges below know documents by their docnos."""
    return retrieved("msmarco_dl19", "bm25").assign(text="")


# --- grades of language models, one document at a time --------------------------------------------------------------


def graded_by(judge):
    return grades("data", "llm_pointwise", f"dl19.{judge}.qrels.gz")


def pointwise(judge):
    """The grades of a judge as recorded answers; null for a document that it was not asked about."""
    graded, frame = graded_by(judge), candidates()
    asked = zip(frame["qid"], frame["docno"], strict=True)
    return Replay(judge, [{"qid": q, "docnos": [d], "scores": [graded.get((q, d))]} for q, d in asked], Evidence.SCORE)


@pytest.mark.parametrize(
    "judge", [f"{kind}-{model}" for kind in ("umbrela", "binary") for model in ("gpt4", "gpt4o", "llama3.2")]
)
def test_grades_of_a_model_rank_as_a_stable_sort_by_them_does(judge):
    frame, graded = candidates(), graded_by(judge)
    frame["grade"] = [graded.get(pair, -1) for pair in zip(frame["qid"], frame["docno"], strict=True)]
    silent = (frame["grade"] < 0).sum()  # only what NIST judged was graded
    with pytest.warns(LLMRankWarning, match=rf"{silent} of 4300 answers to Rerank could not be read \(47\.5%\)"):
        out = Rerank(Pointwise(), pointwise(judge))(frame)
    by_grade = frame.sort_values(["qid", "grade", "rank"], ascending=[True, False, True])
    assert orders(out) == {qid: group["docno"].tolist() for qid, group in by_grade.groupby("qid")}
    assert ndcg(out) > ndcg(frame) == 0.5058


@pytest.mark.filterwarnings("ignore::pyterrier_llmrank.LLMRankWarning")
def test_umbrela_grades_of_gpt4_make_of_bm25_what_they_are_known_to_make():
    assert ndcg(Rerank(Pointwise(), pointwise("umbrela-gpt4"))(candidates())) == 0.7119


# --- preferences of GPT-4o between two documents, asked in both orders ------------------------------------------------

SAID = PairPrompt(decode="generate", labels=("1", "2"))  # how its answers were asked for


@cache
def asked_pairs():
    """Each pair of documents the first time it was asked about; 271 were asked about again."""
    first = {}
    for row in rows("data", "llm_pairwise_gpt4o", "pairs_both_orders.dl19.jsonl.gz"):
        first.setdefault((row["qid"], *sorted((row["a"], row["b"]))), row)
    return [*first.values()]


@cache
def gpt4o():
    """Its answers as recorded choices."""
    records = [
        {"qid": row["qid"], "docnos": docnos, "scores": SAID.parse(row[key], 2).scores}
        for row in asked_pairs()
        for docnos, key in (((row["a"], row["b"]), "response_ab"), ((row["b"], row["a"]), "response_ba"))
    ]
    return Replay("GPT-4o", records, Evidence.CHOICE)


def question(row):
    return Question("", (Doc(row["a"], ""), Doc(row["b"], "")), row["qid"])


def preferences(scorer):
    """Who wins each pair: its first document (1), its second (-1), nobody (0)."""
    answers = scorer([question(row) for row in asked_pairs()])
    return np.array([np.sign(answer.scores[0] - answer.scores[1]) for answer in answers])


def test_a_third_of_all_pairs_is_contradicted_by_their_other_order():
    answers = BothOrders(gpt4o())([question(row) for row in asked_pairs()])
    assert {answer.usage.calls for answer in answers} == {2}
    winners, unread = preferences(BothOrders(gpt4o())), np.array([answer.usage.failures for answer in answers], bool)
    assert Counter(winners[~unread]) == {1: 700, -1: 741, 0: 680}  # 32.1 % are ties
    assert winners[unread].tolist() == [0]  # one order of a pair tells nothing


def test_winners_are_those_that_were_recorded():
    for row, winner in zip(asked_pairs(), preferences(BothOrders(gpt4o())), strict=True):
        if row["response_ba"] != "None":  # recorded as a win of the other answer; PRP calls it a tie
            assert {1: row["a"], -1: row["b"], 0: None}[winner] == row["preferred"]


def test_of_choices_agreement_and_mean_make_the_same_but_where_one_is_missing():
    agreed, averaged = preferences(BothOrders(gpt4o())), preferences(BothOrders(gpt4o(), combine="mean"))
    differ = [row["response_ba"] for row, a, b in zip(asked_pairs(), agreed, averaged, strict=True) if a != b]
    assert differ == ["None"]


def test_preferences_agree_with_nist_more_often_than_not_and_waver_where_it_sees_little_difference():
    graded, seen = grades("data", "msmarco_dl19", "qrels.txt"), Counter()
    for row, winner in zip(asked_pairs(), preferences(BothOrders(gpt4o())), strict=True):
        lead = graded[row["qid"], row["a"]] - graded[row["qid"], row["b"]]
        seen[abs(lead), int(winner * np.sign(lead)) if lead else abs(int(winner))] += 1
    right, wrong = (sum(seen[lead, verdict] for lead in (1, 2)) for verdict in (1, -1))
    assert right > 1.5 * wrong
    assert seen[2, 1] / (seen[2, 1] + seen[2, -1]) > seen[1, 1] / (seen[1, 1] + seen[1, -1])


def signs(values):
    """Which of each two documents is higher, (n, n)."""
    values = np.asarray(values)
    return np.sign(values[:, None] - values)


@pytest.mark.filterwarnings("ignore::pyterrier_llmrank.LLMRankWarning")  # the answer that could not be read
@pytest.mark.parametrize(
    "aggregate",
    [  # in so few comparisons, those that build on single ones (kwiksort, tsp, minimum) do not get beyond chance
        additive, binary, borda, bradley_terry, copeland, elo, greedy, kemeny, page_rank, plackett_luce, thurstone,
        win_rate,
    ],
)  # fmt: skip
def test_preferences_add_up_to_what_nist_says_better_than_chance(aggregate):
    """Also between documents that were never compared: all with different grades; chance is 99 shuffles of grades."""
    graded, chance = grades("data", "msmarco_dl19", "qrels.txt"), np.random.default_rng(0)
    agreement, random, possible = 0.0, np.zeros(99), 0
    for qid, frame in pd.DataFrame(asked_pairs()).groupby("qid"):
        docnos = sorted({*frame["a"], *frame["b"]})
        groups = [(docnos.index(a), docnos.index(b)) for a, b in zip(frame["a"], frame["b"], strict=True)]
        candidates = pd.DataFrame({"qid": qid, "query": "", "docno": docnos, "text": "", "rank": range(len(docnos))})
        out = Rerank(Sampled(lambda n, groups=groups: groups, aggregate), BothOrders(gpt4o()))(candidates)
        scores = signs(out.set_index("docno").loc[docnos, "llmrank_score"])
        labels = np.array([graded[qid, docno] for docno in docnos])
        agreement += (scores * signs(labels)).sum()
        random += [(scores * signs(chance.permutation(labels))).sum() for _ in random]
        possible += np.abs(signs(labels)).sum()
    assert agreement > random.max()
    assert (1 + agreement / possible) / 2 > 0.64  # the share of pairs in the right order, ties as half


# --- lockstep over real candidates ------------------------------------------------------------------------------------


class Chooser:
    """Names the first of the documents with the highest grade; counts how often it is called."""

    gives, max_docs = Evidence.CHOICE, None

    def __init__(self, graded):
        self.graded, self.batches = graded, 0

    def __call__(self, questions):
        self.batches += 1
        return [Answer(self.choice([self.graded.get((q.qid, doc.docno), 0) for doc in q.docs])) for q in questions]

    def choice(self, values):
        return (np.arange(len(values)) == np.argmax(values)).astype(float)


@pytest.mark.parametrize(
    ("strategy", "around"),
    [(Heapsort(2), BothOrders), (Heapsort(4), None)],
    ids=["PRP-heapsort", "setwise heapsort"],
)
def test_queries_in_lockstep_are_asked_in_a_twentieth_of_the_batches(strategy, around):
    def reranked(frames):
        """Orders, calls and rounds by query, and batches."""
        judge = Chooser(graded_by("umbrela-gpt4"))
        reranker = Rerank(strategy, around(judge) if around else judge, top_k=10)
        out = pd.concat([reranker(frame) for frame in frames])
        return orders(out), reranker.ledger.frame()[["qid", "calls", "rounds"]], judge.batches

    frame = candidates()
    together, costs, batches = reranked([frame])
    alone, costs_alone, batches_alone = reranked([group for _, group in frame.groupby("qid", sort=False)])
    assert len(costs) == 43
    assert together == alone
    pd.testing.assert_frame_equal(costs, costs_alone)
    assert batches == costs["rounds"].max()
    assert batches_alone == costs["rounds"].sum() >= 20 * batches


# --- RankVicuna -------------------------------------------------------------------------------------------------------

LOG = "dl19.bm25.rankvicuna-top100"


@cache
def windows():
    """Its calls, nine a query, by query and step."""
    logged = rows("data", "llm_logs_listwise", "windows.jsonl.gz")
    return {(row["qid"], row["step"]): row for row in logged if row["log"] == LOG}


def test_the_preset_of_rankvicuna_reads_the_recorded_answers():
    prompt = rank_vicuna(HashModel()).scorer.prompt
    assert len(windows()) == 387
    for row in windows().values():
        scores = prompt.parse(row["response"], len(row["window"])).scores
        best_first = np.argsort(-scores, kind="stable")
        assert [row["window"][place] for place in best_first] == row["ranking"]


def test_the_preset_of_rankvicuna_writes_the_recorded_prompts():
    """But for two sentences and a space, which rank_llm changed after the runs of its paper were made."""
    prompt = rank_vicuna(HashModel()).scorer.prompt
    start, question = prompt.layout.template.split(" USER:")
    assert start.startswith("You are RankLLM") and question.endswith("explain. ASSISTANT:")
    recorded = rows("data", "llm_logs_listwise", f"prompts.{LOG}.jsonl.gz")
    then = recorded[0]["prompt"].split(" USER:")[0]
    question = question.replace("[2] > [1]", "[4] > [2]").replace("explain. ", "explain.  ")
    prompt = replace(prompt, layout=replace(prompt.layout, template=f"{then} USER:{question}"))
    queries = dict(topics("msmarco_dl19").itertuples(index=False))
    texts = {row["docno"]: row["text"] for row in rows("data", "msmarco_dl19", "candidates.jsonl.gz")}
    same = 0
    for row in recorded:
        shown = [texts[docno] for docno in windows()[row["qid"], row["step"]]["window"]]
        [message] = prompt.render(queries[row["qid"]], shown).messages
        if all(text.isascii() for text in shown):  # others went through ftfy, of which our repair is a part
            assert message.content == row["prompt"]
        same += message.content == row["prompt"]
        head, tail = message.content.split("\n\n[1] ")[0], message.content.split("\nSearch Query: ")[-1]
        assert row["prompt"].startswith(head) and row["prompt"].endswith(tail)
    assert same >= 357
