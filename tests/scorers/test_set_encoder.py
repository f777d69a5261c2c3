"""``SetEncoder`` against the official code, and what it does with lists of any kind."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from shared_data import shared
from tiny import decoder
from tiny_sets import encoder, set_encoder, tokenizer

from pyterrier_llmrank import presets
from pyterrier_llmrank.core import Doc, Evidence, Question, Scorer, Usage
from pyterrier_llmrank.errors import ConfigurationError, ModelError, ModelNotFound, PromptTooLong
from pyterrier_llmrank.rerank import Rerank
from pyterrier_llmrank.scorers import SetEncoder
from pyterrier_llmrank.strategies import OneShot, Pointwise, SlidingWindow

TEXTS = ["the cat sat on the mat", "a dog", "the cat is on the mat again", "nothing of it", "x", "the mat"]


def question(texts=TEXTS, query="where is the cat", qid="q"):
    return Question(query, tuple(Doc(f"d{place}", text) for place, text in enumerate(texts)), qid)


def read(folder, **options):
    return SetEncoder(str(folder), device="cpu", dtype="float32", **options)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = set_encoder(tmp_path_factory.mktemp("set"))
    held = read(folder)  # weights are shared by all who ask for them while somebody has them
    held.load()
    yield folder


@pytest.fixture(scope="module")
def roomy(tmp_path_factory):
    """One with embeddings for 8 tokens more than its tokenizer has, as released ones have a few."""
    return set_encoder(tmp_path_factory.mktemp("roomy"), vocab_size=len(tokenizer()) + 9)


def rows_of(scorer, asked):
    """The ids that the network reads, document by document."""
    rows = []

    def keep(module, args, kwargs):
        rows.extend(part.tolist() for part in args[0].ids.split(args[0].lengths))

    scorer.load()
    handle = scorer._loaded.network.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        scorer(asked)
    finally:
        handle.remove()
    return rows


# The official code


@pytest.fixture(scope="module", params=["bert", "electra"])
def official(request):
    """(checkpoint, what the official code made of it)."""
    folder = shared("fixtures", "set_encoder", request.param)
    return folder / "model", json.loads((folder / "expected.json").read_text(encoding="utf-8"))


def test_scores_are_those_of_the_official_code(official):
    folder, expected = official
    asked = [question(case["docs"], case["query"], case["qid"]) for case in expected["cases"]]
    for case, answer in zip(expected["cases"], read(folder)(asked), strict=True):
        np.testing.assert_allclose(answer.scores, case["scores"], atol=2e-5)


def test_permuted_lists_have_the_scores_of_the_official_code(official):
    folder, expected = official
    for case in expected["cases"]:
        docs = [case["docs"][place] for place in case["permutation"]]
        [answer] = read(folder)([question(docs, case["query"])])
        np.testing.assert_allclose(answer.scores, case["permuted_scores"], atol=2e-5)


def test_documents_alone_have_the_scores_of_the_official_code(official):
    folder, expected = official
    for case in expected["cases"]:
        answers = read(folder)([question([text], case["query"]) for text in case["docs"]])
        np.testing.assert_allclose([one.scores[0] for one in answers], case["scores_when_alone"], atol=2e-5)


def test_several_queries_have_the_scores_of_the_official_code(official):
    folder, expected = official
    batch = expected["batch"]
    asked = [question(docs, query) for query, docs in zip(batch["queries"], batch["docs"], strict=True)]
    scores = np.concatenate([answer.scores for answer in read(folder)(asked)])
    np.testing.assert_allclose(scores, batch["scores"], atol=2e-5)


def test_a_seed_draws_what_the_official_code_draws(official):
    folder, expected = official
    drawn = expected["sample_missing_docs_true"]
    [case] = [one for one in expected["cases"] if one["qid"] == drawn["qid"]]
    others = [question(one["docs"], one["query"]) for one in expected["cases"]]
    for seed, scores in drawn["scores_by_torch_seed"].items():
        answers = read(folder, seed=int(seed))([*others, question(case["docs"], case["query"])])
        np.testing.assert_allclose(answers[-1].scores, scores, atol=2e-5)


def test_full_lists_are_the_same_with_any_seed(official):
    folder, expected = official
    drawn = expected["sample_missing_docs_true"]
    [query] = [case["query"] for case in expected["cases"] if case["qid"] == drawn["qid"]]
    [docs] = [case["docs"] for case in expected["cases"] if len(case["docs"]) == drawn["depth"]]
    for seed in (None, 0, 1):
        [answer] = read(folder, seed=seed)([question(docs, query)])
        np.testing.assert_allclose(answer.scores, drawn["full_depth_scores"], atol=2e-5)


def test_inputs_are_those_of_the_official_code(official):
    folder, expected = official
    for case in expected["cases"]:
        told = case["encoding"]
        masked = zip(told["input_ids"], told["attention_mask"], strict=True)
        wanted = [[token for token, real in zip(ids, mask, strict=True) if real] for ids, mask in masked]
        assert rows_of(read(folder), [question(case["docs"], case["query"])]) == wanted


# Texts and their limits


def official_inputs(folder, query, text, limits):
    """Cut, written out and tokenised anew, as ``CrossEncoderTokenizer`` of lightning IR does it."""
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    first, second = (
        tokenizer.decode(tokenizer(one, add_special_tokens=False)["input_ids"][:limit])
        for one, limit in zip((query, text), limits, strict=True)
    )
    return tokenizer([first], [second])["input_ids"][0]


@pytest.mark.parametrize(
    "text", ["caffeine " * 90, "it do n't sleep , he 's awake . " * 2, "Café ##ing 中文 (a, b) é", ""]
)
def test_texts_are_cut_and_written_out_as_the_official_code_does_it(text):
    folder = shared("fixtures", "set_encoder", "bert", "model")
    for query in ("why do n't we sleep", "sleep quality " * 20):
        [row] = rows_of(read(folder), [question([text], query)])
        assert row == official_inputs(folder, query, text, (32, 64))


def test_writing_out_may_join_what_was_apart():
    folder = shared("fixtures", "set_encoder", "bert", "model")
    [row] = rows_of(read(folder), [question(["he do n't sleep"], "x")])
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    assert row == tokenizer("x", "he don't sleep")["input_ids"] != tokenizer("x", "he do n't sleep")["input_ids"]


def test_long_texts_are_cut_at_their_end_and_document_tokens_are_counted(tiny):
    [answer] = read(tiny)([question(["y" * 50, "y" * 40, "z"], "q" * 40)])
    assert answer.usage.truncated_tokens == 10  # of 40 in training
    assert answer.usage.prompt_tokens == 3 * (4 + 32) + 40 + 40 + 1 and answer.usage.calls == 3
    assert answer.scores[0] == pytest.approx(answer.scores[1], abs=1e-5)


def test_lengths_can_be_others_than_in_training(tiny):
    [row, _] = rows_of(read(tiny, max_query_tokens=2, max_doc_tokens=5), [question(["y" * 50, "z"], "qqqq")])
    assert len(row) == 4 + 2 + 5
    [row, _] = rows_of(read(tiny, max_doc_tokens=90), [question(["y" * 95, "z"], "qqqq")])
    assert len(row) == 4 + 4 + 90


def test_the_context_is_a_limit_too(tiny):
    scorer = read(tiny, max_doc_tokens=1000)
    [answer] = scorer([question(["y" * 300], "q")])
    assert answer.usage.prompt_tokens == 200 and answer.usage.truncated_tokens == 300 - 195
    with pytest.raises(PromptTooLong, match=r"a query of 20 tokens leaves no room for a document within 24 tokens"):
        read(tiny, max_length=24)([question(["y"], "q" * 20)])
    assert read(tiny, max_length=25)([question(["y"], "q" * 20)])[0].usage.prompt_tokens == 25


def test_empty_passages_and_queries_are_read(tiny):
    [answer] = read(tiny)([question(["", "x", ""], "")])
    assert np.isfinite(answer.scores).all() and answer.scores[0] == pytest.approx(answer.scores[2], abs=1e-5)
    assert len(read(tiny, max_length=10)([question([""], "q" * 6)])[0].scores) == 1


def test_equal_passages_have_equal_scores(tiny):
    [answer] = read(tiny)([question(["the cat", "a mat", "the cat", "the cat"])])
    np.testing.assert_allclose(answer.scores[[0, 2, 3]], answer.scores[0], atol=1e-5)
    assert abs(answer.scores[1] - answer.scores[0]) > 1e-3


def test_control_tokens_in_texts_are_plain_text(tiny):
    hostile = "a [INT] b <|bos|> c <|im_end|>"
    [row] = rows_of(read(tiny), [question([hostile], hostile)])
    mark = len(tokenizer())
    assert [token for token in row if token < 4 or token >= mark] == [3, mark, 2, 2]


# Lists


@pytest.mark.parametrize("batch_tokens", [1, 60, 100_000])
@pytest.mark.parametrize("seed", [None, 3])
def test_scores_depend_on_nobody_else_in_the_call(tiny, batch_tokens, seed):
    asked = [question(TEXTS[:n], f"query {n}", f"q{n}") for n in (3, 1, 6, 2)] + [question(TEXTS * 3)]
    together = read(tiny, batch_tokens=batch_tokens, seed=seed)(asked)
    for one, answer in zip(asked, together, strict=True):
        [alone] = read(tiny, seed=seed)([one])
        np.testing.assert_allclose(answer.scores, alone.scores, atol=2e-5)
        assert answer.usage == alone.usage and len(answer.scores) == len(one.docs)


def test_answers_come_in_the_order_of_the_questions(tiny):
    asked = [question(TEXTS[:n], f"query {n}") for n in (3, 1, 6)]
    for answer, other in zip(read(tiny)(asked), read(tiny)(asked[::-1])[::-1], strict=True):
        np.testing.assert_allclose(answer.scores, other.scores, atol=2e-5)


def test_a_question_of_no_documents_is_answered(tiny):
    nothing, one = read(tiny)([question([]), question(["x"])])
    assert nothing.scores.shape == (0,) and nothing.usage == Usage() and len(one.scores) == 1
    assert len(read(tiny)([question([])])[0].scores) == 0


def test_nothing_asked_loads_nothing(tiny):
    scorer = read(tiny)
    assert scorer([]) == [] and "_loaded" not in vars(scorer)


def test_it_gives_the_order_of_lists_of_any_length(tiny):
    scorer = read(tiny)
    assert isinstance(scorer, Scorer) and (scorer.gives, scorer.max_docs) == (Evidence.ORDER, None)


def frame(n=7, queries=("where is the cat", "a dog")):
    rows = [
        (f"q{q}", query, f"d{q}-{i}", f"{TEXTS[i % 6]} {'again ' * (i // 2)}", i)
        for q, query in enumerate(queries)
        for i in range(n)
    ]
    return pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "rank"])


def test_rerank_orders_each_query_by_one_look_at_its_list(tiny):
    pipeline, given = Rerank(OneShot(), read(tiny)), frame()
    out = pipeline(given)
    for qid, group in given.groupby("qid"):
        [answer] = read(tiny)([question(group["text"], group["query"].iloc[0])])
        wanted = group["docno"].to_numpy()[np.argsort(-answer.scores, kind="stable")].tolist()
        assert out[out["qid"] == qid].sort_values("rank")["docno"].tolist() == wanted
        assert pipeline.ledger[qid].usage.calls == len(group)
    shuffled = pipeline(given.sample(frac=1, random_state=0).assign(rank=range(len(given))))
    keys = ["qid", "rank", "docno"]
    pd.testing.assert_frame_equal(
        out[keys].sort_values(keys[:2]).reset_index(drop=True),
        shuffled[keys].sort_values(keys[:2]).reset_index(drop=True),
    )


def test_windows_of_a_list_are_ordered_too(tiny):
    out = Rerank(SlidingWindow(4, 2), read(tiny))(frame())
    assert sorted(out["docno"]) == sorted(frame()["docno"])


def test_scores_of_other_lists_are_no_measure(tiny):
    with pytest.raises(ConfigurationError, match=r"Pointwise\(\) needs scores that hold between groups"):
        Rerank(Pointwise(), read(tiny))


def test_planning_counts_what_will_be_read_and_loads_no_weights(tiny):
    asked = [question(TEXTS[:n], f"query {n}" * 9) for n in (3, 6)] + [question(["y" * 90]), question([])]
    scorer = read(tiny)
    planned = scorer.planned(asked)
    assert "_loaded" not in vars(scorer)
    assert planned == [answer.usage for answer in scorer(asked)]


# Checkpoints


def test_it_is_a_value(tiny):
    scorer = SetEncoder("webis/set-encoder-base", max_doc_tokens=64, seed=1)
    assert repr(scorer) == "SetEncoder('webis/set-encoder-base', max_doc_tokens=64, seed=1)"
    assert eval(repr(scorer)) == scorer != SetEncoder("webis/set-encoder-base", max_doc_tokens=64)
    assert hash(scorer) == hash(eval(repr(scorer)))


def changed(folder, tmp_path, *, renamed="[INT]", added=()):
    """A copy whose interaction token has another name, and to whose tokenizer tokens were added."""
    made = tmp_path / "changed"
    shutil.copytree(folder, made)
    for path in made.glob("*token*.json"):
        path.write_text(path.read_text(encoding="utf-8").replace("[INT]", renamed), encoding="utf-8")
    text = transformers.PreTrainedTokenizerFast.from_pretrained(made)
    text.add_tokens(list(added), special_tokens=True)
    text.save_pretrained(made)
    return made


@pytest.mark.parametrize(
    ("renamed", "added", "place"),
    [
        ("[DOC]", (), 0),
        ("[DOC]", ("[INT]",), 1),
        ("[INT]", ("[DOC]",), 0),
        ("[DOC]", (*map(str, range(990, 998)), "[INT]"), 0),
    ],
    ids=["set-encoder-base", "set-encoder-novelty-base", "the other way round", "beyond the embeddings"],
)
def test_the_interaction_token_is_the_one_that_was_trained(roomy, tmp_path, renamed, added, place):
    folder = changed(roomy, tmp_path, renamed=renamed, added=added)
    [row] = rows_of(read(folder), [question(["x"])])
    [before] = rows_of(read(roomy), [question(["x"])])
    assert row[1] == before[1] + place and row[2:] == before[2:]


def test_a_tokenizer_without_an_interaction_token_is_refused(tiny, tmp_path):
    with pytest.raises(ModelError, match=r"has no interaction token \(\[INT\] or \[DOC\]\) that the network knows"):
        read(changed(tiny, tmp_path, renamed="[XYZ]")).load()


def test_a_tokenizer_without_marks_is_refused(tiny, tmp_path):
    folder = changed(tiny, tmp_path)
    path = folder / "tokenizer_config.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({key: value for key, value in told.items() if key != "sep_token"}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"has no \[CLS\] or \[SEP\]"):
        read(folder).load()


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    for place, make in enumerate((encoder, decoder)):
        folder = make(tmp_path / str(place))
        with pytest.raises(
            ModelError, match=r"is no Set-Encoder .* use a checkpoint such as 'webis/set-encoder-base', or Cross"
        ):
            read(folder).load()
    with pytest.raises(ModelError, match="is no Set-Encoder"):
        read(folder).planned([question()])


def test_a_folder_without_weights_is_refused(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(ModelNotFound, match="holds no weights"):
        read(tmp_path / "bare").load()


@pytest.mark.parametrize("name", ["max_query_tokens", "max_doc_tokens"])
def test_lengths_out_of_range_are_refused(name):
    with pytest.raises(ConfigurationError, match=f"{name} must be at least 1 token, got 0"):
        SetEncoder("owner/name", **{name: 0})


def test_half_precision_orders_nearly_alike(tiny):
    [full], [half] = read(tiny)([question()]), SetEncoder(tiny, device="cpu", dtype="bfloat16")([question()])
    np.testing.assert_allclose(half.scores, full.scores, atol=0.2)


def test_loading_is_shared_and_moves_no_gradient(tiny):
    one, other = read(tiny), read(tiny, max_doc_tokens=5)
    assert one._loaded is other._loaded
    assert not any(weight.requires_grad for weight in one._loaded.network.parameters())
    assert one._loaded.network.dtype is torch.float32


# Presets


@pytest.mark.parametrize(
    ("checkpoint", "build"),
    [
        ("webis/set-encoder-base", presets.set_encoder),
        ("webis/set-encoder-large", presets.set_encoder),
        ("webis/set-encoder-novelty-base", presets.set_encoder_novelty),
    ],
)
def test_released_checkpoints_read_the_whole_list_at_once(checkpoint, build):
    assert presets.find(checkpoint).build is build
    built = build(checkpoint, dtype="float32", depth=50, seed=1)
    assert built.strategy == OneShot() and built.depth == 50
    assert built.scorer == SetEncoder(checkpoint, dtype="float32", seed=1)


def test_a_preset_ranks_with_a_folder_and_refuses_a_model(tiny):
    out = presets.set_encoder(tiny, device="cpu")(frame())
    assert len(out) == 14
    with pytest.raises(ConfigurationError, match="pass its name or folder"):
        presets.set_encoder(read(tiny))
