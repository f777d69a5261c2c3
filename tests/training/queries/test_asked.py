"""Queries that a model writes: prompts, examples, seeds, cleaning, and what is dropped."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd
import pyterrier as pt
import pytest
from fake_models import HashModel, shown
from shared_data import shared

from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.errors import ConfigurationError, LLMRankWarning, Unsupported
from pyterrier_llmrank.models import HFModel
from pyterrier_llmrank.synthesis import QueriesFromDocuments
from pyterrier_llmrank.training.queries import (
    CLAIM,
    KEYWORDS,
    KINDS,
    QUESTION,
    SEARCH,
    TITLE,
    AllOf,
    Asked,
    Kind,
    Titles,
)
from pyterrier_llmrank.training.queries.cleaning import fault, first_query

DOCS = [Doc(f"d{i}", f"Text number {i} is about the thing that has the number {i}, as it says.") for i in range(4)]


def writer(text="what is thing {}", **options):
    return Asked(HashModel(writes=lambda number: text.format(number)), **options)


# ------------------------------------------------------------------ cleaning


@pytest.mark.parametrize(
    ("answer", "query"),
    [
        ("what is it", "what is it"),
        ("\n\n  what is it \nand more", "what is it"),
        ('"What is it?"', "What is it?"),
        ("Query: what is it", "what is it"),
        ("**Question:** What is it?", "What is it?"),
        ('1. "What is it?"\n2. "What else?"', "What is it?"),
        ("- Search query: “what is it”", "what is it"),
        ("Question 1: What is it?", "What is it?"),
        ("Sure, here is a question:\n\nWhat is it?", "What is it?"),
        ("<think>A question,\nperhaps.</think>\nWhat is it?", "What is it?"),
        ("<think>A question that never", ""),
        ('The "iron" rule and the "gold" rule', 'The "iron" rule and the "gold" rule'),
        ('"Iron" and "gold"', '"Iron" and "gold"'),
        ("3 of 4 cats", "3 of 4 cats"),
        ("1984 as a title", "1984 as a title"),
        ("Title: A study", "A study"),
        ("What is this about:", "What is this about:"),
        ("", ""),
        (" \n. \n", ""),
    ],
)
def test_a_query_is_what_is_left_of_the_first_line(answer, query):
    assert first_query(answer)[0] == query


@pytest.mark.parametrize(
    ("query", "kind", "reason"),
    [
        ("How do whales sleep?", QUESTION, None),
        ("", QUESTION, "empty"),
        ("...", QUESTION, "empty"),
        ("I'm sorry, I cannot help with that.", QUESTION, "refused"),
        ("Sorry tales of the sea", TITLE, "refused"),  # a price of it
        ("word " * 21, QUESTION, "long"),
        ("word " * 20, QUESTION, None),
        ("a, b, c, d, e, f", KEYWORDS, "long"),
        ("a, b, c, d, e,", KEYWORDS, None),
        ("What does the passage say of whales?", QUESTION, "pointing"),
        ("What can we learn from this article", SEARCH, "pointing"),
        ("the north-west passage", SEARCH, None),
        ("Why do whales sleep with one half of the brain?", QUESTION, "copied"),
        ("whales sleep with one half", CLAIM, None),  # five words
        ("Whales sleep: with one half!", KEYWORDS, None),
        ("whales sleep with one half of the brain", KEYWORDS, None),
    ],
)
def test_why_a_query_is_none(query, kind, reason):
    assert fault(query, "It is known that whales sleep with one half of the brain.", kind) == reason


def test_words_are_copied_whole():
    assert fault("a b c d e fg", "a b c d e f", QUESTION) is None
    assert fault("xa b c d e f", "a b c d e f", QUESTION) is None


# ------------------------------------------------------------------ prompts


@pytest.mark.parametrize("kind", KINDS.values(), ids=str)
def test_a_prompt_asks_for_one_query_and_ends_with_its_label(kind):
    prompt = kind.prompt("A passage\nof two lines.", kind.examples[:2])
    [message] = prompt.messages
    assert message.role == "user"
    assert message.content.startswith(kind.request)
    assert message.content.endswith(f"Passage: A passage of two lines.\n{kind.label}:")
    assert message.content.count("Passage:") == 1 + len(kind.examples[:2])


@pytest.mark.parametrize("kind", [QUESTION, CLAIM, TITLE, KEYWORDS], ids=str)
def test_examples_are_what_is_asked_for(kind):
    assert len(kind.examples) > kind.shown
    for passage, query in kind.examples:
        assert first_query(query) == (query, False)
        assert fault(query, passage, kind) is None


def test_users_show_their_own_examples():
    kind = SEARCH.by_example([("passage one", "query one"), ("passage two", "query two")], name="msmarco")
    assert (kind.name, kind.shown, SEARCH.name) == ("msmarco", 2, "search")
    model = HashModel(writes=lambda number: "q")
    Asked(model, kinds=(kind,))(DOCS[:1])
    [(_, [prompt], *_)] = model.calls("generate")
    assert "Passage: passage one\nSearch query: query one" in shown(prompt)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Kind("two words", "Write."), "is one word"),
        (lambda: Kind("", "Write."), "is one word"),
        (lambda: Kind("a", "Write.", most_words=0), "at least 1"),
        (lambda: Kind("a", "Write.", shown=-1), "shown at least 0"),
        (lambda: Kind("a", "Write.", examples=QUESTION.examples[:2]), "shows 3 examples, but there are 2"),
        (lambda: writer(kinds=()), "at least one"),
        (lambda: writer(kinds=("question", QUESTION)), "different names"),
        (lambda: writer(kinds=("haiku",)), r"no kinds \['haiku'\]; there are question, claim"),
        (lambda: writer(per_doc=0), "at least 1"),
        (lambda: Asked("gpt"), "not a model"),
        (lambda: QueriesFromDocuments("gpt"), "writes no queries"),
        (lambda: QueriesFromDocuments(Titles), "writes no queries"),
        (lambda: QueriesFromDocuments(Titles(), chunk=0), "chunk=0"),
    ],
)
def test_bad_arguments_are_named(made, message):
    with pytest.raises(ConfigurationError, match=message):
        made()


# ------------------------------------------------------------------ asking


def test_every_document_is_asked_about_for_every_kind():
    drafts = writer(per_doc=2)(DOCS)
    assert [len(draft.queries) for draft in drafts] == [10] * 4
    assert [written.kind for written in drafts[0].queries] == [name for name in KINDS for _ in range(2)]
    assert drafts[0].usage.calls == 10
    assert len({written.query for draft in drafts for written in draft.queries}) == 40  # each has a seed of its own


def test_who_else_is_asked_about_changes_nothing():
    whole = writer(seed=5)(DOCS)
    assert whole == [draft for doc in reversed(DOCS) for draft in writer(seed=5)([doc])][::-1]
    assert whole != writer(seed=6)(DOCS)


def test_what_a_model_is_asked():
    model = HashModel(writes=lambda number: "q")
    Asked(model, kinds=("question",), seed=1)([Doc("a", "x" * 3000), Doc("b", "<|x|>")])
    [(_, prompts, max_tokens, _, sampling, seeds)] = model.calls("generate")
    assert "x" * 2048 in shown(prompts[0])
    assert "x" * 2049 not in shown(prompts[0])
    assert shown(prompts[1]).endswith("Passage: < |x|>\nQuestion:")
    assert (max_tokens, sampling.temperature) == (50, 0.8)
    assert len(set(seeds)) == 2
    shots = [[one.query in shown(prompt) for one in QUESTION.examples] for prompt in prompts]
    assert [sum(own) for own in shots] == [3, 3]


def test_examples_are_drawn_for_each_document():
    model = HashModel(writes=lambda number: "q")
    Asked(model, kinds=("title",))([Doc(str(i), "same text") for i in range(30)])
    [(_, prompts, *_)] = model.calls("generate")
    assert len({shown(prompt) for prompt in prompts}) > 10


def test_a_document_is_shortened_where_the_context_is_small():
    model = HashModel(writes=lambda number: "q", context=700)
    Asked(model, kinds=("search",))([Doc("a", "word " * 400)])
    [(_, [prompt], *_)] = model.calls("generate")
    assert len(shown(prompt)) <= 700 - 50
    assert shown(prompt).count("word") > 20


def test_what_is_not_fit_is_dropped_with_its_reason():
    [draft] = writer("", per_doc=2)(DOCS[:1])
    assert draft.queries == ()
    assert draft.dropped == ("empty",) * 10
    [draft] = writer("Text number 0 is about the thing", kinds=("question", "keywords"))(DOCS[:1])
    assert [written.kind for written in draft.queries] == ["keywords"]
    assert draft.dropped == ("copied",)


def test_a_query_that_was_cut_off_is_unfinished_unless_its_line_was_whole():
    cut = HashModel(writes=lambda number: "how long is a whale that", finish="length")
    assert Asked(cut, kinds=("question",))(DOCS[:1])[0].dropped == ("unfinished",)
    whole = HashModel(writes=lambda number: "how long is a whale\nIt is an", finish="length")
    assert Asked(whole, kinds=("question",))(DOCS[:1])[0].queries[0].query == "how long is a whale"


def test_nothing_to_ask_asks_nobody():
    model = HashModel()
    assert Asked(model)([]) == []
    assert Asked(model, kinds=("title",))([Doc("a", "  ")])[0].queries == ()
    assert [call for call in model.asked if call[0] == "generate" and call[1]] == []


def test_a_model_that_cannot_write_is_named():
    with pytest.raises(Unsupported, match="queries are generated"):
        Asked(HashModel(can=frozenset({"choices"})))(DOCS)


def test_a_writer_is_a_value():
    assert repr(Asked(HashModel(writes=None), kinds=("title",))).startswith("Asked(HashModel(")
    assert writer() != writer(seed=1)
    assert eval(repr(KEYWORDS), {"Kind": Kind, **_shots()}) == KEYWORDS


def _shots():
    from pyterrier_llmrank.training.queries.shots import Shot

    return {"Shot": Shot}


# ------------------------------------------------------------------ the transformer

FRAME = pd.DataFrame([{"docno": doc.docno, "text": doc.text, "url": "x"} for doc in DOCS])


def test_documents_become_queries_whatever_the_chunk():
    whole = QueriesFromDocuments(writer())(FRAME)
    assert list(whole) == ["qid", "query", "docno", "kind"]
    assert whole["qid"].tolist()[:2] == ["d0:question:1", "d0:claim:1"]
    assert len(whole) == 20
    pd.testing.assert_frame_equal(QueriesFromDocuments(writer(), chunk=1)(FRAME), whole)
    streamed = pd.DataFrame(list(QueriesFromDocuments(writer(), chunk=3).transform_iter(FRAME.to_dict("records"))))
    pd.testing.assert_frame_equal(streamed.astype(str), whole.astype(str))


def test_a_stream_is_read_as_it_is_asked_for():
    taken = []

    def corpus():
        for row in FRAME.to_dict("records"):
            taken.append(row["docno"])
            yield row

    stream = iter(QueriesFromDocuments(writer(kinds=("title",)), chunk=2).transform_iter(corpus()))
    assert next(stream)["docno"] == "d0"
    assert taken == ["d0", "d1"]


def test_queries_are_written_to_a_file_by_the_transformer(tmp_path):
    transformer = QueriesFromDocuments(writer(), chunk=3)
    stored = transformer.write(FRAME.to_dict("records"), tmp_path / "queries.jsonl")
    pd.testing.assert_frame_equal(stored.frame(), transformer(FRAME))


def test_what_was_dropped_is_said_once():
    with pytest.warns(LLMRankWarning, match="were dropped: 20 empty") as said:
        assert QueriesFromDocuments(writer(""), chunk=1)(FRAME).empty
    assert len(said) == 1


def test_what_was_dropped_is_kept_with_the_file(tmp_path):
    with pytest.warns(LLMRankWarning, match="20 empty"):
        stored = QueriesFromDocuments(writer("")).write(FRAME.to_dict("records"), tmp_path / "queries.jsonl")
    assert stored.dropped == {"empty": 20}
    assert stored.docnos == set(FRAME["docno"])


def test_frames_without_text_and_results_are_refused():
    for frame in (FRAME.drop(columns="text"), FRAME.assign(qid="1", query="x")):
        with pytest.raises(pt.validate.InputValidationError, match="does not match required columns"):
            QueriesFromDocuments(writer())(frame)
    with pytest.raises(pt.validate.InputValidationError, match="does not match required columns"):
        QueriesFromDocuments(Titles("title"))(FRAME)


def test_empty_frames_ask_nobody():
    broken = HashModel(can=frozenset())
    assert list(QueriesFromDocuments(Asked(broken))(FRAME.iloc[:0])) == ["qid", "query", "docno", "kind"]


def test_documents_that_come_twice_are_read_once_also_across_chunks():
    twice = pd.concat([FRAME, FRAME.iloc[:1]])
    with pytest.warns(LLMRankWarning, match="1 of 1 documents have a docno that came before"):
        found = QueriesFromDocuments(writer(kinds=("title",)), chunk=2)(twice)
    assert found["docno"].tolist() == ["d0", "d1", "d2", "d3"]


def test_other_columns_are_read_where_a_writer_asks_for_them():
    found = QueriesFromDocuments(AllOf((Titles("title"), writer(kinds=("title",)))))(FRAME.assign(title="A title"))
    assert found["query"].tolist()[0] == "A title"
    assert found["qid"].tolist()[:2] == ["d0:title:1", "d0:title:2"]
    assert QueriesFromDocuments(Titles("title"), text_field="body") == QueriesFromDocuments(
        Titles("title"), text_field="body"
    )


@dataclass
class Bodies:
    """A writer that keeps what it reads."""

    seen: list = field(default_factory=list)

    def __call__(self, docs):
        self.seen += [doc.text for doc in docs]
        return Titles()(docs)


def test_texts_may_be_in_another_column():
    bodies = Bodies()
    QueriesFromDocuments(bodies, text_field="url")(FRAME)
    assert bodies.seen == ["x"] * 4


def test_a_real_model_writes_the_same_whatever_the_batch():
    folder = str(shared("data", "model_stories260k"))
    model = HFModel(folder, device="cpu", dtype="float32")
    docs = [Doc("a", "Once upon a time there was a little cat."), Doc("b", "The dog ran to the big tree.")]
    kind = Kind("story", "Tell a story.", shown=0, copied=None, most_words=200)
    asked = Asked(model, kinds=(kind,), max_tokens=100)
    whole = asked(docs)
    for doc, draft in zip(docs, whole, strict=True):
        [alone] = asked([doc])
        assert (alone.queries, alone.dropped) == (draft.queries, draft.dropped)
        assert len(draft.queries) + len(draft.dropped) == 1
        assert draft.usage.calls == 1
    assert any(draft.queries for draft in whole)
