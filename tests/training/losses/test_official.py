"""Values and gradients of the authors' code on fixed inputs; where it is wrong, the test says how."""

from __future__ import annotations

import json
import math
import re
from functools import cache, partial

import pytest
import torch
from shared_data import parity, shared
from torch import tensor

from pyterrier_llmrank.training import losses
from pyterrier_llmrank.training.losses import (
    adr_mse,
    approx_mrr,
    approx_ndcg,
    by_difference,
    by_squares,
    by_teacher_ranks,
    info_nce,
    kl_divergence,
    lambda_loss,
    list_mle,
    list_net,
    margin_mse,
    neural_ndcg,
    pearson,
    position_aware_list_mle,
    rank_net,
    root_mean_squared_error,
)


@cache
def fixture(name):
    return json.loads(shared("fixtures", "losses", f"{name}.json").read_text(encoding="utf-8"))


def assert_equal(loss, scores, targets, expected, *, mask=None, less=0.0, times=1.0):
    """Value and gradient, to the fixtures' tolerance; ours is ``times`` theirs, and ``less`` lower."""
    scores = scores.detach().clone().requires_grad_()
    value = loss(scores, targets, mask)
    value.backward()
    close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-6)
    close(value.detach() * times - less, tensor(expected["loss"]))
    close(scores.grad * times, tensor(expected["grad"]))


# ------------------------------------------------------------------ allRank

ALLRANK = [
    *("rankNet", "rankNet_weightByGTDiff", "rankNet_weightByGTDiff_pow", "listNet"),
    *("approxNDCGLoss alpha=1", "approxNDCGLoss alpha=10"),
    *("neuralNDCG temp=1", "neuralNDCG temp=0.1 k=3", "neuralNDCG_transposed temp=1"),
]
SCHEMES = {
    "None": None,
    "ndcgLoss2_scheme": losses.ndcg_loss2,
    "lambdaRank_scheme": losses.lambda_rank,
    "ndcgLoss2PP_scheme": losses.ndcg_loss2_plus,
    "rankNet_scheme": None,
    "rankNetWeightedByGTDiff_scheme": by_difference,
    "rankNetWeightedByGTDiffPowed_scheme": by_squares,
}
SETTINGS = [
    *(f"reduction={reduction} log={log}" for reduction in ("sum", "mean") for log in ("binary", "natural")),
    "k=3 sigma=2 reduction=mean log=binary",
]


def allrank(name, kind):
    """Scores, targets, mask, and what came out."""
    inputs = fixture("official_losses")["allrank"]["inputs"]
    targets = tensor(inputs[{"full": "y_true", "padded": "y_true_padded", "noties": "y_true_noties"}[kind]])
    expected = fixture("official_losses")["allrank"]["values"][f"{name}/{kind}"]
    return tensor(inputs["y_pred"]), targets, targets >= 0, expected


def options_of(name):
    return dict(re.findall(r"(\w+)=([\w.]+)", name))


@pytest.mark.parametrize("kind", ["full", "padded"])
@pytest.mark.parametrize("name", ALLRANK)
def test_allrank(name, kind):
    scores, targets, mask, expected = allrank(name, kind)
    told = options_of(name)
    loss, less = {
        "rankNet": (rank_net, 0),
        "rankNet_weightByGTDiff": (partial(rank_net, weight=by_difference), 0),
        "rankNet_weightByGTDiff_pow": (partial(rank_net, weight=by_squares), 0),
        "listNet": (list_net, 0),
        "approxNDCGLoss": (partial(approx_ndcg, temperature=1 / float(told.get("alpha", 1))), 1),
        "neuralNDCG": (neural_ndcg, 1),
        "neuralNDCG_transposed": (partial(neural_ndcg, transposed=True), 1),
    }[name.split()[0]]
    if "temp" in told:
        loss = partial(loss, temperature=float(told["temp"]), k=int(told["k"]) if "k" in told else None)
    assert_equal(loss, scores, targets, expected, mask=mask, less=less)  # theirs is -nDCG, ours 1 - nDCG


@pytest.mark.parametrize("kind", ["full", "padded"])
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_allrank_lambda_loss(scheme, setting, kind):
    scores, targets, mask, expected = allrank(f"lambdaLoss scheme={scheme} {setting}", kind)
    assert_equal(lambda_of(SCHEMES[scheme], setting), scores, targets, expected, mask=mask, times=base_of(setting))


