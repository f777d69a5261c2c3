"""Losses against those of sentence-transformers: same scores, same values, forward and backward in turn.

    python tests/benchmarks/losses.py [--runs 30] [--save NAME]

16 lists of 100 documents on a CPU thread; their model is one that returns the scores and costs nothing. ``ratio`` is
their median time by ours. Target: at least 1.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from models import save_results
from sentence_transformers.cross_encoder import losses as theirs

from pyterrier_llmrank.training import losses as ours

LISTS, DOCS = 16, 100


class Given(torch.nn.Module):
    """Stands for a cross-encoder that has just said ``scores``."""

    num_labels, device = 1, torch.device("cpu")

    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def preprocess(self, pairs, **_):
        return {}

    def forward(self, _):
        return {"scores": self.scores.flatten()}


def pairs(scores):
    """Losses of the same value: ours, theirs, and the targets' kind."""
    model, whole = Given(scores), {"mini_batch_size": -1}
    return {
        "list_net": (ours.list_net, theirs.ListNetLoss(model, **whole)),
        "list_mle": (ours.list_mle, theirs.ListMLELoss(model, respect_input_order=False, **whole)),
        "rank_net": (lambda s, t: ours.lambda_loss(s, t, weight=None), theirs.RankNetLoss(model, **whole)),
        "lambda_loss": (ours.lambda_loss, theirs.LambdaLoss(model, **whole)),
        "adr_mse": (ours.adr_mse, theirs.ADRMSELoss(model, **whole)),
    }


def seconds(compute, scores):
    scores.grad = None
    began = time.perf_counter()
    value = compute()
    value.backward()
    return time.perf_counter() - began, value.item()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--save", metavar="NAME", help="keep the figures under this name")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    scores = torch.randn(LISTS, DOCS, requires_grad=True)
    targets = torch.stack([torch.randperm(DOCS) for _ in range(LISTS)]).float() / 20  # distinct, gains up to 31
    inputs = [["query"] * LISTS, [["text"] * DOCS] * LISTS]
    rows = []
    for name, (mine, other) in pairs(scores).items():
        times = {"ours": [], "theirs": []}
        for _ in range(options.runs):
            spent, value = seconds(lambda mine=mine: mine(scores, targets), scores)
            times["ours"].append(spent)
            spent, expected = seconds(lambda other=other: other(inputs, list(targets)), scores)
            times["theirs"].append(spent)
        assert abs(value - expected) < 1e-4 * abs(expected), (name, value, expected)
        mine_s, theirs_s = (statistics.median(times[who]) for who in ("ours", "theirs"))
        row = {"loss": name, "ours_ms": 1000 * mine_s, "theirs_ms": 1000 * theirs_s, "ratio": theirs_s / mine_s}
        rows.append(row)
        print({key: round(value, 3) if key != "loss" else value for key, value in row.items()})
    if options.save:
        save_results(options.save, rows)


if __name__ == "__main__":
    main()
