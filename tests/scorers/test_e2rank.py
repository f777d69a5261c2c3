"""``E2Rank`` against transformers, one input at a time; and what its pseudo-query may and may not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from replicated import copies_used
from tiny import CHATML, byte_tokenizer
from vector_models import Hashed, Refusing, embedder

from pyterrier_llmrank.core import Doc, Evidence, Question, Usage
from pyterrier_llmrank.errors import ConfigurationError, PromptTooLong
from pyterrier_llmrank.middleware import fingerprint
from pyterrier_llmrank.prompts import PseudoQuery
from pyterrier_llmrank.scorers import E2Rank
from pyterrier_llmrank.vectors import Stored

END = "<|endoftext|>"
SHORT = PseudoQuery("Rerank:\n{documents}\nSearch Query: {query}", max_words=6)
DOCS = [Doc(f"d{i}", f"the cat\nnumber {i} " + "sat on the mat. " * (i % 3)) for i in range(8)]
QUESTIONS = [Question(f"where is cat {i}", tuple(DOCS[i : i + n]), f"q{i}") for i, n in enumerate([6, 1, 4, 3])]


def tokenizer():
    """As Qwen's: the token that closes a document is none of the chat template's."""
    made = byte_tokenizer(chat=CHATML)
    made.add_special_tokens({"additional_special_tokens": [END]})
    return made


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return embedder(tmp_path_factory.mktemp("e2rank"), tokenizer())


def local(folder, **options):
    return E2Rank(folder, **{"device": "cpu", "dtype": "float32", "prompt": SHORT, "shown": 3, **options})


def oracle(folder, question, shown):
    """Cosines, as the evaluation code computes them: words, prompt and end token put together anew."""
    text = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    def last(read):
        with torch.no_grad():
            ids = torch.tensor([text(read, add_special_tokens=False)["input_ids"]])
            state = network(input_ids=ids).last_hidden_state[0, -1].double()
        return (state / state.norm()).numpy()

    texts = [" ".join(doc.text.split()[: SHORT.max_words]) for doc in question.docs]
    lines = "\n".join(f"[{place}] {one}" for place, one in enumerate(texts[:shown], start=1))
    turn = {"role": "user", "content": f"Rerank:\n{lines}\nSearch Query: {question.query}"}
    query = last(text.apply_chat_template([turn], tokenize=False, add_generation_prompt=True))
    return [last(one + END) @ query for one in texts]


@pytest.mark.parametrize("batch_tokens", [1, 100_000])
def test_scores_are_cosines_of_the_models_own_vectors(model, batch_tokens):
    scorer = local(model, batch_tokens=batch_tokens)
    for question, answer in zip(QUESTIONS, scorer(QUESTIONS), strict=True):
        np.testing.assert_allclose(answer.scores, oracle(model, question, 3), atol=5e-6)


def test_who_shares_the_call_changes_no_score(model):
    together = local(model)(QUESTIONS[::-1])[::-1]
    for question, answer in zip(QUESTIONS, together, strict=True):
        [alone] = local(model)([question])
        np.testing.assert_allclose(alone.scores, answer.scores, atol=5e-6)


def test_documents_beyond_the_shown_ones_take_their_scores_along(model):
    scorer = local(model)
    order = [0, 1, 2, 5, 3, 4]
    [one], [other] = scorer(QUESTIONS[:1]), scorer([QUESTIONS[0]._replace(docs=tuple(DOCS[i] for i in order))])
    np.testing.assert_array_equal(other.scores, one.scores[order])


def test_documents_beyond_the_shown_ones_can_come_and_go(model):
    scorer = local(model)
    [all_of_them], [some] = scorer(QUESTIONS[:1]), scorer([QUESTIONS[0]._replace(docs=tuple(DOCS[:4]))])
    np.testing.assert_array_equal(all_of_them.scores[:4], some.scores)


def test_the_shown_ones_change_the_pseudo_query(model):
    swapped = QUESTIONS[0]._replace(docs=(DOCS[1], DOCS[0], *DOCS[2:6]))
    [one], [other] = local(model)(QUESTIONS[:1]), local(model)([swapped])
    assert np.abs(one.scores[3:] - other.scores[3:]).min() > 1e-4


def test_equal_documents_have_equal_scores_wherever_they_stand(model):
    docs = tuple(Doc(f"d{i}", "the same" if i % 2 else f"other {i}") for i in range(9))
    [answer] = local(model)([Question("why", docs)])
    assert len(set(answer.scores[1::2])) == 1


def test_one_reading_orders_a_list_and_vectors_are_made_once(model):
    scorer = local(model)
    first, second = (scorer([QUESTIONS[0]])[0].usage for _ in range(2))
    assert (first.calls, first.cached_calls) == (1 + 6, 0) and (second.calls, second.cached_calls) == (1, 6)
    assert local(model).planned([QUESTIONS[0]]) == [Usage(1, second.prompt_tokens)]


def test_kept_vectors_are_not_made_again(model, tmp_path):
    encoder = local(model).encoder
    Stored(encoder, tmp_path / "v.sqlite").fill(DOCS)
    kept = local(model, vectors=Stored(Refusing(encoder), tmp_path / "v.sqlite"))(QUESTIONS)
    for one, other in zip(kept, local(model)(QUESTIONS), strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=5e-6)


def test_vectors_need_not_be_of_length_1(model):
    class Long(Hashed):
        def vectors(self, text):
            return 7 * super().vectors(text)

    one, other = (local(model, vectors=kind(width=32))(QUESTIONS[:1])[0].scores for kind in (Hashed, Long))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_no_document_or_an_empty_one_is_no_harm(model):
    nothing, empty = local(model)([Question("why", ()), Question("", (Doc("a", ""), Doc("b", "x")))])
    assert len(nothing.scores) == 0 and np.isfinite(empty.scores).all()
    assert [len(one.scores) for one in local(model)([Question("why", ())])] == [0]


def test_an_empty_input_loads_no_model(model):
    scorer = local(model)
    assert scorer([]) == [] and "_loaded" not in vars(scorer)


def test_shown_documents_are_cut_to_fit_and_counted(model):
    question = Question("why", tuple(Doc(f"d{i}", "xyz " * 6) for i in range(3)))
    bare = question._replace(docs=tuple(Doc(doc.docno, "") for doc in question.docs))
    [whole], [fixed] = (local(model).planned([one]) for one in (question, bare))
    limit = whole.prompt_tokens - 10
    [cut] = local(model, max_length=limit).planned([question])
    assert cut.truncated_tokens >= 10 and cut.prompt_tokens <= limit and whole.truncated_tokens == 0
    assert np.isfinite(local(model, max_length=limit)([question])[0].scores).all()
    with pytest.raises(PromptTooLong, match=r"of 3 documents leave no room"):
        local(model, max_length=fixed.prompt_tokens - 1)([question])


def test_vectors_of_another_encoder_are_refused_where_they_show(model):
    with pytest.raises(ConfigurationError, match=r"reads 1 vector of 32 numbers per document, but got 1 of 16 numbers"):
        local(model, vectors=Hashed())(QUESTIONS)
    with pytest.raises(ConfigurationError, match="shown must be at least 1 document, got 0"):
        local(model, shown=0)


def test_it_is_a_value_that_gives_an_order(model):
    scorer = local(model)
    assert eval(repr(scorer)) == scorer != local(model, shown=4) and scorer.gives == Evidence.ORDER
    assert fingerprint(scorer) != fingerprint(local(model, shown=4)) and scorer.max_docs is None
    assert scorer.encoder.suffix == END and scorer.encoder.pooling == "last" and scorer.encoder.max_words == 6


def test_several_devices_share_out_the_questions(model):
    asked = [Question(f"where {i}", tuple(Doc(str(j), f"cat {i} {j}") for j in range(3))) for i in range(4)]
    alone = local(model)(asked)
    shared = local(model, device=("cpu", "cpu"))
    used = copies_used(shared)
    for one, other in zip(alone, shared(asked), strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        assert one.usage == other.usage
    assert sorted(used) == [0, 1]