def lambda_of(weight, setting):
    told = options_of(setting)
    k = int(told["k"]) if "k" in told else None
    return partial(lambda_loss, weight=weight, k=k, sigma=float(told.get("sigma", 1)), reduction=told["reduction"])


def base_of(setting):
    return math.log(2) if "natural" in setting else 1.0


@pytest.mark.parametrize("kind", ["full", "padded"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_allrank_counts_each_document_against_itself_in_ndcg_loss1(setting, kind):
    """Rank is one plus the *others* above; the pairs (i, i) that allRank adds cost one bit each, for ever."""
    scores, targets, mask, expected = allrank(f"lambdaLoss scheme=ndcgLoss1_scheme {setting}", kind)
    k = min(int(options_of(setting).get("k", 5)), 5)
    lists = losses.lists.prepared(scores, targets, mask)
    places = losses.lists.ranks(lists.scores, mask)
    itself = losses.ndcg_loss1(lists, k if "k=" in setting else None).diagonal(dim1=1, dim2=2)
    itself = (itself * (mask & (places <= k))).sum() * base_of(setting)
    n = (mask & (places <= k)).sum(dim=1)
    theirs, ours = (n**2).sum(), (n * (n - 1)).sum()
    if "mean" in setting:
        assert_equal(
            lambda_of(losses.ndcg_loss1, setting),
            scores,
            targets,
            {"loss": expected["loss"] - float(itself / theirs), "grad": expected["grad"]},
            mask=mask,
            times=base_of(setting) * float(ours / theirs),
        )
    else:
        whole = {"loss": expected["loss"] - float(itself), "grad": expected["grad"]}
        loss = lambda_of(losses.ndcg_loss1, setting)
        assert_equal(loss, scores, targets, whole, mask=mask, times=base_of(setting))


def test_allrank_list_mle():
    scores, targets, mask, expected = allrank("listMLE", "noties")
    assert_equal(list_mle, scores, targets, expected, mask=mask)


# ------------------------------------------------------------------ RankGPT, FIRST, E2Rank


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("rank_net", rank_net),
        ("list_net", list_net),
        ("pointwise_rmse", root_mean_squared_error),
        ("lambda_loss scheme=None", partial(lambda_loss, weight=None)),
        ("lambda_loss scheme=lambdaRank_scheme", partial(lambda_loss, weight=losses.lambda_rank)),
        ("lambda_loss scheme=ndcgLoss2_scheme", partial(lambda_loss, weight=losses.ndcg_loss2)),
        ("lambda_loss scheme=ndcgLoss2PP_scheme", lambda_loss),
    ],
)
def test_rankgpts_permutation_distillation(name, loss):
    """The targets of a list in the teacher's order are 1, 1/2, 1/3, …"""
    scores = tensor(fixture("official_losses")["rankgpt"]["inputs"]["y_pred"])
    targets = (1 / torch.arange(1, 6)).expand_as(scores)
    assert_equal(loss, scores, targets, fixture("official_losses")["rankgpt"]["values"][name])


def first(name):
    recorded = fixture("official_losses")["first"]
    scores, ranks = (tensor(recorded["inputs"][key]) for key in ("identifier_logits", "true_rank_of_identifier"))
    return scores, ranks, recorded["values"][name]


@pytest.mark.parametrize(("weighted", "weight"), [(False, None), (True, by_teacher_ranks)])
def test_firsts_rank_net(weighted, weight):
    scores, ranks, expected = first(f"ranknet weighted={weighted}")
    assert_equal(partial(rank_net, weight=weight), scores, -ranks, expected)


def test_firsts_list_net_lets_the_gradient_into_its_targets():
    """Its targets are the model's own logits, dealt out by the teacher's ranks, and are taught as well.

    With that gradient ours is theirs; targets are what is to be learnt, so that ours normally has another.
    """
    scores, ranks, expected = first("listnet weighted=None")
    assert_equal(lambda s, _, mask: list_net(s, dealt(s, ranks)), scores, ranks, expected)
    right = scores.clone().requires_grad_()
    list_net(right, dealt(scores, ranks)).backward()
    assert (right.grad - tensor(expected["grad"])).abs().max() > 0.1


