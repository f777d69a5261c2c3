"""The faces: their defaults, their parts, their arguments."""

from __future__ import annotations

from pathlib import Path

import pyterrier as pt
import pytest
from fakes import PerfectScorer

from pyterrier_llmrank import presets
from pyterrier_llmrank.aggregates import additive, bradley_terry, mean
from pyterrier_llmrank.designs import all_pairs, random_pairs, shuffled_groups
from pyterrier_llmrank.errors import ConfigurationError, ModelNotFound
from pyterrier_llmrank.methods import (
    DEFAULT_MODEL,
    GroupwiseLLM,
    ListwiseLLM,
    PairwiseLLM,
    PointwiseLLM,
    SetwiseLLM,
)
from pyterrier_llmrank.models import HFModel, as_model
from pyterrier_llmrank.prompts import (
    Demonstrated,
    Demonstration,
    Graded,
    GroupPrompt,
    ListPrompt,
    PairPrompt,
    SetPrompt,
    YesNo,
)
from pyterrier_llmrank.scorers import BothOrders, Prompted
from pyterrier_llmrank.strategies import (
    Bubble,
    Heapsort,
    Insertion,
    OneShot,
    Pointwise,
    Sampled,
    SlidingWindow,
    TopDown,
)

FACES = [PointwiseLLM, PairwiseLLM, SetwiseLLM, ListwiseLLM, GroupwiseLLM]
each_face = pytest.mark.parametrize("face", FACES)


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path)


def test_a_pointwise_face_asks_yes_or_no_about_each_document(folder):
    reranker = PointwiseLLM(folder)
    assert reranker.strategy == Pointwise()
    assert reranker.scorer == Prompted(YesNo(), HFModel(folder), 512)


def test_a_listwise_face_slides_a_window(folder):
    reranker = ListwiseLLM(folder, window=10, stride=5, passes=2)
    assert reranker.strategy == SlidingWindow(10, 5, 2)
    assert reranker.scorer == Prompted(ListPrompt(labels="numbers", decode="generate"), HFModel(folder), 256)


def test_a_pairwise_face_sorts_by_pairs_in_both_orders(folder):
    reranker = PairwiseLLM(folder)
    assert reranker.strategy == Heapsort(2) and reranker.top_k == 10
    assert reranker.scorer == BothOrders(Prompted(PairPrompt(), HFModel(folder), 256))
    assert PairwiseLLM(folder, both_orders=False).scorer == reranker.scorer.scorer


@pytest.mark.parametrize(
    ("face", "name", "strategy"),
    [
        (PairwiseLLM, "sliding", Bubble(2)),
        (PairwiseLLM, "allpair", Sampled(all_pairs, additive)),
        (PairwiseLLM, "sparse", Sampled(random_pairs(8), bradley_terry)),
        (SetwiseLLM, "heapsort", Heapsort(4)),
        (SetwiseLLM, "bubble", Bubble(4)),
        (SetwiseLLM, "insertion", Insertion(4)),
    ],
)
def test_a_strategy_is_chosen_by_name(face, name, strategy, folder):
    reranker = face(folder, strategy=name)
    assert reranker.strategy == strategy
    assert eval(repr(reranker), {face.__name__: face}) == reranker


@each_face
def test_every_face_takes_a_strategy_object(face, folder):
    strategy = Pointwise() if face is PointwiseLLM else Heapsort(2)
    reranker = face(folder, strategy=strategy)
    assert reranker.strategy is strategy
    assert pt.inspect.transformer_apply_attributes(reranker, max_doc_tokens=9).strategy is strategy


@pytest.mark.parametrize("face", [PairwiseLLM, SetwiseLLM])
def test_an_unknown_strategy_is_named_with_those_there_are(face, folder):
    with pytest.raises(ConfigurationError, match=r"strategy must be one of 'heapsort', .*, got 'quick'"):
        face(folder, strategy="quick")


def test_a_setwise_face_shows_groups_of_its_size(folder):
    reranker = SetwiseLLM(folder, group_size=10, decode="generate")
    assert reranker.strategy == Heapsort(10)
    assert reranker.scorer == Prompted(SetPrompt(decode="generate"), HFModel(folder), 256)


def test_a_groupwise_face_averages_scores_of_shuffled_groups(folder):
    reranker = GroupwiseLLM(folder, group_size=5, epochs=3, seed=1)
    assert reranker.strategy == Sampled(shuffled_groups(5, 3, 1), mean)
    assert reranker.scorer == Prompted(GroupPrompt(), HFModel(folder), 256)


