"""Texts before they are shown: white space, lengths, identifiers that they spell, broken Unicode."""

from __future__ import annotations

import pytest
from shared_data import parity

from pyterrier_llmrank.errors import ConfigurationError
from pyterrier_llmrank.prompts.passages import ONE_LINE, VERBATIM, Preparation, document_text, repaired

TEXT = "  a [12]\n\nb [A]  [see] c "


@pytest.mark.parametrize(
    ("preparation", "shown"),
    [
        (ONE_LINE, "a (12) b (A) [see] c"),
        (VERBATIM, TEXT),
        (Preparation(markers="numbers"), "a (12) b [A] [see] c"),
        (Preparation(markers="letters"), "a [12] b (A) (see) c"),
        (Preparation(fold="lines", markers="none"), "  a [12] b [A]  [see] c "),
        (Preparation(max_words=3), "a (12) b"),
        (Preparation(fold="none", max_words=3), "a (12) b"),
        (Preparation(max_chars=5, markers="none"), "a [12"),
        (Preparation(max_words=2, max_chars=4), "a [1"),
    ],
    ids=repr,
)
def test_texts_are_prepared_as_told(preparation, shown):
    assert preparation(TEXT) == shown


@pytest.mark.parametrize("options", [{}, {"fold": "lines"}, {"max_words": 3}, {"max_chars": 7}], ids=repr)
def test_what_is_cut_off_beforehand_is_never_shown(options):
    preparation = Preparation(**options)
    cut = preparation.cut(TEXT)
    assert preparation.cut(cut) == cut and preparation(cut) == preparation(TEXT)


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_empty_texts_stay_empty(text):
    assert ONE_LINE(text) == "" and Preparation(max_words=3, repair=True)(text) == ""


def test_documents_are_shown_as_rank_llm_shows_them():
    recorded = parity("rank_llm_doc_to_content")["cases"]
    assert [case for case in recorded if document_text(case["doc"], case["max_words"]) != case["content"]] == []


def test_a_document_without_text_is_refused():
    with pytest.raises(ConfigurationError, match=r"needs one of the fields text, segment, .*, got title"):
        document_text({"title": "alone"})


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ("dâ€™Ã©tÃ©", "d'été"),
        ("â€œquotedâ€\x9d", '"quoted"'),
        ("ð\u0178\u02dc\u20ac", "😀"),
        ("Â£5", "£5"),
        ("don\x92t", "don't"),
        ("\u201ccurly\u201d \u2018quotes\u2019", "\"curly\" 'quotes'"),
        ("ﬁne ﬄ", "fine ffl"),
        ("\uff21\uff22\uff23\u3000\uff11", "ABC 1"),
        ("a &amp; b &eacute;", "a & b é"),
        ("<b>a &amp; b</b>", "<b>a &amp; b</b>"),
        ("e\u0301", "é"),
        ("a\x07b\ufeff", "ab"),
    ],
)
def test_broken_unicode_is_mended(broken, mended):
    assert repaired(broken) == mended


@pytest.mark.parametrize(
    "text", ["plain", "CAFÉ® naïve â", "日本語の文章", "… ½ ² ™", "x\ty\nz", "\U0001f600 ok", "NÃO"]
)
def test_sound_text_stays_as_it_is(text):
    assert repaired(text) == text and repaired(repaired(text)) == repaired(text)


def test_megabytes_are_mended():
    assert len(repaired("â€œ" * 1_000_000)) == 1_000_000


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"fold": "some"}, "fold must be 'all', 'lines' or 'none', got 'some'"),
        ({"markers": "all"}, "markers must be one of both, numbers, letters, none, got 'all'"),
        ({"max_words": 0}, "max_words must be at least 1 or None"),
        ({"max_chars": -1}, "max_chars must be at least 1 or None"),
    ],
)
def test_arguments_out_of_range_are_refused(options, told):
    with pytest.raises(ConfigurationError, match=told):
        Preparation(**options)


def test_preparations_are_values():
    made = Preparation(max_words=3, repair=True)
    assert eval(repr(made)) == made and hash(made) == hash(Preparation(max_words=3, repair=True))