def test_firsts_lambda_loss_has_the_value_of_ndcg_loss2():
    """Its gains are ``2 ** logit``, so that the gradient, which runs through them, is no use."""
    scores, ranks, expected = first("lambda weighted=None")
    value = lambda_loss(scores, dealt(scores, ranks), weight=losses.ndcg_loss2)
    torch.testing.assert_close(value, tensor(expected["loss"]), rtol=1e-5, atol=1e-6)


def dealt(scores, ranks):
    return scores.sort(dim=1, descending=True).values.gather(1, ranks)


def test_e2rank():
    recorded = fixture("official_losses")["e2rank"]
    queries, documents, pseudo = (tensor(recorded[key]) for key in ("query_reps", "doc_reps", "pseudo_query_reps"))
    order = tensor(recorded["ranking_zero_based"])
    contrast = losses.in_batch(queries, documents, 4 * torch.arange(3) + order[:, 0])
    contrastive = info_nce(*contrast, temperature=recorded["temperature"])
    targets, mask = losses.permutation_targets(order, docs=4)
    scores = recorded["ranknet_scale_factor"] * (pseudo.unsqueeze(1) * documents.view(3, 4, -1)).sum(dim=2)
    ranking = rank_net(scores, targets, mask)
    close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-6)
    close(contrastive, tensor(recorded["loss_emb"]))
    close(ranking, tensor(recorded["loss_ranknet_unweighted"]))
    close(contrastive + recorded["loss_ranknet_factor"] * ranking, tensor(recorded["total"]))


# ------------------------------------------------------------------ lightning-ir, Set-Encoder

LIGHTNING = {
    "RankNet": rank_net,
    "RankNet(temperature=0.5)": partial(rank_net, temperature=2.0),  # theirs multiplies
    "KLDivergence": kl_divergence,
    "PearsonCorrelation": pearson,
    "ApproxNDCG": approx_ndcg,
    "ApproxNDCG(temperature=0.1)": partial(approx_ndcg, temperature=0.1),
    "ApproxMRR": approx_mrr,
    "SupervisedMarginMSE": margin_mse,
    "ApproxRankMSE(discount=None)": partial(adr_mse, discount=None),
    "ApproxRankMSE(discount=log2)": adr_mse,
    "ApproxRankMSE(discount=reciprocal)": partial(adr_mse, discount="reciprocal"),
}


def lightning(name, kind):
    recorded = fixture("lightning_ir_losses")
    targets = tensor(recorded["inputs"][kind]).float()
    return tensor(recorded["inputs"]["scores"]), targets, recorded["values"][f"{name}/{kind}"]


@pytest.mark.parametrize("name", LIGHTNING)
def test_lightning_ir_on_distinct_targets(name):
    assert_equal(LIGHTNING[name], *lightning(name, "distinct"))


@pytest.mark.parametrize("name", list(LIGHTNING)[:7])
def test_lightning_ir_on_grades(name):
    assert_equal(LIGHTNING[name], *lightning(name, "graded"))


@pytest.mark.parametrize("kind", ["graded", "distinct"])
def test_lightning_irs_info_nce_takes_the_best_for_relevant(kind):
    scores, targets, expected = lightning("InfoNCE", kind)
    assert_equal(info_nce, scores, (targets == targets.amax(dim=1, keepdim=True)).float(), expected)


def test_lightning_irs_margin_mse_leaves_out_pairs_that_the_teacher_scores_alike():
    """A teacher's margin of 0 is a margin to learn too; without those pairs ours is theirs."""
    scores, targets, expected = lightning("SupervisedMarginMSE", "graded")

    def of_different(scores, targets, mask):
        margins = losses.lists.differences(scores) - losses.lists.differences(targets)
        return losses.lists.average(margins**2, losses.lists.differences(targets) > 0)

    assert_equal(of_different, scores, targets, expected)
    assert margin_mse(scores, targets) != pytest.approx(expected["loss"], rel=1e-3)


def test_lightning_irs_adr_mse_orders_equal_documents_at_random():
    """By the sort of the day. Equals share their mean rank in sentence-transformers and here, see below."""
    scores, targets, expected = lightning("ApproxRankMSE(discount=log2)", "graded")
    assert adr_mse(scores, targets) != pytest.approx(expected["loss"], rel=1e-3)
    places = tensor([4, 3, 2, 1, 0])
    torch.testing.assert_close(adr_mse(scores, targets), adr_mse(scores[:, places], targets[:, places]))


