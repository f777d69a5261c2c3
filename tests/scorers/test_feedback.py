"""Feedback by neighbours: likeness to what is known to be relevant, with vectors from anywhere."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyterrier_llmrank import NeighbourFeedback, OneShot, Question, Rerank, VectorColumns
from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.errors import ConfigurationError, InputError
from pyterrier_llmrank.fields import Vector
from pyterrier_llmrank.scorers.embedding import cosines

VECTORS = {"q": [1.0, 0.0, 0.0], "a": [2.0, 1.0, 0.0], "b": [0.0, 3.0, 0.0], "c": [0.0, 1.0, 1.0], "d": [0.0, 0.0, 9.0]}


def encode(texts):
    return np.array([VECTORS[text] for text in texts])


def question(labels, texts="abcd"):
    docs = [Doc(text, text, (("label", label),)) for text, label in zip(texts, labels, strict=True)]
    return Question("q", tuple(docs), "1")


def cosine(one, other):
    one, other = np.array(VECTORS[one]), np.array(VECTORS[other])
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


NONE = [np.nan] * 4


def test_without_feedback_it_is_the_cosine_with_the_query():
    [answer] = NeighbourFeedback(encode)([question(NONE)])
    np.testing.assert_allclose(answer.scores, [cosine("q", text) for text in "abcd"])
    [judged] = NeighbourFeedback(encode)([question([np.nan, 0.0, 0.0, -1.0])])
    np.testing.assert_allclose(judged.scores, answer.scores)


def test_documents_like_the_relevant_ones_rise():
    [answer] = NeighbourFeedback(encode, weight=2.0)([question([np.nan, 1.0, np.nan, 2.0])])
    expected = [cosine("q", text) + cosine(text, "b") + cosine(text, "d") for text in "abcd"]
    np.testing.assert_allclose(answer.scores, expected)


def test_only_the_nearest_relevant_documents_count():
    [answer] = NeighbourFeedback(encode, neighbours=1)([question([np.nan, 1.0, np.nan, 1.0])])
    expected = [cosine("q", text) + max(cosine(text, "b"), cosine(text, "d")) for text in "abcd"]
    np.testing.assert_allclose(answer.scores, expected)


def test_the_first_documents_are_taken_for_relevant():
    scorer = NeighbourFeedback(encode, 2)
    assert scorer.reads == ("text",)
    [answer] = scorer([Question("q", tuple(Doc(text, text) for text in "bcda"))])
    expected = [cosine("q", text) + (cosine(text, "b") + cosine(text, "c")) / 2 for text in "bcda"]
    np.testing.assert_allclose(answer.scores, expected)


def test_judged_documents_go_first_and_last_where_told():
    [answer] = NeighbourFeedback(encode, judged_first=True)([question([0.0, np.nan, np.nan, 1.0])])
    assert np.argsort(-answer.scores).tolist()[0] == 3 and np.argsort(-answer.scores).tolist()[-1] == 0


def test_vectors_and_labels_come_from_the_frame():
    rows = [("1", "q", text, np.array(VECTORS["q"], dtype=np.float32), np.array(VECTORS[text])) for text in "abcd"]
    frame = pd.DataFrame(rows, columns=["qid", "query", "docno", "query_vec", "doc_vec"]).assign(
        label=[None, 1, None, None]
    )
    reranker = Rerank(OneShot(), NeighbourFeedback())
    assert reranker.transform_inputs() == [["qid", "query", "docno", "query_vec", "doc_vec", "label"]]
    out = reranker(frame)
    [expected] = NeighbourFeedback(encode)([question([np.nan, 1.0, np.nan, np.nan])])
    found = out.set_index("docno")["llmrank_score"]
    np.testing.assert_allclose([found[text] for text in "abcd"], expected.scores, atol=1e-7)
    assert reranker.ledger["1"].usage.calls == 0, "what is in the frame costs nothing"


def test_questions_do_not_change_one_another_and_equal_documents_tie():
    scorer = NeighbourFeedback(encode)
    both = scorer([question([1.0, np.nan, np.nan, np.nan]), question(NONE), question([1.0] * 4, "abab")])
    for one, labels in zip(both[:2], ([1.0, np.nan, np.nan, np.nan], NONE), strict=True):
        assert one.scores.tolist() == scorer([question(labels)])[0].scores.tolist()
    assert both[2].scores[0] == both[2].scores[2] and both[2].scores[1] == both[2].scores[3]


def test_nothing_asked_makes_no_vector_and_no_document_has_no_score():
    def refuse(texts):
        raise AssertionError

    assert NeighbourFeedback(refuse)([]) == []
    assert NeighbourFeedback(encode)([Question("q", ())])[0].scores.tolist() == []
    assert len(NeighbourFeedback()([Question("q", ())])[0].scores) == 0


def test_a_vector_of_no_length_is_like_nothing():
    assert cosines(np.zeros((1, 3)), np.ones((1, 3))).tolist() == [[0.0]]


def test_input_that_makes_no_sense_is_refused():
    with pytest.raises(ConfigurationError, match="feedback is a column of labels, or the number"):
        NeighbourFeedback(encode, 0)
    with pytest.raises(ConfigurationError, match="neighbours must be at least 1"):
        NeighbourFeedback(encode, neighbours=0)
    with pytest.raises(ConfigurationError, match="takes vectors from BiEncoder"):
        NeighbourFeedback("name")
    with pytest.raises(InputError, match="'label' of document a of query '1' is no label: 'good'"):
        NeighbourFeedback(encode)([question(["good", np.nan, np.nan, np.nan])])
    wide = (("query_vec", Vector(np.ones(3))), ("doc_vec", Vector(np.ones(2))))
    with pytest.raises(InputError, match="has 3 numbers, and those of its documents have 2; make both with the same"):
        NeighbourFeedback(feedback=1)([Question("q", (Doc("a", "", wide),), "1")])
    with pytest.raises(InputError, match="has nothing in 'doc_vec'; give numbers"):
        NeighbourFeedback(feedback=1)([Question("q", (Doc("a", ""),), "1")])
    assert repr(NeighbourFeedback(VectorColumns(), 3)) == "NeighbourFeedback(feedback=3)"
