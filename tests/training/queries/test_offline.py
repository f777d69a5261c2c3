"""Queries out of documents themselves, the words they are made of, and files of them."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest

from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.errors import ConfigurationError, InputError, LLMRankWarning
from pyterrier_llmrank.training.queries import (
    AllOf,
    Keywords,
    Sentences,
    StoredQueries,
    Titles,
    WordCounts,
    distinct,
    offline_queries,
    offline_writer,
    write_queries,
)
from pyterrier_llmrank.training.queries.words import normalised, sentences, words

TEXTS = {
    "a": "The heart of the whale beats slowly. It beats nine times a minute. Divers heard it under the ice.",
    "b": "The wing of the bat is a hand. Its fingers carry the skin. Bats hear what they cannot see.",
    "c": "The root of the beech feeds fungi. Fungi feed the root. Neither would live alone for long.",
}
ROWS = [{"docno": docno, "text": text} for docno, text in TEXTS.items()]
COUNTS = WordCounts.of(TEXTS.values())
DOCS = [Doc(docno, text) for docno, text in TEXTS.items()]


def queries(draft):
    return [written.query for written in draft.queries]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One thing is this. Another is that one! Yes.", ["One thing is this", "Another is that one! Yes"]),
        ("Dr. Who came to the door. Nobody else was there.", ["Dr. Who came to the door", "Nobody else was there"]),
        ("no marks at all in it", ["no marks at all in it"]),
        ("spaced out like this .  and once again here .", ["spaced out like this", "and once again here"]),
        ("It grew by 2.5 percent.\nThen it fell again.", ["It grew by 2.5 percent", "Then it fell again"]),
        ('He said "leave me alone now." Then he went away.', ['He said "leave me alone now', "Then he went away"]),
        ("Short one.", ["Short one"]),
        ("... !? 12", []),
        ("", []),
    ],
)  # fmt: skip
def test_sentences(text, found):
    assert sentences(text) == found


def test_words_are_no_numbers_and_no_endings_of_numbers():
    assert words("On the 15th, DNA's 2 well-known strands (née-helix) …") == [
        "on", "the", "dna's", "well-known", "strands", "née-helix"
    ]  # fmt: skip


def test_normalised_texts_differ_in_words_only():
    assert normalised(" The “Heart” of\na WHALE! ") == normalised("the heart, of a whale")
    assert normalised("...") == ""


def test_a_title_is_the_first_sentence_or_a_column():
    assert queries(Titles()(DOCS)[1]) == ["The wing of the bat is a hand"]
    assert queries(Titles(most=3)(DOCS)[1]) == ["The wing of"]
    titled = [Doc("a", "text", (("title", "On bats"),)), Doc("b", "text", (("title", ""),)), Doc("c", "text")]
    assert [queries(draft) for draft in Titles("title")(titled)] == [["On bats"], [], []]


def test_keywords_tell_a_document_from_its_corpus():
    [query] = queries(Keywords(COUNTS)(DOCS)[2])
    assert query.split()[:3] == ["root", "fungi", "beech"]  # two come twice; of equals, the earlier one
    assert len(query.split()) == 5
    assert not {"the", "of"} & set(query.split())


def test_words_that_every_document_has_are_no_keywords():
    twice = [Doc("a", "same words"), Doc("b", "same words")]
    assert [draft.queries for draft in Keywords(WordCounts.of(doc.text for doc in twice))(twice)] == [(), ()]


def test_sentences_are_drawn_by_seed_and_docno_alone():
    together = Sentences(2, seed=3)(DOCS)
    assert together == [draft for doc in DOCS for draft in Sentences(2, seed=3)([doc])]
    for doc, draft in zip(DOCS, together, strict=True):
        whole = sentences(doc.text)
        assert len(set(queries(draft))) == 2
        assert queries(draft) == [one for one in whole if one in queries(draft)]  # in the text's order
    seeds = {tuple(queries(Sentences(1, seed=seed)(DOCS)[0])) for seed in range(20)}
    assert len(seeds) == 3
    assert len(queries(Sentences(9)(DOCS)[0])) == 3  # as far as there are any


def test_a_corpus_asks_itself_queries_of_every_kind():
    frame = offline_queries(ROWS, per_doc=2)
    assert list(frame) == ["qid", "query", "docno", "kind"]
    assert frame["qid"].tolist()[:4] == ["a:title:1", "a:keywords:1", "a:sentence:1", "a:sentence:2"]
    assert frame["qid"].is_unique
    pd.testing.assert_frame_equal(frame, offline_queries(pd.DataFrame(ROWS), per_doc=2))
    pd.testing.assert_frame_equal(frame, offline_queries(iter(ROWS), per_doc=2))
    assert set(offline_queries(ROWS, kinds=["keywords"])["kind"]) == {"keywords"}


def test_nothing_to_ask_about_is_no_query():
    assert offline_queries([]).empty
    assert list(offline_queries(pd.DataFrame({"docno": [], "text": []}))) == ["qid", "query", "docno", "kind"]
    assert offline_queries([{"docno": "a", "text": " .. "}]).empty


def test_bad_documents_are_named():
    with pytest.raises(InputError, match=r"columns \['text'\], but there are \['docno', 'body'\]; name the"):
        offline_queries([{"docno": "a", "body": "x"}])
    with pytest.warns(LLMRankWarning, match="1 of 4 documents have a docno that came before"):
        assert len(offline_queries([*ROWS, ROWS[0]], kinds=["title"])) == 3
    with pytest.warns(LLMRankWarning, match="1 of 1 documents have no 'text'"):
        assert offline_queries([{"docno": "a", "text": None}]).empty


@pytest.mark.parametrize("kinds", [[], ["question"]])
def test_kinds_that_need_a_model_are_refused(kinds):
    with pytest.raises(ConfigurationError, match="kinds are some of title, keywords, sentence"):
        offline_queries(ROWS, kinds=kinds)


@pytest.mark.parametrize("made", [lambda: Titles(most=0), lambda: Keywords(COUNTS, 0), lambda: Sentences(0)])
def test_numbers_below_one_are_refused(made):
    with pytest.raises(ConfigurationError, match="of at least 1, got 0"):
        made()


def test_all_of_none_is_refused():
    with pytest.raises(ConfigurationError, match="AllOf takes a tuple of writers"):
        AllOf(())


def test_fields_of_documents_are_texts():
    frame = pd.DataFrame({"docno": [1, 2], "text": ["x", "y"], "title": ["t", None]})
    assert distinct(frame, fields=["title"]) == [Doc("1", "x", (("title", "t"),)), Doc("2", "y", (("title", ""),))]


def test_writers_are_values():
    assert eval(repr(AllOf((Titles("title"), Sentences(2, seed=1))))) == AllOf((Titles("title"), Sentences(2, seed=1)))
    assert repr(Keywords(COUNTS)) == repr(Keywords(WordCounts.of(TEXTS.values())))
    assert repr(Keywords(COUNTS)) != repr(Keywords(WordCounts.of([*TEXTS.values(), "more"])))
    assert AllOf((Titles("title"), Keywords(COUNTS))).reads == ("title", "text")


# ------------------------------------------------------------------ files


def corpus(breaks_at=None):
    for place, row in enumerate(ROWS):
        if place == breaks_at:
            raise ConnectionError
        yield row


def test_a_corpus_that_broke_off_is_gone_on_with(tmp_path):
    path, writer = tmp_path / "new" / "queries.jsonl", offline_writer(COUNTS)
    with pytest.raises(ConnectionError):
        write_queries(corpus(2), writer, path, chunk=1)
    assert StoredQueries(path).docnos == {"a", "b"}
    path.write_bytes(path.read_bytes()[:-5])  # a crash
    assert StoredQueries(path).docnos == {"a"}
    stored = write_queries(corpus(), writer, path, chunk=2)
    pd.testing.assert_frame_equal(stored.frame(), offline_queries(ROWS))
    pd.testing.assert_frame_equal(StoredQueries(path).frame(), offline_queries(ROWS))


def test_no_document_is_written_about_twice(tmp_path):
    path, asked = tmp_path / "queries.jsonl", []

    def writer(docs):
        asked.extend(doc.docno for doc in docs)
        return Titles()(docs)

    write_queries(corpus(), writer, path)
    write_queries(corpus(), writer, path)
    assert asked == ["a", "b", "c"]


def test_queries_of_another_writer_need_another_file(tmp_path):
    path = tmp_path / "queries.jsonl"
    write_queries(ROWS, Titles(), path)
    with pytest.raises(ConfigurationError, match=r"holds queries made with \{'writer': 'Titles\(\)'"):
        write_queries(ROWS, Sentences(), path)


def test_other_files_and_arguments_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no queries of documents at .*; write them with write_queries"):
        StoredQueries(tmp_path / "none")
    with pytest.raises(ConfigurationError, match="chunk=0"):
        write_queries(ROWS, Titles(), tmp_path / "queries.jsonl", chunk=0)
    with pytest.raises(InputError, match=r"columns \['title'\]"):
        write_queries(ROWS, Titles("title"), tmp_path / "others.jsonl")


def test_the_room_needs_no_torch():
    script = "import sys, pyterrier_llmrank.training.queries; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
