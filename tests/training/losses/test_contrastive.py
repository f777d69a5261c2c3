"""In-batch contrast, and the rules that say what is no negative."""

from __future__ import annotations

import json

import pytest
import torch
from shared_data import shared
from torch import tensor
from torch.nn.functional import normalize

from pyterrier_llmrank.errors import InputError
from pyterrier_llmrank.training.losses import (
    below_positive,
    below_teacher_ratio,
    cadet,
    in_batch,
    info_nce,
    same_document,
)


def vectors(queries=3, documents=6, width=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [normalize(torch.randn(n, width, generator=generator), dim=1) for n in (queries, documents)]


def of_cadet():
    """Vectors of queries and lists, teacher's scores, and numbers of documents, some of them in two lists."""
    recorded = json.loads(shared("fixtures", "losses", "official_losses.json").read_text(encoding="utf-8"))["cadet"]
    queries, passages = (tensor(recorded[key], dtype=torch.double) for key in ("query_emb", "passage_emb"))
    names = sorted(set(recorded["passage_ids"]))
    ids = tensor([names.index(name) for name in recorded["passage_ids"]]).view(3, 4)
    return queries, passages.view(3, 4, -1), tensor(recorded["teacher_scores"]).view(3, 4), ids, recorded


def test_cadet():
    queries, documents, teacher, ids, recorded = of_cadet()
    queries, documents = queries.requires_grad_(), documents.requires_grad_()
    settings = {
        "temperature": recorded["rank_temp"],
        "teacher_temperature": recorded["kl_temp"],
        "contrast_temperature": recorded["contrastive_temp"],
        "ratio": recorded["threshold_score"],
    }
    divergence = cadet(queries, documents, teacher, ids, weight=0.0, **settings)
    total = cadet(queries, documents, teacher, ids, weight=recorded["contrastive_loss_weight"], **settings)
    total.backward()
    close = {"rtol": 1e-5, "atol": 2e-6, "check_dtype": False}
    torch.testing.assert_close(divergence.detach(), tensor(recorded["listwise_kl"]), **close)
    torch.testing.assert_close(total.detach(), tensor(recorded["total"]), **close)
    torch.testing.assert_close(queries.grad, tensor(recorded["grad_query"]), **close)
    torch.testing.assert_close(documents.grad.view(12, -1), tensor(recorded["grad_passage"]), **close)


def test_cadets_best_document_in_another_list_does_not_count_against_it():
    queries, documents, teacher, _, _ = of_cadet()
    documents[1, 3] = documents[0, 0]  # the same text, cosine and all
    apart, same = torch.arange(12).view(3, 4), torch.arange(12).view(3, 4)
    same[1, 3] = same[0, 0]
    settings = {"weight": 1.0, "contrast_temperature": 1.0}
    assert cadet(queries, documents, teacher, same, **settings) < cadet(queries, documents, teacher, apart, **settings)


def test_cadet_takes_lists_of_unequal_length():
    """What stands at padding is neither in a list nor a negative of others."""
    queries, documents, teacher, ids, _ = of_cadet()
    mask = tensor([[True] * 4, [True, True, False, False], [True, True, True, False]])
    expected = cadet(queries, documents, teacher, ids, mask)
    documents = documents.masked_fill(~mask.unsqueeze(2), 9.0).requires_grad_()
    value = cadet(queries, documents, teacher.masked_fill(~mask, 0.99), ids.masked_fill(~mask, 0), mask)
    value.backward()
    torch.testing.assert_close(value, expected)
    assert (documents.grad[~mask] == 0).all()
    assert (documents.grad[mask] != 0).any(dim=1).all()


def test_each_query_is_contrasted_with_the_whole_batch():
    queries, documents = vectors()
    value = info_nce(*in_batch(queries, documents, tensor([4, 0, 2])), temperature=0.05)
    torch.testing.assert_close(
        value, torch.nn.functional.cross_entropy(queries @ documents.T / 0.05, tensor([4, 0, 2]))
    )


def test_negatives_may_change_places():
    queries, documents = vectors()
    others = [0, 1, 2, 5, 4, 3]
    one, two = (info_nce(*in_batch(queries, d, tensor([0, 1, 2]))) for d in (documents, documents[others]))
    torch.testing.assert_close(one, two)


def test_several_relevant_documents_are_no_rivals():
    scores, targets = tensor([[2.0, 1.0, -1.0]]), tensor([[1.0, 1.0, 0.0]])
    alone = [info_nce(scores[:, [i, 2]], targets[:, [i, 2]]) for i in (0, 1)]
    torch.testing.assert_close(info_nce(scores, targets), sum(alone) / 2)


def test_a_masked_document_gets_no_gradient():
    scores = torch.randn(2, 5, requires_grad=True)
    mask = tensor([[True, True, False, True, False], [True] * 5])
    info_nce(scores, torch.eye(2, 5), mask).backward()
    assert (scores.grad[0] == 0).tolist() == [False, False, True, False, True]


def test_queries_and_documents_of_other_pairs_are_more_columns():
    queries, documents = vectors()
    positives = tensor([1, 0, 3])
    whole = in_batch(queries, documents, positives, query_pairs=True, document_pairs=True)
    own = documents[positives]
    torch.testing.assert_close(
        whole.scores, torch.cat([queries @ documents.T, queries @ queries.T, own @ own.T], dim=1)
    )
    assert whole.targets.nonzero().tolist() == [[0, 1], [1, 0], [2, 3]]
    assert (~whole.mask).nonzero().tolist() == [[0, 6], [0, 9], [1, 7], [1, 10], [2, 8], [2, 11]]  # with themselves


def test_copies_of_a_querys_document_do_not_count_against_it():
    queries, documents = vectors()
    ids = tensor([7, 8, 7, 9, 8, 7])
    contrast = in_batch(queries, documents, tensor([0, 1, 3]), ids=ids, query_pairs=True, document_pairs=True)
    assert (~contrast.mask[:, :6]).nonzero().tolist() == [[0, 2], [0, 5], [1, 4]]
    assert contrast.mask[:, 6:].logical_not().sum() == 6  # only with themselves
    again = in_batch(queries, documents, tensor([0, 2, 3]), ids=ids, document_pairs=True)  # two queries, one document
    assert not again.mask[0, 6 + 1]
    assert not again.mask[1, 6 + 0]


def test_same_document_keeps_the_relevant_column_itself():
    mask = same_document(tensor([1, 2, 1]), tensor([1, 2]), tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    assert mask.tolist() == [[True, True, False], [True, True, True]]


@pytest.mark.parametrize(("margin", "kept"), [(0.0, [True, False, True, False]), (0.1, [True, True, True, False])])
def test_what_is_more_similar_than_the_relevant_document_goes(margin, kept):
    """GIST's rule is strict; Qwen3-Embedding's leaves a margin of 0.1."""
    guide = tensor([[0.5, 0.55, 0.5, 0.7]])
    assert below_positive(guide, tensor([[1.0, 0.0, 0.0, 0.0]]), margin=margin).tolist() == [kept]


def test_a_guide_takes_its_gradient_nowhere():
    scores = torch.randn(2, 4, requires_grad=True)
    mask = below_positive(scores, torch.eye(2, 4), margin=0.1)
    assert not mask.requires_grad


def test_a_rule_never_takes_the_relevant_document():
    """Also where the positive of one block is the most similar of all, or the teacher likes it best."""
    queries, documents = vectors(4, 9, seed=2)
    contrast = in_batch(queries, documents, tensor([0, 3, 5, 8]))
    teacher, ids = torch.rand(4, 3), torch.randint(0, 9, (4, 3))
    for mask in (
        below_positive(contrast.scores, contrast.targets, margin=-5.0),
        below_teacher_ratio(teacher, ids, torch.arange(9), contrast.targets, ratio=0.0),
        same_document(torch.zeros(9), torch.zeros(4), contrast.targets),
    ):
        assert mask[contrast.targets > 0].all()


def test_a_document_that_the_teacher_likes_is_no_negative_anywhere_for_that_query():
    teacher = tensor([[1.0, 0.7, 0.2], [0.9, 0.1, float("nan")]])
    ids = tensor([[10, 11, 12], [13, 10, 0]])
    columns = tensor([10, 11, 12, 13, 10, 11, 0])
    targets = torch.zeros(2, 7)
    targets[0, 0] = targets[1, 3] = 1
    mask = below_teacher_ratio(teacher, ids, columns, targets)
    assert mask[0].tolist() == [True, False, True, True, False, False, True]  # 10 stays where it is the relevant one
    assert mask[1].tolist() == [True] * 7


def test_a_ratio_of_negative_scores_is_refused():
    with pytest.raises(InputError, match="needs them at least 0; scale them"):
        below_teacher_ratio(tensor([[-1.0, 2.0]]), tensor([[0, 1]]), tensor([0, 1]), tensor([[1.0, 0.0]]))
