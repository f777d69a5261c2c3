"""What is known of a document is shown beside its text."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fake_models import HashModel, shown

from pyterrier_llmrank import Evidence, Inserted, ListPrompt, OneShot, Pointwise, Prompted, Rerank, YesNo
from pyterrier_llmrank.errors import ConfigurationError, InputError


def frame(**columns):
    rows = {"qid": ["1"] * 2, "query": ["q"] * 2, "docno": ["a", "b"], "text": ["one", "two"], "score": [1.256, 7.0]}
    return pd.DataFrame(rows | columns)


def asked(template, inp, **options):
    """What the model is shown of the first prompt."""
    model = HashModel()
    reranker = Rerank(OneShot(), Inserted(Prompted(ListPrompt(), model), template, **options))
    reranker(inp)
    return shown(model.asked[-1][1][0])


def test_the_first_stages_score_stands_before_the_text():
    model = HashModel()
    scorer = Inserted(Prompted(YesNo(), model))
    assert scorer.reads == ("text", "score") and scorer.gives is Evidence.SCORE
    Rerank(Pointwise(), scorer)(frame())
    texts = "".join(shown(prompt) for prompt in model.asked[-1][1])
    assert "(first-stage score: 1.26) one" in texts and "(first-stage score: 7.00) two" in texts


def test_any_column_and_the_place_can_be_shown():
    inp = frame(title=["First", "Second"], year=[1999, 2020])
    text = asked("{place}: {title} ({year:.0f}). {text}", inp)
    assert "1: Second (2020). two" in text and "2: First (1999). one" in text
    scorer = Inserted(Prompted(YesNo(), HashModel()), "{place} {text}")
    assert scorer.reads == ("text",) and scorer.gives is Evidence.ORDER


def test_the_text_alone_is_prepared():
    assert "TWO 7.0" in asked("{text} {score}", frame(), passage=str.upper)


def test_a_missing_value_or_one_that_does_not_suit_is_told():
    with pytest.raises(InputError, match="document b of query '1' cannot be shown as"):
        Rerank(OneShot(), Inserted(Prompted(ListPrompt(), HashModel()), "{title:.2f} {text}"))(frame(title="text"))
    assert "nan" in asked("{year} {text}", frame(year=[np.nan, 1.0]))


def test_nothing_asked_asks_nothing():
    model = HashModel()
    assert Inserted(Prompted(YesNo(), model))([]) == [] and model.asked == []


@pytest.mark.parametrize(
    "template, said",
    [("{score}", "lacks {text}"), ("{text} {", "stray brace"), ("{text} {}", "plain name of a column")],
)
def test_a_template_that_cannot_be_filled_is_refused(template, said):
    with pytest.raises(ConfigurationError, match=said):
        Inserted(Prompted(YesNo(), HashModel()), template)
