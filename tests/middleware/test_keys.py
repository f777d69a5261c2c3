"""What answers are kept by: the same bytes only for the same item, however often its documents were seen."""

from __future__ import annotations

from itertools import combinations

import pytest

from pyterrier_llmrank.core import Doc, Message, Prompt, Question
from pyterrier_llmrank.middleware import keys
from pyterrier_llmrank.middleware.keys import Spelling

D = Doc("d", "text")


@pytest.mark.parametrize("seen", [False, True])
def test_items_that_differ_are_spelled_apart(seen):
    values = [1, 1.0, True, "1"]  # of which three are equal, and one is no number
    items = [
        (Question("q", (D,), "1"),),
        (Question("q1", (D,)),),
        (Question("q", (D, D), "1"),),
        (Question("q", (), "1"),),
        (Question("q", (Doc("dt", "ext"),), "1"),),
        (Question("q", (Doc("d\ud800", "text"),), "1"),),
        *[(Question("q", (D._replace(fields=(("x", value),)),), "1"),) for value in values],
        (Prompt((Message("user", "q"),)), ("a", "b")),
        (Prompt((Message("user", "q"),)), ("a', 'b",)),
    ]
    spelling = Spelling()
    if seen:
        list(map(spelling, items))
    assert all(one != other for one, other in combinations(map(spelling, items), 2))


def test_a_spelling_does_not_depend_on_what_was_spelled_before(monkeypatch):
    monkeypatch.setattr(keys, "KEPT", 10)
    docs = [Doc(str(i), "a" * i) for i in range(9)]
    items = [(Question("q", (one, other)),) for one in docs for other in docs]
    spelling = Spelling()
    assert [spelling(item) for item in items] == [Spelling()(item) for item in items]
    assert sum(len(doc.docno + doc.text) for doc in spelling) <= 10 + 9  # one may pass the bound
    assert not any(doc in spelling for doc in docs[:4])


def test_what_a_prompt_is_kept_by_stays_the_same():
    """Or answers of models, which were paid for, would not be found any more: change the format with it."""
    item = (Prompt((Message("user", "why é"),), "So"), ("Yes", "No"))
    spelled = Spelling()(item)
    assert spelled == "4,5,2,5\nuserwhy éSoFalse(('Yes', 'No'),)".encode()