@pytest.mark.parametrize(
    ("face", "told", "name"),
    [
        (ListwiseLLM, {"window": 10}, "window=10"),
        (GroupwiseLLM, {"epochs": 5}, "epochs=5"),
        (SetwiseLLM, {"group_size": 5}, "group_size=5"),
    ],
)
def test_what_a_strategy_object_makes_meaningless_is_refused(face, told, name, folder):
    with pytest.raises(ConfigurationError, match=name):
        face(folder, strategy=TopDown(20) if face is ListwiseLLM else Heapsort(3), **told)


@each_face
def test_every_face_takes_a_prompt_and_demonstrations(face, folder):
    prompt, solved = (Graded(4), "3") if face is PointwiseLLM else (PairPrompt(), "A")
    shown = (Demonstration("what is rain", ("Water falls.",) * prompt.max_docs, solved),)
    strategy = Pointwise() if face is PointwiseLLM else Heapsort(2)
    reranker = face(folder, prompt=prompt, strategy=strategy, demonstrations=shown)
    scorer = reranker.scorer.scorer if face is PairwiseLLM else reranker.scorer
    assert scorer.prompt == Demonstrated(prompt, shown)


@each_face
def test_an_unknown_argument_is_told_with_the_one_that_is_meant(face, folder):
    with pytest.raises(TypeError, match=f"{face.__name__} has no argument 'num_result'; did you mean 'num_results'"):
        face(folder, num_result=3)


# --- checkpoints that were trained for a format ----------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path):
    """A folder that bears the name of a checkpoint; nothing is loaded until something is ranked."""

    def made(name):
        folder = tmp_path / name
        folder.mkdir()
        return str(folder)

    return made


@pytest.mark.parametrize(
    ("face", "name", "preset"),
    [
        (ListwiseLLM, "rank_zephyr_7b_v1_full", "rank_zephyr"),
        (ListwiseLLM, "RankMistral100", "full_rank"),
        (PointwiseLLM, "Qwen3-Reranker-0.6B", "qwen3_reranker"),
        (PointwiseLLM, "monot5-base-msmarco", "mono_t5"),
        (SetwiseLLM, "Rank-R1-7B-v0.1", "rank_r1"),
        (GroupwiseLLM, "Diver-GroupRank-7B", "group_rank"),
        (PairwiseLLM, "duot5-base-msmarco", "duo_t5"),
    ],
)
def test_a_known_checkpoint_is_asked_as_it_was_trained_to_be(face, name, preset, checkpoint):
    folder = checkpoint(name)
    told = {"both_orders": False} if face is PairwiseLLM else {}
    assert face(folder, **told).scorer == getattr(presets, preset)(folder).scorer


def test_a_known_checkpoint_brings_its_strategy_unless_one_is_told(checkpoint):
    folder = checkpoint("RankMistral100")
    assert ListwiseLLM(folder).strategy == OneShot()
    assert ListwiseLLM(folder, window=50, stride=25).strategy == SlidingWindow(50, 25)
    assert ListwiseLLM(folder, strategy=TopDown(20)).strategy == TopDown(20)


def test_a_prompt_of_ones_own_is_asked_of_a_known_checkpoint_too(checkpoint):
    folder = checkpoint("rank_zephyr_7b_v1_full")
    assert ListwiseLLM(folder, prompt=ListPrompt()).scorer == Prompted(ListPrompt(), HFModel(folder), 256)


def test_what_the_format_of_a_known_checkpoint_leaves_no_room_for_is_refused(checkpoint):
    with pytest.raises(ConfigurationError, match=r"presets.rank_zephyr.*leave them out, or say prompt="):
        ListwiseLLM(checkpoint("rank_zephyr_7b_v1_full"), max_doc_tokens=10)


def test_a_checkpoint_of_another_kind_is_asked_like_any_model(checkpoint):
    folder = checkpoint("rank_zephyr_7b_v1_full")
    assert PointwiseLLM(folder).scorer == Prompted(YesNo(), HFModel(folder), 512)


# --- arguments that all take -----------------------------------------------------------------------------------------


def test_first_token_decoding_asks_by_letters(folder):
    assert ListwiseLLM(folder, decode="first").scorer.prompt == ListPrompt(labels="letters", decode="first")


