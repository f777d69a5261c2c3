"""Contrast with a whole batch: what is no negative gets no gradient."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from pyterrier_llmrank.core import Doc
from pyterrier_llmrank.errors import InputError
from pyterrier_llmrank.training.data import TrainingList
from pyterrier_llmrank.training.learners import BiXSE, InfoNCE, Vectors
from pyterrier_llmrank.training.learners.collating import collated, distinct


def batch(seed=0, targets=None, ids=None):
    """Three queries with four documents each, the last of them padding for the last query."""
    generator = torch.Generator().manual_seed(seed)
    queries, documents = (normalize(torch.randn(*shape, generator=generator), dim=-1) for shape in ((3, 8), (3, 4, 8)))
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[2, 3] = False
    targets = torch.tensor([[0.2, 1.0, 0.7, 0.1]] * 3) if targets is None else targets
    ids = torch.arange(12).view(3, 4) if ids is None else ids
    return Vectors(queries.requires_grad_(), documents.requires_grad_(), targets, mask, ids.masked_fill(~mask, -1))


def by_hand(vectors, temperature, counts):
    """InfoNCE of every query's best document, where ``counts(query, list, place)`` says what is a negative."""
    losses = []
    for query in range(3):
        scores = vectors.documents @ vectors.queries[query] / temperature
        own = scores[query, 1]
        rivals = [scores[i, j] for i in range(3) for j in range(4) if vectors.mask[i, j] and counts(query, i, j)]
        losses.append(torch.logsumexp(torch.stack([own, *rivals]), 0) - own)
    return torch.stack(losses).mean()


def test_every_other_document_of_the_batch_is_a_negative():
    vectors = batch()
    expected = by_hand(vectors, 0.05, lambda query, i, j: (i, j) != (query, 1))
    torch.testing.assert_close(InfoNCE()(vectors), expected)


def test_a_teachers_ratio_excludes_good_documents_wherever_they_stand():
    ids = torch.arange(12).view(3, 4)
    ids[1, 0] = ids[0, 2]  # 0.7 to the first query, in the second one's list
    vectors = batch(ids=ids)
    good = {(0, 0, 2), (0, 1, 0), (1, 1, 2), (2, 2, 2)}
    expected = by_hand(vectors, 0.05, lambda query, i, j: (i, j) != (query, 1) and (query, i, j) not in good)
    torch.testing.assert_close(InfoNCE(ratio=0.6)(vectors), expected)
    assert (InfoNCE()(vectors) > expected).item()


def test_copies_of_the_best_document_and_others_as_good_are_no_negatives():
    ids = torch.arange(12).view(3, 4)
    ids[1, 3] = ids[0, 1]
    targets = torch.tensor([[0.0, 1.0, 1.0, 0.0]] * 3)
    vectors = batch(targets=targets, ids=ids)
    free = {(0, 1, 3), *((query, query, 2) for query in range(3))}
    expected = by_hand(vectors, 0.05, lambda query, i, j: (i, j) != (query, 1) and (query, i, j) not in free)
    torch.testing.assert_close(InfoNCE()(vectors), expected)


def test_what_is_more_similar_by_a_margin_is_taken_for_a_false_negative():
    vectors = batch()
    cosines = torch.stack([vectors.documents @ query for query in vectors.queries]).detach()

    def counts(query, i, j):
        return (i, j) != (query, 1) and cosines[query, i, j] <= cosines[query, query, 1] + 0.1

    torch.testing.assert_close(InfoNCE(margin=0.1)(vectors), by_hand(vectors, 0.05, counts))


def test_a_guide_says_what_is_no_negative():
    vectors, guide = batch(), batch(seed=1)
    told = vectors._replace(guide=(guide.queries.detach(), guide.documents.detach()))
    cosines = torch.stack([guide.documents @ query for query in guide.queries]).detach()

    def counts(query, i, j):
        return (i, j) != (query, 1) and cosines[query, i, j] <= cosines[query, query, 1]

    torch.testing.assert_close(InfoNCE()(told), by_hand(vectors, 0.05, counts))


def test_queries_and_best_documents_are_contrasted_too():
    vectors = batch()
    own = torch.stack([vectors.documents[i, 1] for i in range(3)])
    losses = []
    for query in range(3):
        scores = (vectors.documents @ vectors.queries[query])[vectors.mask]
        others = [other for other in range(3) if other != query]
        columns = [scores, vectors.queries[others] @ vectors.queries[query], own[others] @ own[query]]
        best = vectors.documents[query, 1] @ vectors.queries[query] / 0.1
        losses.append(torch.logsumexp(torch.cat(columns) / 0.1, 0) - best)
    value = InfoNCE(temperature=0.1, query_pairs=True, document_pairs=True)(vectors)
    torch.testing.assert_close(value, torch.stack(losses).mean())


def test_bixse_judges_every_pair_and_learns_its_scale():
    ids = torch.arange(12).view(3, 4)
    ids[1, 0] = ids[0, 2]
    vectors, loss = batch(ids=ids), BiXSE(scale=5.0, bias=-2.0)
    terms = []
    for query in range(3):
        for i in range(3):
            for j in range(4):
                if vectors.mask[i, j] and (i == query or ids[i, j] not in ids[query][vectors.mask[query]]):
                    logit = 5.0 * vectors.documents[i, j] @ vectors.queries[query] - 2.0
                    target = vectors.targets[i, j] if i == query else torch.tensor(0.0)
                    terms.append(torch.nn.functional.binary_cross_entropy_with_logits(logit, target))
    assert len(terms) == 3 * 11 - 2  # what the two lists share counts once for each
    value = loss(vectors)
    torch.testing.assert_close(value, torch.stack(terms).mean())
    value.backward()
    assert loss.scale.grad != 0 and loss.bias.grad != 0
    with pytest.raises(InputError, match="targets from 0 to 1"):
        loss(batch(targets=torch.full((3, 4), 2.0)))


def test_padding_gets_no_gradient():
    for loss in (InfoNCE(), InfoNCE(ratio=0.5, query_pairs=True, document_pairs=True), BiXSE()):
        vectors = batch()
        [found] = torch.autograd.grad(loss(vectors), [vectors.documents])
        assert not found[2, 3].any() and found[0, 0].any()


def test_vectors_of_several_workers_come_together_as_those_of_one():
    def listed(query, texts):
        docs = tuple(Doc(text, text) for text in texts)
        return TrainingList(query, query, docs, tuple(1 / (1 + i) for i in range(len(texts))))

    lists = [listed("a", "xyz"), listed("b", "yw"), listed("a", "vx")]
    generator = torch.Generator().manual_seed(0)
    values = {name: normalize(torch.randn(4, generator=generator), dim=0) for name in "abvwxyz"}

    def seen(*parts):
        texts, told = zip(*[distinct(part, 4) for part in parts], strict=True)
        queries, documents = (torch.stack([values[name] for some in texts for name in some[place]]) for place in (0, 1))
        return collated(told, queries, documents)

    whole, split = seen(lists), seen(lists[:2], [], lists[2:])
    for name in ("queries", "targets", "mask", "ids"):
        torch.testing.assert_close(getattr(whole, name), getattr(split, name))
    torch.testing.assert_close(whole.documents[whole.mask], split.documents[whole.mask])
