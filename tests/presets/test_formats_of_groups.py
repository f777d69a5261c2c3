"""Prompts about several documents are those of the official code, to the byte."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from shared_data import parity

from pyterrier_llmrank.core import Answer, Doc, Evidence, Question, silence
from pyterrier_llmrank.presets import chat_listwise, groupwise, listwise, reasoning_listwise, sets
from pyterrier_llmrank.prompts import Dialogue, GroupPrompt, ListPrompt, SelectPrompt, SetPrompt, document_text
from pyterrier_llmrank.prompts.passages import VERBATIM
from pyterrier_llmrank.scorers import Inserted


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def turns(prompt):
    return [{"role": turn.role, "content": turn.content} for turn in prompt.messages]


def user(prompt):
    return prompt.messages[-1].content


def listed(layout, **options):
    return ListPrompt(layout=layout, **options)


OF_CHECKPOINTS = {
    "rearank": listed(reasoning_listwise.REARANK),
    "dear listwise": listed(reasoning_listwise.DEAR),
    "tourrank (3 docs keep 2)": SelectPrompt(2, layout=groupwise.TOUR_RANK),
    "reasonrank user text (rank_GPT_qwen3, docs verbatim)": listed(
        replace(reasoning_listwise.REASON_RANK_QWEN3, passage=VERBATIM)
    ),
    "rank-r1 R1": SetPrompt("numbers", "generate", sets.RANK_R1),
}


@pytest.mark.parametrize("name", OF_CHECKPOINTS)
def test_a_checkpoint_is_asked_as_its_authors_ask_it(name):
    recorded = parity("checkpoint_prompts_sha256")
    prompt = OF_CHECKPOINTS[name].render(recorded["_meta"]["query"], recorded["_meta"]["passages"])
    told = json.dumps(turns(prompt), ensure_ascii=False, separators=(",", ":"))
    expected = recorded["prompts"][name]
    assert [turn["role"] for turn in turns(prompt)] == expected["roles"]
    assert [len(turn["content"]) for turn in turns(prompt)] == expected["content_chars"]
    assert sha(told) == expected["sha256"]


def test_first_is_asked_as_its_authors_ask_it():
    recorded = parity("checkpoint_prompts_sha256")
    passages = recorded["_meta"]["passages"]
    prompt = listwise.letters(listwise.FIRST).render(recorded["_meta"]["query"], [passages[0], passages[2]])
    assert sha(user(prompt)) == recorded["prompts"]["first user text (alpha=True; docs 0 and 2 only)"]["sha256"]
    assert prompt.answer == "["


RANK_LLM = {
    "rank_zephyr_template": listwise.RANK_ZEPHYR,
    "rank_zephyr_alpha_template": listwise.FIRST_MISTRAL,
    "reasonrank_template": replace(
        reasoning_listwise.REASON_RANK,
        template=reasoning_listwise.REASON_RANK.template.replace("\n\n{passages}", "\n{passages}"),
        passage=listwise.WORDS_300,
    ),
    "rank_gpt_template": chat_listwise.RANK_GPT["rank_llm"],
    "rank_gpt_apeer_template": chat_listwise.APEER,
    "rank_lrl_template": chat_listwise.LRL,
}
# Other system messages before the user turn of RankZephyr; no preset uses them.
SAME_QUESTION = {
    "nemotron_non_thinking_template",
    "nemotron_nonthinking_template",
    "nemotron_thinking_template",
    "qwen_non_thinking_template",
    "qwen_thinking_template",
}
SHOWS_SCORES = {"insert_rank_template"}  # see below


def capped(layout, words):
    return replace(layout, passage=replace(layout.passage, max_words=words))


@pytest.mark.parametrize("known", [*RANK_LLM, "the others"])
def test_prompts_of_the_rank_llm_family_are_its_own(known):
    recorded = parity("rank_llm_listwise_prompts_sha256")
    checked = 0
    for case in recorded["cases"]:
        name = case["template"]
        if name in SHOWS_SCORES or (name != known and not (known == "the others" and name in SAME_QUESTION)):
            continue
        layout = capped(RANK_LLM.get(name, listwise.RANK_ZEPHYR), case["max_words"])
        docs = [document_text(doc) for doc in recorded["meta"]["docs"][case["rank_start"] : case["rank_end"]]]
        prompt = listed(layout, labels="letters" if case["use_alpha"] else "numbers", decode="generate")
        got = [sha(turn["content"]) for turn in turns(prompt.render(recorded["meta"]["query"], docs))]
        system = case["roles"][0] == "system"
        expected = case["sha256"][:system] + case["sha256"][system + 2 * case["few_shot"] :]  # without its examples
        assert (got[-1:] == expected[-1:]) if known == "the others" else (got == expected), case
        checked += 1
    assert checked


def test_insert_rank_shows_scores_as_rank_llm_does():
    recorded = parity("rank_llm_listwise_prompts_sha256")
    cases = [case for case in recorded["cases"] if case["template"] in SHOWS_SCORES]
    for case in cases:
        places = range(case["rank_start"], case["rank_end"])
        texts = [document_text(recorded["meta"]["docs"][place]) for place in places]
        docs = [Doc(str(place), text, (("score", 10.0 - place),)) for place, text in zip(places, texts, strict=True)]
        asked = []
        words = replace(listwise.WORDS_300, max_words=case["max_words"])
        Inserted(Shown(asked), chat_listwise.INSERT_SCORE, words)([Question(recorded["meta"]["query"], tuple(docs))])
        [question] = asked
        layout = chat_listwise.INSERT_RANK
        prompt = listed(layout).render(question.query, [doc.text for doc in question.docs])
        assert [sha(turn["content"]) for turn in turns(prompt)] == [case["sha256"][0], case["sha256"][-1]]
    assert len(cases) == 3


class Shown:
    """A scorer that keeps what it is asked."""

    gives, max_docs = Evidence.ORDER, None

    def __init__(self, asked):
        self.asked = asked

    def __call__(self, questions):
        self.asked += questions
        return [Answer(silence(len(one.docs))) for one in questions]


def test_prompts_of_llm_rankers_are_its_own():
    recorded = parity("llmrankers_prompts_sha256")
    query, docs = "a query", recorded["meta"]["docs"]
    cases = {case["kind"]: case for case in recorded["cases"]}
    dialogue = listed(chat_listwise.RANK_GPT["original"]).render(query, docs)
    assert [sha(turn["content"]) for turn in turns(dialogue)] == cases["listwise_chat"]["sha256"]
    assert [turn["role"] for turn in turns(dialogue)] == cases["listwise_chat"]["roles"]
    choice = SetPrompt(layout=sets.SETWISE).render(query, docs)
    assert sha(user(choice)) == cases["setwise_t5"]["sha256"]
    assert (choice.answer, choice.raw) == ("Passage ", True)


# Formats whose official hash is not at hand: their first and last words, and how documents are shown.


def test_vicuna_and_mistral_conversations_are_spelled_out():
    vicuna = listed(listwise.RANK_VICUNA).render("why", ["a [1] b", "c"])
    assert vicuna.raw and len(vicuna.messages) == 1
    assert user(vicuna).startswith("You are RankLLM, an intelligent assistant") and user(vicuna).endswith(" ASSISTANT:")
    assert " relevancy to the query. USER: I will provide you with 2 passages" in user(vicuna)
    assert "search query: why.\n\n[1] a (1) b\n[2] c\nSearch Query: why.\n" in user(vicuna)
    mistral = listed(listwise.FULL_RANK).render("why", ["w " * 101])
    assert mistral.raw and user(mistral).startswith("[INST] You are RankLLM,") and user(mistral).endswith(" [/INST]")
    assert user(mistral).count("w ") + user(mistral).count("w\n") == 100


def test_rank_k_shows_texts_as_they_are():
    shown = user(listed(reasoning_listwise.RANK_K).render("why", ["a\nb  [1]", "c"]))
    assert shown.startswith("\nDetermine a ranking") and shown.endswith("Query: why\n\n[1] a\nb  [1]\n\n[2] c\n")
    assert shown.count(" \n") == 8, "the official text has spaces at the ends of its lines"


def test_group_rank_shows_3000_characters_and_its_example():
    shown = user(GroupPrompt(layout=groupwise.GROUP_RANK).render("why", ["a\n\nb" + "c" * 4000, "d"]))
    assert f"Documents:\n[1]. a b{'c' * 2997}\n\n[2]. d\n\n\n\n## Final Output Format" in shown
    assert '```json\n{"[1]": 5, "[2]": 3, "[3]": 8}\n``` \n</answer>\n' in shown and "all 2 documents. \n" in shown


def test_dynamic_rag_shows_the_first_line_as_the_title():
    texts = ["Paris\nThe capital.\nOf France.", "No title."]
    shown = user(SelectPrompt(layout=groupwise.DYNAMIC_RAG["inference"]).render("why", texts))
    assert shown == (
        "Query: why\nRetrieved Content:\n1. Topic: Paris\nContent: The capital.\nOf France.\n"
        "2. Topic: \nContent: No title."
    )
    trained = user(SelectPrompt(layout=groupwise.DYNAMIC_RAG["training"]).render("why", texts))
    assert trained == shown.replace("why\n", "why\n\n")


def test_the_controls_of_rank_r1_are_asked_for_a_label_alone():
    shown = user(SetPrompt("numbers", "generate", sets.SETWISE_SFT).render("why", ["a", "b"]))
    assert shown.startswith(
        'Given the query: "why", which of the following documents is most relevant?\n[1] a\n[2] b\n'
    )
    assert shown.endswith("the answer should be: <answer>[3]</answer>.") and "<think>" not in shown
    newer = user(SetPrompt("numbers", "generate", sets.RANK_R1_V2).render("why", ["a", "b"]))
    assert newer.endswith("Here is the query: why\n\nHere are the documents:\n[1] a\n[2] b")


@pytest.mark.parametrize("layout", [reasoning_listwise.REARANK, reasoning_listwise.DEAR, groupwise.TOUR_RANK])
def test_documents_are_acknowledged_one_by_one(layout):
    assert isinstance(layout, Dialogue) and "{label}" in layout.received