def test_first_token_decoding_takes_no_more_documents_than_letters(folder):
    with pytest.raises(ConfigurationError, match="at most 26"):
        ListwiseLLM(folder, decode="first", window=30)


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({}, None),
        ({"top_k": 10}, 10),
        ({"top_k": 3}, 10),
        ({"top_k": 15}, 15),
        ({"top_k": 20}, None),
        ({"top_k": 50}, None),
        ({"top_k": 3, "passes": 2}, None),
        ({"top_k": 3, "strategy": TopDown(20)}, None),
        ({"top_k": 3, "window": 8, "stride": 8}, 3),
        ({"top_k": 1, "window": 8, "stride": 6}, 2),
    ],
)
def test_constrained_decoding_names_what_can_get_to_the_head_of_the_list(folder, told, named):
    assert ListwiseLLM(folder, decode="constrained", **told).scorer.prompt == ListPrompt(
        "numbers", "constrained", top_k=named
    )


def test_constrained_decoding_of_a_checkpoint_that_has_a_format_of_its_own_is_refused(checkpoint):
    folder = checkpoint("rank_zephyr_7b_v1_full")
    with pytest.raises(
        ConfigurationError, match=r"writes freely; leave out decode=, or say prompt=ListPrompt\(decode="
    ):
        ListwiseLLM(folder, decode="constrained")
    asked = ListwiseLLM(folder, decode="constrained", prompt=ListPrompt(decode="constrained"))
    assert asked.scorer.prompt == ListPrompt(decode="constrained")


@each_face
def test_default_is_built_and_inspected_without_a_network_or_a_model(face):
    columns = ["qid", "query", "docno", "text", "score", "rank"]
    assert pt.inspect.transformer_outputs(face(), columns)[-3:] == ["llmrank_score", "score", "rank"]
    assert face().model == DEFAULT_MODEL


@each_face
def test_repr_rebuilds_and_names_only_what_differs(face, folder):
    reranker = face(folder, depth=5, device="cpu", text_field="body")
    assert repr(reranker) == f"{face.__name__}({folder!r}, device='cpu', depth=5, text_field='body')"
    assert eval(repr(reranker), {face.__name__: face}) == reranker


@each_face
def test_every_argument_is_an_attribute(face, folder):
    told = {a.name: a.value for a in pt.inspect.transformer_attributes(face(folder, num_results=7))}
    assert told["model"] == folder and told["num_results"] == 7


@each_face
def test_a_fused_cutoff_keeps_the_model(face, folder):
    reranker = face(folder)
    fused = reranker.fuse_rank_cutoff(5)
    assert type(fused) is face and fused.num_results == 5 and fused.scorer is reranker.scorer


@each_face
def test_other_changes_build_it_anew(face, folder):
    again = pt.inspect.transformer_apply_attributes(face(folder), max_doc_tokens=9)
    assert again == face(folder, max_doc_tokens=9) and "max_doc_tokens=9" in repr(again)


@each_face
@pytest.mark.parametrize("name", ["./nowhere", "a/b/c"])
def test_a_missing_folder_is_said_at_once(face, name):
    with pytest.raises(ModelNotFound, match=r"there is no folder|unknown to the hub"):
        face(name)


@each_face
def test_bad_windows_and_depths_are_said_at_once(face, folder):
    with pytest.raises(ConfigurationError, match="depth must be at least 1"):
        face(folder, depth=0)
    with pytest.raises(ConfigurationError, match="window of at least 2"):
        ListwiseLLM(folder, window=0)
    with pytest.raises(ConfigurationError, match="stride from 1 to 20"):
        ListwiseLLM(folder, stride=21)
    with pytest.raises(ConfigurationError, match="'generate', 'first' or 'constrained'"):
        ListwiseLLM(folder, decode="logits")


def test_options_belong_to_a_name(folder):
    assert as_model(folder, device="cpu", dtype=None) == HFModel(folder, device="cpu")
    assert as_model(Path(folder)) == HFModel(folder)
    model = HFModel(folder)
    assert as_model(model) is model
    with pytest.raises(ConfigurationError, match=r"device must be given to HFModel\(.*\) itself"):
        as_model(model, device="cpu")


@each_face
def test_what_is_no_model_is_refused(face):
    with pytest.raises(ConfigurationError, match="is not a model: pass one such as HFModel"):
        face(PerfectScorer())
