"""The data room on a recorded first stage with judgments, as a user has them; and what it makes teaches."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from shared_data import qrels, retrieved, rows

from pyterrier_llmrank.training import losses
from pyterrier_llmrank.training.data import (
    Band,
    Batches,
    ease_by_rank,
    informative,
    padded,
    positives_within,
    training_lists,
    with_negatives,
)


def with_texts():
    documents = pd.DataFrame(rows("data", "med", "docs.jsonl.gz"))[["docno", "text"]]
    return retrieved("med", "bm25").merge(documents, on="docno")


def test_a_run_and_its_judgments_become_lists_of_every_kind():
    run, judgments = with_texts(), qrels("med")
    scores = training_lists(run, k=20)
    assert len(scores) == run["qid"].nunique()
    assert all(len(one.docs) == 20 and np.all(np.diff(one.targets) <= 0) for one in scores)
    labels = training_lists(run, targets="label", qrels=judgments, k=20)
    assert [one.docs for one in labels] == [one.docs for one in scores]
    best = {
        (qid, docno) for qid, docno in judgments.loc[judgments["label"] > 0, ["qid", "docno"]].itertuples(index=False)
    }
    for one in labels:
        assert [target > 0 for target in one.targets] == [(one.qid, doc.docno) in best for doc in one.docs]


def test_mined_lists_have_relevant_documents_first_and_hard_ones_after():
    run = with_texts()
    judgments = positives_within(run, qrels("med"), k=20)
    assert 0 < (judgments["label"] > 0).sum() < (qrels("med")["label"] > 0).sum()
    bands = [Band(0, 10, 3), Band(15, 25, 4)]
    frame = with_negatives(run, qrels("med"), positives=judgments, bands=bands, most=1)
    lists = informative(training_lists(frame, targets="label"))
    assert sum(len(one.docs) == 8 for one in lists) > 20  # some queries retrieve too little for both bands
    assert all(one.targets == (1.0, *[0.0] * (len(one.docs) - 1)) for one in lists)
    known = qrels("med")[qrels("med")["label"] > 0].assign(known=True)
    negatives = frame[frame["label"] == 0].merge(known[["qid", "docno", "known"]], on=["qid", "docno"], how="left")
    assert negatives["known"].isna().all()
    assert ease_by_rank(frame.assign(rank=frame.groupby("qid").cumcount())).min() >= 0


def test_lists_teach_a_model_of_two_features():
    """Word overlap and length, weighed by a linear model, which learns by RankNet to rank as BM25's scores do."""
    lists = training_lists(with_texts(), k=20)

    def features(one):
        words = set(one.query.lower().split())
        return [[len(words & set(doc.text.lower().split())), len(doc.text) / 500] for doc in one.docs]

    inputs = [torch.tensor(features(one)) for one in lists]
    model = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([model], lr=0.05)
    batches = Batches(len(lists), size=8)
    costs = []
    for step in range(2 * batches.per_epoch):
        places = batches.at(step)
        targets, mask = (torch.from_numpy(array) for array in padded([lists[place] for place in places]))
        scores = torch.nn.utils.rnn.pad_sequence([inputs[place] @ model for place in places], batch_first=True)
        loss = losses.rank_net(scores, targets, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        costs.append(loss.item())
    assert model[0] > 0.1
    assert np.mean(costs[-3:]) < costs[0] - 0.02