def test_set_encoders_novelty():
    recorded = fixture("lightning_ir_losses")
    name = next(name for name in recorded["values"] if "DuplicateAware" in name)
    subtopics = tensor(recorded["inputs"]["subtopics"])
    order = torch.arange(5, 0, -1).float().expand(3, 5)  # lists come in the teacher's order

    def novel(scores, targets, mask):
        return rank_net(scores, losses.novelty_targets(scores, targets, subtopics))

    assert_equal(novel, tensor(recorded["inputs"]["scores"]), order, recorded["values"][name])


# ------------------------------------------------------------------ toolkits side by side

PEERS = {
    "RankGPT.rank_net": rank_net,
    "RankGPT.rank_net(weight_by_diff)": partial(rank_net, weight=by_difference),
    "RankGPT.list_net": list_net,
    "RankGPT.pointwise_rmse": root_mean_squared_error,
    "RankGPT.lambda_loss(None)": partial(lambda_loss, weight=None),
    "rank_llm.rank_net": rank_net,
    "rank_llm.listNet": list_net,
    "rank_llm.lambdarank(ndcgLoss2)": partial(lambda_loss, weight=losses.ndcg_loss2),
    "lightning_ir.RankNet": rank_net,
    "lightning_ir.KLDivergence": kl_divergence,
    "lightning_ir.PearsonCorrelation": pearson,
    "lightning_ir.ApproxNDCG": approx_ndcg,
    "lightning_ir.ApproxMRR": approx_mrr,
    "sentence_transformers.ListNetLoss": list_net,
    "sentence_transformers.RankNetLoss": partial(lambda_loss, weight=None),
    "sentence_transformers.LambdaLoss": lambda_loss,
    "sentence_transformers.ADRMSELoss": adr_mse,
}


RECORDED = [  # lambdas take no negative targets, which the last case has
    (name, case) for name in PEERS for case in range(4) if case < 3 or not name.partition(".")[2].startswith("lambda")
]


@pytest.mark.parametrize(("name", "case"), RECORDED)
def test_peers(name, case):
    recorded = parity("training_losses")["cases"][case]
    value = PEERS[name](tensor(recorded["scores"]), tensor(recorded["targets"]))
    assert value.item() == pytest.approx(recorded["loss"][name], rel=2e-5, abs=1e-6)


@pytest.mark.parametrize("case", range(4))
def test_sentence_transformers_list_mle_takes_the_input_order_for_the_targets(case):
    """Its default: whatever the labels say, a list counts as sorted."""
    recorded = parity("training_losses")["cases"][case]
    scores, targets = tensor(recorded["scores"]), tensor(recorded["targets"])
    as_given = -torch.arange(recorded["n"]).float().expand_as(scores)
    for loss, name in ((list_mle, "ListMLELoss"), (position_aware_list_mle, "PListMLELoss")):
        theirs = pytest.approx(recorded["loss"][f"sentence_transformers.{name}"], rel=2e-5)
        assert loss(scores, as_given).item() == theirs
        assert loss(scores, targets).item() != theirs


@pytest.mark.parametrize("case", range(4))
def test_rank_llm_numbers_ranks_through_the_whole_batch(case):
    """Its weights ``1 / (r_i + r_j)`` fall with the place of the list in the batch; those of the first are right."""
    recorded = parity("training_losses")["cases"][case]
    value = rank_net(tensor(recorded["scores"]), tensor(recorded["targets"]), weight=by_teacher_ranks).item()
    theirs = recorded["loss"]["rank_llm.rank_net(weighted)"]
    assert value == pytest.approx(theirs, rel=1e-5) if recorded["B"] == 1 else value > 1.2 * theirs


@pytest.mark.parametrize("case", range(3))
def test_rank_llms_adr_mse_ignores_its_targets(case):
    """It compares scores with their own ranks."""
    recorded = parity("training_losses")["cases"][case]
    value = adr_mse(tensor(recorded["scores"]), tensor(recorded["targets"])).item()
    assert value != pytest.approx(recorded["loss"]["rank_llm.ADRMSELoss"], rel=0.1)
